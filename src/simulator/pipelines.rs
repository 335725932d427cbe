//! Pipelines and their stages.

use std::borrow::Cow;

use super::entity::Entity;
use super::fields::Content;
use super::records::{Facts, Plain};

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) code: &'static str,
    /// `P` on the way, `S` or `F` at an end.
    pub(super) semantic: &'static str,
    pub(super) name: &'static str,
}

const fn stage(code: &'static str, semantic: &'static str, name: &'static str) -> Stage {
    Stage { code, semantic, name }
}

/// A pipeline, which the portal also calls a category.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pipeline {
    pub(super) id: i64,
    pub(super) name: &'static str,
    /// The directory of its stages.
    pub(super) directory: &'static str,
    pub(super) stages: &'static [Stage],
}

/// Lead stages.
pub(super) const LEAD_STAGES: &[Stage] = &[
    stage("NEW", "P", "Не обработан"),
    stage("IN_PROCESS", "P", "В работе"),
    stage("PROCESSED", "P", "Обработан"),
    stage("1", "P", "Повторный"),
    stage("CONVERTED", "S", "Качественный лид"),
    stage("JUNK", "F", "Некачественный лид"),
];

const LEADS: &[Pipeline] =
    &[Pipeline { id: 0, name: "Лиды", directory: "STATUS", stages: LEAD_STAGES }];

const DEALS: &[Pipeline] = &[
    Pipeline {
        id: 0,
        name: "Общая",
        directory: "DEAL_STAGE",
        stages: &[
            stage("NEW", "P", "Новая"),
            stage("PREPARATION", "P", "Подготовка документов"),
            stage("EXECUTING", "P", "В работе"),
            stage("WON", "S", "Сделка успешна"),
            stage("LOSE", "F", "Сделка провалена"),
            stage("APOLOGY", "F", "Анализ причины провала"),
        ],
    },
    Pipeline {
        id: 1,
        name: "Закупки",
        directory: "DEAL_STAGE_1",
        stages: &[
            stage("C1:NEW", "P", "Новая"),
            stage("C1:UC_2Z/9", "P", "Согласование «до 100 000»"),
            stage("C1:WON", "S", "Закуплено"),
            stage("C1:LOSE", "F", "Отказ"),
        ],
    },
    Pipeline {
        id: 5,
        name: "Portal Rent / аренда",
        directory: "DEAL_STAGE_5",
        stages: &[
            stage("C5:NEW", "P", "Заявка"),
            stage("C5:EXECUTING", "P", "В аренде"),
            stage("C5:WON", "S", "Возвращено"),
            stage("C5:LOSE", "F", "Потеряно"),
        ],
    },
];

const QUOTES: &[Pipeline] = &[Pipeline {
    id: 0,
    name: "Предложения",
    directory: "QUOTE_STATUS",
    stages: &[
        stage("DRAFT", "P", "Черновик"),
        stage("SENT", "P", "Отправлено"),
        stage("APPROVED", "S", "Принято"),
        // The portal's own spelling.
        stage("DECLAINED", "F", "Отклонено"),
    ],
}];

const SMART_INVOICES: &[Pipeline] = &[Pipeline {
    id: 13,
    name: "Счета",
    directory: "SMART_INVOICE_STAGE_13",
    stages: &[
        stage("DT31_13:N", "P", "Новый"),
        stage("DT31_13:S", "P", "Отправлен"),
        stage("DT31_13:P", "S", "Оплачен"),
        stage("DT31_13:D", "F", "Не оплачен"),
    ],
}];

const PROJECTS: &[Pipeline] = &[
    Pipeline {
        id: 9,
        name: "Проекты",
        directory: "DYNAMIC_128_STAGE_9",
        stages: &[
            stage("DT128_9:NEW", "P", "Начало"),
            stage("DT128_9:CLIENT", "P", "У клиента"),
            stage("DT128_9:SUCCESS", "S", "Сдан"),
            stage("DT128_9:FAIL", "F", "Остановлен"),
        ],
    },
    // Deals have a pipeline of the same ID.
    Pipeline {
        id: 5,
        name: "Проекты «под ключ»",
        directory: "DYNAMIC_128_STAGE_5",
        stages: &[
            stage("DT128_5:NEW", "P", "Замер"),
            stage("DT128_5:SUCCESS", "S", "Сдан под ключ"),
            stage("DT128_5:FAIL", "F", "Отменён"),
        ],
    },
];

impl Entity {
    /// The pipelines of a family; none if it has no stages.
    pub(super) fn pipelines(self) -> &'static [Pipeline] {
        match self {
            Self::Leads => LEADS,
            Self::Deals => DEALS,
            Self::Quotes => QUOTES,
            Self::SmartInvoices => SMART_INVOICES,
            Self::Projects => PROJECTS,
            Self::Contacts | Self::Companies | Self::Equipment | Self::Activities => &[],
        }
    }

    /// The pipeline of a stage, and its place there.
    pub(super) fn stage(self, code: &str) -> Option<Standing> {
        self.pipelines().iter().find_map(|pipeline| {
            let at = pipeline.stages.iter().position(|stage| stage.code == code)?;
            Some(Standing { pipeline, at })
        })
    }
}

/// Moves a record to a stage.
pub(super) fn move_to(facts: &mut Facts, entity: Entity, to: Standing, now: i64) {
    let code = |stage: Stage| Plain::Text(Cow::Borrowed(stage.code));
    let mut before = None;
    for (field, value) in entity.fields().iter().zip(&mut facts.plain) {
        *value = match field.content {
            Content::Stage => {
                before = Some(value.clone());
                code(to.stage())
            }
            Content::Semantic => Plain::Text(Cow::Borrowed(to.stage().semantic)),
            Content::PreviousStage => before.take().unwrap_or(Plain::Unset),
            Content::Pipeline => Plain::Int(to.pipeline.id),
            Content::IsClosed => Plain::Flag(to.is_end()),
            Content::Moved => Plain::Local(now),
            Content::Closed if to.is_end() => Plain::Local(now),
            _ => continue,
        };
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) pipeline: &'static Pipeline,
    pub(super) at: usize,
}

impl Standing {
    /// The standing that two numbers pick; that of a lead for families without stages,
    /// which never look at it.
    pub(super) fn picked(entity: Entity, pipeline: u64, stage: u64) -> Self {
        let pipelines = Some(entity.pipelines()).filter(|own| !own.is_empty()).unwrap_or(LEADS);
        let place = |number: u64, count: usize| {
            usize::try_from(number % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0)
        };
        let pipeline = &pipelines[place(pipeline, pipelines.len())];
        Self { pipeline, at: place(stage, pipeline.stages.len()) }
    }

    pub(super) fn stage(self) -> Stage {
        self.pipeline.stages[self.at]
    }

    /// The stage after; the first one after the last.
    pub(super) fn next(self) -> Self {
        Self { at: (self.at + 1) % self.pipeline.stages.len(), ..self }
    }

    /// Whether nothing comes after it.
    pub(super) fn is_end(self) -> bool {
        self.stage().semantic != "P"
    }

    /// Where facts say that a record stands.
    pub(super) fn of(entity: Entity, facts: &Facts) -> Option<Self> {
        let at = entity.fields().iter().position(|field| field.content == Content::Stage)?;
        match &facts.plain[at] {
            Plain::Text(code) => entity.stage(code),
            Plain::Raw(raw) => entity.stage(&raw.to_text()?),
            _ => None,
        }
    }

    /// The stage before.
    pub(super) fn previous(self) -> Option<Stage> {
        self.at.checked_sub(1).map(|at| self.pipeline.stages[at])
    }
}
