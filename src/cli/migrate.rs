//! `b24mirror migrate`

use anyhow::Context as _;

use super::{
    Exit,
    output::say,
    wiring::{self, Patience},
};
use crate::{lifecycle::Lifecycle, settings::Settings, sync::refresh_reports};

/// Brings the schema up to date, whatever `database.migrate` says.
pub(super) async fn run(settings: &Settings, lifecycle: &Lifecycle) -> anyhow::Result<Exit> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "migrate", Patience::Command, &stop).await?;
    let migrating = stop.run_until_cancelled(database.store.migrate()).await;
    migrating.context("interrupted; nothing of the step under way is kept")??;
    for entity in database.store.present_smart_items().await? {
        database.store.make_smart_tables(None, entity).await?;
    }
    let options = wiring::report_options(settings);
    let refreshing = stop.run_until_cancelled(refresh_reports(&database.store, &options, None));
    let unfinished = refreshing.await.context("interrupted while making the report views")??;
    say!("schema `{}` is up to date", database.store.schema());
    if unfinished > 0 {
        say!(
            "schema `{}` is not; `b24mirror status` says why, and `run` tries again",
            options.schema
        );
    }
    Ok(Exit::Done)
}
