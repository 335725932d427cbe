//! Whether the address book of the mirror is that of the portal.

use std::collections::BTreeMap;

use b24mirror::simulator::TrueRecipient;
use sqlx::PgPool;

use super::TestPortal;

/// An entry: the address as it was typed, the name, and the address as it is compared.
pub(crate) type Entry = (Option<String>, Option<String>, Option<String>);

/// What the mirror has of the address book.
pub(crate) async fn mirrored(pool: &PgPool) -> BTreeMap<i64, Entry> {
    type Row = (i64, Option<String>, Option<String>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "select id, email, name, address from bitrix24.mail_recipients where deleted_at is null",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    rows.into_iter().map(|(id, email, name, address)| (id, (email, name, address))).collect()
}

/// What it should have.
pub(crate) fn truth(portal: &TestPortal) -> BTreeMap<i64, Entry> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let entry = |TrueRecipient { id, email, name }| {
        let address = email.trim().to_lowercase();
        (id, (text(email), text(name), Some(address)))
    };
    portal.recipients().into_iter().map(entry).collect()
}

/// The first differences in words; empty if there are none.
pub(crate) async fn differences(portal: &TestPortal, pool: &PgPool) -> String {
    let (truth, mirror) = (truth(portal), mirrored(pool).await);
    let gone = mirror.keys().filter(|id| !truth.contains_key(id));
    let gone = gone.map(|id| in_words(*id, "in the mirror, not in the portal"));
    differing(&truth, &mirror).chain(gone).take(12).collect()
}

/// The same, where entries that are gone from the portal may still be in the mirror.
pub(crate) async fn differences_but_for_gone(portal: &TestPortal, pool: &PgPool) -> String {
    let (truth, mirror) = (truth(portal), mirrored(pool).await);
    differing(&truth, &mirror).take(12).collect()
}

fn differing(
    truth: &BTreeMap<i64, Entry>,
    mirror: &BTreeMap<i64, Entry>,
) -> impl Iterator<Item = String> {
    truth.iter().filter_map(|(id, entry)| match mirror.get(id) {
        None => Some(in_words(*id, "missing")),
        Some(stored) if stored != entry => {
            Some(in_words(*id, &format!("{stored:?} instead of {entry:?}")))
        }
        Some(_) => None,
    })
}

fn in_words(id: i64, what: &str) -> String {
    format!("mail_recipient {id}: {what}\n")
}
