//! The order and extent of the mail address book.

use std::collections::BTreeMap;

use b24mirror::simulator::{Action, Options, RecipientOrder, Undocumented};
use sqlx::PgPool;

use crate::support::{Database, Finished, Run, TestPortal, database, tables::value, unlimited};

const ORDERS: [RecipientOrder; 3] =
    [RecipientOrder::Newest, RecipientOrder::Id, RecipientOrder::Name];

struct Bench {
    portal: TestPortal,
    database: Database,
}

impl Bench {
    async fn new(recipients: u64, undocumented: Undocumented) -> Self {
        let options = Options { contacts: 0, leads: 0, recipients, undocumented, ..unlimited() };
        Self { portal: TestPortal::with(options), database: database().await }
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        let settings = self.portal.settings_with(
            &self.database,
            "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             [entities]\nmail_recipients.enabled = true\n",
        );
        let (command, more) = arguments.split_first().unwrap();
        let arguments = [&[*command, "mail_recipients"], more].concat();
        Run::b24mirror(&arguments).config(&settings).finish().await
    }

    async fn done(&self, arguments: &[&str]) -> Finished {
        let finished = self.run(arguments).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
        finished
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    fn ids(&self) -> Vec<i64> {
        self.portal.recipients().into_iter().map(|one| one.id).collect()
    }

    fn add(&self, count: usize) {
        for place in 0..count {
            let email = format!("later{place}@example.org");
            self.portal.happens(Action::AddRecipient { email, name: format!("Later {place}") });
        }
    }

    fn rename(&self, id: i64) {
        let name = Some(format!("Renamed {id}"));
        self.portal.happens(Action::ChangeRecipient { id, email: None, name });
    }

    /// Every value of these entries, and no others.
    async fn assert_has(&self, ids: impl Fn(i64) -> bool) {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let truth: BTreeMap<i64, (Option<String>, Option<String>)> = self
            .portal
            .recipients()
            .into_iter()
            .filter(|one| ids(one.id))
            .map(|one| (one.id, (text(one.email), text(one.name))))
            .collect();
        let rows: Vec<(i64, Option<String>, Option<String>)> = sqlx::query_as(
            "select id, email, name from bitrix24.mail_recipients where deleted_at is null",
        )
        .fetch_all(self.pool())
        .await
        .unwrap();
        let mirror: BTreeMap<_, _> =
            rows.into_iter().map(|(id, email, name)| (id, (email, name))).collect();
        assert_eq!(mirror, truth);
    }

    async fn tombstones(&self) -> i64 {
        let gone = "select count(*) from bitrix24.mail_recipients where deleted_at is not null";
        value(self.pool(), gone).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_mirrored_in_whatever_order_they_are_listed() {
    for recipient_order in ORDERS {
        let bench =
            Bench::new(620, Undocumented { recipient_order, ..Undocumented::default() }).await;
        bench.done(&["backfill"]).await;
        bench.assert_has(|_| true).await;

        // Entries come, go, move and change their places while the list is read.
        let ids = bench.ids();
        let moves = [
            Action::TouchRecipient { id: ids[0] },
            Action::RemoveRecipient { ids: vec![ids[600], ids[301]] },
            Action::AddRecipient { email: "a@example.org".into(), name: "Aaron".into() },
            Action::ChangeRecipient { id: ids[20], email: None, name: Some("Zoë".into()) },
        ];
        for (then, pages) in moves.into_iter().zip(1..) {
            bench.portal.happens(Action::AfterPages { pages, then: Box::new(then) });
        }
        bench.done(&["sync"]).await;
        bench.done(&["sync"]).await;
        bench.done(&["sweep"]).await;
        bench.assert_has(|_| true).await;
        assert_eq!(bench.tombstones().await, 2, "{recipient_order:?}");
        bench.done(&["verify", "--level", "full"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_among_the_latest_that_are_listed_has_not_gone() {
    for recipient_order in ORDERS {
        let positions = Undocumented {
            recipient_order,
            recipient_window: Some(300),
            ..Undocumented::default()
        };
        let bench = Bench::new(450, positions).await;
        let ids = bench.ids();
        let known = ids[150];
        bench.done(&["backfill"]).await;
        bench.assert_has(|id| id >= known).await;

        // Forty leave the window, two of them for good; so do two that stay in it.
        bench.add(40);
        bench
            .portal
            .happens(Action::RemoveRecipient { ids: vec![ids[152], ids[160], ids[300], ids[310]] });
        bench.rename(ids[170]);
        bench.rename(ids[320]);
        bench.done(&["sync"]).await;
        assert_eq!(bench.tombstones().await, 0);
        let swept = bench.done(&["sweep"]).await;
        assert!(swept.stdout.contains("4 deleted"), "{recipient_order:?}: {swept:#?}");
        bench.assert_has(|id| id >= known).await;
        for level in ["counts", "ids", "full"] {
            bench.done(&["verify", "--level", level]).await;
        }

        // What is not listed is compared and repaired as well.
        bench.rename(ids[171]);
        let damage = "update bitrix24.mail_recipients set name = 'x' where id = $1";
        sqlx::query(damage).bind(ids[172]).execute(bench.pool()).await.unwrap();
        let found = bench.run(&["verify", "--level", "full"]).await;
        assert_eq!(found.code, Some(2), "{found:#?}");
        assert!(found.stdout.contains("2 different"), "{found:#?}");
        bench.done(&["verify", "--level", "full", "--repair"]).await;
        bench.assert_has(|id| id >= known).await;
        assert_eq!(bench.tombstones().await, 4, "{recipient_order:?}");

        // More than are searched for at once: nobody is deleted who may be there.
        bench.add(290);
        bench.done(&["sync"]).await;
        bench.done(&["sweep"]).await;
        bench.assert_has(|id| id >= known).await;
        assert_eq!(bench.tombstones().await, 4, "{recipient_order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_an_address_with_a_page_of_others_is_not_taken_for_gone() {
    // Newest first, so whoever is searched for comes behind all that have the same ending.
    let positions = Undocumented { recipient_window: Some(300), ..Undocumented::default() };
    let bench = Bench::new(60, positions).await;
    let oldest = bench.portal.happens(Action::AddRecipient {
        email: "1@crowd.example.org".into(),
        name: "Crowded out".into(),
    });
    bench.done(&["backfill"]).await;
    for number in 0..320 {
        let (email, name) = (format!("{number}1@crowd.example.org"), String::new());
        bench.portal.happens(Action::AddRecipient { email, name });
        if number % 100 == 99 {
            bench.done(&["sync"]).await;
        }
    }
    bench.done(&["sync"]).await;
    bench.done(&["sweep"]).await;
    bench.assert_has(|_| true).await;
    assert_eq!((oldest.ids.len(), bench.tombstones().await), (1, 0));
}
