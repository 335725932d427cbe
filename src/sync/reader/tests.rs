//! The reader against a simulated portal.

#![expect(clippy::unwrap_used, reason = "a helper that fails should fail the test it helps")]

use std::time::Duration;

use chrono::Datelike as _;

use super::*;
use crate::{
    entity::{CONTACTS, Dialect},
    portal::{Limits, PortalOptions, QuietHours, Restraint, Share, WebhookUrl},
    simulator::{self, Action, Options, Simulator, UserFieldType},
};

fn retry() -> RetryPolicy {
    RetryPolicy::new(3, Duration::from_millis(10), Duration::from_millis(100)).unwrap()
}

fn portal(simulator: &Simulator) -> Portal {
    Portal::new(PortalOptions {
        credentials: WebhookUrl::parse(&simulator.webhook_url()).unwrap().into(),
        timeout: Duration::from_mins(1),
        max_body: 32 << 20,
        ca_file: None,
        limits: Limits { requests_per_second: 1000.0, burst: 1000, operating: None },
        retry: retry(),
    })
    .unwrap()
}

/// Quiet hours all day, whatever the portal's time zone is.
fn now_quiet() -> Restraint {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let today = Utc::now().weekday().num_days_from_monday() as usize;
    let spans = [6, 0, 1].map(|later| format!("{} 00:00-24:00", days[(today + later) % 7]));
    Restraint { share: Share::WHOLE, quiet_hours: QuietHours::parse(&spans).unwrap() }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_waits_for_new_field_descriptions_holds_no_memory() {
    let options = Options { contacts: 1_000, leads: 0, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let (portal, room) = (portal(&simulator), Room::default());
    let reader = Reader::new(&CONTACTS, Dialect::Classic, portal.clone(), retry(), room.clone());
    reader.newest(Lane::Backfill).await.unwrap();
    let field = Action::AddUserField {
        entity: simulator::Entity::Contacts,
        code: "UF_CRM_LATE".to_owned(),
        kind: UserFieldType::String,
        multiple: false,
    };
    simulator.apply(field).unwrap();
    simulator.apply(Action::Latency { millis: 500 }).unwrap();
    let before = simulator.stats().requests;
    let reading = tokio::spawn({
        let reader = reader.clone();
        async move {
            let range = Range { pages: 20, ..Range::above(RecordId::ZERO) };
            reader
                .read(Lane::Backfill, &Question { ranges: vec![range], ..Question::default() })
                .await
        }
    });
    until(|| simulator.stats().requests > before).await;
    // The question for the descriptions has to wait; the one before has been asked.
    portal.limiter().restrain(&now_quiet());
    until(|| portal.limiter().holds_back(reading.id())).await;

    let all = tokio::time::timeout(Duration::from_secs(5), room.memory(usize::MAX)).await;
    drop(all.expect("all memory is free while it waits"));
    portal.limiter().restrain(&Restraint::default());
    let reply = reading.await.unwrap().unwrap();
    let rows: usize = reply.ranges[0].iter().map(|page| page.rows.len()).sum();
    assert_eq!(rows, 1_000);
    let held = tokio::time::timeout(Duration::from_secs(5), room.memory(usize::MAX)).await;
    assert!(held.is_err(), "what is decoded holds its memory until it is written");
}
