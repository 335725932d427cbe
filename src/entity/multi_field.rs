//! Fields with several values: PHONE, EMAIL, WEB, IM and LINK, and lists of linked records.
//!
//! A classic list returns multi-fields only when each is named in `select`, in no fixed
//! order, and leaves the key out when a record has none (vendor page `crm_multifield`).
//! Linked records come in the rows of `crm.item.list` only.

use super::product_row;

/// One kind of multi-value and the child table that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiField {
    /// The portal's name in `select` and in the row: `PHONE`, `EMAIL`, `WEB`, `IM`, `LINK`.
    pub field: &'static str,
    /// The flag of the row that proves whether values exist (`HAS_PHONE`), where there is one.
    pub flag: Option<&'static str>,
    /// The child table, for example `contact_phones`.
    pub table: &'static str,
    /// What it links to, where its values are IDs of other records.
    pub link: Option<Link>,
    /// The vendor's short code of the records, where its values are their product rows; those
    /// come in no record's row but are listed beside it ([`super::product_row`]).
    pub product_rows: Option<&'static str>,
}

/// What a list of linked records links to.
///
/// A link is a child like any other: its ID is that of the linked record, its value is its
/// place in the portal's list, from 1, and its value type says whether it is the primary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The child table's column with the linked ID, for example `company_id`.
    pub column: &'static str,
    /// The record's field that names the primary one of them, where there is such a thing.
    pub primary: Option<&'static str>,
}

impl Link {
    /// The value type of the primary link.
    pub const PRIMARY: &'static str = "primary";

    /// A list of equals.
    pub(super) const fn to(column: &'static str) -> Self {
        Self { column, primary: None }
    }

    /// A list in which one is the primary: that which the field names.
    pub(super) const fn primary(column: &'static str, field: &'static str) -> Self {
        Self { column, primary: Some(field) }
    }
}

impl MultiField {
    /// Whether the values are phones: those have a column for their E.164 form, which is
    /// derived from the value and no part of what is mirrored.
    #[must_use]
    pub fn is_phone(&self) -> bool {
        self.field == "PHONE"
    }

    /// Whether its values are entered into the record itself: neither links nor product rows.
    #[must_use]
    pub const fn is_values(&self) -> bool {
        self.link.is_none() && self.product_rows.is_none()
    }

    /// Product rows of what the vendor's short code names.
    pub(super) const fn product_rows(code: &'static str, table: &'static str) -> Self {
        Self { field: product_row::FIELD, flag: None, table, link: None, product_rows: Some(code) }
    }

    /// Phones; `HAS_PHONE` proves their presence.
    pub(super) const fn phones(table: &'static str) -> Self {
        Self { field: "PHONE", flag: Some("HAS_PHONE"), table, link: None, product_rows: None }
    }

    /// E-mails; `HAS_EMAIL` proves their presence.
    pub(super) const fn emails(table: &'static str) -> Self {
        Self { field: "EMAIL", flag: Some("HAS_EMAIL"), table, link: None, product_rows: None }
    }

    /// Websites.
    pub(super) const fn websites(table: &'static str) -> Self {
        Self { field: "WEB", flag: None, table, link: None, product_rows: None }
    }

    /// Messengers. `HAS_IMOL` speaks of open lines only and proves nothing.
    pub(super) const fn messengers(table: &'static str) -> Self {
        Self { field: "IM", flag: None, table, link: None, product_rows: None }
    }

    /// Links.
    pub(super) const fn links(table: &'static str) -> Self {
        Self { field: "LINK", flag: None, table, link: None, product_rows: None }
    }

    /// Linked records, in a field such as `COMPANY_IDS`.
    pub(super) const fn linked(field: &'static str, table: &'static str, link: Link) -> Self {
        Self { field, flag: None, table, link: Some(link), product_rows: None }
    }
}
