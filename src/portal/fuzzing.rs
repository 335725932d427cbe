//! Laws that hold for any answer and any command whatever; `fuzz/` looks for exceptions.

use serde_json::{Map, Value, json, value::RawValue};

use super::{
    batch::{BatchAnswer, Commands},
    body::Body,
    envelope::Envelope,
    error::PortalError,
    source::PAGE_ROWS,
    source::RowsIn,
};

const LISTS: [&str; 3] = ["c0p00", "c0p01", "c1p00"];
const OTHERS: [&str; 2] = ["fields", "past"];

/// The first byte chooses the status, so that both branches are met.
fn status(data: &[u8]) -> Option<(u16, &[u8])> {
    let (first, rest) = data.split_first()?;
    let statuses = [200, 200, 200, 302, 400, 401, 429, 500, 503];
    Some((statuses[usize::from(*first) % statuses.len()], rest))
}

/// What a plain reader makes of an answer: `None` where it is no JSON object.
fn plainly(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match serde_json::from_slice(body.trim_ascii()) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// What a plain reader cannot take, as for its large numbers, must be JSON all the same.
fn assert_json(body: &Body) {
    let json: Result<&RawValue, _> = serde_json::from_str(body.json());
    assert!(json.is_ok(), "what is no JSON was read");
}

/// An answer is the portal's result, whole and unchanged, or it is an error. An error in
/// the body is never passed over, and neither is a status that says that it failed.
///
/// # Panics
/// When the law is broken.
pub fn envelope(data: &[u8]) {
    let Some((status, bytes)) = status(data) else { return };
    let Ok(body) = Body::new("m", status, bytes.to_vec().into()) else {
        return assert!(plainly(bytes).is_none(), "a JSON object was refused unread");
    };
    let plain = plainly(bytes);
    match Envelope::read_raw("m", status, &body) {
        Ok(envelope) => {
            let answer = envelope.into_answer();
            assert!((200..300).contains(&status), "status {status} passed for success");
            let Some(plain) = plain else { return assert_json(&body) };
            let error = plain.get("error").unwrap_or(&Value::Null);
            assert!(error.is_null(), "an error passed for success: {error}");
            let result: Option<Value> = serde_json::from_str(answer.result.get()).ok();
            assert_eq!(result.as_ref(), plain.get("result"), "the result was changed");
        }
        Err(PortalError::Api(failure)) => {
            let Some(plain) = plain else { return assert_json(&body) };
            assert!(plain.contains_key("error"), "an error out of nothing: {failure:?}");
        }
        Err(_) => {}
    }
}

/// Every command of a batch has its own result, whole and unchanged, or an error; no
/// result and no row comes from elsewhere.
///
/// # Panics
/// When the law is broken.
pub fn batch(data: &[u8]) {
    let Some((status, bytes)) = status(data) else { return };
    let mut commands = Commands::new();
    for key in LISTS {
        let pushed = commands.push_list(key, "crm.contact.list", &json!({}), RowsIn::Result);
        assert!(pushed.is_ok(), "{key} was refused");
    }
    for key in OTHERS {
        assert!(commands.push(key, "crm.contact.fields", &json!({})).is_ok(), "{key} was refused");
    }
    let Ok(body) = Body::new("batch", status, bytes.to_vec().into()) else { return };
    let Ok((mut answer, _)) = BatchAnswer::read(&commands, status, &body) else { return };
    assert!((200..300).contains(&status), "status {status} passed for success");
    let Some(plain) = plainly(bytes) else { return assert_json(&body) };
    let results = &plain["result"]["result"];
    let own = |key: &str| match results {
        Value::Object(map) => map.get(key).cloned(),
        // Keyed by numbers, which none of ours is.
        _ => None,
    };
    let is_error = |key: &str| match &plain["result"]["result_error"] {
        Value::Object(map) => map.contains_key(key),
        _ => false,
    };
    for key in LISTS {
        match answer.take_page(key) {
            Ok(page) => {
                let Some(Value::Array(rows)) = own(key) else { panic!("{key}: rows from nowhere") };
                assert!(!is_error(key), "{key}: the error was passed over");
                let read: Vec<Value> = page
                    .rows()
                    .map(|row| serde_json::from_str(row.text()).unwrap_or_default())
                    .collect();
                assert_eq!(read, rows, "{key}: the rows were changed");
                assert_eq!(page.len(), rows.len());
                assert!(page.is_empty() || page.bytes() > 0 && PAGE_ROWS > 0);
            }
            Err(error) => {
                let usable = own(key).is_some_and(|own| own.is_array()) && !is_error(key);
                assert!(!usable, "{key}: good rows were lost: {error}");
            }
        }
    }
    for key in OTHERS {
        match answer.take(key) {
            Ok(part) => {
                assert!(!is_error(key), "{key}: the error was passed over");
                let read: Option<Value> = serde_json::from_str(part.result.get()).ok();
                assert_eq!(read, own(key), "{key}: the result was changed");
            }
            Err(error) => {
                let usable = own(key).is_some() && !is_error(key);
                assert!(!usable, "{key}: a good result was lost: {error}");
            }
        }
    }
}

/// A command arrives in PHP exactly as it was meant, or it is refused.
///
/// # Panics
/// When the law is broken.
pub fn commands(data: &[u8]) {
    let Ok(parameters) = serde_json::from_slice::<Value>(data) else { return };
    let mut commands = Commands::new();
    if commands.push("c0p00", "crm.contact.list", &parameters).is_err() {
        return;
    }
    let Ok(body) = serde_json::to_value(&commands) else { panic!("{parameters} has no body") };
    let Some(line) = body["cmd"]["c0p00"].as_str() else { panic!("no command in {body}") };
    assert_eq!(php_decode(line), as_php(&parameters), "{line}");
}

/// PHP's `parse_str` behind PHP's `parse_url`, as far as our names go.
pub(super) fn php_decode(command: &str) -> Value {
    let line = command.split('#').next().unwrap_or_default();
    let query = line.split_once('?').map_or("", |(_, query)| query);
    let mut root = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
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
        let Some(last) = path.pop() else { continue };
        let mut map = &mut root;
        for step in path {
            let inner = map.entry(step).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            map = match inner {
                Value::Object(inner) => inner,
                _ => unreachable!("it was made an object just now"),
            };
        }
        map.insert(last, Value::String(value));
    }
    Value::Object(root)
}

/// What PHP would hold: every scalar a string, every list a map.
pub(super) fn as_php(value: &Value) -> Value {
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

#[cfg(test)]
mod tests {
    use crate::corpus::replay;

    #[test]
    fn answers_of_the_corpus_are_results_or_errors() {
        replay("envelope", super::envelope);
    }

    #[test]
    fn batches_of_the_corpus_give_each_command_its_own() {
        replay("batch", super::batch);
    }

    #[test]
    fn commands_of_the_corpus_arrive_as_they_were_meant() {
        replay("commands", super::commands);
    }
}
