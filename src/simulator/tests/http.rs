//! The portal over HTTP: requests, faults on the wire, limits, control.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::*;

fn http(
    simulator: &Simulator,
    method: &str,
    content_type: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let host = simulator.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    // A connection that breaks off leaves what came before.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn rest(simulator: &Simulator, method: &str, body: &str) -> (u16, String) {
    let path = format!("{}/{method}", simulator.webhook_path);
    http(simulator, "POST", "application/json", &path, body)
}

#[test]
fn the_portal_answers_over_http() {
    let simulator =
        Simulator::start(Options { contacts: 60, leads: 5, bucket: None, ..Options::default() })
            .unwrap();
    let json_body = r#"{"filter":{">ID":0},"order":{"ID":"ASC"},"start":-1,"select":["ID"]}"#;
    let (status, body) = rest(&simulator, "CRM.Contact.List.json", json_body);
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["result"].as_array().unwrap().len(), 50);
    assert!(answer["time"]["operating"].is_number());
    let path = format!("{}/crm.contact.list?order[ID]=ASC&select[]=ID", simulator.webhook_path);
    let form = "application/x-www-form-urlencoded";
    let (_, by_form) = http(&simulator, "POST", form, &path, "start=-1&filter%5B%3EID%5D=0");
    let by_form: Value = serde_json::from_str(&by_form).unwrap();
    assert_eq!(by_form["result"], answer["result"]);
    let (_, malformed) = rest(&simulator, "crm.contact.list", r#"{"filter":{">ID":99"#);
    assert!(malformed.contains("\"next\":50"), "parameters are empty");
    assert_eq!(simulator.stats().trap(38), 1);
    assert_eq!(rest(&simulator, "no.such", "{}").0, 404);
    let (status, body) = http(&simulator, "GET", form, "/rest/1/wrong/profile", "");
    assert_eq!((status, body.contains("INVALID_CREDENTIALS")), (401, true));
    simulator.apply(Action::Scopes { scopes: vec![] }).unwrap();
    assert!(rest(&simulator, "crm.lead.list", "{}").1.contains("insufficient_scope"));
    assert!(rest(&simulator, "profile", "{}").1.contains("TIME_ZONE"));
}

#[test]
fn faults_reach_the_wire() {
    let simulator = Simulator::start(Options { bucket: None, ..Options::default() }).unwrap();
    let query = r#"{"order":{"ID":"ASC"}}"#;
    let list = || rest(&simulator, "crm.contact.list", query);
    let whole = list().1.len();
    simulator.fault(Fault::once("*", FaultKind::Html { status: 502 }));
    assert_eq!(list().0, 502);
    simulator.fault(Fault::once("*", FaultKind::Cut { bytes: 1000 }));
    assert_eq!(list().1.len(), 1000);
    simulator.fault(Fault::once("*", FaultKind::Reset));
    assert_eq!(list().0, 0);
    simulator.fault(Fault::once("*", FaultKind::Empty));
    assert_eq!(list(), (200, String::new()));
    simulator.fault(Fault::once("*", FaultKind::SlowBody { millis: 300 }));
    let begun = std::time::Instant::now();
    assert!(list().1.len().abs_diff(whole) < 100);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let location = "http://127.0.0.1:1".to_owned();
    simulator.fault(Fault::once("*", FaultKind::Redirect { location, status: 302 }));
    assert_eq!(list().0, 302);
    let poison = Poison {
        entity: Entity::Contacts,
        id: simulator.truth(Entity::Contacts)[10].id,
        fault: FaultKind::Html { status: 502 },
    };
    simulator.apply(Action::Poison { poison }).unwrap();
    assert_eq!(list().0, 502);
    let narrow = r#"{"order":{"ID":"ASC"},"select":["ID"]}"#;
    assert_eq!(rest(&simulator, "crm.contact.list", narrow).0, 200);
    assert_eq!(simulator.stats().trap(26), 4);
}

#[test]
fn the_bucket_refuses_and_the_control_address_tells() {
    let simulator = Simulator::start(Options {
        bucket: Some(BucketLimit { threshold: 3.0, rate: 0.0, refused_count: true }),
        ..Options::default()
    })
    .unwrap();
    let statuses: Vec<u16> = (0..6).map(|_| rest(&simulator, "profile", "{}").0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 503, 503]);
    let get = |path: &str| http(&simulator, "GET", "", path, "").1;
    let counted: Stats = serde_json::from_str(&get("/control/stats")).unwrap();
    assert_eq!((counted.requests, counted.refusals, counted.bucket_full), (6, 2, 2));
    let truth = get("/control/truth/leads");
    assert_eq!(truth.lines().count(), 300);
    let first: TrueRecord = serde_json::from_str(truth.lines().next().unwrap()).unwrap();
    assert_eq!(Some(&first), simulator.truth(Entity::Leads).first());
    let body = r#"{"action":"change","entity":"leads","count":4}"#;
    let (code, answer) = http(&simulator, "POST", "application/json", "/control/action", body);
    let outcome: Outcome = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, outcome.ids.len()), (200, 4));
}

#[test]
#[ignore = "a measurement: cargo test --release --lib brings_forty_thousand -- --ignored --nocapture"]
fn a_batch_of_items_brings_forty_thousand_records_a_second() {
    let simulator =
        Simulator::start(Options { contacts: 50_000, bucket: None, ..Options::default() }).unwrap();
    for round in ["made and encoded", "from the cache"] {
        let begun = std::time::Instant::now();
        let (mut last, mut rows, mut bytes) = (0, 0, 0);
        while rows < 50_000 {
            let mut commands = serde_json::Map::new();
            for at in 0..50 {
                let after = match at {
                    0 => format!("{last}"),
                    _ => format!("$result[p{:02}][items][49][id]", at - 1),
                };
                let page = format!(
                    "crm.item.list?entityTypeId=3&order[id]=ASC&start=-1&filter%5B%3Eid%5D={after}\
                     &select[]=*&useOriginalUfNames=Y"
                );
                commands.insert(format!("p{at:02}"), page.into());
            }
            let (_, body) = rest(&simulator, "batch", &json!({"cmd": commands}).to_string());
            bytes += body.len();
            let truth = simulator.shared.lock();
            let page: Vec<i64> =
                truth.tables[0].range(last + 1..).take(2_500).map(|r| r.id).collect();
            rows += page.len();
            last = *page.last().unwrap();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = f64::from(u32::try_from(rows).unwrap()) / seconds;
        println!("{round}: {rate:.0} items/s, {} bytes each", bytes / rows);
        assert!(rate > 40_000.0);
    }
}

#[test]
#[ignore = "a measurement: cargo test --release --lib full_select -- --ignored --nocapture"]
fn a_full_select_batch_brings_forty_thousand_records_a_second() {
    let simulator =
        Simulator::start(Options { contacts: 50_000, bucket: None, ..Options::default() }).unwrap();
    for round in ["made and encoded", "from the cache"] {
        let begun = std::time::Instant::now();
        let (mut last, mut rows, mut bytes) = (0, 0, 0);
        while rows < 50_000 {
            let page = |after: &str| {
                format!(
                    "crm.contact.list?order[ID]=ASC&start=-1&filter%5B%3EID%5D={after}&select[]=PHONE\
                     &select[]=EMAIL&select[]=WEB&select[]=IM&select[]=LINK&select[]=*&select[]=UF_*"
                )
            };
            let mut commands = serde_json::Map::new();
            for at in 0..50 {
                let after = match at {
                    0 => format!("{last}"),
                    _ => format!("$result[p{:02}][49][ID]", at - 1),
                };
                commands.insert(format!("p{at:02}"), page(&after).into());
            }
            let (_, body) = rest(&simulator, "batch", &json!({"cmd": commands}).to_string());
            bytes += body.len();
            // The last id by eye: parsing would measure the client.
            let truth = simulator.shared.lock();
            let ids = truth.tables[0].range(last + 1..).filter(|r| r.category == 0);
            let page: Vec<i64> = ids.take(2_500).map(|r| r.id).collect();
            rows += page.len();
            last = *page.last().unwrap();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let rate = f64::from(u32::try_from(rows).unwrap()) / seconds;
        println!("{round}: {rate:.0} records/s, {} bytes each", bytes / rows);
        assert!(rate > 40_000.0);
    }
}
