//! The statuses and words of refusals.

use b24mirror::simulator::{
    Action, BucketLimit, Fault, FaultKind, NewerFailures, Options, Refusal, Undocumented,
};

use super::Source;
use crate::support::{Run, TestPortal, database, tables::value, unlimited};

fn scopes(names: &[&str]) -> Action {
    Action::Scopes { scopes: names.iter().map(|name| (*name).to_owned()).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_webhook_is_told_deletes_nothing_and_heals_whatever_its_status() {
    for refusal in [Refusal::Unauthorized, Refusal::Forbidden] {
        let undocumented = Undocumented { refusal, ..Undocumented::default() };
        let options = Options { contacts: 120, leads: 60, undocumented, ..unlimited() };
        for source in Source::BOTH {
            let (portal, database) = (TestPortal::with(options.clone()), database().await);
            source.done(&portal, &database, &["backfill"]).await;
            let lost = [
                (Action::Webhook { revoked: true }, "INVALID_CREDENTIALS", "webhook was deleted"),
                (scopes(&["user"]), "insufficient_scope", "the scope `crm`"),
            ];
            for (action, code, advice) in lost {
                portal.happens(action);
                portal.reset_stats();
                for arguments in [&["sync"][..], &["sweep"], &["verify", "--level", "ids"]] {
                    let refused = source.run(&portal, &database, arguments).await;
                    assert!(matches!(refused.code, Some(1 | 2)), "{refused:#?}");
                    let said = format!("{}{}", refused.stdout, refused.stderr);
                    for text in [code, advice] {
                        assert!(said.contains(text), "{refusal:?}, {text}: {refused:#?}");
                    }
                }
                let checked = source.run(&portal, &database, &["check"]).await;
                assert_eq!(checked.code, Some(1), "{checked:#?}");
                assert!(checked.stdout.contains(code), "{checked:#?}");
                // Nobody asks again and again with what is refused.
                assert!(portal.stats().requests <= 20, "{refusal:?}: {:#?}", portal.stats());
                portal.happens(Action::Webhook { revoked: false });
                portal.happens(scopes(&["crm", "user", "department"]));
                source.assert_equal(&portal, &database, &undocumented).await;
            }
            let entity = b24mirror::simulator::Entity::Contacts;
            let (ids, count) = (Vec::new(), 20);
            portal.happens(Action::Change { entity, ids, count, visible_after: 0.0 });
            source.done(&portal, &database, &["sync"]).await;
            source.assert_equal(&portal, &database, &undocumented).await;
        }
    }
}

const METHOD: &str = "mail.recipient.listcontacts";

#[tokio::test(flavor = "multi_thread")]
async fn the_address_book_bears_every_way_of_wording_a_refusal() {
    for newer_failures in [NewerFailures::Mixed, NewerFailures::Classic, NewerFailures::Newer] {
        for refusal in [Refusal::Unauthorized, Refusal::Forbidden] {
            let undocumented = Undocumented { newer_failures, refusal, ..Undocumented::default() };
            let portal = TestPortal::with(Options {
                contacts: 0,
                leads: 0,
                recipients: 450,
                bucket: Some(BucketLimit { threshold: 12.0, rate: 10.0, refused_count: false }),
                undocumented,
                ..unlimited()
            });
            let database = database().await;
            let settings = portal.settings_with(
                &database,
                "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
                 [entities]\nmail_recipients.enabled = true\n",
            );
            let run = async |arguments: &[&str]| {
                Run::b24mirror(arguments).config(&settings).finish().await
            };
            // Somebody else fills the bucket while the book is read.
            portal.fault(Fault::once(METHOD, FaultKind::Crowd { requests: 20 }));
            let finished = run(&["backfill", "mail_recipients"]).await;
            assert_eq!(finished.code, Some(0), "{undocumented:?}: {finished:#?}");
            assert!((1..=3).contains(&portal.stats().refusals), "{:#?}", portal.stats());
            let live = "select count(*) from bitrix24.mail_recipients where deleted_at is null";
            assert_eq!(value::<i64>(database.pool(), live).await, 450);

            for (lost, code) in [
                (Action::Webhook { revoked: true }, "INVALID_CREDENTIALS"),
                (scopes(&["crm", "user", "department"]), "scope `mail`"),
            ] {
                portal.happens(lost);
                for command in ["sync", "sweep"] {
                    let refused = run(&[command, "mail_recipients"]).await;
                    assert_eq!(refused.code, Some(2), "{undocumented:?}: {refused:#?}");
                    let said = format!("{}{}", refused.stdout, refused.stderr);
                    assert!(said.contains(code), "{undocumented:?}, {code}: {refused:#?}");
                }
                portal.happens(Action::Webhook { revoked: false });
                portal.happens(scopes(&["crm", "mail"]));
                assert_eq!(value::<i64>(database.pool(), live).await, 450);
            }
            let finished = run(&["verify", "mail_recipients", "--level", "full"]).await;
            assert_eq!(finished.code, Some(0), "{undocumented:?}: {finished:#?}");
        }
    }
}
