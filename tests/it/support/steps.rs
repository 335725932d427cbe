//! Whether the steps of the mirror are those of the portal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use b24mirror::{
    entity::{Entity, LEAD_STAGE_HISTORY},
    simulator::{self, TrueStep},
};
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::TestPortal;

/// A step as the tables have it.
#[derive(FromRow)]
struct Step {
    id: i64,
    type_id: i64,
    owner_id: i64,
    created_time: String,
    category_id: i64,
    stage_id: String,
    stage_semantic_id: String,
}

/// The live steps, by their numbers.
pub(crate) async fn mirrored(pool: &PgPool, entity: &Entity) -> Vec<TrueStep> {
    let name = |field: &str| entity.columns[entity.position(field).unwrap()].name;
    let of_lead = entity == &LEAD_STAGE_HISTORY;
    let (category, stage, semantics) = if of_lead {
        ("0::bigint", "STATUS_ID", "STATUS_SEMANTIC_ID")
    } else {
        ("category_id", "STAGE_ID", "STAGE_SEMANTIC_ID")
    };
    let select = format!(
        "select id, type_id, {owner} as owner_id, \
            to_char(created_time at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                as created_time, \
            {category} as category_id, {stage} as stage_id, {semantics} as stage_semantic_id \
         from bitrix24.{table} where deleted_at is null and custom_fields = '{{}}' order by id",
        owner = name("OWNER_ID"),
        stage = name(stage),
        semantics = name(semantics),
        table = entity.name
    );
    let steps: Vec<Step> = sqlx::query_as(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
    let step = |step: Step| TrueStep {
        id: step.id,
        type_id: step.type_id,
        owner_id: step.owner_id,
        created_time: step.created_time,
        category_id: step.category_id,
        stage_id: step.stage_id,
        stage_semantic_id: step.stage_semantic_id,
    };
    steps.into_iter().map(step).collect()
}

/// The first differences in words; empty if there are none.
pub(crate) async fn differences(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &Entity,
    of: simulator::Entity,
) -> String {
    let (truth, mirror) = both(portal, pool, entity, of).await;
    in_words(&truth, &mirror)
}

/// The same without steps of some records, and of those that the portal has no longer: a sweep
/// finds them.
pub(crate) async fn differences_but_for(
    left_out: &BTreeSet<i64>,
    portal: &TestPortal,
    pool: &PgPool,
    entity: &Entity,
    of: simulator::Entity,
) -> String {
    let (mut truth, mut mirror) = both(portal, pool, entity, of).await;
    truth.retain(|_, step| !left_out.contains(&step.owner_id));
    mirror.retain(|id, _| truth.contains_key(id));
    in_words(&truth, &mirror)
}

type Steps = BTreeMap<i64, TrueStep>;

async fn both(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &Entity,
    of: simulator::Entity,
) -> (Steps, Steps) {
    let by_id =
        |steps: Vec<TrueStep>| steps.into_iter().map(|step| (step.id, step)).collect::<Steps>();
    (by_id(portal.stage_history(of)), by_id(mirrored(pool, entity).await))
}

fn in_words(truth: &Steps, mirror: &Steps) -> String {
    let ids: BTreeSet<i64> = truth.keys().chain(mirror.keys()).copied().collect();
    let differing = ids.into_iter().filter(|id| truth.get(id) != mirror.get(id));
    let mut text = String::new();
    for id in differing.take(5) {
        let _ = match (truth.get(&id), mirror.get(&id)) {
            (Some(theirs), None) => writeln!(text, "step {id}: missing, {theirs:?} in the portal"),
            (None, ours) => writeln!(text, "step {id}: in the mirror, not in the portal: {ours:?}"),
            (theirs, ours) => writeln!(text, "step {id}: {theirs:?} in the portal, {ours:?} here"),
        };
    }
    text
}
