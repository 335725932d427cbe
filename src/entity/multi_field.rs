//! The portal's multi-value fields: PHONE, EMAIL, WEB, IM and LINK.
//!
//! A list returns them only when each is named in `select`, in no fixed order,
//! and leaves the key out when a record has none (vendor page `crm_multifield`).

/// One kind of multi-value and the child table that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiField {
    /// The portal's name in `select` and in the row: `PHONE`, `EMAIL`, `WEB`, `IM`, `LINK`.
    pub field: &'static str,
    /// The flag of the row that proves whether values exist (`HAS_PHONE`), where there is one.
    pub flag: Option<&'static str>,
    /// The child table, for example `contact_phones`.
    pub table: &'static str,
}

impl MultiField {
    /// Whether the values are phones: those have a column for their E.164 form, which is
    /// derived from the value and no part of what is mirrored.
    #[must_use]
    pub fn is_phone(&self) -> bool {
        self.field == "PHONE"
    }

    /// Phones; `HAS_PHONE` proves their presence.
    pub(super) const fn phones(table: &'static str) -> Self {
        Self { field: "PHONE", flag: Some("HAS_PHONE"), table }
    }

    /// E-mails; `HAS_EMAIL` proves their presence.
    pub(super) const fn emails(table: &'static str) -> Self {
        Self { field: "EMAIL", flag: Some("HAS_EMAIL"), table }
    }

    /// Websites.
    pub(super) const fn websites(table: &'static str) -> Self {
        Self { field: "WEB", flag: None, table }
    }

    /// Messengers. `HAS_IMOL` speaks of open lines only and proves nothing.
    pub(super) const fn messengers(table: &'static str) -> Self {
        Self { field: "IM", flag: None, table }
    }

    /// Links.
    pub(super) const fn links(table: &'static str) -> Self {
        Self { field: "LINK", flag: None, table }
    }
}
