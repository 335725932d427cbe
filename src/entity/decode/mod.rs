//! From one page of the portal's answer to records, rejects and notes.

mod desk;
mod draft;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use self::{desk::Desk, draft::Draft};
use super::{
    Column, Dialect, Entity, MultiField, RecordId,
    catalogue::Catalogue,
    custom_field::CustomKind,
    json::{self, Raw},
    privacy::Privacy,
    record::{ChildList, Note, Reason, Record, Reject, Value},
    value,
};

/// Raised whenever the same answer would decode to other content, so that every
/// stored record is read again.
pub(super) const DECODER_VERSION: u32 = 7;

/// One row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A record to store.
    Record(Box<Record>),
    /// Something that cannot be stored.
    Reject(Reject),
}

impl Decoded {
    /// The row's ID, where it has a usable one.
    #[must_use]
    pub fn id(&self) -> Option<RecordId> {
        match self {
            Self::Record(record) => Some(record.id()),
            Self::Reject(reject) => reject.id,
        }
    }
}

/// Several rows say that they have values of a multi-field and none carries any:
/// the portal dropped the field from the whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rows} rows of one page say that they have {field} values and none carries any")]
pub struct Mutilated {
    /// The multi-field that is missing.
    pub field: &'static str,
    /// How many rows of the page should have it.
    pub rows: usize,
}

/// A decoded page, in the order of its rows.
#[derive(Debug)]
pub struct Page {
    /// Every row, stored or rejected.
    pub rows: Vec<Decoded>,
    /// A user field occurred that the catalogue does not describe: it is older than the page.
    pub catalogue_is_stale: bool,
}

/// Reads the rows of one entity. It keeps nothing of them, so any thread may use it.
#[derive(Debug)]
pub struct Decoder {
    entity: &'static Entity,
    dialect: Dialect,
    slots: HashMap<Cow<'static, str>, Slot>,
    /// For each multi-field, where the flag that proves it stands among the columns.
    flags: Vec<Option<usize>>,
    /// For each multi-field, whether it is left out.
    left_out: Vec<bool>,
    /// Flags that prove something and are left out all the same.
    hidden_flags: Vec<usize>,
    privacy: Arc<Privacy>,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Id,
    Column(usize, Column, Kept),
    MultiField(usize, Kept),
    /// The values of all multi-fields in one list.
    MultiValues,
    Custom(CustomKind, Kept),
    LeftOut,
}

/// The key under which items have the values of all multi-fields.
const MULTI_VALUES: &str = "fm";

/// How a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    AsItCame,
    Hashed,
}

impl Decoder {
    /// Prepares the look-up of the entity's fields; everything is kept as it comes.
    #[must_use]
    pub fn new(entity: &'static Entity, dialect: Dialect) -> Self {
        Self::keeping(entity, dialect, Arc::new(Privacy::none()))
    }

    /// The same where rules say that fields are left out or hashed.
    #[must_use]
    pub fn keeping(entity: &'static Entity, dialect: Dialect, privacy: Arc<Privacy>) -> Self {
        let name_of = |field: &'static str| dialect.name_of(entity, field);
        let kept = |field| if privacy.is_hashed(field) { Kept::Hashed } else { Kept::AsItCame };
        let left_out: Vec<bool> =
            entity.multi_fields.iter().map(|multi| privacy.is_excluded(multi.field)).collect();
        let flags: Vec<Option<usize>> = entity
            .multi_fields
            .iter()
            .zip(&left_out)
            .map(|(multi, left_out)| {
                // What is left out need not come, whatever its flag says.
                multi.flag.filter(|_| !left_out).and_then(|flag| entity.position(flag))
            })
            .collect();
        let mut slots: HashMap<Cow<'static, str>, Slot> = privacy
            .rules()
            .excluded()
            .iter()
            .map(|field| (dialect.name_of(entity, field).into_owned().into(), Slot::LeftOut))
            .collect();
        slots.insert(dialect.id().into(), Slot::Id);
        let mut hidden_flags = Vec::new();
        for (index, column) in entity.columns.iter().enumerate() {
            if privacy.is_excluded(column.field) {
                if !flags.contains(&Some(index)) {
                    continue;
                }
                hidden_flags.push(index);
            }
            let name = name_of(column.field);
            // What the source has under that name may be something else.
            if dialect.field_of(entity, &name).is_some() {
                slots.insert(name, Slot::Column(index, *column, kept(column.field)));
            }
        }
        for (index, multi) in entity.multi_fields.iter().enumerate() {
            match (dialect.lists_multi_values(), multi.link) {
                // Product rows come beside the records, and not in them.
                _ if left_out[index] || multi.product_rows.is_some() => {}
                // Where they come in one list, their names stand for something else.
                (true, None) => {
                    slots.insert(MULTI_VALUES.into(), Slot::MultiValues);
                }
                _ => {
                    slots.insert(name_of(multi.field), Slot::MultiField(index, kept(multi.field)));
                }
            }
        }
        Self { entity, dialect, slots, flags, left_out, hidden_flags, privacy }
    }

    /// The fingerprint of how records become rows.
    #[must_use]
    pub fn fingerprint(&self) -> i64 {
        let rules = self.privacy.fingerprint(self.entity);
        match self.dialect {
            Dialect::Classic => rules,
            dialect => {
                // Kinds of user fields have not always been known behind a gateway.
                let kinds = if dialect == Dialect::Vibecode { " with kinds" } else { "" };
                let mapping = format!("{rules} {dialect:?}{kinds}");
                xxhash_rust::xxh3::xxh3_64(mapping.as_bytes()).cast_signed()
            }
        }
    }

    /// A record of which nothing is known yet: what the source brings is empty until it comes,
    /// what it lacks is kept as it is stored.
    fn blank(&self, catalogue: &Catalogue) -> Draft {
        let mut draft = Draft::new(self.entity);
        let described = |field: &str| catalogue.field(field).is_some();
        let classic = self.entity.classic.filter(|_| self.dialect == Dialect::Classic);
        for (column, value) in self.entity.columns.iter().zip(&mut draft.values) {
            let implied = classic.and_then(|classic| {
                classic.implies.iter().find_map(|(field, value)| {
                    (*field == column.field).then_some(Value::Integer(*value))
                })
            });
            let brought = match self.dialect {
                Dialect::Classic => {
                    classic.is_none_or(|classic| !classic.lacks.contains(&column.field))
                }
                Dialect::Item | Dialect::Vibecode => described(column.field),
            };
            *value = implied.unwrap_or(if brought { Value::Null } else { Value::Kept });
        }
        for (index, multi) in self.entity.multi_fields.iter().enumerate() {
            let brought = match (self.dialect, multi.link) {
                _ if multi.product_rows.is_some() => false,
                (Dialect::Classic | Dialect::Item, None) => true,
                // A gateway says nothing of the list that they would come in.
                (Dialect::Vibecode, None) | (Dialect::Classic, Some(_)) => false,
                (Dialect::Item | Dialect::Vibecode, Some(_)) => described(multi.field),
            };
            if !brought && !self.left_out[index] {
                draft.children[index] = ChildList::Kept;
            }
        }
        for field in self.privacy.rules().excluded() {
            if let Some(place) = self.entity.position(field) {
                draft.values[place] = Value::Null;
            }
        }
        draft
    }

    /// The rules that records are read by.
    #[must_use]
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// What a field means that came under another name than is expected. A user field that
    /// is left out stays so under any name.
    fn slot_of_synonym(&self, field: &str) -> Option<Slot> {
        if self.privacy.is_excluded(field) {
            return Some(Slot::LeftOut);
        }
        if !self.dialect.has_synonyms() {
            return None;
        }
        self.slots.get(&*self.dialect.name_of(self.entity, field)).copied()
    }

    /// By what a value that is kept so is hashed.
    fn veil(&self, kept: Kept) -> Option<&Privacy> {
        (kept == Kept::Hashed).then_some(&*self.privacy)
    }

    fn whole(&self, raw: Raw<'_>, reason: Reason) -> Reject {
        let raw = self.withheld_if_ruled(raw);
        Reject { id: None, note: Note { field: String::new(), reason, raw } }
    }

    /// What a note says of something that cannot be taken apart, and so not be cleared of
    /// single fields either.
    fn withheld_if_ruled(&self, raw: Raw<'_>) -> String {
        let evidence = json::evidence(raw);
        if self.privacy.rules().is_empty() {
            evidence
        } else {
            self.privacy.withheld(raw.text(), &evidence)
        }
    }

    /// Decodes one page of full rows. It takes a while: about 10 µs for a row.
    ///
    /// # Errors
    /// [`Mutilated`] when two or more rows must have values of a multi-field and
    /// none carries any. A single such row keeps its stored values and gets a note.
    pub fn page<'a>(
        &self,
        rows: impl IntoIterator<Item = Raw<'a>>,
        catalogue: &Catalogue,
    ) -> Result<Page, Mutilated> {
        let mut desk = Desk::new(self, catalogue);
        let mut drafts: Vec<_> = rows.into_iter().map(|raw| desk.draft(raw)).collect();
        self.believe_absence(&mut drafts);
        for index in 0..self.flags.len() {
            self.hold_against_flag(index, &mut drafts)?;
        }
        for draft in drafts.iter_mut().flatten() {
            self.distrust_bare(draft);
            for flag in &self.hidden_flags {
                draft.values[*flag] = Value::Null;
            }
        }
        let rows = drafts
            .into_iter()
            .map(|draft| match draft {
                Ok(draft) => Decoded::Record(Box::new(draft.finish())),
                Err(reject) => Decoded::Reject(reject),
            })
            .collect();
        Ok(Page { rows, catalogue_is_stale: desk.stale })
    }

    /// The multi-field that a value in the list of all belongs to.
    fn multi_field_of(&self, kind: &str) -> Option<usize> {
        let is_it = |multi: &MultiField| multi.is_values() && multi.field == kind;
        let index = self.entity.multi_fields.iter().position(is_it)?;
        (!self.left_out[index]).then_some(index)
    }

    /// Where a source does not say whether it brings the list of all values, its rows do: if
    /// one of the page has it, those without it have no values, and a flag that denies them is
    /// believed in any case.
    fn believe_absence(&self, drafts: &mut [Result<Draft, Reject>]) {
        let is_brought = drafts.iter().flatten().any(|draft| draft.lists_multi_values);
        for draft in drafts.iter_mut().flatten().filter(|draft| !draft.lists_multi_values) {
            for (index, multi) in self.entity.multi_fields.iter().enumerate() {
                let is_denied =
                    self.flags[index].is_some_and(|flag| draft.values[flag] == Value::Flag(false));
                let is_open = draft.children[index] == ChildList::Kept && multi.is_values();
                if is_open && (is_brought || is_denied) {
                    draft.children[index] = ChildList::Known(Vec::new());
                }
            }
        }
    }

    /// A row whose flag promises values that did not come keeps its stored ones.
    fn hold_against_flag(
        &self,
        index: usize,
        drafts: &mut [Result<Draft, Reject>],
    ) -> Result<(), Mutilated> {
        let Some(flag) = self.flags[index] else {
            return Ok(());
        };
        let promised = |draft: &&mut Draft| draft.values[flag] == Value::Flag(true);
        let missing = |draft: &Draft| matches!(&draft.children[index], ChildList::Known(list) if list.is_empty());
        let mut flagged: Vec<_> =
            drafts.iter_mut().filter_map(|draft| draft.as_mut().ok()).filter(promised).collect();
        let field = self.entity.multi_fields[index].field;
        if flagged.len() >= 2 && flagged.iter().all(|draft| missing(draft)) {
            return Err(Mutilated { field, rows: flagged.len() });
        }
        for draft in flagged.iter_mut().filter(|draft| missing(draft)) {
            draft.children[index] = ChildList::Untrusted;
            draft.note(field, Reason::ChildrenMissing, "null".to_owned());
        }
        Ok(())
    }

    /// A row that carries no multi-field at all although it must has lost every one of
    /// them: those without a flag prove nothing by their absence either.
    fn distrust_bare(&self, draft: &mut Draft) {
        let mutilated = draft.notes.iter().any(|n| n.reason == Reason::ChildrenMissing);
        let carried = |(list, multi): (&ChildList, &MultiField)| {
            multi.is_values() && matches!(list, ChildList::Known(list) if !list.is_empty())
        };
        if !mutilated || draft.children.iter().zip(self.entity.multi_fields).any(carried) {
            return;
        }
        for (index, multi) in self.entity.multi_fields.iter().enumerate() {
            if self.left_out[index] || !multi.is_values() {
                continue;
            }
            let denied =
                self.flags[index].is_some_and(|flag| draft.values[flag] == Value::Flag(false));
            if !denied && draft.children[index] != ChildList::Untrusted {
                draft.children[index] = ChildList::Untrusted;
                draft.note(multi.field, Reason::ChildrenMissing, "null".to_owned());
            }
        }
    }
}

/// Reads a row's ID leniently.
pub(super) fn record_id(raw: Raw<'_>) -> Option<RecordId> {
    value::integer(&raw.shape()).ok().flatten().and_then(RecordId::new)
}

#[cfg(test)]
mod tests;
