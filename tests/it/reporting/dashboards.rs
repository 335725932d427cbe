//! What is delivered for people's tools fits the database that they will meet.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use super::in_tokyo;

const DASHBOARDS: [(&str, &str); 2] = [
    ("sales", include_str!("../../../deploy/grafana/sales.json")),
    ("mirror-health", include_str!("../../../deploy/grafana/mirror-health.json")),
];

const SOURCES: &str = include_str!("../../../deploy/dbt/sources.yml");

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text under {key}: {value:#}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list under {key}: {value:#}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number under {key}: {value:#}"))
}

/// Writes a query as Grafana's data source for PostgreSQL would send it: its macros, then
/// the variables.
fn expanded(query: &str) -> String {
    let mut sql = String::new();
    let mut rest = query;
    while let Some(at) = rest.find("$__") {
        sql.push_str(&rest[..at]);
        let end = rest[at + 3..].find(|c: char| !c.is_alphanumeric()).unwrap() + at + 3;
        let name = &rest[at + 3..end];
        rest = &rest[end..];
        let mut arguments = Vec::new();
        if name != "interval" {
            let close = rest.find(')').unwrap();
            arguments = rest[1..close].split(',').map(str::trim).collect();
            rest = &rest[close + 1..];
        }
        let written = match (name, arguments.as_slice()) {
            ("timeFilter", [column]) => {
                format!("{column} BETWEEN '2020-01-01T00:00:00Z' AND '2026-12-31T23:59:59Z'")
            }
            ("timeGroupAlias", [column, "$__interval"]) => {
                format!("floor(extract(epoch from {column})/3600)*3600 AS \"time\"")
            }
            unknown => panic!("a macro that Grafana does not have: {unknown:?}"),
        };
        sql.push_str(&written);
    }
    sql.push_str(rest);
    for (variable, value) in [
        ("${report}", "bitrix24_report"),
        ("${data}", "bitrix24"),
        ("${source:sqlstring}", "'Сайт','(none)'"),
    ] {
        sql = sql.replace(variable, value);
    }
    assert!(!sql.contains('$'), "an unknown variable: {sql}");
    sql
}

/// Makes a view of a query, so that the server tells its columns, and reads it.
async fn columns(connection: &mut PgConnection, sql: &str) -> BTreeMap<String, String> {
    let view = format!("drop view if exists pg_temp.asked; create temp view asked as {sql}");
    let made = sqlx::raw_sql(AssertSqlSafe(view)).execute(&mut *connection).await;
    made.unwrap_or_else(|error| panic!("{error}: {sql}"));
    // Unprepared, since each time it has other columns.
    let read = sqlx::raw_sql("select * from pg_temp.asked").execute(&mut *connection).await;
    read.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select attname::text, format_type(atttypid, null) from pg_attribute \
         where attrelid = 'pg_temp.asked'::regclass and attnum > 0",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    columns.into_iter().collect()
}

const NUMBERS: [&str; 4] = ["bigint", "numeric", "integer", "double precision"];

#[tokio::test]
async fn every_query_of_the_dashboards_runs_and_gives_what_its_panel_draws() {
    let database = in_tokyo().await;
    let mut connection = database.pool().acquire().await.unwrap().detach();
    for (name, json) in DASHBOARDS {
        let board: Value = serde_json::from_str(json).unwrap();
        for variable in list(&board["templating"], "list") {
            if variable["type"] == "query" {
                let columns = columns(&mut connection, &expanded(text(variable, "query"))).await;
                assert_eq!(columns.len(), 1, "{name}: {variable:#}");
            }
        }
        let mut queries = 0;
        for panel in list(&board, "panels").iter().filter(|panel| panel["type"] != "row") {
            let title = text(panel, "title");
            for target in list(panel, "targets") {
                queries += 1;
                let columns = columns(&mut connection, &expanded(text(target, "rawSql"))).await;
                let of_kind = |kinds: &[&str]| {
                    columns.values().filter(|kind| kinds.contains(&kind.as_str())).count()
                };
                match (text(panel, "type"), text(target, "format")) {
                    ("timeseries", "time_series") => {
                        let time = ["timestamp with time zone", "numeric"];
                        assert!(time.contains(&columns["time"].as_str()), "{title}: {columns:?}");
                        assert!(of_kind(&NUMBERS) >= 1, "{title}: {columns:?}");
                        assert!(of_kind(&["text"]) <= 1, "{title}: {columns:?}");
                    }
                    ("barchart" | "piechart", "table") => {
                        assert_eq!((of_kind(&["text"]), of_kind(&NUMBERS)), (1, 1), "{title}");
                    }
                    ("stat", "table") => assert!((1..=2).contains(&columns.len()), "{title}"),
                    ("table", "table") => assert!(columns.len() > 1, "{title}"),
                    other => panic!("{title}: {other:?}"),
                }
            }
        }
        assert!(queries >= 8, "{name} has {queries} queries");
    }
}

#[test]
fn the_dashboards_are_what_grafana_takes_for_one() {
    for (name, json) in DASHBOARDS {
        let board: Value = serde_json::from_str(json).unwrap();
        assert!(text(&board, "uid").len() <= 40 && !text(&board, "title").is_empty(), "{name}");
        // From here on Grafana knows panels and data sources as these are written.
        assert!(number(&board, "schemaVersion") >= 36);
        assert!(board["id"].is_null(), "an ID belongs to one Grafana only");
        assert!(text(&board["time"], "from").starts_with("now-"));

        let variables: BTreeSet<&str> =
            list(&board["templating"], "list").iter().map(|one| text(one, "name")).collect();
        let mut used = json;
        while let Some(at) = used.find("${") {
            used = &used[at + 2..];
            let variable = &used[..used.find(['}', ':']).unwrap()];
            assert!(variables.contains(variable), "{name}: {variable} is not declared");
        }

        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&board, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(number(panel, "id")), "{name}: {title}");
            let place = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| number(place, key));
            assert!(x + w <= 24 && w > 0 && h > 0, "{name}: {title} is outside of the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{name}: {title} lies upon another panel");
            }
            if panel["type"] == "row" {
                assert!(list(panel, "panels").is_empty());
                continue;
            }
            assert!(panel["fieldConfig"]["defaults"].is_object(), "{name}: {title}");
            assert!(list(&panel["fieldConfig"], "overrides").is_empty(), "{name}: {title}");
            assert!(panel["options"].is_object(), "{name}: {title}");
            let mut letters = BTreeSet::new();
            for target in list(panel, "targets") {
                assert!(letters.insert(text(target, "refId")), "{name}: {title}");
                assert_eq!(target["rawQuery"], true, "{name}: {title}");
                for of in [&panel["datasource"], &target["datasource"]] {
                    assert_eq!(text(of, "type"), "grafana-postgresql-datasource", "{title}");
                    assert_eq!(text(of, "uid"), "${datasource}", "{title}");
                }
            }
        }
    }
}

/// The tables that the dbt sources name, by schema, each with its columns.
fn sources() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let (mut source, mut table) = (String::new(), String::new());
    for line in SOURCES.lines() {
        let indent = line.len() - line.trim_start().len();
        let named = line.trim_start().strip_prefix("- name: ");
        let dated = line.trim_start().strip_prefix("loaded_at_field: ");
        match (indent, named.or(dated)) {
            (_, None) => {}
            (2, Some(name)) => name.clone_into(&mut source),
            (6, Some(name)) => {
                name.clone_into(&mut table);
                found.entry(source.clone()).or_default().insert(table.clone(), BTreeSet::new());
            }
            (8 | 10, Some(name)) => {
                let columns = found.get_mut(&source).unwrap().get_mut(&table).unwrap();
                columns.insert(name.to_owned());
            }
            (_, Some(name)) => panic!("{name} stands where nothing should"),
        }
    }
    found
}

#[tokio::test]
async fn every_table_and_column_that_dbt_is_told_of_exists() {
    let database = in_tokyo().await;
    let sources = sources();
    let count = |source: &str| sources[source].len();
    assert_eq!((count("bitrix24"), count("bitrix24_report")), (39, 23));
    for (schema, tables) in sources {
        for (table, columns) in tables {
            let there: Vec<String> = sqlx::query_scalar(
                "select column_name::text from information_schema.columns \
                 where table_schema = $1 and table_name = $2",
            )
            .bind(&schema)
            .bind(&table)
            .fetch_all(database.pool())
            .await
            .unwrap();
            let unknown: Vec<_> = columns.iter().filter(|one| !there.contains(one)).collect();
            assert!(unknown.is_empty() && !columns.is_empty(), "{schema}.{table}: {unknown:?}");
        }
    }
}
