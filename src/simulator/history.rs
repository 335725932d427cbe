//! Stage history: `crm.stagehistory.list` (vendor page `crm-stage-history-list`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::clock::{instant_text, local_to_unix, utc_text};
use super::dataset::{mix, salt};
use super::entity::Entity;
use super::fields::Type;
use super::items::{array, entity_of};
use super::php::{Array, Php};
use super::pipelines::Standing;
use super::portal::{Answer, Failure, Portal, Rights};
use super::query::{Cell, Columns, Sheet};
use super::records::{Body, Facts, Plain, Text};

const DAY: u64 = 86_400;

/// A step of a record through its stages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    id: i64,
    owner: i64,
    /// 1 for creation, 2 on the way, 3 at an end.
    kind: i64,
    /// Wall-clock seconds.
    created: i64,
    place: StagePlace,
}

/// Where a step leads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StagePlace {
    pipeline: i64,
    code: Text,
    semantic: Text,
}

impl From<Standing> for StagePlace {
    fn from(standing: Standing) -> Self {
        let stage = standing.stage();
        Self {
            pipeline: standing.pipeline.id,
            code: Cow::Borrowed(stage.code),
            semantic: Cow::Borrowed(stage.semantic),
        }
    }
}

impl StagePlace {
    /// Where facts say that a record stands; also at a stage that the portal does not know.
    pub(super) fn of(entity: Entity, facts: &Facts) -> Option<Self> {
        if let Some(standing) = Standing::of(entity, facts) {
            return Some(standing.into());
        }
        let stages = entity.fields().iter().zip(&facts.plain);
        let mut own = stages.filter(|(field, _)| field.content == super::fields::Content::Stage);
        match own.next()?.1 {
            Plain::Raw(raw) => {
                let code = Cow::Owned(raw.to_text()?);
                Some(Self { pipeline: 0, code, semantic: Cow::Borrowed("P") })
            }
            _ => None,
        }
    }
}

/// A step, for tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueStep {
    /// The step's own number.
    pub id: i64,
    /// 1 for creation, 2 on the way, 3 at an end.
    pub type_id: i64,
    /// The record.
    pub owner_id: i64,
    /// When, in UTC.
    pub created_time: String,
    /// The pipeline; 0 for leads.
    pub category_id: i64,
    /// The stage.
    pub stage_id: String,
    /// `P`, `S` or `F`.
    pub stage_semantic_id: String,
}

const OF_LEADS: Columns = &[
    ("ID", Type::Integer),
    ("TYPE_ID", Type::Integer),
    ("OWNER_ID", Type::Integer),
    ("CREATED_TIME", Type::DateTime),
    ("CATEGORY_ID", Type::Integer),
    ("STATUS_SEMANTIC_ID", Type::Text),
    ("STATUS_ID", Type::Text),
];

const OF_OTHERS: Columns = &[
    ("ID", Type::Integer),
    ("TYPE_ID", Type::Integer),
    ("OWNER_ID", Type::Integer),
    ("CREATED_TIME", Type::DateTime),
    ("CATEGORY_ID", Type::Integer),
    ("STAGE_SEMANTIC_ID", Type::Text),
    ("STAGE_ID", Type::Text),
];

impl Step {
    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::Int(self.id),
            Cell::Int(self.kind),
            Cell::Int(self.owner),
            Cell::Int(self.created),
            Cell::Int(self.place.pipeline),
            Cell::Text(self.place.semantic.to_lowercase()),
            Cell::Text(self.place.code.to_lowercase()),
        ]
    }
}

impl Portal {
    /// The history of a family with stages, made when it is first needed.
    fn steps(&mut self, entity: Entity) -> &mut Vec<Step> {
        if self.histories[entity.index()].is_none() {
            let made = self.first_steps(entity);
            self.histories[entity.index()] = Some(made);
        }
        self.histories[entity.index()].get_or_insert_default()
    }

    /// Makes the history before something is written that belongs at its end.
    pub(super) fn keep_history(&mut self, entity: Entity) {
        if !entity.pipelines().is_empty() {
            self.steps(entity);
        }
    }

    fn first_steps(&self, entity: Entity) -> Vec<Step> {
        let mut steps = Vec::new();
        for record in self.tables[entity.index()].iter() {
            let dice = salt(self.options.seed, entity, record.id);
            let standing = match &record.body {
                Body::Generated { origin, .. } => self.generator.standing(entity, *origin),
                Body::Own(facts) => match Standing::of(entity, facts) {
                    Some(standing) => standing,
                    None => continue,
                },
            };
            let step = |kind, created, place: StagePlace| Step {
                id: 0,
                owner: record.id,
                kind,
                created,
                place,
            };
            let first = Standing { at: 0, ..standing };
            steps.push(step(1, record.created, first.into()));
            if standing.at > 0 {
                let later = i64::try_from(mix(dice, 8) % (60 * DAY)).unwrap_or(0);
                let moved = (record.created + later).min(record.modified.max(record.created));
                let kind = if standing.is_end() { 3 } else { 2 };
                steps.push(step(kind, moved, standing.into()));
            }
        }
        steps.sort_by_key(|step| (step.created, step.owner, step.kind));
        for (step, id) in steps.iter_mut().zip(1..) {
            step.id = id;
        }
        steps
    }

    /// Appends a step; `kept` must have been called before the write.
    pub(super) fn append_step(
        &mut self,
        entity: Entity,
        owner: i64,
        created: i64,
        place: StagePlace,
        is_new: bool,
    ) {
        let kind = match (is_new, &*place.semantic) {
            (true, _) => 1,
            (false, "S" | "F") => 3,
            (false, _) => 2,
        };
        let steps = self.steps(entity);
        // Numbers are never used again, and steps never go.
        let id = steps.last().map_or(0, |step| step.id) + 1;
        steps.push(Step { id, owner, kind, created, place });
    }

    pub(super) fn stage_history(&mut self, params: &Array) -> Result<Answer, Failure> {
        let entity = entity_of(self, params)?;
        let supported = matches!(
            entity,
            Entity::Leads | Entity::Deals | Entity::SmartInvoices | Entity::Projects
        );
        if !supported {
            let name = entity.portal_name().to_uppercase();
            let text = format!("Entity type {name} is not supported");
            return Err(Failure::new(400, "ENTITY_TYPE_NOT_SUPPORTED", &text));
        }
        if self.rights[entity.index()] == Rights::None {
            self.stats.spring(16);
            return Err(Failure::new(400, "ACCESS_DENIED", "Access denied"));
        }
        let columns = if entity == Entity::Leads { OF_LEADS } else { OF_OTHERS };
        let (filter, order) = (array(params, "filter")?, array(params, "order")?);
        let sheet = Sheet::read(columns, &self.clock, &filter, &order)?;
        let select: Vec<String> =
            array(params, "select")?.values().filter_map(Php::to_text).collect();
        let start = params.get("start").map_or(0, Php::to_int);
        let steps = std::mem::take(self.steps(entity));
        let from = steps.partition_point(|step| step.id < sheet.least_id());
        let shown: Vec<(Vec<Cell>, Step)> = {
            let readable = |owner: i64| {
                let record = self.tables[entity.index()].get(owner);
                record.is_some_and(|record| self.is_readable(entity, record))
            };
            let matching = steps[from..]
                .iter()
                .map(|step| (step.cells(), step))
                .filter(|(cells, step)| sheet.admits(cells) && readable(step.owner));
            let enough = if start < 0 && sheet.is_by_id() { 50 } else { usize::MAX };
            matching.take(enough).map(|(cells, step)| (cells, step.clone())).collect()
        };
        self.histories[entity.index()] = Some(steps);
        let answer = self.sheet_page("items", &sheet, shown.into_iter(), start, |portal, step| {
            portal.step_row(columns, &step, &select)
        });
        Ok(answer)
    }

    fn step_row(&self, columns: Columns, step: &Step, select: &[String]) -> Array {
        let zone = self.clock.zone;
        let values = [
            step.id.to_string(),
            step.kind.to_string(),
            step.owner.to_string(),
            instant_text(zone, local_to_unix(zone, step.created)),
            step.place.pipeline.to_string(),
            step.place.semantic.to_string(),
            step.place.code.to_string(),
        ];
        let mut row = Array::default();
        let all = select.is_empty() || select.iter().any(|name| name == "*");
        for ((name, _), value) in columns.iter().zip(values) {
            let of_lead = columns == OF_LEADS && *name == "CATEGORY_ID";
            if !of_lead && (all || select.iter().any(|own| own == name)) {
                row = row.with(name, value);
            }
        }
        row
    }

    /// The steps of live records, by ascending number.
    pub(super) fn true_steps(&mut self, entity: Entity) -> Vec<TrueStep> {
        self.settle();
        self.keep_history(entity);
        let zone = self.clock.zone;
        let table = &self.tables[entity.index()];
        let steps = self.histories[entity.index()].iter().flatten();
        steps
            .filter(|step| table.get(step.owner).is_some())
            .map(|step| TrueStep {
                id: step.id,
                type_id: step.kind,
                owner_id: step.owner,
                created_time: utc_text(local_to_unix(zone, step.created)),
                category_id: step.place.pipeline,
                stage_id: step.place.code.to_string(),
                stage_semantic_id: step.place.semantic.to_string(),
            })
            .collect()
    }
}
