//! Totals, starts, chains and orders.

use std::time::Duration;

use b24mirror::{
    entity::{CONTACTS, LEADS},
    simulator::{Action, Cost, OperatingLimit, Options},
};
use serde_json::json;

use super::{Bench, CONTACT, change, rows};
use crate::support::{TestPortal, unlimited};

#[tokio::test(flavor = "multi_thread")]
async fn trap_03_a_total_of_zero_is_no_sign_of_emptiness() {
    for total_absent in [false, true] {
        let options = Options { contacts: 230, leads: 120, total_absent, ..unlimited() };
        let bench = Bench::new(TestPortal::with(options)).await;
        bench.fill().await;
        bench.portal.happens(change(CONTACT, 30));
        bench.cycle().await;
        bench.assert_equal().await;
        assert_eq!(bench.sprung(3) > 0, !total_absent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_04_a_start_past_the_end_never_wraps_to_page_one() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let query = |start: u64| json!({ "order": { "ID": "ASC" }, "select": ["ID"], "start": start });
    let first = bench.careless("crm.contact.list", &query(0));
    let wrapped = bench.careless("crm.contact.list", &query(5_000));
    assert_eq!(rows(&wrapped["result"]), rows(&first["result"]));
    assert_eq!(bench.sprung(4), 1);

    let stats = bench.whole_run().await;
    assert_eq!((stats.trap(4), stats.counts), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_04_deletions_while_paging_neither_prolong_nor_repeat_anything() {
    let bench =
        Bench::new(TestPortal::with(Options { contacts: 700, leads: 10, ..unlimited() })).await;
    let cost = Cost { seconds: 0.03, real: true, ..Cost::default() };
    bench.portal.happens(Action::Cost { method: "crm.contact.list".to_owned(), cost });
    let deleting = async {
        for _ in 0..40 {
            bench.portal.happens(Action::Delete { entity: CONTACT, ids: Vec::new(), count: 5 });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (tallies, ()) = tokio::join!(bench.fill(), deleting);

    assert_eq!((bench.sprung(4), bench.contacts().len()), (0, 500));
    // The cycle after the backfill reads the newest page again, and nothing else is read twice.
    assert!(tallies[0].updated == 0 && tallies[0].unchanged < 50, "{tallies:?}");
    let mirrored: Vec<i64> = sqlx::query_scalar("select id from bitrix24.contacts order by id")
        .fetch_all(bench.pool())
        .await
        .unwrap();
    assert_eq!(mirrored.len() as u64, tallies[0].inserted);
    let missing: Vec<i64> =
        bench.contacts().into_iter().filter(|id| mirrored.binary_search(id).is_err()).collect();
    assert_eq!(missing, Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_05_start_is_written_in_lower_case() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let upper = json!({ "order": { "ID": "ASC" }, "select": ["ID"], "START": 50 });
    let lower = json!({ "order": { "ID": "ASC" }, "select": ["ID"], "start": 50 });
    let ignored = bench.careless("crm.contact.list", &upper);
    let obeyed = bench.careless("crm.contact.list", &lower);
    assert_ne!(rows(&ignored["result"]), rows(&obeyed["result"]));
    assert_eq!(bench.sprung(5), 1);

    // Without a start that is understood the portal would have counted for every page.
    let stats = bench.whole_run().await;
    assert_eq!((stats.trap(5), stats.counts), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_06_a_chain_tail_that_repeats_page_one_is_discarded() {
    let options = Options { contacts: 700, leads: 153, ..unlimited() };
    let bench = Bench::new(TestPortal::with(options)).await;
    let tallies = bench.fill().await;
    // By its density a backfill knows where its ranges end.
    assert_eq!(bench.sprung(6), 0);
    assert_eq!((tallies[0].inserted, tallies[0].updated), (700, 0));
    assert_eq!((tallies[1].inserted, tallies[1].updated), (153, 0));

    // One page, one page, and a chain of two whose first page is short already: changes
    // among the oldest records leave most of the scan's range to come.
    let ids = bench.contacts()[..110].to_vec();
    bench.portal.happens(Action::Change { entity: CONTACT, ids, count: 0, visible_after: 0.0 });
    bench.portal.reset_stats();
    let tallies = bench.cycle().await;
    let stats = bench.portal.stats();
    assert_eq!(stats.trap(6), 1, "{stats:?}");
    assert_eq!(stats.rows_restarted, 50, "{stats:?}");
    assert_eq!((tallies[0].inserted, tallies[0].updated), (0, 110));
    // Nothing is fetched to make up for what was discarded, and nothing of it is counted.
    assert_eq!(stats.commands["crm.contact.list"], 5, "{stats:?}");
    assert!(tallies[0].read < 110 + 50, "{tallies:?}");
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_07_followers_of_a_failed_command_are_discarded_and_fetched_again() {
    // The limit is reached inside chains; the portal then refuses the rest of each, and
    // the references of the refused commands lead nowhere.
    let operating = Some(OperatingLimit { limit: 1.0, window: 2.0, ..OperatingLimit::default() });
    let options = Options { contacts: 300, leads: 20, operating, ..unlimited() };
    let bench = Bench::new(TestPortal::with(options)).await;
    let cost = Cost { seconds: 0.3, ..Cost::default() };
    bench.portal.happens(Action::Cost { method: "crm.contact.list".to_owned(), cost });
    let tallies = bench.fill().await;
    let stats = bench.portal.stats();
    assert!(stats.operating_refusals > 0, "{stats:?}");
    assert_eq!((tallies[0].inserted, tallies[0].updated), (300, 0));
    // The cycle after the backfill reads the newest page again.
    assert!(tallies[0].unchanged < 50, "{tallies:?}");
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_07_a_chain_is_resumed_after_the_page_before_the_failed_one() {
    use b24mirror::simulator::{Fault, FaultKind};

    let bench =
        Bench::new(TestPortal::with(Options { contacts: 700, leads: 20, ..unlimited() })).await;
    let fault = FaultKind::CommandError {
        status: 500,
        code: "INTERNAL_SERVER_ERROR".to_owned(),
        description: "Internal server error".to_owned(),
    };
    bench.fill().await;
    bench.portal.happens(change(CONTACT, 500));
    // The first answers of the cycle have other things in that place.
    bench.portal.fault(Fault::once("crm.contact.list", fault).at_command(2));
    let tallies = bench.cycle().await;
    assert!(bench.sprung(7) > 0, "{:?}", bench.portal.stats());
    assert_eq!((tallies[0].inserted, tallies[0].updated), (0, 500));
    assert!(tallies[0].unchanged < 50, "{tallies:?}");
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_34_every_list_is_asked_for_in_an_order() {
    let mut bench = Bench::new(TestPortal::small()).await;
    for method in [&CONTACTS, &LEADS].map(|entity| entity.classic.unwrap().list) {
        bench.careless(method, &json!({ "select": ["ID"], "start": -1 }));
    }
    assert_eq!(bench.sprung(34), 2);

    assert_eq!(bench.whole_run().await.trap(34), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_41_rows_never_come_out_of_the_order_of_ids() {
    let mut bench = Bench::new(TestPortal::small()).await;
    let answer = bench.careless("crm.contact.list", &json!({ "select": ["ID"], "start": -1 }));
    assert!(!rows(&answer["result"]).is_sorted());
    assert_eq!(bench.sprung(41), 1);

    assert_eq!(bench.whole_run().await.trap(41), 0);
}
