//! A record as `crm.item.list` sends it: camelCase and typed.

use super::super::dataset::mix;
use super::super::fields::{Content, InItems, MULTI, Type};
use super::super::php::{Php, write_int, write_text};
use super::super::records::{Custom, Facts, Multi, Plain, Record};
use super::super::rows::{Encoder, Marks, choose, empty_custom, has, list, open, pick};
use super::super::truth::flag;
use super::super::user_fields::UserFieldType;

/// Names that hold the first value of a multi-field, of certain value types if there are any.
pub(super) const ALIASES: [(&str, usize, &[&str]); 11] = [
    ("phone", 0, &[]),
    ("phoneWork", 0, &["WORK"]),
    ("phoneMobile", 0, &["MOBILE"]),
    ("phoneMailing", 0, &["MAILING"]),
    ("email", 1, &[]),
    ("emailWork", 1, &["WORK"]),
    ("emailHome", 1, &["HOME"]),
    ("emailMailing", 1, &["MAILING"]),
    ("imol", 3, &["IMOL", "OPENLINE"]),
    ("skype", 3, &["SKYPE"]),
    ("icq", 3, &["ICQ"]),
];

/// An encoded record without its braces; `fm` stands last, if there is one.
#[derive(Debug)]
pub(in super::super) struct ItemRow {
    bytes: Box<[u8]>,
    before_fm: usize,
    original: bool,
    pub(in super::super) marks: Marks,
    /// The portal's way of writing that this was encoded in.
    pub(in super::super) epoch: u64,
}

impl ItemRow {
    pub(in super::super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it was written in this way.
    pub(in super::super) fn is_of(&self, epoch: u64, original: bool) -> bool {
        (self.epoch, self.original) == (epoch, original)
    }

    pub(in super::super) fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// The row and the rest of it, from `fm` on.
    pub(super) fn apart(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.before_fm)
    }
}

impl Encoder<'_> {
    /// Encodes the whole record, by way of a buffer that is used again.
    pub(in super::super) fn item_row(
        &self,
        scratch: &mut Vec<u8>,
        record: &Record,
        facts: &Facts,
        original: bool,
    ) -> ItemRow {
        scratch.clear();
        for at in 0..self.entity.fields().len() {
            self.item_field(scratch, record, facts, at);
        }
        for at in 0..self.user_fields.len() {
            self.item_custom(scratch, record, facts, at, original);
        }
        let multi = self.entity.has_multi_fields();
        if multi {
            for at in 0..ALIASES.len() {
                self.alias(scratch, facts, at);
            }
        }
        let before_fm = scratch.len();
        let mut marks = self.marks(facts);
        if multi {
            marks.shuffled = self.fm(scratch, record, facts);
        }
        ItemRow { bytes: scratch.as_slice().into(), before_fm, original, marks, epoch: 0 }
    }

    /// Appends one documented field.
    pub(super) fn item_field(&self, out: &mut Vec<u8>, record: &Record, facts: &Facts, at: usize) {
        let field = &self.entity.fields()[at];
        let value = &facts.plain[at];
        if !field.in_item_rows() || *value == Plain::Absent {
            return;
        }
        open(out, &self.entity.item_names()[at]);
        if field.in_items == InItems::Disabled {
            out.extend_from_slice(b"null");
            return;
        }
        if let Plain::Raw(raw) = value {
            raw.write(out, self.writing);
            return;
        }
        match field.content {
            Content::Id | Content::Created | Content::Modified => self.head(out, record, at),
            Content::Category => write_int(out, record.category.into()),
            Content::TypeId => write_int(out, self.entity.type_id()),
            Content::Links => ints(out, &facts.links(self.entity)),
            Content::Observers => ints(out, &facts.observers),
            Content::Storage => out.extend_from_slice(b"[]"),
            Content::Search => self.search_content(out, record, facts),
            Content::HasPhone | Content::HasEmail | Content::HasOpenLine => {
                let has = has(facts, field.content);
                out.extend_from_slice(if has { b"\"Y\"" } else { b"\"N\"" });
            }
            _ => match value {
                Plain::Unset | Plain::Raw(_) | Plain::Absent => {
                    out.extend_from_slice(empty(field.kind, pick(record.id, at)).as_bytes());
                }
                Plain::Text(text) => write_text(out, text, self.writing),
                Plain::Int(id) if field.kind == Type::Photo => {
                    self.item_file(out, field.name, record.id, *id);
                }
                Plain::Int(value) => write_int(out, *value),
                Plain::Decimal(value) => {
                    let huge = value == "1000000000000000";
                    out.extend_from_slice(if huge { b"1.0e+15" } else { value.as_bytes() });
                }
                Plain::Flag(value) => {
                    out.extend_from_slice(if *value { b"\"Y\"" } else { b"\"N\"" });
                }
                Plain::Local(local) => self.local(out, *local),
                Plain::Day(day) => self.day(out, *day),
            },
        }
    }

    /// Appends a field that needs no more than the record's head.
    pub(super) fn item_head(&self, out: &mut Vec<u8>, record: &Record, at: usize) {
        open(out, &self.entity.item_names()[at]);
        self.head(out, record, at);
    }

    fn head(&self, out: &mut Vec<u8>, record: &Record, at: usize) {
        match self.entity.fields()[at].content {
            Content::Created => self.local(out, record.created),
            Content::Modified => self.local(out, record.modified),
            _ => write_int(out, record.id),
        }
    }

    /// Appends one user field.
    pub(super) fn item_custom(
        &self,
        out: &mut Vec<u8>,
        record: &Record,
        facts: &Facts,
        at: usize,
        original: bool,
    ) {
        let field = &self.user_fields[at];
        let place = usize::try_from(field.id).unwrap_or(1) - 1;
        open(out, if original { &field.code } else { &field.camel });
        match facts.custom.get(place).unwrap_or(&Custom::Empty) {
            Custom::Empty => {
                let pick = pick(record.id, 1000 + place);
                out.extend_from_slice(empty_custom(field, pick).as_bytes());
            }
            Custom::Json(json) if field.kind == UserFieldType::Boolean => {
                letters(json).write(out, self.writing);
            }
            Custom::Json(json) => json.write(out, self.writing),
            Custom::Days(days) => list(out, field.multiple, days, |out, day| self.day(out, *day)),
            Custom::Locals(locals) => list(out, field.multiple, locals, |out, local| {
                self.local(out, *local);
            }),
            Custom::Files(files) => list(out, field.multiple, files, |out, id| {
                self.item_file(out, &field.code, record.id, *id);
            }),
        }
    }

    /// Appends the first value of a multi-field.
    pub(super) fn alias(&self, out: &mut Vec<u8>, facts: &Facts, at: usize) {
        let (name, kind, types) = ALIASES[at];
        let fits = |multi: &&Multi| types.is_empty() || types.contains(&&*multi.value_type);
        let first = facts.multi[kind].iter().filter(fits).min_by_key(|multi| multi.id);
        open(out, name);
        write_text(out, first.map_or("", |multi| &multi.value), self.writing);
    }

    /// Appends all multi-fields; whether they stand out of the order of their ids.
    fn fm(&self, out: &mut Vec<u8>, record: &Record, facts: &Facts) -> bool {
        let all = facts.multi.iter().enumerate();
        let mut values: Vec<(usize, &Multi)> =
            all.flat_map(|(kind, values)| values.iter().map(move |value| (kind, value))).collect();
        if self.sorted {
            values.sort_by_key(|(_, value)| value.id);
        } else if values.len() > 1 {
            let base = mix(record.id.unsigned_abs(), self.shuffle);
            values.sort_by_key(|(_, value)| mix(base, value.id.unsigned_abs()));
        }
        open(out, "fm");
        out.push(b'[');
        for (place, (kind, value)) in values.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"id\":");
            write_int(out, value.id);
            out.extend_from_slice(b",\"valueType\":");
            write_text(out, &value.value_type, self.writing);
            out.extend_from_slice(b",\"value\":");
            write_text(out, &value.value, self.writing);
            out.extend_from_slice(b",\"typeId\":\"");
            out.extend_from_slice(MULTI[*kind].as_bytes());
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
        !values.is_sorted_by_key(|(_, value)| value.id)
    }

    fn search_content(&self, out: &mut Vec<u8>, record: &Record, facts: &Facts) {
        let mut text = record.id.to_string();
        for (field, value) in self.entity.fields().iter().zip(&facts.plain) {
            if matches!(
                field.content,
                Content::First | Content::Last | Content::Title | Content::Numbered(_)
            ) && let Plain::Text(word) = value
            {
                text.push(' ');
                text.push_str(word);
            }
        }
        write_text(out, &text, self.writing);
    }

    fn item_file(&self, out: &mut Vec<u8>, field: &str, record: i64, id: i64) {
        let camel = ["id", "url", "urlMachine"];
        let Some([key, page_key, machine_key]) =
            self.file_keys.of(camel, ["ID", "URL", "URL_MACHINE"])
        else {
            return write_int(out, id);
        };
        out.extend_from_slice(format!("{{\"{key}\":").as_bytes());
        write_int(out, id);
        let query = format!(
            "entityTypeId={}&id={record}&fieldName={field}&fileId={id}",
            self.entity.type_id()
        );
        out.extend_from_slice(format!(",\"{page_key}\":").as_bytes());
        let page =
            format!("/bitrix/services/main/ajax.php?action=crm.controller.item.getFile&{query}");
        write_text(out, &page, self.writing);
        out.extend_from_slice(format!(",\"{machine_key}\":").as_bytes());
        let machine = format!("{}/crm.controller.item.getFile/?{query}", self.download);
        write_text(out, &machine, self.writing);
        out.push(b'}');
    }
}

fn ints(out: &mut Vec<u8>, ids: &[i64]) {
    list(out, true, ids, |out, id| write_int(out, *id));
}

fn empty(kind: Type, pick: u64) -> &'static str {
    let choices: &[&str] = match kind {
        kind if kind.is_reference() => &["0", "0", "null"],
        Type::Text | Type::Status(_) | Type::Currency | Type::Location => &["null", "null", "\"\""],
        _ => &["null"],
    };
    choose(choices, pick)
}

/// Items say yes and no in letters, in user fields too (vendor page `universal/crm-item-add`).
fn letters(value: &Php) -> Php {
    match value {
        Php::Array(values) => Php::Array(values.values().map(letters).collect()),
        other => match flag(other) {
            Some(yes) => if yes { "Y" } else { "N" }.into(),
            None => other.clone(),
        },
    }
}
