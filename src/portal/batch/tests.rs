//! Batches as they are sent, and what comes back.

use proptest::{collection, prelude::*};
use serde_json::{Map, json};

use super::*;
use crate::retry::Disposition;

/// PHP's `parse_str` behind PHP's `parse_url`, as far as our names go.
fn php_decode(command: &str) -> Value {
    let line = command.split('#').next().unwrap();
    let query = line.split_once('?').map_or("", |(_, query)| query);
    let mut root = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8().unwrap().into_owned()
        };
        let (name, value) = (plain(name), plain(value));
        let (top, rest) = name.split_at(name.find('[').unwrap_or(name.len()));
        let mut path = vec![top.replace(['.', ' '], "_")];
        let mut rest = rest;
        while let Some(inner) = rest.strip_prefix('[') {
            let Some(end) = inner.find(']') else { break };
            path.push(inner[..end].to_owned());
            rest = &inner[end + 1..];
        }
        let last = path.pop().unwrap();
        let mut map = &mut root;
        for step in path {
            map = map.entry(step).or_insert_with(|| json!({})).as_object_mut().unwrap();
        }
        map.insert(last, Value::String(value));
    }
    Value::Object(root)
}

/// What PHP would hold: every scalar a string, every list a map.
fn as_php(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(u8::from(*flag).to_string()),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), as_php(value)))
            .collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), as_php(v))).collect(),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

fn command(params: &Value) -> String {
    let mut commands = Commands::new();
    commands.push("c0p00", "crm.contact.list", params).unwrap();
    let body = serde_json::to_value(&commands).unwrap();
    body["cmd"]["c0p00"].as_str().unwrap().to_owned()
}

fn params() -> impl Strategy<Value = Value> {
    let nasty = "[a-zA-Z0-9=<>!@%+&#;?/ .'\"а-яё🙂\\\\$\\[\\]-]{0,12}";
    let key = "[A-Za-z0-9=<>!@%+&#;?/.'\"а-яё$_-]{1,8}";
    let leaf = prop_oneof![
        nasty.prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 1..4).prop_map(Value::Array),
            collection::btree_map(key, inner, 1..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    collection::btree_map("[a-zA-Z_]{1,8}", tree, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn php_reads_back_exactly_what_was_meant(params in params()) {
        let command = command(&params);
        prop_assert_eq!(php_decode(&command), as_php(&params), "{}", command);
    }
}

#[test]
fn a_filter_and_a_reference_survive_the_query() {
    let line = command(&json!({
        "filter": { ">=DATE_MODIFY": "2024-01-01T00:00:00+03:00", ">ID": "$result[c0p00][49][ID]" },
        "select": ["PHONE", "*"],
        "start": -1,
    }));
    assert_eq!(
        line,
        "crm.contact.list?filter[%3E%3DDATE_MODIFY]=2024-01-01T00%3A00%3A00%2B03%3A00\
         &filter[%3EID]=%24result%5Bc0p00%5D%5B49%5D%5BID%5D\
         &select[0]=PHONE&select[1]=%2A&start=-1"
    );
}

#[test]
fn commands_keep_their_order_and_halt_is_off() {
    let mut commands = Commands::new();
    for key in ["z", "a", "m"] {
        commands.push(key, "profile", &json!({})).unwrap();
    }
    let body = serde_json::to_string(&commands).unwrap();
    assert_eq!(body, r#"{"halt":0,"cmd":{"z":"profile","a":"profile","m":"profile"}}"#);
}

#[test]
fn what_a_query_cannot_carry_is_refused_and_never_left_out() {
    for params in [
        json!(null),
        json!([1]),
        json!({ "filter": {} }),
        json!({ "filter": { "@ID": [] } }),
        json!({ "filter": { "ID": null } }),
        json!({ "filter": { "a]b": 1 } }),
        json!({ "filter": { " a": 1 } }),
        json!({ "filter": { "": 1 } }),
        json!({ "a.b": 1 }),
    ] {
        let error = Commands::new().push("k", "m", &params).unwrap_err();
        assert_eq!(error.disposition(), Disposition::CallerBug, "{params}");
    }
    let mut commands = Commands::new();
    for index in 0..MAX_COMMANDS {
        commands.push(&format!("c{index}"), "m", &json!({})).unwrap();
    }
    assert!(commands.push("one-more", "m", &json!({})).is_err());
}

fn answer(keys: &[&str], body: &str) -> Result<(BatchAnswer, Costs), PortalError> {
    let mut commands = Commands::new();
    for key in keys {
        commands.push(key, "crm.lead.get", &json!({ "ID": 1 })).unwrap();
    }
    BatchAnswer::read(&commands, 200, &Body::new("batch", 200, body.into())?)
}

#[test]
fn results_errors_and_missing_commands_are_told_apart() {
    let (mut batch, figures) = answer(
        &["a", "b", "c"],
        r#"{"result":{"result":{"a":[1]},"result_error":{"b":{"error":"OPERATION_TIME_LIMIT","error_description":"x"}},
           "result_total":{"a":7},"result_next":[],"result_time":{"a":{"operating":1.5,"processing":0.5}}}}"#,
    )
    .unwrap();
    let first = batch.take("a").unwrap();
    assert_eq!((first.result.get(), first.total), ("[1]", Some(7)));
    assert_eq!(batch.take("b").unwrap_err().disposition(), Disposition::WaitMethod);
    assert!(matches!(batch.take("c").unwrap_err(), PortalError::MissingCommand { .. }));
    assert!(matches!(batch.take("a").unwrap_err(), PortalError::MissingCommand { .. }));
    assert_eq!(figures.len(), 1);
    assert_eq!(figures[0].1[0].operating, Some(1.5));
}

#[test]
fn empty_maps_may_come_as_lists() {
    let (mut batch, _) = answer(
        &["a"],
        r#"{"result":{"result":{"a":[]},"result_error":[],"result_total":[],"result_next":[],"result_time":[]}}"#,
    )
    .unwrap();
    assert_eq!(batch.take("a").unwrap().result.get(), "[]");
    let (mut batch, _) = answer(
        &["a"],
        r#"{"result":{"result":[],"result_error":{"a":{"error":"","error_description":"Not found"}}}}"#,
    )
    .unwrap();
    assert_eq!(batch.take("a").unwrap_err().disposition(), Disposition::Missing);
}

#[test]
fn errors_without_keys_belong_to_the_commands_without_results() {
    let errors = r#"[{"error":"","error_description":"ID is not defined or invalid."},{"error":"","error_description":"Not found"}]"#;
    let body = format!(r#"{{"result":{{"result":{{"b":{{"ID":"5"}}}},"result_error":{errors}}}}}"#);
    let (mut batch, _) = answer(&["a", "b", "c"], &body).unwrap();
    assert_eq!(batch.take("a").unwrap_err().disposition(), Disposition::CallerBug);
    assert_eq!(batch.take("b").unwrap().result.get(), r#"{"ID":"5"}"#);
    assert_eq!(batch.take("c").unwrap_err().disposition(), Disposition::Missing);
    // More failed commands than errors: which is whose is unknown.
    let (mut batch, _) = answer(&["a", "b", "c", "d"], &body).unwrap();
    for key in ["a", "c", "d"] {
        assert_eq!(batch.take(key).unwrap_err().disposition(), Disposition::CallerBug);
    }
}

#[test]
fn time_booked_on_the_batch_counts_as_the_batchs() {
    let (_, figures) = answer(
        &["a"],
        r#"{"result":{"result":{"a":1},"result_time":[]},"time":{"operating":0.9}}"#,
    )
    .unwrap();
    assert_eq!(
        figures,
        vec![(BATCH.to_owned(), vec![Figures { operating: Some(0.9), ..Figures::default() }])]
    );
}

#[test]
fn a_batch_answer_of_another_shape_is_refused() {
    for body in [
        r#"{"result":"x"}"#,
        r#"{"result":[]}"#,
        r#"{"result":{"result":5}}"#,
        r#"{"result":{"result":{},"result_error":"x"}}"#,
    ] {
        assert!(
            matches!(answer(&["a"], body).unwrap_err(), PortalError::Unusable { .. }),
            "{body}"
        );
    }
}
