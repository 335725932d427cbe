//! The views for people, kept up with the portal's fields, and the indexes below them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

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
pub(super) struct ReportBell(Arc<Notify>);

impl ReportBell {
    pub(super) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until it rings; at once if it did since the last wait.
    pub(super) async fn rings(&self) {
        self.0.notified().await;
    }
}

/// Brings the views of the report schema and the indexes that they rest upon up to date, and
/// says how many could not be; those are logged and shown by `status`. Without a
/// generation nobody needs to hold the lease.
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
        tell(store, generation, view.name(), &error).await?;
        if error.is_denied() {
            break;
        }
    }
    Ok(problems + build_indexes(store, generation).await?)
}

/// Builds the indexes that are lacking where an entity is filled, and says how many could not
/// be built.
async fn build_indexes(store: &Store, generation: Option<Generation>) -> Result<usize, StoreError> {
    let mut problems = 0;
    for index in store.missing_indexes().await? {
        let began = Instant::now();
        let error = match store.build_index(generation, &index).await {
            Ok(()) => {
                let seconds = began.elapsed().as_secs_f64();
                tracing::debug!(index = index.name, seconds, "an index for reports was built");
                continue;
            }
            Err(StoreError::LeaseLost) => return Err(StoreError::LeaseLost),
            Err(error) => error,
        };
        problems += 1;
        tell(store, generation, &index.name, &error).await?;
        if error.is_denied() {
            break;
        }
    }
    Ok(problems)
}

/// Keeps for `status` why something could not be brought up to date, and logs it if it is news.
async fn tell(
    store: &Store,
    generation: Option<Generation>,
    name: &str,
    error: &StoreError,
) -> Result<(), StoreError> {
    let reason = error.report_reason();
    if store.report_problem(generation, name, &reason).await? {
        tracing::warn!(
            name,
            reason,
            "a view or an index for reports could not be brought up to date; mirroring goes on"
        );
    }
    Ok(())
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
