//! The views for people, kept up with the portal's fields.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::session::Errand;
use crate::{
    reporting::ReportOptions,
    store::{Generation, Store, StoreError},
};

/// What could not be done, because somebody reads for long for example, is tried again so often.
const RETRY: Duration = Duration::from_secs(10);

/// Somebody may have dropped a view, or the portal's time zone may have changed.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Rung when something changes that the views follow from.
#[derive(Debug, Clone, Default)]
pub(super) struct ReportBell(Arc<Rung>);

#[derive(Debug, Default)]
struct Rung {
    news: Notify,
    ever: AtomicBool,
}

impl ReportBell {
    pub(super) fn ring(&self) {
        self.0.ever.store(true, Ordering::Relaxed);
        self.0.news.notify_one();
    }

    /// Whether it ever rang.
    pub(super) fn was_rung(&self) -> bool {
        self.0.ever.load(Ordering::Relaxed)
    }

    /// Waits until it rings; at once if it did since the last wait.
    async fn rings(&self) {
        self.0.news.notified().await;
    }
}

/// Brings the views of the report schema up to date and says how many could not be; those are
/// logged and shown by `status`. Without a generation nobody needs to hold the lease.
///
/// # Errors
/// [`StoreError`] when the database cannot even tell how the views are.
pub async fn refresh_reports(
    store: &Store,
    options: &ReportOptions,
    generation: Option<Generation>,
) -> Result<usize, StoreError> {
    store.name_report_columns(generation).await?;
    let plan = store.report_blueprint(options).await?;
    let standing = store.report_standing(&options.schema).await?;
    let mut problems = 0;
    for view in plan.views() {
        if standing.iter().any(|standing| standing.is(&view)) {
            continue;
        }
        let error = match store.apply_report_view(generation, &options.schema, &view).await {
            Ok(()) => {
                tracing::debug!(view = view.name(), "a report view is up to date");
                continue;
            }
            Err(StoreError::LeaseLost) => return Err(StoreError::LeaseLost),
            Err(error) => error,
        };
        problems += 1;
        let reason = error.report_reason();
        if store.report_problem(view.name(), &reason).await? {
            tracing::warn!(
                view = view.name(),
                reason,
                "a report view could not be brought up to date; mirroring goes on"
            );
        }
        if error.is_denied() {
            break;
        }
    }
    Ok(problems)
}

/// Keeps the views up to date until it is given up.
pub(super) async fn keep_reports(errand: Errand, options: ReportOptions) {
    loop {
        let pause = match refresh_reports(&errand.store, &options, Some(errand.generation)).await {
            Ok(0) => LOOK_EVERY,
            Ok(_) => RETRY,
            Err(StoreError::LeaseLost) => return,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "no look at the report views; trying again later"
                );
                RETRY
            }
        };
        tokio::select! {
            () = errand.reports.rings() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
