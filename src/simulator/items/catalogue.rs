//! The answer of `crm.item.fields`.

use super::super::entity::Entity;
use super::super::fields::{Field, Type, description};
use super::super::php::Array;
use super::super::user_fields::UserField;

/// Fields of long text, which the classic pages call strings.
const LONG: [&str; 9] = [
    "COMMENTS",
    "SOURCE_DESCRIPTION",
    "STATUS_DESCRIPTION",
    "EVENT_DESCRIPTION",
    "ADDRESS",
    "ADDRESS_LEGAL",
    "SEARCH_CONTENT",
    "CONTENT",
    "TERMS",
];

fn type_name(field: &Field) -> &'static str {
    match field.kind {
        Type::Flag => "boolean",
        Type::Text if LONG.contains(&field.name) => "text",
        kind => kind.name(),
    }
}

/// `parentId128` as `PARENT_ID_128`.
fn upper_name(camel: &str) -> String {
    let mut upper = String::new();
    let mut before = 'a';
    for letter in camel.chars() {
        let starts = letter.is_uppercase() || (letter.is_ascii_digit() && !before.is_ascii_digit());
        if starts {
            upper.push('_');
        }
        upper.extend(letter.to_uppercase());
        before = letter;
    }
    upper
}

/// What `crm.item.fields` says of a family.
pub(in super::super) fn item_catalogue(
    entity: Entity,
    user_fields: &[UserField],
    original: bool,
) -> Array {
    let mut fields = Array::default();
    for (field, name) in entity.fields().iter().zip(entity.item_names()) {
        if !field.in_item_rows() {
            continue;
        }
        let mut info = description(type_name(field), field.read_only, field.multiple, false)
            .with("title", name.as_str());
        if let Type::Status(directory) = field.kind {
            info = info.with("statusType", directory);
        }
        if let Some(parent) = name.strip_prefix("parentId").and_then(|id| id.parse::<i64>().ok()) {
            info = info.with("settings", Array::default().with("parentEntityTypeId", parent));
        }
        fields = fields.with(name, info.with("upperName", upper_name(name)));
    }
    for field in user_fields {
        let name = if original { &field.code } else { &field.camel };
        fields = fields.with(name, field.description().with("upperName", field.code.as_str()));
    }
    Array::default().with("fields", fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_names_keep_numbers_apart() {
        for (camel, upper) in [
            ("id", "ID"),
            ("createdTime", "CREATED_TIME"),
            ("parentId128", "PARENT_ID_128"),
            ("utmSource", "UTM_SOURCE"),
        ] {
            assert_eq!(upper_name(camel), upper);
        }
    }
}
