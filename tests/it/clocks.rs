//! Clocks that change, clocks that are wrong, and one moment with a great many changes.

use std::{collections::BTreeSet, time::Duration};

use b24mirror::simulator::{Action, Entity, Options};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use crate::support::{
    Company, Database, Process, TestPortal, cycled, database, equal_at, equal_within, unlimited,
};

/// Two intervals: far less than the overlap of ten seconds, after which even a wrong floor
/// has caught up.
const SOON: Duration = Duration::from_secs(2);

/// How long changes go on before and after a clock's jump.
const AROUND: TimeDelta = TimeDelta::seconds(3);

/// Longer than a floor stays lowered after a jump of the clock: the overlap and a cycle.
const FORGOTTEN: TimeDelta = TimeDelta::seconds(15);

fn small() -> Options {
    Options { contacts: 150, leads: 80, ..unlimited() }
}

/// A portal, mirrored and watched.
async fn watched(options: Options) -> (TestPortal, Database, Process) {
    let (portal, database) = (TestPortal::with(options), database().await);
    portal.backfilled(&database).await;
    let daemon = portal.daemon(&database);
    cycled(database.pool()).await;
    (portal, database, daemon)
}

fn portal_now(portal: &TestPortal) -> DateTime<Utc> {
    DateTime::from_timestamp(portal.now(), 0).unwrap()
}

/// Works in the portal, several times a second, until its clock shows that moment.
async fn work_until(portal: &TestPortal, moment: DateTime<Utc>) {
    while portal_now(portal) < moment {
        for entity in Entity::ALL {
            let (ids, visible_after) = (Vec::new(), 0.0);
            portal.happens(Action::Change { entity, ids, count: 2, visible_after });
            portal.happens(Action::Create { entity, count: 1, visible_after });
        }
        sleep(Duration::from_millis(150)).await;
    }
}

/// Fails unless what has happened so far is in the mirror two intervals from now.
async fn equal_soon(portal: &TestPortal, pool: &PgPool) {
    equal_at(Instant::now() + SOON, &BTreeSet::new(), portal, pool).await;
}

/// Sets the clock to shortly before a moment and works until shortly after it.
async fn work_around(portal: &TestPortal, pool: &PgPool, moment: DateTime<Utc>) {
    portal.happens(Action::SetClock { to: (moment - AROUND).to_rfc3339() });
    work_until(portal, moment + AROUND).await;
    equal_soon(portal, pool).await;
}

/// The same, with the jump to that moment long forgotten when it comes.
async fn work_around_unwarned(portal: &TestPortal, pool: &PgPool, moment: DateTime<Utc>) {
    portal.happens(Action::SetClock { to: (moment - AROUND - FORGOTTEN).to_rfc3339() });
    while portal_now(portal) < moment - AROUND {
        sleep(Duration::from_millis(100)).await;
    }
    work_until(portal, moment + AROUND).await;
    equal_soon(portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_before_inside_and_after_the_double_hour_of_autumn() {
    let _company = Company::quiet().await;
    // Berlin's clocks go from 03:00 back to 02:00.
    let back: DateTime<Utc> = "2026-10-25T01:00:00Z".parse().unwrap();
    let hour = TimeDelta::hours(1);
    let options = Options {
        zone: "Europe/Berlin".parse().unwrap(),
        clock: Some(back - hour - TimeDelta::minutes(10)),
        ..small()
    };
    let (portal, database, _daemon) = watched(options).await;
    let pool = database.pool();
    portal.reset_stats();
    work_around(&portal, pool, back - hour).await;
    assert_eq!(portal.stats().trap(12), 0, "the zone's offset has not changed yet");
    work_around_unwarned(&portal, pool, back).await;
    assert_eq!(portal.stats().trap(12), 1, "the zone's offset has changed once");
    work_around(&portal, pool, back + hour / 2).await;
    work_around(&portal, pool, back + hour).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_before_and_after_the_lost_hour_of_spring() {
    let _company = Company::quiet().await;
    // Berlin's clocks go from 02:00 on to 03:00.
    let forth: DateTime<Utc> = "2026-03-29T01:00:00Z".parse().unwrap();
    let options = Options {
        zone: "Europe/Berlin".parse().unwrap(),
        clock: Some(forth - TimeDelta::minutes(10)),
        ..small()
    };
    let (portal, database, _daemon) = watched(options).await;
    portal.reset_stats();
    work_around_unwarned(&portal, database.pool(), forth).await;
    assert_eq!(portal.stats().trap(12), 1, "the zone's offset has changed once");
    work_around(&portal, database.pool(), forth + TimeDelta::hours(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_when_the_portals_clock_runs_ahead_and_is_corrected() {
    let _company = Company::quiet().await;
    let (portal, database, _daemon) = watched(small()).await;
    portal.reset_stats();
    for seconds in [600.0, 0.0] {
        work_until(&portal, portal_now(&portal) + AROUND).await;
        portal.happens(Action::ShiftClock { seconds });
        work_until(&portal, portal_now(&portal) + AROUND).await;
        equal_soon(&portal, database.pool()).await;
        if seconds > 0.0 {
            sleep(FORGOTTEN.to_std().unwrap()).await;
        }
    }
    assert!(portal.stats().trap(11) > 0, "requests came while the clock was off");
}

const BULK: u64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_edit_is_read_at_most_three_times_and_hides_nothing() {
    let options = Options { contacts: BULK, leads: 50, ..unlimited() };
    let (portal, database, _daemon) = watched(options).await;
    portal.reset_stats();
    let entity = Entity::Contacts;
    let bulk = Action::Change { entity, ids: Vec::new(), count: BULK, visible_after: 0.0 };
    assert_eq!(portal.happens(bulk).ids.len() as u64, BULK);
    let edited = portal_now(&portal);
    work_until(&portal, edited + AROUND).await;
    let others = portal.stats().writes - BULK;
    equal_within(&portal, database.pool(), Duration::from_mins(2)).await;

    // From here on no floor is below the bulk edit any more.
    let settled = edited + FORGOTTEN;
    while deep_cycle_began(database.pool()).await < settled {
        sleep(Duration::from_millis(200)).await;
    }
    cycled(database.pool()).await;
    let read = portal.stats().rows_full;
    assert!(read >= BULK);
    // The others may be read in every cycle of one overlap.
    let in_vain = portal.stats().rows_restarted;
    let most = 3 * BULK + 25 * others;
    assert!(read <= most, "{read} rows were read, {in_vain} of them in vain, instead of {most}");
}

/// The portal's clock at the start of the last complete deep cycle of contacts.
async fn deep_cycle_began(pool: &PgPool) -> DateTime<Utc> {
    sqlx::query_scalar(
        "select deep_portal_at from bitrix24.sync_checkpoints where entity = 'contacts'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}
