//! Differences of every kind, made directly in the tables behind the mirror's back.

use std::collections::{BTreeMap, BTreeSet};

use b24mirror::entity::CONTACTS;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::TestPortal;

/// What was damaged: kind and what kind of damage, by ID.
pub(super) type Seeds = BTreeMap<i64, &'static str>;

/// Damages so many contacts of each kind, far enough from the newest that no incremental
/// cycle reads them.
pub(super) async fn seed(portal: &TestPortal, pool: &PgPool, each: usize) -> Seeds {
    let truth = portal.truth(&CONTACTS);
    let existing: BTreeSet<i64> = truth.iter().map(|record| record.id).collect();
    let old = &truth[..truth.len() - 100];
    let step = (old.len() / (each * 7)).max(1);
    let mut seeds = Seeds::new();

    // IDs may lie billions apart.
    let gaps: Vec<i64> =
        old.windows(2).map(|pair| pair[0].id + 1).filter(|id| !existing.contains(id)).collect();
    let gap_step = (gaps.len() / each).max(1);
    let mut extra: Vec<i64> = gaps.into_iter().step_by(gap_step).take(each - 1).collect();
    // One that no page of the portal's reaches.
    extra.push(existing.last().unwrap() + 1_000_000);
    execute(
        pool,
        "insert into contacts select (jsonb_populate_record(c, jsonb_build_object('id', n))).* \
         from contacts c, unnest($1::bigint[]) as n \
         where c.id = (select min(id) from contacts)",
        &extra,
    )
    .await;
    seeds.extend(extra.into_iter().map(|id| (id, "extra")));

    let phoned: Vec<i64> = old
        .iter()
        .filter(|record| !record.multi_fields["PHONE"].is_empty())
        .map(|record| record.id)
        .collect();
    let phoned_step = (phoned.len() / each).max(1);
    let phoned: Vec<i64> = phoned.into_iter().step_by(phoned_step).take(each).collect();
    let third = |rest: usize| -> Vec<i64> {
        phoned
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, _)| at % 3 == rest)
            .map(|(_, id)| id)
            .collect()
    };
    let first_phone = "(contact_id, id) in (select contact_id, min(id) from contact_phones \
                       where contact_id = any($1) group by contact_id)";
    let changed = format!("update contact_phones set value = value || '0' where {first_phone}");
    execute(pool, &changed, &third(0)).await;
    execute(pool, &format!("delete from contact_phones where {first_phone}"), &third(1)).await;
    execute(
        pool,
        "insert into contact_emails (contact_id, id, value, value_type) \
         select unnest($1::bigint[]), 999999999, 'a@example.org', 'WORK'",
        &third(2),
    )
    .await;
    seeds.extend(phoned.iter().map(|id| (*id, "child_wrong")));

    let mut rest = old
        .iter()
        .step_by(step)
        .map(|record| record.id)
        .filter(|id| !phoned.contains(id))
        .collect::<Vec<_>>()
        .into_iter();
    let mut next = |kind: &'static str| -> Vec<i64> {
        let ids: Vec<i64> = rest.by_ref().take(each).collect();
        assert_eq!(ids.len(), each, "enough records for {kind}");
        seeds.extend(ids.iter().map(|id| (*id, kind)));
        ids
    };
    execute(pool, "delete from contacts where id = any($1)", &next("missing")).await;
    let stale = next("stale");
    let (columns, fields) = stale.split_at(each / 2);
    execute(
        pool,
        "update contacts set last_name = concat('damaged ', last_name) where id = any($1)",
        columns,
    )
    .await;
    execute(
        pool,
        "update contacts set custom_fields = custom_fields || '{\"UF_CRM_DAMAGED\": 1}' \
         where id = any($1)",
        fields,
    )
    .await;
    // Some of them say that they were written by an answer that is still to come.
    execute(
        pool,
        "update contacts set synced_at = now() + interval '1 day' where id = any($1)",
        &columns[..columns.len() / 2],
    )
    .await;
    execute(
        pool,
        "update contacts set content_hash = content_hash # 4711 where id = any($1)",
        &next("hash_wrong"),
    )
    .await;
    execute(
        pool,
        "update contacts set deleted_at = now() where id = any($1)",
        &next("tombstone_wrong"),
    )
    .await;
    seeds
}

async fn execute(pool: &PgPool, sql: &str, ids: &[i64]) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("set search_path = bitrix24").execute(&mut *connection).await.unwrap();
    let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .bind(ids)
        .execute(&mut *connection)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), ids.len() as u64, "{sql}");
}
