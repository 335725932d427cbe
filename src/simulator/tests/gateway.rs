//! The gateway before the portal: keys, limits, filters, names, its envelope.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::*;

const KEY: &str = "X-Api-Key: vibe_api_s1mul4ted";

/// Status, headers and answer of one request.
fn ask(
    simulator: &Simulator,
    headers: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, String, Value) {
    let host = simulator.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (method, text) = match body {
        Some(body) => ("POST", body.to_string()),
        None => ("GET", String::new()),
    };
    let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
    write!(
        stream,
        "{method} /v1/{path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), serde_json::from_str(body).unwrap())
}

fn started(gateway: GatewayOptions) -> Simulator {
    let options = Options { contacts: 260, leads: 20, gateway, ..Options::default() };
    Simulator::start(options).unwrap()
}

fn ids(answer: &Value) -> Vec<i64> {
    let rows = answer["data"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[test]
fn a_list_and_a_search_find_the_same() {
    let simulator =
        started(GatewayOptions { search_without_meta: false, ..GatewayOptions::default() });
    let body = json!({
        "filter": { "id": { "$gt": 20, "$lte": 400 } },
        "order": { "id": "asc" },
        "limit": 120,
        "select": ["id", "updatedAt"],
    });
    let (status, _, found) = ask(&simulator, KEY, "contacts/search", Some(&body));
    assert_eq!((status, found["success"].as_bool()), (200, Some(true)));
    assert_eq!(ids(&found).len(), 120);
    assert!(ids(&found).is_sorted() && ids(&found)[0] > 20);
    assert_eq!(found["data"][0].as_object().unwrap().len(), 2);
    assert_eq!(found["meta"]["hasMore"], true);
    let path = "contacts?filter[%3Eid]=20&filter[%3C%3Did]=400&order[id]=asc&limit=120&select=id,updatedAt";
    let (_, _, listed) = ask(&simulator, KEY, path, None);
    assert_eq!(listed, found);
    let conditions = path.replace("[%3Eid]", "[id][%24gt]").replace("[%3C%3Did]", "[id][%24lte]");
    let (_, _, listed) = ask(&simulator, KEY, &conditions, None);
    assert_eq!(listed, found);
    let (_, _, later) = ask(&simulator, KEY, &format!("{path}&offset=70"), None);
    assert_eq!(ids(&later)[..50], ids(&found)[70..]);
}

#[test]
fn names_and_filters_follow_the_switches() {
    let simulator = started(GatewayOptions::default());
    let (_, _, fields) = ask(&simulator, KEY, "leads/fields", None);
    assert!(fields["data"]["amount"].is_object() && fields["data"]["opportunity"].is_null());
    assert!(fields["data"]["updatedAt"].is_object() && fields["data"]["updatedTime"].is_null());
    let (_, _, rows) = ask(&simulator, KEY, "leads/search", Some(&json!({ "limit": 1 })));
    assert!(rows["data"][0]["fm"].is_array());
    let future = json!({ "filter": { "updatedAt": { "$gt": "2999-01-01T00:00:00+00:00" } } });
    assert_eq!(ids(&ask(&simulator, KEY, "leads/search", Some(&future)).2), [0; 0]);

    for (date_filter, status, rows) in [(Filtering::Refused, 400, 0), (Filtering::Ignored, 200, 20)]
    {
        let simulator =
            started(GatewayOptions { date_filter, names_fm: true, ..Default::default() });
        let (answered, _, found) = ask(&simulator, KEY, "leads/search", Some(&future));
        assert_eq!((answered, found["data"].as_array().map_or(0, Vec::len)), (status, rows));
        let (_, _, plain) = ask(&simulator, KEY, "leads?limit=1", None);
        assert!(plain["data"][0]["fm"].is_null());
        let (_, _, named) = ask(&simulator, KEY, "leads?limit=1&select=id,fm", None);
        assert!(named["data"][0]["fm"].is_array());
    }
    let simulator = started(GatewayOptions { modified: None, ..Default::default() });
    let (_, _, fields) = ask(&simulator, KEY, "contacts/fields", None);
    assert!(fields["data"]["createdTime"].is_object() && fields["data"]["updatedTime"].is_null());
}

#[test]
fn whoever_may_not_ask_is_told_why() {
    let limit = GatewayOptions { requests_per_minute: Some(2), ..Default::default() };
    let simulator = started(limit);
    let code = |headers: &str| {
        ask(&simulator, headers, "contacts?limit=1", None).2["error"]["code"].clone()
    };
    assert_eq!(code(""), "MISSING_API_KEY");
    assert_eq!(code("X-Api-Key: vibe_api_other"), "INVALID_API_KEY");
    assert_eq!(code("X-Api-Key: vibe_app_other"), "INVALID_APP_KEY");
    let app = "X-Api-Key: vibe_app_s1mul4ted";
    assert_eq!(code(app), "TOKEN_MISSING");
    assert_eq!(code(&format!("{app}\r\nAuthorization: Bearer old")), "TOKEN_EXPIRED");
    assert!(code(&format!("{app}\r\nAuthorization: Bearer s1mul4ted-session")).is_null());
    assert_eq!(ask(&simulator, KEY, "me", None).2["data"]["entities"][0], "contacts");
    let (status, head, refused) = ask(&simulator, KEY, "contacts", None);
    assert_eq!((status, refused["error"]["code"].as_str()), (429, Some("RATE_LIMITED")));
    let seconds = refused["error"]["retryAfter"].as_f64().unwrap();
    assert!(seconds > 1.0 && head.contains(&format!("retry-after: {seconds}")), "{head}");
}

#[test]
fn what_the_gateway_does_not_know_is_an_error() {
    let simulator = started(GatewayOptions { requests_per_minute: None, ..Default::default() });
    for (path, status) in
        [("unicorns", 404), ("contacts?limit=5001", 400), ("contacts?filter[x]=1", 400)]
    {
        assert_eq!(ask(&simulator, KEY, path, None).0, status, "{path}");
    }
}
