//! A record as the portal sends it.
//!
//! Every value picks one of the forms that portals were seen to use, by the
//! record and the field: the same record is always written the same way.

use chrono_tz::Tz;

use super::clock::{write_day, write_local};
use super::content::KNOWN_USERS;
use super::dataset::mix;
use super::entity::Entity;
use super::fields::{Content, MULTI, Type};
use super::php::{Writing, write_int, write_text};
use super::records::{Custom, Facts, Multi, Plain, Record};
use super::undocumented::FileKeys;
use super::user_fields::{UserField, UserFieldType};

/// An encoded record, in the pieces that a `select` can name. All pieces but
/// the first start with a comma, unless they are empty.
#[derive(Debug)]
pub(super) struct RowParts {
    bytes: Box<[u8]>,
    /// Where the pieces end: `*`, `UF_*`, then the multi-fields.
    ends: [usize; 7],
    pub(super) marks: Marks,
    /// The portal's way of writing that this was encoded in.
    pub(super) epoch: u64,
}

impl RowParts {
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The whole row without its braces.
    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// What `*` brings.
    pub(super) fn plain(&self) -> &[u8] {
        &self.bytes[..self.ends[0]]
    }

    /// What `UF_*` brings.
    pub(super) fn custom(&self) -> &[u8] {
        &self.bytes[self.ends[0]..self.ends[1]]
    }

    /// What a multi-field's name brings; empty when the key is absent.
    pub(super) fn multi(&self, kind: usize) -> &[u8] {
        &self.bytes[self.ends[kind + 1]..self.ends[kind + 2]]
    }
}

/// What is remarkable about a row, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent marks")]
pub(super) struct Marks {
    /// Names a user that `user.get` does not return.
    pub(super) unresolved_user: bool,
    /// Holds an address with the webhook's secret in it.
    pub(super) secret: bool,
    /// Multi-field values stand in another order than that of their ids.
    pub(super) shuffled: bool,
    /// A multi-field that once had values is absent.
    pub(super) lost_key: bool,
}

/// How a row is written at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder<'a> {
    pub(super) entity: Entity,
    pub(super) zone: Tz,
    /// The zone's offset now, which dates without a time depend on.
    pub(super) offset: i64,
    pub(super) writing: Writing,
    pub(super) user_fields: &'a [UserField],
    /// Where files are downloaded from: an address with the webhook's secret.
    pub(super) download: &'a str,
    /// Changes the order of multi-field values.
    pub(super) shuffle: u64,
    /// Values of multi-fields by id, as `get` sends them.
    pub(super) sorted: bool,
    pub(super) file_keys: FileKeys,
}

/// Whether this record's integer in this field is written as a number.
pub(super) fn int_as_number(record: i64, at: usize) -> bool {
    pick(record, at).is_multiple_of(8)
}

pub(super) fn pick(record: i64, at: usize) -> u64 {
    mix(record.unsigned_abs(), u64::try_from(at).unwrap_or(0)) >> 8
}

pub(super) fn open(out: &mut Vec<u8>, key: &str) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

impl Encoder<'_> {
    /// Encodes the whole record, by way of a buffer that is used again.
    pub(super) fn parts(&self, scratch: &mut Vec<u8>, record: &Record, facts: &Facts) -> RowParts {
        scratch.clear();
        let mut marks = self.marks(facts);
        let mut ends = [0; 7];
        for at in 0..self.entity.fields().len() {
            self.plain(scratch, record, Some(facts), at);
        }
        ends[0] = scratch.len();
        for at in 0..self.user_fields.len() {
            self.custom(scratch, record, facts, at);
        }
        ends[1] = scratch.len();
        for (kind, values) in facts.multi.iter().enumerate() {
            self.multi(scratch, record, kind, values);
            ends[kind + 2] = scratch.len();
            marks.lost_key |= values.is_empty() && record.had & (1 << kind) != 0;
            marks.shuffled |= values.len() > 1 && self.order(record, values).0;
        }
        RowParts { bytes: scratch.as_slice().into(), ends, marks, epoch: 0 }
    }

    /// What is remarkable about a record in any dialect.
    pub(super) fn marks(&self, facts: &Facts) -> Marks {
        let mut marks = Marks::default();
        for (field, value) in self.entity.fields().iter().zip(&facts.plain) {
            if let Plain::Int(id) = value {
                marks.unresolved_user |= field.kind == Type::User && *id > KNOWN_USERS;
                marks.secret |= field.kind == Type::Photo;
            }
        }
        marks.secret |= facts.custom.iter().any(|custom| matches!(custom, Custom::Files(_)));
        marks
    }

    /// Appends one documented field. `facts` may be missing for the fields
    /// that [`needs_facts`] does not name.
    pub(super) fn plain(
        &self,
        out: &mut Vec<u8>,
        record: &Record,
        facts: Option<&Facts>,
        at: usize,
    ) {
        let field = &self.entity.fields()[at];
        if !field.in_classic_rows() {
            return;
        }
        let pick = pick(record.id, at);
        let value = facts.map_or(&Plain::Unset, |facts| &facts.plain[at]);
        if matches!((value, field.kind), (Plain::Absent, _) | (Plain::Unset, Type::Photo)) {
            return;
        }
        open(out, field.name);
        if let Plain::Raw(raw) = value {
            raw.write(out, self.writing);
            return;
        }
        match field.content {
            Content::Id => quoted_int(out, record.id, pick.is_multiple_of(16)),
            Content::Created => self.local(out, record.created),
            Content::Modified => self.local(out, record.modified),
            Content::HasPhone | Content::HasEmail | Content::HasOpenLine => {
                let has = facts.is_some_and(|facts| has(facts, field.content));
                out.extend_from_slice(if has { b"\"Y\"" } else { b"\"N\"" });
            }
            _ => match value {
                Plain::Unset | Plain::Raw(_) | Plain::Absent => {
                    out.extend_from_slice(empty(field.kind, pick).as_bytes());
                }
                Plain::Text(json) if field.kind == Type::Object => {
                    out.extend_from_slice(json.as_bytes());
                }
                Plain::Text(text) => write_text(out, text, self.writing),
                Plain::Int(id) if field.kind == Type::Photo => {
                    self.file(out, record.id, *id, !pick.is_multiple_of(3));
                }
                Plain::Int(value) => quoted_int(out, *value, int_as_number(record.id, at)),
                Plain::Decimal(value) => decimal(out, value, pick),
                Plain::Flag(value) => {
                    out.extend_from_slice(if *value { b"\"Y\"" } else { b"\"N\"" });
                }
                Plain::Local(local) => self.local(out, *local),
                Plain::Day(day) => self.day(out, *day),
            },
        }
    }

    /// Appends one user field.
    pub(super) fn custom(&self, out: &mut Vec<u8>, record: &Record, facts: &Facts, at: usize) {
        let field = &self.user_fields[at];
        let place = usize::try_from(field.id).unwrap_or(1) - 1;
        let value = facts.custom.get(place).unwrap_or(&Custom::Empty);
        let single_file = field.kind == UserFieldType::File && !field.multiple;
        if *value == Custom::Empty && single_file {
            return;
        }
        open(out, &field.code);
        let pick = pick(record.id, 1000 + place);
        match value {
            Custom::Empty => out.extend_from_slice(empty_custom(field, pick).as_bytes()),
            Custom::Json(json) => json.write(out, self.writing),
            Custom::Days(days) => list(out, field.multiple, days, |out, day| self.day(out, *day)),
            Custom::Locals(locals) => list(out, field.multiple, locals, |out, local| {
                self.local(out, *local);
            }),
            Custom::Files(files) => list(out, field.multiple, files, |out, id| {
                self.file(out, record.id, *id, true);
            }),
        }
    }

    /// Appends a multi-field, nothing when it has no values.
    pub(super) fn multi(&self, out: &mut Vec<u8>, record: &Record, kind: usize, values: &[Multi]) {
        if values.is_empty() {
            return;
        }
        open(out, MULTI[kind]);
        out.push(b'[');
        for (at, place) in self.order(record, values).1.into_iter().enumerate() {
            let value = &values[place];
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"ID\":");
            quoted_int(out, value.id, pick(value.id, 7).is_multiple_of(32));
            out.extend_from_slice(b",\"VALUE_TYPE\":");
            write_text(out, &value.value_type, self.writing);
            out.extend_from_slice(b",\"VALUE\":");
            write_text(out, &value.value, self.writing);
            out.extend_from_slice(b",\"TYPE_ID\":\"");
            out.extend_from_slice(MULTI[kind].as_bytes());
            out.extend_from_slice(b"\"}");
        }
        out.push(b']');
    }

    /// The order of a record's values, and whether it differs from that of the ids.
    fn order(&self, record: &Record, values: &[Multi]) -> (bool, Vec<usize>) {
        let mut order: Vec<usize> = (0..values.len()).collect();
        if self.sorted {
            order.sort_by_key(|place| values[*place].id);
        } else if values.len() > 1 {
            let base = mix(record.id.unsigned_abs(), self.shuffle);
            order.sort_by_key(|place| mix(base, values[*place].id.unsigned_abs()));
        }
        (!order.is_sorted_by_key(|place| values[*place].id), order)
    }

    pub(super) fn local(&self, out: &mut Vec<u8>, local: i64) {
        out.push(b'"');
        write_local(out, self.zone, local);
        out.push(b'"');
    }

    pub(super) fn day(&self, out: &mut Vec<u8>, day: i64) {
        out.push(b'"');
        write_day(out, self.zone, day, self.offset);
        out.push(b'"');
    }

    fn file(&self, out: &mut Vec<u8>, record: i64, id: i64, number: bool) {
        let camel = ["id", "showUrl", "downloadUrl"];
        let Some([key, show_key, download_key]) =
            self.file_keys.of(camel, ["ID", "SHOW_URL", "DOWNLOAD_URL"])
        else {
            return quoted_int(out, id, number);
        };
        out.extend_from_slice(format!("{{\"{key}\":").as_bytes());
        quoted_int(out, id, number);
        let owner = self.entity.portal_name();
        let show = format!(
            "/bitrix/components/bitrix/crm.{owner}.show/show_file.php?ownerId={record}&fileId={id}"
        );
        out.extend_from_slice(format!(",\"{show_key}\":").as_bytes());
        write_text(out, &show, self.writing);
        out.extend_from_slice(format!(",\"{download_key}\":").as_bytes());
        let download = format!("{}/download/?ownerId={record}&fileId={id}", self.download);
        write_text(out, &download, self.writing);
        out.push(b'}');
    }
}

/// Whether a documented field is more than the record's own head.
pub(super) fn needs_facts(content: Content) -> bool {
    !matches!(content, Content::Id | Content::Created | Content::Modified)
}

/// The flags that the portal derives from multi-fields.
pub(super) fn has(facts: &Facts, content: Content) -> bool {
    match content {
        Content::HasPhone => !facts.multi[0].is_empty(),
        Content::HasEmail => !facts.multi[1].is_empty(),
        _ => facts.multi[3].iter().any(|value| matches!(&*value.value_type, "OPENLINE" | "IMOL")),
    }
}

pub(super) fn list<T>(
    out: &mut Vec<u8>,
    multiple: bool,
    values: &[T],
    mut write: impl FnMut(&mut Vec<u8>, &T),
) {
    if !multiple {
        if let Some(value) = values.first() {
            write(out, value);
        } else {
            out.extend_from_slice(b"null");
        }
        return;
    }
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, value);
    }
    out.push(b']');
}

fn quoted_int(out: &mut Vec<u8>, value: i64, number: bool) {
    if number {
        write_int(out, value);
    } else {
        out.push(b'"');
        write_int(out, value);
        out.push(b'"');
    }
}

/// `"15000.00"` mostly, sometimes a number; whole floats as integers, huge ones
/// with an exponent, as PHP writes them.
fn decimal(out: &mut Vec<u8>, value: &str, pick: u64) {
    if pick.is_multiple_of(6) {
        let huge = value == "1000000000000000";
        out.extend_from_slice(if huge { b"1.0e+15" } else { value.as_bytes() });
        return;
    }
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    let padding = match value.split_once('.') {
        None => ".00",
        Some((_, fraction)) if fraction.len() == 1 => "0",
        Some(_) => "",
    };
    out.extend_from_slice(padding.as_bytes());
    out.push(b'"');
}

fn empty(kind: Type, pick: u64) -> &'static str {
    let choices: &[&str] = match kind {
        kind if kind.is_reference() => {
            &["\"0\"", "\"0\"", "\"0\"", "null", "null", "\"\"", "0", "false"]
        }
        Type::Integer => &["null", "null", "\"\"", "false"],
        Type::Date | Type::DateTime => &["\"\"", "\"\"", "\"\"", "\"\"", "\"\"", "null", "false"],
        Type::Double | Type::Flag => &["null", "\"\""],
        Type::Object => &["[]", "[]", "null"],
        _ => &["null", "null", "null", "\"\"", "\"\"", "\"\"", "false"],
    };
    choose(choices, pick)
}

pub(super) fn empty_custom(field: &UserField, pick: u64) -> &'static str {
    let boolean = field.kind == UserFieldType::Boolean;
    choose(
        match (field.multiple, boolean) {
            // `false` would be a value here.
            (true, true) => &["[]", "null"],
            (true, false) => &["false", "false", "[]", "null", "\"\""],
            (false, true) => &["null", "\"\""],
            (false, false) => &["null", "\"\"", "false"],
        },
        pick,
    )
}

pub(super) fn choose(choices: &[&'static str], pick: u64) -> &'static str {
    let count = u64::try_from(choices.len()).unwrap_or(1);
    choices[usize::try_from(pick % count).unwrap_or(0)]
}
