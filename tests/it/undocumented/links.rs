//! Changes of which nobody says whether they move `DATE_MODIFY`: activities, links that are set,
//! and links to what is deleted.

use b24mirror::simulator::{Action, Entity, Options, Undocumented, Unlinking};

use super::Source;
use crate::support::{Database, TestPortal, database, unlimited};

fn options(undocumented: Undocumented) -> Options {
    Options { contacts: 160, leads: 90, companies: 40, undocumented, ..unlimited() }
}

/// What moved no date is seen by no cycle and no sweep, and found by the full comparison.
async fn arrives(
    source: Source,
    portal: &TestPortal,
    database: &Database,
    positions: &Undocumented,
    (dated, shown): (bool, bool),
) {
    source.done(portal, database, &["sync"]).await;
    source.done(portal, database, &["sweep"]).await;
    let differences = source.differences(portal, database).await;
    assert_eq!(
        differences.is_empty(),
        dated || !shown,
        "{source:?}, {positions:?}:\n{differences}"
    );
    if !dated && shown {
        let found = source.run(portal, database, &["verify", "--level", "full"]).await;
        assert_eq!(found.code, Some(2), "{found:#?}");
        source.done(portal, database, &["verify", "--level", "full", "--repair"]).await;
    }
    source.assert_equal(portal, database, positions).await;
    source.done(portal, database, &["verify", "--level", "full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_arrives_whether_or_not_it_moves_the_date() {
    for source in Source::BOTH {
        for bumps in [true, false] {
            let positions = Undocumented::default();
            let (portal, database) = (TestPortal::with(options(positions)), database().await);
            source.done(&portal, &database, &["backfill"]).await;
            for entity in Entity::ALL {
                for id in portal.ids(entity).into_iter().step_by(17) {
                    portal.happens(Action::Activity { entity, id, bumps });
                }
            }
            arrives(source, &portal, &database, &positions, (bumps, true)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_set_arrive_whether_or_not_they_move_the_date() {
    for source in Source::BOTH {
        for keep_date in [false, true] {
            let positions = Undocumented::default();
            let (portal, database) = (TestPortal::with(options(positions)), database().await);
            source.done(&portal, &database, &["backfill"]).await;
            let links = [(Entity::Contacts, "COMPANY_IDS"), (Entity::Leads, "CONTACT_IDS")];
            for (entity, field) in links {
                for (place, id) in portal.ids(entity).into_iter().step_by(23).enumerate() {
                    let first = i64::try_from(place).unwrap() + 500;
                    // Another primary link, further ones, and none at all.
                    let ids = [vec![first, first + 1], vec![first], Vec::new()][place % 3].clone();
                    let field = field.to_owned();
                    portal.happens(Action::SetLinks { entity, id, field, ids, keep_date });
                }
            }
            arrives(source, &portal, &database, &positions, (!keep_date, true)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_links_to_what_was_deleted_end_as_the_portal_has_them() {
    for source in Source::BOTH {
        for unlinking in [Unlinking::Stays, Unlinking::Quiet, Unlinking::Dated] {
            let positions = Undocumented { unlinking, ..Undocumented::default() };
            let (portal, database) = (TestPortal::with(options(positions)), database().await);
            let (companies, contacts) =
                (portal.ids(Entity::Companies), portal.ids(Entity::Contacts));
            for (entity, field, to) in [
                (Entity::Contacts, "COMPANY_IDS", &companies),
                (Entity::Leads, "CONTACT_IDS", &contacts),
            ] {
                for (place, id) in portal.ids(entity).into_iter().step_by(9).enumerate() {
                    let ids = vec![to[place % 7], to[place % 5 + 8]];
                    // A date of just now would have them read again whatever becomes of them.
                    let (field, keep_date) = (field.to_owned(), true);
                    portal.happens(Action::SetLinks { entity, id, field, ids, keep_date });
                }
            }
            source.done(&portal, &database, &["backfill"]).await;
            source.assert_equal(&portal, &database, &positions).await;
            for (entity, ids) in [
                (Entity::Companies, companies[..2].to_vec()),
                (Entity::Contacts, contacts[..2].to_vec()),
            ] {
                portal.happens(Action::Delete { entity, ids, count: 0 });
            }
            let (dated, shown) = (unlinking == Unlinking::Dated, unlinking != Unlinking::Stays);
            arrives(source, &portal, &database, &positions, (dated, shown)).await;
        }
    }
}
