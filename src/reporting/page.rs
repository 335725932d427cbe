//! The schemas as a page for people, as a diagram and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::entity::{Entity, SMART_ITEMS};

/// A table or view as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// The schema that it lies in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is a view.
    pub is_view: bool,
    /// What it says of itself.
    pub comment: Option<String>,
    /// Its columns, in their order.
    pub columns: Vec<DescribedColumn>,
}

/// A column as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DescribedColumn {
    /// Its name.
    pub name: String,
    /// Its type, in the short form that people type.
    #[serde(rename = "type", serialize_with = "short")]
    pub sql_type: String,
    /// What it says of itself.
    pub comment: Option<String>,
}

fn short<S: serde::Serializer>(sql_type: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&short_type(sql_type))
}

/// `timestamptz` instead of five words.
fn short_type(sql_type: &str) -> String {
    sql_type
        .replace("timestamp with time zone", "timestamptz")
        .replace("double precision", "float8")
}

/// One schema as a page of Markdown.
#[must_use]
pub fn markdown(schema: &str, relations: &[Described]) -> String {
    let mut page = format!("## Schema `{schema}`\n");
    for relation in relations {
        let kind = if relation.is_view { "view" } else { "table" };
        // `write!` to a String cannot fail.
        let _ = write!(page, "\n### {} ({kind})\n\n", relation.name);
        if let Some(comment) = &relation.comment {
            let _ = write!(page, "{}\n\n", one_line(comment));
        }
        page.push_str("| column | type | what it holds |\n|---|---|---|\n");
        for column in &relation.columns {
            let comment = column.comment.as_deref().map(one_line).unwrap_or_default();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} |",
                column.name,
                short_type(&column.sql_type),
                comment.replace('|', "\\|")
            );
        }
    }
    page
}

/// One schema as an entity diagram for Mermaid: keys, and what they refer to.
#[must_use]
pub fn mermaid(relations: &[Described]) -> String {
    let mut diagram = String::from("erDiagram\n");
    for relation in relations {
        for (other, key) in references(relation, relations) {
            let shape = if key == "id" { "||--||" } else { "||--o{" };
            let _ = writeln!(diagram, "    {other} {shape} {} : \"{key}\"", relation.name);
        }
    }
    for relation in relations {
        let keys: Vec<_> = relation
            .columns
            .iter()
            .filter(|column| column.name == "id" || column.name.ends_with("_id"))
            .collect();
        if keys.is_empty() {
            let _ = writeln!(diagram, "    {}", relation.name);
            continue;
        }
        let _ = writeln!(diagram, "    {} {{", relation.name);
        for column in keys {
            let _ = writeln!(diagram, "        {} {}", short_type(&column.sql_type), column.name);
        }
        diagram.push_str("    }\n");
    }
    diagram
}

/// The entities that a relation refers to, each with the column by which it does.
fn references<'a>(
    relation: &'a Described,
    relations: &[Described],
) -> Vec<(&'static str, &'a str)> {
    let exists = |name: &str| relations.iter().any(|one| one.name == name);
    let mut found = Vec::new();
    let made_up = relations.iter().filter_map(|one| Entity::by_name(&one.name));
    let made_up = made_up.filter(|entity| *entity.family() == SMART_ITEMS);
    for entity in Entity::ALL.into_iter().chain(made_up).filter(|entity| exists(entity.name)) {
        if relation.name.starts_with(&format!("{}_custom", entity.name)) {
            found.push((entity.name, "id"));
        }
        let key = entity.key();
        if let Some(column) = relation.columns.iter().find(|column| column.name == key)
            && relation.name != entity.name
            && is_child(entity, &relation.name)
        {
            found.push((entity.name, column.name.as_str()));
        }
    }
    found
}

/// Whether a relation that names records of that kind means those: the smart processes call theirs
/// by the same name.
fn is_child(entity: &'static Entity, relation: &str) -> bool {
    let own = || entity.multi_fields.iter().any(|multi_field| multi_field.table == relation);
    *entity.family() != SMART_ITEMS || own() || relation == format!("{}_changes", entity.singular)
}

/// Comments may have several lines, and tables only one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, columns: &[(&str, &str, &str)]) -> Described {
        let column = |(name, sql_type, comment): &(&str, &str, &str)| DescribedColumn {
            name: (*name).to_owned(),
            sql_type: (*sql_type).to_owned(),
            comment: Some((*comment).to_owned()),
        };
        Described {
            schema: "r".to_owned(),
            name: name.to_owned(),
            is_view: true,
            comment: Some(format!("The {name}.")),
            columns: columns.iter().map(column).collect(),
        }
    }

    #[test]
    fn a_comment_stays_in_its_cell() {
        let page = markdown("r", &[described("contacts", &[("id", "bigint", "a | b\nc")])]);
        assert!(page.contains("| `id` | bigint | a \\| b c |\n"), "{page}");
    }

    #[test]
    fn the_diagram_joins_what_belongs_together() {
        let relations = [
            described("contacts", &[("id", "bigint", ""), ("name", "text", "")]),
            described("contacts_custom", &[("id", "bigint", "")]),
            described("leads", &[("id", "bigint", ""), ("contact_id", "bigint", "")]),
        ];
        let diagram = mermaid(&relations);
        assert!(diagram.contains("contacts ||--|| contacts_custom : \"id\""), "{diagram}");
        assert!(diagram.contains("contacts ||--o{ leads : \"contact_id\""), "{diagram}");
        assert!(!diagram.contains("name"), "{diagram}");
        let key = [("smart_item_id", "bigint", "")];
        let relations = [
            described("smart_items", &[("id", "bigint", "")]),
            described("smart_items_128", &[("id", "bigint", "")]),
            described("smart_item_contacts", &key),
            described("smart_item_128_contacts", &key),
        ];
        let diagram = mermaid(&relations);
        let lines = diagram.lines().filter(|line| line.contains("smart_item_id\"")).count();
        assert_eq!(lines, 2, "{diagram}");
        assert!(diagram.contains("smart_items_128 ||--o{ smart_item_128_contacts"), "{diagram}");
    }
}
