//! Column names that people can read and type, made of labels.

use std::collections::BTreeSet;

/// The longest name that PostgreSQL keeps whole.
const LONGEST: usize = 63;

/// The longest beginning, so that most suffixes fit behind it.
const LONGEST_BASE: usize = 48;

/// Words that would have to be quoted as names, and names that every table has.
const RESERVED: [&str; 106] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "cmax",
    "cmin",
    "ctid",
    "tableoid",
    "xmax",
];

/// What the names of a field's columns begin with: its label in plain letters, or its code.
pub(super) fn base(label: Option<&str>, code: &str) -> String {
    let name = label.and_then(plain).or_else(|| plain(code)).unwrap_or_else(|| "field".to_owned());
    if RESERVED.contains(&name.as_str()) || name == "xmin" {
        format!("{name}_field")
    } else if name.starts_with(|first: char| first.is_ascii_digit()) {
        shortened(&format!("field_{name}"), LONGEST_BASE)
    } else {
        name
    }
}

/// The text in lower-case letters, digits and `_`; `None` where nothing is left of it.
fn plain(text: &str) -> Option<String> {
    let mut name = String::new();
    for character in any_ascii::any_ascii(text).chars() {
        match character {
            // Soft and hard signs become apostrophes, which are no gaps between words.
            '\'' | '`' | '"' => {}
            letter if letter.is_ascii_alphanumeric() => name.push(letter.to_ascii_lowercase()),
            _ if name.is_empty() || name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = shortened(name.trim_end_matches('_'), LONGEST_BASE);
    (!name.is_empty()).then_some(name)
}

/// At most so many bytes, cut between words where there is a place for it.
fn shortened(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let cut = &name[..longest];
    let words = match cut.rfind('_') {
        Some(end) if end > longest / 2 && !name[longest..].starts_with('_') => &cut[..end],
        _ => cut,
    };
    words.trim_end_matches('_').to_owned()
}

/// The names with these suffixes, numbered where one of them is taken.
pub(super) fn unique(base: &str, suffixes: &[String], taken: &BTreeSet<String>) -> Vec<String> {
    let longest_suffix = suffixes.iter().map(String::len).max().unwrap_or(0);
    let mut number = String::new();
    let mut next = 2_u32;
    loop {
        let room = LONGEST.saturating_sub(longest_suffix + number.len());
        let beginning = shortened(base, room);
        let names: Vec<String> =
            suffixes.iter().map(|suffix| format!("{beginning}{number}{suffix}")).collect();
        if names.iter().all(|name| !taken.contains(name)) {
            return names;
        }
        number = format!("_{next}");
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_becomes_a_name_that_can_be_typed() {
        for (label, name) in [
            ("Юридический адрес объекта", "yuridicheskiy_adres_obekta"),
            ("Бюджет, ₽ (план)", "byudzhet_rb_plan"),
            ("Größe über alles", "grosse_uber_alles"),
            ("2-й телефон", "field_2_y_telefon"),
            ("Order", "order_field"),
            ("  ", "uf_crm_1"),
            ("???", "uf_crm_1"),
        ] {
            assert_eq!(base(Some(label), "UF_CRM_1"), name);
        }
        assert_eq!(base(None, "UF_CRM_1704817278"), "uf_crm_1704817278");
    }

    #[test]
    fn long_labels_are_cut_between_words() {
        let label = "Дата и время последнего контакта с ответственным менеджером филиала";
        let name = base(Some(label), "UF_CRM_1");
        assert_eq!(name, "data_i_vremya_poslednego_kontakta_s");
    }
}
