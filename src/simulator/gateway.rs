//! The VibeCode gateway before the portal: `/v1/{family}`, `/search`, `/fields` and `/v1/me`
//! (vendor pages of `vibecode.bitrix24.com/docs`: `keys-auth`, `entities`, `filtering`,
//! `errors`, `optimization`). It reads `crm.item.*` 50 rows at a time, renames fields, and has
//! keys, limits and an envelope of its own. What its pages leave open is a switch.

use std::collections::{BTreeMap, VecDeque};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Response, header};
use chrono::DateTime;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::entity::Entity;
use super::faults::FaultKind;
use super::items::item_catalogue;
use super::lists::blindness;
use super::php::{Array, Php, Writing, parse_str};
use super::portal::{Failure, Portal};
use super::query::{Filter, Order};
use super::search::PAGE;
use super::server::{Reply, Shared, afterwards, finish, instead};
use super::stats::Stats;
use super::wire::{Peer, WireFault};

const MAX_BODY: usize = 16 << 20;

/// The most rows of an answer.
const MOST_ROWS: usize = 5_000;

/// The families that the gateway knows, as its paths name them.
const FAMILIES: [(&str, Entity); 3] =
    [("contacts", Entity::Contacts), ("leads", Entity::Leads), ("companies", Entity::Companies)];

/// What it does not show although items have it.
const HIDDEN: [&str; 2] = ["webformId", "observers"];

/// Operators of filters, and what `crm.item.list` calls them.
const OPERATORS: [(&str, &str); 7] = [
    ("$gt", ">"),
    ("$gte", ">="),
    ("$lt", "<"),
    ("$lte", "<="),
    ("$ne", "!="),
    ("$contains", "%"),
    ("$in", "@"),
];

/// What becomes of a filter that no page promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// It is passed on.
    #[default]
    Works,
    /// It is an error.
    Refused,
    /// It is dropped.
    Ignored,
}

/// The gateway's keys, its limit, and what its documentation leaves open.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct GatewayOptions {
    /// The personal key.
    pub api_key: String,
    /// The application's key, which needs the session.
    pub app_key: String,
    /// The session of a user.
    pub session: String,
    /// Requests of a key in 60 seconds; `None` for no limit.
    pub requests_per_minute: Option<u32>,
    /// What it calls the time of the last modification, if it shows it.
    pub modified: Option<String>,
    /// What becomes of a filter on it.
    pub date_filter: Filtering,
    /// Whether `fm` comes only when it is named.
    pub names_fm: bool,
    /// Whether a record without values has no `fm` at all.
    pub leaves_out_empty_fm: bool,
    /// What becomes of conditions in the address of a list.
    pub list_filter: Filtering,
    /// Whether the inner pages of an answer come in another order.
    pub loses_order: bool,
    /// Whether `total` ends at 5,000.
    pub caps_total: bool,
    /// Whether `search` has no `meta`.
    pub search_without_meta: bool,
    /// Whether a field is described by one of a few words alone, as its page has them.
    pub plain_fields: bool,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            api_key: "vibe_api_s1mul4ted".to_owned(),
            app_key: "vibe_app_s1mul4ted".to_owned(),
            session: "s1mul4ted-session".to_owned(),
            requests_per_minute: Some(300),
            modified: Some("updatedAt".to_owned()),
            date_filter: Filtering::Works,
            names_fm: false,
            leaves_out_empty_fm: false,
            list_filter: Filtering::Works,
            loses_order: false,
            caps_total: false,
            search_without_meta: true,
            plain_fields: true,
        }
    }
}

/// When the requests of the last minute came.
#[derive(Debug, Default)]
pub(super) struct Minute(VecDeque<f64>);

impl Minute {
    /// How long until the next request may come, if that is too many.
    fn admit(&mut self, limit: u32, now: f64) -> Option<f64> {
        while self.0.front().is_some_and(|first| *first <= now - 60.0) {
            self.0.pop_front();
        }
        if self.0.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return self.0.front().map(|first| (first + 60.0 - now).ceil().max(1.0));
        }
        self.0.push_back(now);
        None
    }
}

/// An answer or a refusal.
type Answered = Result<Vec<u8>, Refusal>;

/// Why the gateway does not answer.
struct Refusal {
    status: u16,
    code: String,
    message: String,
    retry_after: Option<f64>,
}

impl Refusal {
    fn new(status: u16, code: &str, message: &str) -> Self {
        let (code, message) = (code.to_owned(), message.to_owned());
        Self { status, code, message, retry_after: None }
    }

    fn into_reply(self) -> (Reply, Option<f64>) {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(seconds) = self.retry_after {
            error["retryAfter"] = json!(seconds);
        }
        let body = json!({ "success": false, "error": error }).to_string();
        (Reply::json(self.status, body.into_bytes()), self.retry_after)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(failure.status, &failure.code, &failure.text)
    }
}

/// A question, from a body or from a query.
struct Question {
    filter: Map<String, Value>,
    order: Map<String, Value>,
    select: Vec<String>,
    limit: usize,
    offset: usize,
}

impl Question {
    fn read(mut parts: Map<String, Value>) -> Result<Self, Refusal> {
        let invalid = |what: &str| Refusal::new(400, "INVALID_PARAMS", what);
        let mut map = |name: &str| match parts.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(invalid(name)),
        };
        let (filter, order) = (map("filter")?, map("order")?);
        let select = match parts.remove("select") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(names)) => names.split(',').map(str::to_owned).collect(),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(_) => return Err(invalid("select")),
        };
        let number = |name: &'static str, usual: usize| match parts.get(name) {
            None | Some(Value::Null) => Ok(usual),
            Some(Value::Number(number)) => {
                number.as_u64().and_then(|number| usize::try_from(number).ok()).ok_or(name)
            }
            Some(Value::String(text)) => text.parse().map_err(|_| name),
            Some(_) => Err(name),
        };
        let limit = number("limit", PAGE).map_err(invalid)?;
        let offset = number("offset", 0).map_err(invalid)?;
        if limit == 0 || limit > MOST_ROWS {
            return Err(invalid("limit must be between 1 and 5000"));
        }
        Ok(Self { filter, order, select, limit, offset })
    }
}

/// Answers below `/v1/`.
pub(super) async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response<Body> {
    peer.arm(WireFault::None);
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Reply::html(413).into_response();
    };
    let path = parts.uri.path().trim_start_matches("/v1/").trim_end_matches('/').to_owned();
    let (name, action) = path.split_once('/').unwrap_or((&path, ""));
    let family = FAMILIES.iter().find(|(own, _)| *own == name).map(|(_, entity)| *entity);
    let action = if action.is_empty() { "list" } else { action };
    let method = format!("vibecode.{action}");
    let admitted = {
        let mut portal = shared.lock();
        portal.settle();
        Stats::add(&mut portal.stats.commands, &method);
        portal.admit_to_gateway(&parts.headers)
    };
    let fault = match &admitted {
        Ok(()) => shared.lock().faults.strike_request((&method, family), &[]),
        Err(_) => None,
    };
    let mut poison = None;
    let answered = match (admitted, &fault) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), Some(FaultKind::Status { status, code, description })) => {
            Stats::add(&mut shared.lock().stats.faults, "status");
            Err(Refusal::new(*status, code, description))
        }
        (Ok(()), fault) => {
            if let Some(fault) = fault
                && let Some(reply) = instead(&shared, &peer, fault, &parts.uri).await
            {
                return finish(&shared, reply);
            }
            let question = if parts.method == Method::POST {
                serde_json::from_slice(&body).map_err(|_| "the body is no JSON object")
            } else {
                let (params, _) = parse_str(parts.uri.query().unwrap_or_default(), 1_000);
                Ok(as_json(&params))
            };
            let mut portal = shared.lock();
            match (family, action, question) {
                (None, "list", _) if name == "me" => Ok(portal.gateway_me()),
                (None, ..) => Err(Refusal::new(404, "ENTITY_NOT_FOUND", "Unknown entity")),
                (Some(entity), "fields", _) => Ok(portal.gateway_fields(entity)),
                (Some(entity), "list" | "search", Ok(question)) => Question::read(question)
                    .and_then(|question| {
                        portal.gateway_rows(entity, action, &question, &mut poison)
                    }),
                (Some(_), _, Err(what)) => Err(Refusal::new(400, "INVALID_PARAMS", what)),
                _ => Err(Refusal::new(404, "ENTITY_NOT_FOUND", "Unknown action")),
            }
        }
    };
    let (reply, retry_after) = match answered {
        Ok(body) => (Reply::json(200, body), None),
        Err(refusal) => refusal.into_reply(),
    };
    let reply = match poison {
        None => afterwards(&shared, &peer, fault.as_ref(), reply),
        Some(FaultKind::Status { status, code, description }) => {
            Refusal::new(status, &code, &description).into_reply().0
        }
        Some(poison) => match instead(&shared, &peer, &poison, &parts.uri).await {
            Some(reply) => reply,
            None => afterwards(&shared, &peer, Some(&poison), reply),
        },
    };
    let now = DateTime::from_timestamp(shared.lock().clock.now(), 0).unwrap_or_default();
    let mut response = finish(&shared, reply);
    // What stands there is the clock of the vendor's servers, and not of this machine.
    if let Ok(date) = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string().parse() {
        response.headers_mut().insert(header::DATE, date);
    }
    if let Some(seconds) = retry_after.and_then(|seconds| seconds.to_string().parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Parameters of a query as a body would have them.
fn as_json(params: &Array) -> Map<String, Value> {
    let mut text = Vec::new();
    Php::Array(params.clone()).write(&mut text, Writing::Plain);
    serde_json::from_slice(&text).unwrap_or_default()
}

impl Portal {
    /// The key, the user's session, the scope and the limit, in this order.
    fn admit_to_gateway(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let options = &self.options.gateway;
        let refused = |code: &str, what: &str| Err(Refusal::new(401, code, what));
        let Some(key) = text("x-api-key") else {
            return refused("MISSING_API_KEY", "X-Api-Key header is required");
        };
        if key == options.app_key {
            let session = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
            match session {
                None => return refused("TOKEN_MISSING", "User session token is required"),
                Some(session) if session != options.session => {
                    return refused("TOKEN_EXPIRED", "User session has expired");
                }
                Some(_) => {}
            }
        } else if key != options.api_key {
            let app = key.starts_with("vibe_app_");
            let code = if app { "INVALID_APP_KEY" } else { "INVALID_API_KEY" };
            return refused(code, &format!("Key {key} is not valid"));
        }
        if self.revoked {
            return refused("TOKEN_MISSING", "API key has no configured tokens");
        }
        if !self.options.scopes.iter().any(|scope| scope == "crm") {
            let what = "This endpoint requires 'crm' scope";
            return Err(Refusal::new(403, "SCOPE_DENIED", what));
        }
        let now = self.clock.mono();
        let Some(limit) = self.options.gateway.requests_per_minute else { return Ok(()) };
        match self.gateway_minute.admit(limit, now) {
            None => Ok(()),
            Some(seconds) => {
                self.stats.refusals += 1;
                let mut refusal = Refusal::new(429, "RATE_LIMITED", "Too many requests");
                refusal.retry_after = Some(seconds);
                Err(refusal)
            }
        }
    }

    fn gateway_me(&self) -> Vec<u8> {
        let entities: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
        let data = json!({ "entities": entities, "scopes": self.options.scopes });
        json!({ "success": true, "data": data }).to_string().into_bytes()
    }

    /// What the gateway calls an item's field; `None` if it does not show it.
    fn gateway_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let modified = self.options.gateway.modified.as_deref();
        match name {
            hidden if HIDDEN.contains(&hidden) => None,
            "updatedTime" => modified,
            "createdTime" if modified == Some("updatedAt") => Some("createdAt"),
            "opportunity" => Some("amount"),
            other => Some(other),
        }
    }

    /// What items call a field of the gateway's.
    fn item_name_of(&self, entity: Entity, name: &str) -> Option<String> {
        let plain = entity.item_names().iter();
        let custom = self.user_fields[entity.index()].iter().map(|field| &field.camel);
        plain.chain(custom).find(|own| self.gateway_name(own) == Some(name)).cloned()
    }

    fn gateway_fields(&self, entity: Entity) -> Vec<u8> {
        let mut text = Vec::new();
        let catalogue = item_catalogue(entity, &self.user_fields[entity.index()], false);
        Php::Array(catalogue).write(&mut text, Writing::Plain);
        let described: Map<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
        let mut fields = Map::new();
        if let Some(Value::Object(described)) = described.get("fields") {
            for (name, info) in described {
                if let Some(name) = self.gateway_name(name) {
                    fields.insert(name.to_owned(), self.gateway_field(info));
                }
            }
        }
        json!({ "success": true, "data": fields }).to_string().into_bytes()
    }

    /// What the gateway says of one field.
    fn gateway_field(&self, info: &Value) -> Value {
        let mut info = info.clone();
        if self.options.gateway.plain_fields {
            let kind = match info["type"].as_str() {
                Some("integer" | "double" | "user") => "number",
                Some("crm_multifield") => "multifield",
                _ => "string",
            };
            return json!({ "type": kind, "readonly": info["isReadOnly"] });
        }
        if let Some(info) = info.as_object_mut() {
            info.remove("upperName");
        }
        info
    }

    /// A filter as `crm.item.list` takes it.
    fn gateway_filter(
        &self,
        entity: Entity,
        filter: &Map<String, Value>,
    ) -> Result<Array, Refusal> {
        let mut items = Array::default();
        for (key, value) in filter {
            let name = key.trim_start_matches(['!', '=', '<', '>', '@', '%']);
            let prefix = &key[..key.len() - name.len()];
            let unknown = || {
                let what = format!("Field '{name}' is not allowed in filter");
                Refusal::new(400, "INVALID_FILTER", &what)
            };
            let own = self.item_name_of(entity, name).ok_or_else(unknown)?;
            if own == "updatedTime" {
                match self.options.gateway.date_filter {
                    Filtering::Works => {}
                    Filtering::Refused => return Err(unknown()),
                    Filtering::Ignored => continue,
                }
            }
            let Value::Object(conditions) = value else {
                items = items.with(&format!("{prefix}{own}"), as_php(value));
                continue;
            };
            for (operator, value) in conditions {
                let prefix = OPERATORS.iter().find(|(own, _)| own == operator);
                let (_, prefix) = prefix.ok_or_else(unknown)?;
                items = items.with(&format!("{prefix}{own}"), as_php(value));
            }
        }
        Ok(items)
    }

    fn gateway_rows(
        &mut self,
        entity: Entity,
        action: &str,
        question: &Question,
        poison: &mut Option<FaultKind>,
    ) -> Answered {
        if self.rights[entity.index()] == super::portal::Rights::None {
            return Err(Refusal::new(403, "ACCESS_DENIED", "Access denied"));
        }
        let mut order = Array::default();
        for (name, direction) in &question.order {
            let own = self.item_name_of(entity, name).ok_or_else(|| {
                Refusal::new(400, "INVALID_ORDER", &format!("Field '{name}' is not sortable"))
            })?;
            order = order.with(&own, as_php(direction));
        }
        let method = format!("vibecode.{action}");
        let faults = self.faults.strike_command(&method, Some(entity), 0, 1);
        let has_conditions = question.filter.values().any(Value::is_object);
        let filter = match self.options.gateway.list_filter {
            Filtering::Refused if action == "list" && has_conditions => {
                return Err(Refusal::new(400, "INVALID_FILTER", "Conditions are not allowed"));
            }
            Filtering::Ignored if action == "list" => Array::default(),
            _ => self.gateway_filter(entity, &question.filter)?,
        };
        let schema = self.item_schema(entity, false);
        let filter = Filter::read(schema, &filter, blindness(&faults))?;
        let order = Order::read(schema, &order)?;
        let (ids, total) = self.inner_pages(entity, &filter, &order, question);
        // Keys come of every record.
        if question.select.len() != 1 && question.select.len() != 2 {
            *poison = ids.iter().find_map(|id| self.faults.poison(entity, *id).cloned());
        }
        let rows: Vec<String> =
            ids.iter().filter_map(|id| self.gateway_row(entity, *id, &question.select)).collect();
        self.stats.rows += u64::try_from(rows.len()).unwrap_or(0);
        self.stats.gateway_largest = self.stats.gateway_largest.max(rows.len());
        self.stats.gateway_truncated += u64::from(total > MOST_ROWS);
        let mut body = format!("{{\"success\":true,\"data\":[{}]", rows.join(",")).into_bytes();
        let options = &self.options.gateway;
        if action != "search" || !options.search_without_meta {
            let told = if options.caps_total { total.min(MOST_ROWS) } else { total };
            let more = question.offset + ids.len() < told;
            let mut meta = json!({ "total": told, "hasMore": more });
            if total > MOST_ROWS {
                meta["truncated"] = json!(true);
            }
            body.extend_from_slice(format!(",\"meta\":{meta}").as_bytes());
        }
        body.push(b'}');
        Ok(body)
    }

    /// Reads the portal's own pages until there are enough rows. Meanwhile others work there.
    fn inner_pages(
        &mut self,
        entity: Entity,
        filter: &Filter,
        order: &Order,
        question: &Question,
    ) -> (Vec<i64>, usize) {
        let mut pages: Vec<Vec<i64>> = Vec::new();
        let (mut from, mut total) = (question.offset / PAGE * PAGE, 0);
        let skipped = question.offset - from;
        let wanted = skipped + question.limit;
        while pages.iter().map(Vec::len).sum::<usize>() < wanted {
            let schema = self.item_schema(entity, false);
            let found = self.find(schema, filter, order, Some(from));
            total = found.total.unwrap_or(total);
            let short = found.ids.len() < PAGE;
            pages.push(found.ids);
            self.list_answered();
            if short {
                break;
            }
            from += PAGE;
        }
        let ids: Vec<i64> = pages.concat().into_iter().skip(skipped).take(question.limit).collect();
        if !self.options.gateway.loses_order {
            return (ids, total);
        }
        (ids.chunks(PAGE).rev().flatten().copied().collect(), total)
    }

    fn gateway_row(&mut self, entity: Entity, id: i64, select: &[String]) -> Option<String> {
        let row = self.item_row(entity, id, false)?;
        let mut text = b"{".to_vec();
        text.extend_from_slice(row.whole());
        text.push(b'}');
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&text).ok()?;
        let everything = select.is_empty() || select.iter().any(|name| name == "*");
        let mut shown: BTreeMap<&str, &RawValue> = BTreeMap::new();
        for (name, value) in &fields {
            let Some(name) = self.gateway_name(name) else { continue };
            let named = select.iter().any(|own| own == name);
            let gateway = &self.options.gateway;
            let hidden = name == "fm" && gateway.names_fm;
            if name == "fm" && gateway.leaves_out_empty_fm && value.get() == "[]" {
                continue;
            }
            if named || (everything && !hidden) {
                shown.insert(name, *value);
            }
        }
        serde_json::to_string(&shown).ok()
    }
}

fn as_php(value: &Value) -> Php {
    serde_json::from_value(value.clone()).unwrap_or(Php::Null)
}
