//! Filters that are dropped, misread or damaged on their way.

use b24mirror::{
    portal::{Commands, Lane, Patience},
    simulator::{Action, Cost, Fault, FaultKind, Options},
    sync::{Consequence, Mismatch, SyncError},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{Bench, CONTACT, FREE, change, contacts_failed, leads_went_on, raw, rows};
use crate::support::{TestPortal, unlimited};

const LIST: &str = "crm.contact.list";

#[tokio::test(flavor = "multi_thread")]
async fn trap_01_a_filter_that_is_dropped_stops_the_cycle_loudly() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let lower_case = json!({
        "filter": { ">=date_modify": "2100-01-01" }, "order": { "ID": "ASC" }, "start": -1,
    });
    let answer = bench.careless(LIST, &lower_case);
    assert_eq!(rows(&answer["result"]).len(), 50);
    assert_eq!(bench.sprung(1), 1);

    bench.fill().await;
    let before = bench.checkpoints().await;
    bench.portal.fault(Fault::once(LIST, FaultKind::IgnoreFilter).forever());
    bench.portal.happens(change(CONTACT, 3));

    // Between two probes, a row below the floor betrays it.
    let outcomes = bench.try_cycle().await;
    leads_went_on(&outcomes);
    let error = contacts_failed(outcomes);
    assert!(matches!(error, SyncError::Mismatch { entity: "contacts", .. }), "{error:?}");
    assert_eq!(error.consequence(), Consequence::TryLater);
    assert!(error.reason().contains("ignored the filter on"), "{}", error.reason());

    // At a start, the probe does.
    bench.reopen().await;
    let error = contacts_failed(bench.try_cycle().await);
    assert!(
        matches!(error, SyncError::FilterIgnored { entity: "contacts", field: "DATE_MODIFY" }),
        "{error:?}"
    );
    assert_eq!(bench.checkpoints().await[0], before[0], "no watermark may move");
    assert!(bench.sprung(1) > 2);

    bench.portal.happens(Action::ClearFaults);
    bench.cycle().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_02_a_date_that_is_misread_is_no_silence() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let unescaped =
        format!("{LIST}?filter[%3EDATE_MODIFY]=1970-01-02T00:00:00+03:00&order[ID]=ASC&start=-1");
    assert_eq!(rows(&bench.careless_command(&unescaped)["result"]["a"]), Vec::<i64>::new());
    assert_eq!(bench.sprung(2), 1);

    bench.fill().await;
    let before = bench.checkpoints().await;
    bench.portal.fault(Fault::once(LIST, FaultKind::MisreadDate).forever());
    bench.portal.happens(change(CONTACT, 3));
    bench.reopen().await;
    let outcomes = bench.try_cycle().await;
    leads_went_on(&outcomes);
    let error = contacts_failed(outcomes);
    assert!(
        matches!(error, SyncError::FilterMisread { entity: "contacts", field: "DATE_MODIFY" }),
        "{error:?}"
    );
    assert_eq!(bench.checkpoints().await[0], before[0], "no watermark may move");
    assert!(bench.sprung(2) > 2);

    bench.portal.happens(Action::ClearFaults);
    bench.cycle().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_32_signs_that_have_a_meaning_in_a_query_arrive_as_they_are() {
    let mut bench = Bench::new(TestPortal::small()).await;
    bench.careless_command(&format!("{LIST}?filter[NAME]=a+b#c&order[ID]=ASC"));
    assert_eq!(bench.sprung(32), 1);

    bench.portal.reset_stats();
    let ids = bench.contacts();
    for (id, name) in ids.iter().zip(["a&b", "a#b", "a+b", "a=b", "a%20b", "Ёжик & Ко", "[a]"])
    {
        let values = vec![(name.to_owned(), "WORK".to_owned())];
        let field = "EMAIL".to_owned();
        bench.portal.happens(Action::SetMulti { entity: CONTACT, id: *id, field, values });
        let mut commands = Commands::new();
        let query = json!({
            "filter": { "EMAIL": name }, "order": { "ID": "ASC" }, "select": ["ID"], "start": -1,
        });
        commands.push("a", LIST, &query).unwrap();
        let answer = bench.client.batch(Lane::People, &commands, Patience::Persist).await;
        let found = answer.unwrap().take("a").unwrap().result;
        assert_eq!(rows(&serde_json::from_str(found.get()).unwrap()), [*id], "{name}");
    }
    assert_eq!(bench.sprung(32), 0);

    assert_eq!(bench.whole_run().await.trap(32), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_33_a_record_that_is_changed_while_a_cycle_reads_is_not_lost() {
    let bench =
        Bench::new(TestPortal::with(Options { contacts: 400, leads: 20, ..unlimited() })).await;
    // An upper bound loses what is modified after the page before.
    let bounded = |from: &str, to: &str| {
        json!({
            "filter": { ">DATE_MODIFY": from, "<=DATE_MODIFY": to },
            "order": { "ID": "ASC" }, "select": ["ID", "DATE_MODIFY"], "start": -1,
        })
    };
    let first = bench.contacts()[0];
    let newest = bench.careless(LIST, &json!({ "filter": { "ID": first } }));
    let modified = newest["result"][0]["DATE_MODIFY"].as_str().unwrap().to_owned();
    assert_eq!(
        rows(&bench.careless(LIST, &bounded("1970-01-02", &modified))["result"]).first(),
        Some(&first)
    );
    bench.portal.happens(Action::Change {
        entity: CONTACT,
        ids: vec![first],
        count: 1,
        visible_after: 0.0,
    });
    assert_ne!(
        rows(&bench.careless(LIST, &bounded("1970-01-02", &modified))["result"]).first(),
        Some(&first)
    );
    assert_eq!(bench.sprung(33), 1);

    // Another portal, as this one remembers the bound.
    let bench =
        Bench::new(TestPortal::with(Options { contacts: 400, leads: 20, ..unlimited() })).await;
    bench.fill().await;
    bench.portal.happens(change(CONTACT, 200));
    let cost = Cost { seconds: 0.1, real: true, ..Cost::default() };
    bench.portal.happens(Action::Cost { method: LIST.to_owned(), cost });
    let changing = async {
        for _ in 0..15 {
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
            bench.portal.happens(change(CONTACT, 10));
        }
    };
    let (tallies, ()) = tokio::join!(bench.cycle(), changing);
    assert!(tallies[0].read >= 200, "{tallies:?}");
    let cost = Cost::default();
    bench.portal.happens(Action::Cost { method: LIST.to_owned(), cost });
    bench.cycle().await;
    bench.assert_equal().await;
    assert_eq!(bench.sprung(33), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_38_rows_that_were_not_asked_for_are_refused() {
    let mut bench =
        Bench::new(TestPortal::with(Options { contacts: 300, leads: 120, ..unlimited() })).await;
    // The portal drops a body that is no JSON and answers the rest: everything.
    let query = json!({ "filter": { ">ID": 1i64 << 60 }, "order": { "ID": "ASC" } }).to_string();
    let (status, body) = raw(&bench.portal, LIST, "application/json", &query[..query.len() - 1]);
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, rows(&answer["result"]).len()), (200, 50));
    assert_eq!(bench.sprung(38), 1);

    // A backfill whose condition on the ID is forgotten on the way.
    bench.portal.fault(Fault::once(LIST, FaultKind::IgnoreFilter).forever().after(2));
    let error = contacts_failed(
        bench.session().backfill(&b24mirror::entity::Entity::BY_DEFAULT, false).await,
    );
    assert!(
        matches!(
            error,
            SyncError::Mismatch {
                source: Mismatch::NotAscending { .. } | Mismatch::AboveRange { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert!(bench.sprung(1) > 0);
    assert!(bench.count("contacts").await <= 50);
    bench.portal.happens(Action::ClearFaults);
    bench.reopen().await;
    bench.fill().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_38_a_request_that_is_cut_on_its_way_is_no_silence() {
    let portal = TestPortal::with(Options { contacts: 300, leads: 120, ..unlimited() });
    let address = cutting_proxy(&portal, 4).await;
    let webhook = portal.webhook_url().replace(&portal.url(), &address);
    let bench = Bench::at(portal, &webhook, FREE).await;
    bench.fill().await;
    bench.assert_equal().await;
    assert!(bench.sprung(38) >= 3, "{:?}", bench.portal.stats());
}

/// Passes requests on, every so-many-th of them with only half of its body.
async fn cutting_proxy(portal: &TestPortal, every: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let target = portal.url().replace("http://", "");
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            tokio::spawn(pass_on(stream, target.clone(), number % every == 0));
        }
    });
    address
}

async fn pass_on(mut stream: TcpStream, target: String, cut: bool) -> std::io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), vec![0; 65_536]);
    let (head, body) = loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.parse().unwrap());
        if body.len() == length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let body = if cut { &body[..body.len() / 2] } else { &body };
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name != "content-length" && name != "connection"
    });
    let kept: String = kept.flat_map(|line| [line, "\r\n"]).collect();
    let length = body.len();
    let passed = format!("{kept}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    let mut portal = TcpStream::connect(target).await?;
    portal.write_all(passed.as_bytes()).await?;
    let mut answer = Vec::new();
    portal.read_to_end(&mut answer).await?;
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_39_a_comparison_in_a_filter_key_survives_the_batch() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let unescaped =
        format!("{LIST}?filter[>=DATE_MODIFY]=2100-01-01&order[ID]=ASC&select[]=ID&start=-1");
    assert_eq!(rows(&bench.careless_command(&unescaped)["result"]["a"]).len(), 50);
    assert_eq!(bench.sprung(39), 1);

    bench.portal.reset_stats();
    let mut commands = Commands::new();
    let query = json!({
        "filter": { ">=DATE_MODIFY": "2100-01-01T00:00:00+03:00" },
        "order": { "ID": "ASC" }, "select": ["ID"], "start": -1,
    });
    commands.push("a", LIST, &query).unwrap();
    let answer = bench.client.batch(Lane::People, &commands, Patience::Persist).await;
    assert_eq!(answer.unwrap().take("a").unwrap().result.get(), "[]");
    assert_eq!((bench.sprung(39), bench.sprung(1), bench.sprung(2)), (0, 0, 0));

    assert_eq!(bench.whole_run().await.trap(39), 0);
}
