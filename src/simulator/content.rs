//! The values of the portal's content: everyday ones, and those that break
//! careless programs.

use std::borrow::Cow;

use super::clock::day_of;
use super::dataset::{Rng, mix};
use super::entity::Entity;
use super::fields::{Content, Type};
use super::php::{Array, Php};
use super::pipelines::Standing;
use super::records::{Custom, Facts, Multi, Plain, Text};
use super::user_fields::{UserField, UserFieldType};

/// Users 1 to this are what `user.get` returns; the portal also knows others.
pub(super) const KNOWN_USERS: i64 = 40;
/// The last user id that records name; those above `KNOWN_USERS` are bots.
const ALL_USERS: u64 = 43;
const DAY: i64 = 86_400;

pub(super) const SOURCES: [&str; 6] = ["CALL", "EMAIL", "WEB", "TRADE_SHOW", "UC_9X/Y", "1"];
pub(super) const CONTACT_TYPES: [&str; 4] = ["CLIENT", "SUPPLIER", "PARTNER", "OTHER"];
pub(super) const HONORIFICS: [&str; 2] = ["HNR_RU_1", "HNR_RU_2"];

pub(super) const COMPANY_TYPES: [&str; 3] = ["CUSTOMER", "SUPPLIER", "PARTNER"];
pub(super) const INDUSTRIES: [&str; 3] = ["INDUSTRY_1", "INDUSTRY_7", "INDUSTRY_45"];
pub(super) const EMPLOYEES: [&str; 3] = ["EMPLOYEES_1", "EMPLOYEES_2", "EMPLOYEES_3"];
pub(super) const DEAL_TYPES: [&str; 3] = ["SALE", "COMPLEX", "UC_1/2"];
pub(super) const EVENT_TYPES: [&str; 2] = ["INFO", "PHONE"];

const FIRST: [&str; 10] =
    ["Анна", "Иван", "Пётр", "Мария", "Ольга", "John", "Zoë", "Нурлан", "Łukasz", "小明"];
const SECOND: [&str; 5] = ["Ивановна", "Петрович", "Сергеевна", "Ильич", "Quincy"];
const LAST: [&str; 10] = [
    "Иванова",
    "Кузнецов",
    "O'Brien",
    "Щёголев",
    "Müller",
    "Smith-Jones",
    "Соколова",
    "Đorđević",
    "Ли",
    "de la Cruz",
];
const JOBS: [&str; 6] = [
    "директор",
    "главный бухгалтер",
    "CEO & founder",
    "менеджер \"по продажам\"",
    "инженер/технолог",
    "C:\\отдел\\продаж",
];
const ADDRESSES: [&str; 6] = [
    "Москва",
    "ул. Ленина, д. 5/2, кв. 17",
    "г. Санкт-Петербург, наб. реки Мойки, 12",
    "Алматы",
    "221B Baker Street",
    "Россия",
];
const NOTES: [&str; 6] = [
    "Заявка с сайта example.org/contacts?x=1&y=2",
    "ООО «Ромашка»",
    "звонок 15.03",
    "recommended by a friend",
    "выставка / стенд №7",
    "100% предоплата",
];
/// Texts that break careless programs.
const NASTY: [&str; 22] = [
    "Ёлкин \"Ёж\" & Ко <b>",
    "back\\slash \\n \\u0041",
    "tab\there\tthere",
    "первая\nвторая\r\nтретья",
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈",
    "\u{1}\u{2}\u{8}\u{c}\u{1b}\u{1f}\u{7f}",
    "\u{85}\u{2028}\u{2029}\u{feff}",
    "null",
    "0",
    "[]",
    "{\"a\": [1, 2]}",
    "'; drop table contacts; --",
    "$result[p00][49][ID]",
    "%_!like",
    " пробелы вокруг ",
    "اَلْعَرَبِيَّةُ",
    "e\u{301} и é",
    "\\.",
    "=1+1",
    "a,b;\"c\"",
    "#хэш +плюс &амп =равно",
    "\u{10ffff}\u{fffd}",
];

fn text(text: &'static str) -> Plain {
    Plain::Text(Cow::Borrowed(text))
}

fn mostly(rng: &mut Rng, usual: &[&'static str], empty_percent: u64) -> Plain {
    let roll = rng.below(100);
    if roll < empty_percent {
        Plain::Unset
    } else if roll > 96 {
        text(rng.of(&NASTY))
    } else {
        text(rng.of(usual))
    }
}

fn reference(rng: &mut Rng, empty_percent: u64, up_to: i64) -> Plain {
    if rng.below(100) < empty_percent { Plain::Unset } else { Plain::Int(rng.between(1, up_to)) }
}

fn user(rng: &mut Rng) -> Plain {
    Plain::Int(i64::try_from(1 + rng.below(ALL_USERS)).unwrap_or(1))
}

fn money(rng: &mut Rng) -> String {
    match rng.below(40) {
        0 => "0".to_owned(),
        1 => format!("0.{:02}", rng.between(1, 99)),
        2 => format!("-{}.5", rng.between(1, 9_999)),
        3 => format!("99999999999999.{:02}", rng.between(10, 99)),
        4 => "1000000000000000".to_owned(),
        5..20 => rng.between(1, 9_999_999).to_string(),
        _ => format!("{}.{:02}", rng.between(1, 9_999_999), rng.between(1, 99)),
    }
}

fn comment(rng: &mut Rng) -> Plain {
    match rng.below(800) {
        0 => {
            let line = "[b]Звонок[/b]: клиент просил перезвонить / \"срочно\" \\ 50% 😀\n";
            Plain::Text(Cow::Owned(line.repeat(60_000 / line.len() + 1)))
        }
        1 => Plain::Text(Cow::Borrowed("до\u{0}после")),
        2..500 => Plain::Unset,
        500..560 => text(rng.of(&NASTY)),
        _ => Plain::Text(Cow::Owned(format!(
            "[p]Комментарий №{}[/p]\n{}",
            rng.below(1_000_000),
            rng.of(&NOTES)
        ))),
    }
}

fn addresses(rng: &mut Rng) -> Plain {
    if rng.below(100) < 60 {
        return Plain::Unset;
    }
    let (from, to) = (rng.below(1_000), rng.below(1_000));
    Plain::Text(Cow::Owned(format!(
        r#"{{"EMAIL_META":{{"to":"p{to}@example.org","from":"p{from}@example.org"}},"N":{to}}}"#
    )))
}

pub(super) fn plain(rng: &mut Rng, content: Content, created: i64, standing: Standing) -> Plain {
    let stage = standing.stage();
    match content {
        Content::Id
        | Content::Created
        | Content::Modified
        | Content::HasPhone
        | Content::HasEmail
        | Content::HasOpenLine
        | Content::Category
        | Content::Links
        | Content::Observers
        | Content::Search
        | Content::TypeId
        | Content::Storage
        | Content::Nothing
        | Content::Unlisted => Plain::Unset,
        Content::Addresses => addresses(rng),
        Content::Title => match rng.below(12) {
            0 => Plain::Unset,
            1 => text(rng.of(&NASTY)),
            _ => Plain::Text(Cow::Owned(format!("Лид №{}", rng.below(1_000_000)))),
        },
        Content::Honorific => mostly(rng, &HONORIFICS, 70),
        Content::First => mostly(rng, &FIRST, 3),
        Content::Second => mostly(rng, &SECOND, 60),
        Content::Last => mostly(rng, &LAST, 10),
        Content::Photo => reference(rng, 80, 9_000_000),
        Content::Birth => {
            if rng.below(100) < 60 {
                Plain::Unset
            } else {
                Plain::Day(
                    rng.between(day_of(1930, 1, 1).unwrap_or(0), day_of(2012, 12, 31).unwrap_or(0)),
                )
            }
        }
        Content::Company => reference(rng, 50, 5_000),
        Content::Contact => reference(rng, 50, 50_000),
        Content::Lead => reference(rng, 70, 3_000_000_000),
        Content::Parent | Content::Counterpart => reference(rng, 90, 500),
        Content::LocationId => reference(rng, 85, 100_000),
        Content::Source => mostly(rng, &SOURCES, 30),
        Content::ContactType => mostly(rng, &CONTACT_TYPES, 20),
        Content::Stage => text(stage.code),
        Content::Semantic => text(stage.semantic),
        Content::Job => mostly(rng, &JOBS, 60),
        Content::Note => mostly(rng, &NOTES, 70),
        Content::Address => mostly(rng, &ADDRESSES, 75),
        Content::Address2 => mostly(rng, &ADDRESSES, 92),
        Content::Zip => mostly(rng, &["101000", "010000", "0", "SW1A 1AA"], 85),
        Content::CountryCode => mostly(rng, &["RU", "KZ", "643"], 90),
        Content::Comments => comment(rng),
        Content::Money => {
            if rng.below(100) < 15 {
                Plain::Unset
            } else {
                Plain::Decimal(money(rng))
            }
        }
        Content::Currency => mostly(rng, &["RUB", "USD", "EUR"], 5),
        Content::Yes => match rng.below(30) {
            0 => Plain::Unset,
            roll => Plain::Flag(roll > 3),
        },
        Content::Sometimes => match rng.below(20) {
            0 => Plain::Unset,
            roll => Plain::Flag(roll > 14),
        },
        Content::Assigned | Content::Author => user(rng),
        Content::Editor => {
            if rng.once_in(9) {
                Plain::Unset
            } else {
                user(rng)
            }
        }
        Content::Moved | Content::Active | Content::Instant => {
            if rng.once_in(4) {
                Plain::Unset
            } else {
                Plain::Local(created + rng.between(0, 200 * DAY))
            }
        }
        Content::Closed => {
            if standing.is_end() {
                Plain::Local(created + rng.between(0, 300 * DAY))
            } else {
                Plain::Unset
            }
        }
        Content::Origin => mostly(rng, &["1C", "1c_000000042", "shop/15"], 90),
        Content::Utm => mostly(rng, &["google", "yandex", "cpc", "весна_2024"], 88),
        Content::Form => reference(rng, 85, 40),
        Content::Rare => mostly(rng, &["v1", "2024-02-02"], 97),
        other => of_business(rng, other, created, standing),
    }
}

/// What deals and their like hold, and activities.
fn of_business(rng: &mut Rng, content: Content, created: i64, standing: Standing) -> Plain {
    match content {
        Content::PreviousStage => {
            standing.previous().map_or(Plain::Unset, |stage| text(stage.code))
        }
        Content::IsClosed => Plain::Flag(standing.is_end()),
        Content::Pipeline => Plain::Int(standing.pipeline.id),
        Content::Numbered(word) => match rng.below(12) {
            0 => text(rng.of(&NASTY)),
            _ => Plain::Text(Cow::Owned(format!("{word} №{}", rng.below(1_000_000)))),
        },
        Content::OneOf(codes) => mostly(rng, codes, 20),
        Content::Percent => match rng.below(4) {
            0 => Plain::Unset,
            _ => Plain::Int(rng.between(0, 100)),
        },
        Content::Among(numbers) => Plain::Int(rng.of(numbers)),
        Content::Owner => Plain::Int(rng.between(1, 5_000)),
        Content::Small => Plain::Int(rng.between(0, 3)),
        Content::Day => match rng.below(3) {
            0 => Plain::Unset,
            _ => Plain::Day(created.div_euclid(DAY) + rng.between(0, 90)),
        },
        _ => Plain::Unset,
    }
}

const VALUE_TYPES: [&[&str]; 5] = [
    &["WORK", "MOBILE", "FAX", "HOME", "PAGER", "MAILING", "OTHER", "рабочий"],
    &["WORK", "HOME", "MAILING", "OTHER"],
    &["WORK", "HOME", "VK", "LIVEJOURNAL", "TWITTER", "OTHER", "FACEBOOK"],
    &["TELEGRAM", "VK", "SKYPE", "VIBER", "BITRIX24", "OPENLINE", "IMOL", "OTHER"],
    &["USER", "IM"],
];

pub(super) fn multi_fields(rng: &mut Rng, origin: i64) -> [Vec<Multi>; 5] {
    std::array::from_fn(|kind| {
        let roll = rng.below(1000);
        let count = match (kind, roll) {
            (0 | 1, 996..) => 10,
            (0 | 1, 970..) => rng.below(11),
            (0, 250..) | (1, 450..) => 1 + rng.below(2),
            (2 | 3, 900..) => 1 + rng.below(3),
            (4, 990..) => 1,
            _ => 0,
        };
        (0..count)
            .map(|at| {
                let place = i64::try_from(at).unwrap_or(0);
                Multi {
                    id: origin * 256 + i64::try_from(kind).unwrap_or(0) * 40 + place,
                    value: multi_value(rng, kind),
                    value_type: Cow::Borrowed(rng.of(VALUE_TYPES[kind])),
                }
            })
            .collect()
    })
}

/// What a record is linked to besides the primary one.
pub(super) fn further_links(rng: &mut Rng) -> Vec<i64> {
    let count = if rng.once_in(4) { 1 + rng.below(3) } else { 0 };
    let mut links = Vec::new();
    for _ in 0..count {
        let id = rng.between(1, 5_000);
        if !links.contains(&id) {
            links.push(id);
        }
    }
    links
}

/// The users who watch a record; mostly none.
pub(super) fn observers(rng: &mut Rng) -> Vec<i64> {
    let count = if rng.once_in(5) { 1 + rng.below(3) } else { 0 };
    let first = rng.between(1, KNOWN_USERS - 8);
    (0..count).zip(first..).map(|(step, user)| user + i64::try_from(step).unwrap_or(0)).collect()
}

fn multi_value(rng: &mut Rng, kind: usize) -> Text {
    let number = rng.below(10_000_000);
    if rng.once_in(60) {
        return Cow::Borrowed(rng.of(&NASTY));
    }
    Cow::Owned(match (kind, number % 4) {
        (0, 0) => format!("+7 (495) {:03}-{:02}-00", number % 1000, number % 100),
        (0, 1) => format!("8 800 {number:07} доб. 12"),
        (0, 2) => format!("+7916{number:07}"),
        (0, _) => format!("7495{number:07}"),
        (1, 0) => format!(" Client.{number}@Example.ORG "),
        (1, _) => format!("client{number}@example.com"),
        (2, _) => format!("https://example.com/c/{number}?a=1&b=2#x"),
        (3, 0) => format!("imol|livechat|{number}|1|{number}"),
        (3, _) => format!("@user_{number}"),
        _ => format!("{}", number % 500),
    })
}

pub(super) fn custom(rng: &mut Rng, field: &UserField) -> Custom {
    // Half of the fields of a real portal are empty in most records.
    if rng.below(100) < 55 {
        return Custom::Empty;
    }
    let count = if field.multiple { 1 + rng.below(3) } else { 1 };
    match field.kind {
        UserFieldType::Date => {
            return Custom::Days((0..count).map(|_| rng.between(-15_000, 25_000)).collect());
        }
        UserFieldType::DateTime => {
            let moment = |rng: &mut Rng| rng.between(1_000_000_000, 1_800_000_000);
            return Custom::Locals((0..count).map(|_| moment(rng)).collect());
        }
        UserFieldType::File => {
            return Custom::Files((0..count).map(|_| rng.between(1, 9_000_000)).collect());
        }
        _ => {}
    }
    if !field.multiple {
        return Custom::Json(single(rng, field));
    }
    let values: Array = (0..count).map(|_| single(rng, field)).collect();
    Custom::Json(Php::Array(values))
}

fn single(rng: &mut Rng, field: &UserField) -> Php {
    let number = rng.between(1, 900_000);
    let as_text = !rng.once_in(5);
    let int = |number: i64| {
        if as_text { Php::Text(number.to_string()) } else { Php::Int(number) }
    };
    match field.kind {
        UserFieldType::String | UserFieldType::Rating => match rng.below(300) {
            0 => "до\u{0}после".into(),
            1..30 => rng.of(&NASTY).into(),
            _ => format!("значение {number}").into(),
        },
        UserFieldType::Double => match number % 3 {
            0 => Php::Number(format!("{number}.25")),
            1 => format!("{number}.5").into(),
            _ => int(number),
        },
        UserFieldType::Boolean => match number % 8 {
            0 => "1".into(),
            1 => "0".into(),
            2..5 => true.into(),
            _ => false.into(),
        },
        UserFieldType::Money => format!("{number}.50|{}", rng.of(&["RUB", "USD"])).into(),
        UserFieldType::Url => format!("https://example.org/{number}/?q=а&b=\"1\"").into(),
        UserFieldType::Address => {
            format!("{}|55.7{number};37.6{number}|{number}", rng.of(&ADDRESSES)).into()
        }
        UserFieldType::Enumeration => {
            let count = i64::try_from(field.options.len()).unwrap_or(0).max(1);
            int(i64::from(field.id) * 100 + 1 + number % count)
        }
        UserFieldType::CrmStatus => rng.of(&SOURCES).into(),
        UserFieldType::Crm => {
            let kinds = ["C_", "CO_", "D_", "L_", "T80_", ""];
            format!("{}{number}", rng.of(&kinds)).into()
        }
        _ => int(number),
    }
}

/// Replaces one value by something that no reader can accept.
pub(super) fn spoil(facts: &mut Facts, entity: Entity, roll: u64) {
    let candidates = entity
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| {
            matches!(
                field.content,
                Content::Birth
                    | Content::Company
                    | Content::Contact
                    | Content::LocationId
                    | Content::Active
                    | Content::Closed
                    | Content::Money
                    | Content::Yes
            )
        })
        .map(|(at, field)| (at, field.kind))
        .collect::<Vec<_>>();
    let pick =
        |count: usize, roll: u64| usize::try_from(roll).unwrap_or(usize::MAX >> 1) % count.max(1);
    let (at, kind) = candidates[pick(candidates.len(), roll % 1_000_003)];
    let choices: &[&str] = match kind {
        Type::Date => &["0000-00-00", "2023-02-30T03:00:00+03:00", "завтра?"],
        Type::DateTime => &["0000-00-00 00:00:00", "2024-13-01T00:00:00+03:00", "вчера"],
        Type::Double => &["12,50", "1 000.00", "NaN"],
        Type::Flag => &["Х", "maybe"],
        _ => &["12abc", "9223372036854775808", "1.5", "№7"],
    };
    let value = choices[pick(choices.len(), (roll >> 24) % 1_000_003)];
    facts.plain[at] = Plain::Raw(value.into());
}

/// What change number `edit` leaves behind; always another row than before.
pub(super) fn alter(facts: &mut Facts, entity: Entity, salt: u64, origin: i64, edit: u32) {
    let fields = entity.fields();
    let mut put = |content: Content, value: Plain| {
        if let Some(at) = fields.iter().position(|field| field.content == content) {
            facts.plain[at] = value;
        }
    };
    put(Content::Job, Plain::Text(Cow::Owned(format!("правка {edit}"))));
    let signed = fields.iter().position(|field| matches!(field.content, Content::Numbered(_)));
    if let Some(at) = signed {
        facts.plain[at] = Plain::Text(Cow::Owned(format!("правка {edit}")));
    }
    let mut put = |content: Content, value: Plain| {
        if let Some(at) = fields.iter().position(|field| field.content == content) {
            facts.plain[at] = value;
        }
    };
    match mix(salt, u64::from(edit)) % 7 {
        2..5 if !entity.has_multi_fields() => {}
        0 => put(Content::Comments, Plain::Text(Cow::Owned(format!("Правка\t{edit}\n/")))),
        1 => put(Content::First, text(NASTY[usize::try_from(edit).unwrap_or(0) % NASTY.len()])),
        2 => facts.multi[0].push(Multi {
            id: origin * 256 + 200 + i64::from(edit % 50),
            value: Cow::Owned(format!("+7900{edit:07}")),
            value_type: Cow::Borrowed("MOBILE"),
        }),
        3 => facts.multi[0].clear(),
        4 => facts.multi[1].iter_mut().for_each(|multi| {
            multi.value = Cow::Owned(format!("edit{edit}@example.net"));
        }),
        5 => put(Content::Company, Plain::Int(i64::from(edit))),
        _ => {
            if let Some(slot) = facts.custom.get_mut(1) {
                *slot = Custom::Json(Php::Text(edit.to_string()));
            }
        }
    }
}
