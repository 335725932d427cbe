//! `b24mirror schema`

use clap::ValueEnum;

use super::{
    Exit,
    output::say,
    wiring::{self, Patience},
};
use crate::{lifecycle::Lifecycle, reporting::page, settings::Settings};

/// How the schemas are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A page of Markdown
    Markdown,
    /// An entity diagram of the report schema for Mermaid
    Mermaid,
    /// JSON
    Json,
}

/// Prints what the database says of the report schema and of the mirror's own tables.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    format: Format,
) -> anyhow::Result<Exit> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "schema", Patience::None, &stop).await?;
    let store = &database.store;
    let schemas = [settings.reporting.schema.as_str(), store.schema().as_str()];
    let mut described = Vec::new();
    for schema in schemas {
        described.push((schema, store.describe_schema(schema).await?));
    }
    if described.iter().any(|(_, relations)| relations.is_empty()) {
        anyhow::bail!(
            "schemas `{}` and `{}` are not both there yet; run `b24mirror migrate`",
            schemas[0],
            schemas[1]
        );
    }
    match format {
        Format::Markdown => {
            let pages: Vec<_> =
                described.iter().map(|(schema, all)| page::markdown(schema, all)).collect();
            say!("{}", pages.join("\n").trim_end());
        }
        Format::Mermaid => say!("{}", page::mermaid(&described[0].1).trim_end()),
        Format::Json => {
            let all: Vec<_> = described.into_iter().flat_map(|(_, relations)| relations).collect();
            say!("{}", serde_json::to_string_pretty(&all)?);
        }
    }
    Ok(Exit::Done)
}
