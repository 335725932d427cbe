//! Where the rows of one page are taken apart, key by key.

use std::{borrow::Cow, ops::Range};

use super::{
    Decoder, Kept, Slot,
    draft::{Draft, evidence},
    record_id,
};
use crate::entity::{
    RecordId,
    catalogue::Catalogue,
    custom_field::CustomKind,
    json::{self, Raw, raw::Quoted},
    privacy::Privacy,
    record::{CustomFields, Reason, Reject, is_always_brought},
};

/// How far ahead of the last key the next one is looked for.
const AHEAD: usize = 4;

/// So many keys of a page's rows are remembered; real rows have about a hundred.
const REMEMBERED: usize = 1024;

/// Where the rows of one page are taken apart, with what one row leaves for the next.
pub(super) struct Desk<'a, 'd> {
    decoder: &'d Decoder,
    catalogue: &'d Catalogue,
    pub(super) stale: bool,
    /// The keys in the order in which rows brought them, and what they mean. Rows bring
    /// nearly the same keys in the same order, so one comparison mostly finds the next.
    order: Vec<(&'a str, Slot)>,
    /// The canonical texts of a row's custom fields, one behind the other.
    texts: String,
    /// Their names and places.
    custom: Vec<(Cow<'a, str>, Range<usize>)>,
    /// What every record begins as.
    blank: Draft,
}

impl<'a, 'd> Desk<'a, 'd> {
    pub(super) fn new(decoder: &'d Decoder, catalogue: &'d Catalogue) -> Self {
        Self {
            decoder,
            catalogue,
            stale: false,
            order: Vec::with_capacity(128),
            texts: String::with_capacity(4096),
            custom: Vec::with_capacity(64),
            blank: decoder.blank(catalogue),
        }
    }

    pub(super) fn draft(&mut self, raw: Raw<'a>) -> Result<Draft, Reject> {
        if !raw.text().starts_with('{') {
            return Err(self.decoder.whole(raw, Reason::UnparsableRecord));
        }
        let decoder = self.decoder;
        let mut draft = self.blank.clone();
        let mut next = 0;
        for (key, value) in raw.fields() {
            let Ok(name) = key.read() else {
                return Err(self.decoder.whole(raw, Reason::UnparsableRecord));
            };
            match self.slot(key, &name, &mut next) {
                Slot::Id => draft.id = record_id(value).unwrap_or(RecordId::ZERO),
                Slot::Column(index, column, kept) => {
                    draft.column(index, column, value, decoder.veil(kept));
                }
                Slot::MultiField(index, kept) => {
                    let multi = &decoder.entity.multi_fields[index];
                    match multi.link {
                        None => draft.children(index, multi.field, value, decoder.veil(kept)),
                        Some(_) => draft.links(index, multi.field, value),
                    }
                }
                Slot::MultiValues => draft.multi_values(decoder, value),
                Slot::Custom(kind, kept) => {
                    // Without a slot of its own it has passed `field_of` already.
                    let field = match name {
                        Cow::Borrowed(name) => decoder.dialect.field_of(decoder.entity, name),
                        Cow::Owned(name) => decoder
                            .dialect
                            .field_of(decoder.entity, &name)
                            .map(|field| field.into_owned().into()),
                    };
                    if let Some(field) = field {
                        self.custom_field(&mut draft, field, value, (kind, decoder.veil(kept)));
                    }
                }
                Slot::LeftOut => {}
            }
        }
        draft.custom_fields = self.take_custom_fields();
        draft.mark_primary(decoder.entity);
        if draft.id == RecordId::ZERO {
            return Err(self.decoder.whole(raw, Reason::NoUsableId));
        }
        Ok(draft)
    }

    /// Finds what a key means. `next` is where in the order it probably stands.
    fn slot(&mut self, key: Quoted<'a>, name: &str, next: &mut usize) -> Slot {
        let ahead = self.order.iter().skip(*next).take(AHEAD);
        if let Some((steps, (_, slot))) = ahead.enumerate().find(|(_, (known, _))| *known == name) {
            *next += steps + 1;
            return *slot;
        }
        let slot = self.decoder.slots.get(name).copied().unwrap_or_else(|| {
            let Some(name) = self.decoder.dialect.field_of(self.decoder.entity, name) else {
                return Slot::LeftOut;
            };
            if let Some(slot) = self.decoder.slot_of_synonym(&name) {
                return slot;
            }
            let field = self.catalogue.field(&name);
            self.stale |= field.is_none() && name.starts_with("UF_");
            let kind = CustomKind::of(&name, field.map(|field| field.kind.as_str()));
            let hashed = self.decoder.privacy.is_hashed(&name);
            Slot::Custom(kind, if hashed { Kept::Hashed } else { Kept::AsItCame })
        });
        if let Some(key) = key.unescaped().filter(|_| self.order.len() < REMEMBERED) {
            self.order.insert(*next, (key, slot));
            *next += 1;
        }
        slot
    }

    fn custom_field(
        &mut self,
        draft: &mut Draft,
        name: Cow<'a, str>,
        raw: Raw<'a>,
        (kind, mut veil): (CustomKind, Option<&Privacy>),
    ) {
        let privacy = &self.decoder.privacy;
        let name = if name.contains('\0') {
            let name = name.replace('\0', "");
            // Under the name that it would be stored by.
            if privacy.is_excluded(&name) {
                return;
            }
            veil = privacy.is_hashed(&name).then_some(&**privacy);
            name.into()
        } else {
            name
        };
        let start = self.texts.len();
        let Ok(losses) = kind.write(raw, &mut self.texts) else {
            self.texts.truncate(start);
            draft.note(&name, Reason::UnreadableValue, evidence(raw, veil));
            return;
        };
        if losses.nul_removed {
            draft.note(&name, Reason::NulRemoved, evidence(raw, veil));
        }
        if let Some(privacy) = veil.filter(|_| self.texts.len() > start) {
            let value = self.texts.split_off(start);
            privacy.push_hashed(Raw::well_formed(&value), &mut self.texts);
        }
        if losses.withheld {
            // Not even as evidence may it be kept.
            draft.note(&name, Reason::UnreadableValue, "null".to_owned());
        }
        let place = start..self.texts.len();
        if place.is_empty() && !is_always_brought(&name) {
            draft.emptied.push(name.clone().into_owned());
        }
        // A file's URL is kept nowhere, whatever stands around it.
        if !place.is_empty() && !json::FILE_URLS.contains(&&*name) {
            self.custom.push((name, place));
        }
    }

    fn take_custom_fields(&mut self) -> CustomFields {
        json::keep_last_of_each(&mut self.custom);
        let fields = self.custom.iter().map(|(name, place)| (&**name, &self.texts[place.clone()]));
        let fields = CustomFields::of_sorted(fields);
        self.custom.clear();
        self.texts.clear();
        fields
    }
}
