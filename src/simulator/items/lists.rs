//! `crm.item.list` and `crm.item.get`.

use super::super::entity::Entity;
use super::super::faults::FaultKind;
use super::super::lists::blindness;
use super::super::php::{Array, Php};
use super::super::portal::{Answer, Failure, Portal, RequestState, Rights};
use super::super::query::{Filter, Order};
use super::super::records::Body;
use super::super::rows::needs_facts;
use super::super::search::{Found, PAGE};
use super::rows::ALIASES;
use super::{entity_of, original_names};

/// A field that a `select` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Plain(usize),
    Custom(usize),
    Alias(usize),
}

/// What a `select` names.
#[derive(Debug, Default)]
struct Select {
    /// Everything, `fm` included.
    all: bool,
    columns: Vec<Column>,
    original: bool,
}

impl Select {
    fn read(portal: &Portal, entity: Entity, params: &Array) -> Result<Self, Failure> {
        let mut read = Self { original: original_names(params), ..Self::default() };
        let names = array(params, "select")?;
        let names: Vec<String> = names.values().filter_map(Php::to_text).collect();
        read.all = names.is_empty() || names.iter().any(|name| name == "*");
        if read.all {
            return Ok(read);
        }
        let fields = entity.fields();
        let user_fields = &portal.user_fields[entity.index()];
        for name in names {
            if name == "UF_*" {
                read.columns.extend((0..user_fields.len()).map(Column::Custom));
                continue;
            }
            let plain = entity.item_names().iter().position(|own| *own == name);
            let plain = plain.filter(|at| fields[*at].in_item_rows()).map(Column::Plain);
            let custom = || {
                let own = |at: &usize| {
                    let field = &user_fields[*at];
                    name == if read.original { field.code.as_str() } else { &field.camel }
                };
                (0..user_fields.len()).find(own).map(Column::Custom)
            };
            let alias = || {
                let own = ALIASES.iter().position(|(own, ..)| *own == name);
                own.filter(|_| entity.has_multi_fields()).map(Column::Alias)
            };
            let column = plain.or_else(custom).or_else(alias);
            read.columns.extend(column.filter(|column| !read.columns.contains(column)));
        }
        Ok(read)
    }

    fn has_id(&self) -> bool {
        self.all || self.columns.contains(&Column::Plain(0))
    }
}

/// A parameter that must be an array, if it is there.
pub(in super::super) fn array(params: &Array, name: &str) -> Result<Array, Failure> {
    match params.get(name) {
        None | Some(Php::Null) => Ok(Array::default()),
        Some(Php::Array(array)) => Ok(array.clone()),
        Some(other) => {
            let value = other.to_text().unwrap_or_default();
            let text = format!(
                "Invalid value {{{value}}} to match with parameter {{{name}}}. Should be value of \
                 type array."
            );
            Err(Failure::parameter(&text))
        }
    }
}

fn access_denied() -> Failure {
    Failure::new(400, "ACCESS_DENIED", "You do not have permission to view this item")
}

impl Portal {
    pub(in super::super) fn item_list(
        &mut self,
        request: &mut RequestState,
        params: &Array,
        faults: &[FaultKind],
    ) -> Result<Answer, Failure> {
        let entity = entity_of(self, params)?;
        if self.rights[entity.index()] == Rights::None {
            self.stats.spring(16);
            return Err(access_denied());
        }
        let select = Select::read(self, entity, params)?;
        let schema = self.item_schema(entity, select.original);
        let filter = Filter::read(schema, &array(params, "filter")?, blindness(faults))?;
        let order = Order::read(schema, &array(params, "order")?)?;
        if params.get("start").is_none() && params.get("START").is_some() {
            self.stats.spring(5);
        }
        let start = params.get("start").map_or(0, Php::to_int);
        let offset = usize::try_from(start).ok().map(|start| start / PAGE * PAGE);
        let found = self.find(self.item_schema(entity, select.original), &filter, &order, offset);
        self.note_query(entity, &filter, &order, &found);
        let mut answer = Answer::default();
        self.number_page(&mut answer, offset, &found);
        let drops = faults.contains(&FaultKind::DropMultiFields);
        self.write_items(request, entity, &select, &found.ids, drops, &mut answer);
        Ok(answer)
    }

    /// `next` and `total`, as the controllers count them.
    fn number_page(&mut self, answer: &mut Answer, offset: Option<usize>, found: &Found) {
        if let (Some(offset), Some(total)) = (offset, found.total) {
            self.stats.counts += 1;
            let next = self.overrun(false).offset(offset, total) + found.ids.len();
            let total = self.counted(total);
            let goes_on = !found.ids.is_empty() && next < total;
            answer.next = goes_on.then(|| i64::try_from(next).unwrap_or(0));
            answer.total = i64::try_from(total).ok();
        } else {
            answer.total = self.options.item_total_zero.then_some(0);
            if answer.total == Some(0) && !found.ids.is_empty() {
                self.stats.spring(3);
            }
        }
    }

    fn write_items(
        &mut self,
        request: &mut RequestState,
        entity: Entity,
        select: &Select,
        ids: &[i64],
        drops: bool,
        answer: &mut Answer,
    ) {
        answer.under = Some("items");
        answer.id_key = select.has_id().then_some("id");
        answer.body.extend_from_slice(b"{\"items\":[");
        let before = answer.body.len();
        if select.all {
            answer.body.reserve(ids.len() * 3_600);
        }
        for id in ids {
            if answer.body.len() > before {
                answer.body.push(b',');
            }
            let from = answer.body.len();
            if select.all {
                answer.body.push(b'{');
                self.write_whole_item(entity, select, *id, drops, &mut answer.body);
                answer.body.push(b'}');
                if let Some(kind) = self.faults.poison(entity, *id) {
                    request.poison = Some(kind.clone());
                }
            } else {
                self.write_named_item(entity, select, *id, &mut answer.body);
            }
            answer.rows.push((*id, from..answer.body.len()));
        }
        answer.body.extend_from_slice(b"]}");
        let count = u64::try_from(ids.len()).unwrap_or(0);
        self.stats.rows += count;
        if select.all {
            self.stats.rows_full += count;
            self.stats.spring_times(20, ids.len());
        } else {
            self.stats.rows_narrow += count;
        }
    }

    fn write_whole_item(
        &mut self,
        entity: Entity,
        select: &Select,
        id: i64,
        drops: bool,
        out: &mut Vec<u8>,
    ) {
        let Some(row) = self.item_row(entity, id, select.original) else {
            return;
        };
        let marks = row.marks;
        if drops && entity.has_multi_fields() {
            out.extend_from_slice(row.apart().0);
            out.extend_from_slice(b",\"fm\":[]");
        } else {
            out.extend_from_slice(row.whole());
        }
        self.stats.spring_times(19, usize::from(marks.shuffled));
        self.stats.spring_times(31, usize::from(marks.unresolved_user));
        self.stats.spring_times(35, usize::from(marks.secret));
    }

    fn write_named_item(&self, entity: Entity, select: &Select, id: i64, out: &mut Vec<u8>) {
        let Some(record) = self.tables[entity.index()].get(id) else {
            return;
        };
        let from = out.len();
        out.push(b'{');
        let encoder = self.encoder(entity);
        let is_head = |column: &Column| match column {
            Column::Plain(at) => !needs_facts(entity.fields()[*at].content),
            _ => false,
        };
        let made = matches!(record.body, Body::Generated { .. });
        if made && select.columns.iter().all(is_head) {
            for column in &select.columns {
                if let Column::Plain(at) = column {
                    encoder.item_head(out, record, *at);
                }
            }
        } else {
            let facts = self.facts(entity, record);
            for column in &select.columns {
                match column {
                    Column::Plain(at) => encoder.item_field(out, record, &facts, *at),
                    Column::Custom(at) => {
                        encoder.item_custom(out, record, &facts, *at, select.original);
                    }
                    Column::Alias(at) => encoder.alias(out, &facts, *at),
                }
            }
        }
        out.push(b'}');
        if out.len() == from + 2 {
            // An empty map is an empty list in PHP.
            out.truncate(from);
            out.extend_from_slice(b"[]");
        }
    }

    pub(in super::super) fn item_get(
        &mut self,
        request: &mut RequestState,
        params: &Array,
    ) -> Result<Answer, Failure> {
        let entity = entity_of(self, params)?;
        let Some(id) = params.get("id").map(Php::to_int) else {
            return Err(Failure::parameter("Could not find value for parameter {id}"));
        };
        let Some(record) = self.tables[entity.index()].get(id) else {
            return Err(Failure::new(400, "NOT_FOUND", "Element not found"));
        };
        if !self.is_readable(entity, record) {
            return Err(access_denied());
        }
        let facts = self.facts(entity, record);
        let mut encoder = self.encoder(entity);
        encoder.sorted = true;
        let row = encoder.item_row(&mut Vec::new(), record, &facts, original_names(params));
        let mut answer = Answer::default();
        answer.body.extend_from_slice(b"{\"item\":{");
        answer.body.extend_from_slice(row.whole());
        answer.body.extend_from_slice(b"}}");
        request.poison = self.faults.poison(entity, id).cloned();
        self.stats.spring(20);
        Ok(answer)
    }

    pub(in super::super) fn item_fields(&self, params: &Array) -> Result<Php, Failure> {
        let entity = entity_of(self, params)?;
        let fields = &self.user_fields[entity.index()];
        Ok(super::item_catalogue(entity, fields, original_names(params)).into())
    }
}
