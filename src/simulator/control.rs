//! The control address: drives a portal over HTTP, for tests and people.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, header};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::actions::Action;
use super::entity::Entity;
use super::faults::Fault;
use super::server::Shared;
use super::stats::{Stats, TRAPS};
use super::truth::TrueRecord;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/control", get(help))
        .route("/control/stats", get(stats))
        .route("/control/stats/reset", post(reset))
        .route("/control/truth/{entity}", get(truth))
        .route("/control/item-truth/{entity}", get(item_truth))
        .route("/control/names", get(names))
        .route("/control/recipients", get(recipients))
        .route("/control/action", post(action))
        .route("/control/fault", post(fault))
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn json_reply(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => reply(StatusCode::OK, "application/json", body),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn refusal(status: StatusCode, error: &dyn std::error::Error) -> Response<Body> {
    let body = json!({"error": error.to_string()}).to_string();
    reply(status, "application/json", body.into_bytes())
}

async fn help() -> Response<Body> {
    let traps: serde_json::Map<String, serde_json::Value> =
        TRAPS.iter().map(|(number, text)| (number.to_string(), (*text).into())).collect();
    json_reply(&json!({
        "GET /control/stats": "load, refusals, traps sprung",
        "POST /control/stats/reset": "starts counting anew",
        "GET /control/truth/{contacts|leads}": "every live record, one JSON object a line",
        "GET /control/item-truth/{contacts|leads|companies|deals|…}": "the same as crm.item.list shows it",
        "GET /control/names": "the names behind codes: statuses, users, departments, currencies",
        "GET /control/recipients": "the mail address book",
        "POST /control/action": {"action": "change", "entity": "contacts", "count": 3},
        "POST /control/fault": {"method": "batch", "kind": "html", "status": 502, "count": 1},
        "traps": traps,
    }))
}

async fn stats(State(shared): State<Shared>) -> Response<Body> {
    let stats = shared.lock().stats.clone();
    json_reply(&stats)
}

async fn names(State(shared): State<Shared>) -> Response<Body> {
    let names = shared.lock().names.truth();
    json_reply(&names)
}

async fn recipients(State(shared): State<Shared>) -> Response<Body> {
    let recipients = shared.lock().recipients.truth();
    json_reply(&recipients)
}

async fn reset(State(shared): State<Shared>) -> Response<Body> {
    shared.lock().stats = Stats::default();
    json_reply(&json!({}))
}

async fn truth(State(shared): State<Shared>, Path(entity): Path<String>) -> Response<Body> {
    let entity: Entity = match serde_json::from_value(entity.into()) {
        Ok(entity) => entity,
        Err(error) => return refusal(StatusCode::NOT_FOUND, &error),
    };
    let records = shared.lock().truth(entity);
    lines(&records)
}

async fn item_truth(State(shared): State<Shared>, Path(entity): Path<String>) -> Response<Body> {
    let entity: Entity = match serde_json::from_value(entity.into()) {
        Ok(entity) => entity,
        Err(error) => return refusal(StatusCode::NOT_FOUND, &error),
    };
    let records = shared.lock().item_truth(entity);
    lines(&records)
}

fn lines(records: &[TrueRecord]) -> Response<Body> {
    let mut body = Vec::new();
    for record in records {
        if serde_json::to_writer(&mut body, record).is_ok() {
            body.push(b'\n');
        }
    }
    reply(StatusCode::OK, "application/x-ndjson", body)
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

async fn action(State(shared): State<Shared>, body: Bytes) -> Response<Body> {
    let action: Action = match read(&body) {
        Ok(action) => action,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error),
    };
    let outcome = shared.lock().apply(action);
    match outcome {
        Ok(outcome) => json_reply(&outcome),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error),
    }
}

async fn fault(State(shared): State<Shared>, body: Bytes) -> Response<Body> {
    let fault: Fault = match read(&body) {
        Ok(fault) => fault,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error),
    };
    shared.lock().faults.queue.push(fault);
    json_reply(&json!({}))
}
