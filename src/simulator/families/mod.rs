//! The simulator's own lists of fields, one for each family.
//!
//! Written from the vendor's pages `crm-contact-fields`, `crm-lead-fields`,
//! `crm-company-fields`, `crm-deal-fields`, `crm-quote-fields`, `crm-activity-fields` and
//! `object-fields`, not from the mirror's declarations: a wrong declaration must not be hidden by a simulator that
//! shares it.

mod activity;
mod business;
mod people;
mod smart;

pub(super) use activity::ACTIVITY;
pub(super) use business::{DEAL, QUOTE, SMART_INVOICE};
pub(super) use people::{COMPANY, CONTACT, LEAD};
pub(super) use smart::{EQUIPMENT, PROJECT};
