//! No code, person or enumeration is left unresolved, except those that the portal hides.

use std::collections::{BTreeMap, BTreeSet};

use b24mirror::simulator::{Options, TrueNames};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{TestPortal, database, eventually, tables::value, unlimited};

/// Everything that a code may stand for.
struct Meanings(TrueNames);

impl Meanings {
    fn directory(&self, directory: &str) -> BTreeMap<String, String> {
        let entries = self.0.statuses.iter().filter(|status| status.directory == directory);
        entries.map(|status| (status.code.clone(), status.name.clone())).collect()
    }

    fn people(&self) -> BTreeMap<String, String> {
        let full = |name: &str, last_name: &str| format!("{name} {last_name}");
        self.0
            .users
            .iter()
            .map(|user| (user.id.to_string(), full(&user.name, &user.last_name)))
            .collect()
    }

    fn currencies(&self) -> BTreeMap<String, String> {
        let currencies = self.0.currencies.iter();
        currencies.map(|currency| (currency.code.clone(), currency.name.clone())).collect()
    }
}

/// What a view shows beside each code that it holds, and what the portal shows there.
async fn wrong(
    pool: &PgPool,
    view: &str,
    (code, label): (&str, &str),
    meanings: &BTreeMap<String, String>,
) -> Vec<String> {
    let query = format!(
        "select distinct {code}::text, {label} from bitrix24_report.{view} \
         where {code} is not null order by 1"
    );
    let shown: Vec<(String, Option<String>)> =
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
    assert!(!shown.is_empty(), "{view} has no {code}, so nothing is proven");
    let differs = |(code, label): &(String, Option<String>)| label.as_ref() != meanings.get(code);
    let told = |(value, shown): (String, Option<String>)| {
        format!(
            "{view}.{label}: {shown:?} for {code} {value:?}, which is {:?}",
            meanings.get(&value)
        )
    };
    shown.into_iter().filter(differs).map(told).collect()
}

/// Everything that the views show wrongly or not at all.
async fn unresolved(pool: &PgPool, meanings: &Meanings) -> Vec<String> {
    let mut found = Vec::new();
    for view in ["contacts", "leads"] {
        for (code, label, directory) in [
            ("source_id", "source", "SOURCE"),
            ("honorific", "honorific_name", "HONORIFIC"),
            ("type_id", "type", "CONTACT_TYPE"),
            ("status_id", "status", "STATUS"),
        ] {
            let contact = code != "status_id";
            let lead = code != "type_id";
            if (view == "contacts" && contact) || (view == "leads" && lead) {
                let meanings = meanings.directory(directory);
                found.extend(wrong(pool, view, (code, label), &meanings).await);
            }
        }
        for (code, label) in [
            ("assigned_by_id", "assigned_by"),
            ("created_by_id", "created_by"),
            ("modify_by_id", "modify_by"),
            ("last_activity_by", "last_activity_by_name"),
        ] {
            found.extend(wrong(pool, view, (code, label), &meanings.people()).await);
        }
        let custom = format!("{view}_custom");
        for (code, label, meanings) in [
            ("pole_crm_status_code", "pole_crm_status", meanings.directory("SOURCE")),
            ("pole_employee_id", "pole_employee", meanings.people()),
        ] {
            found.extend(wrong(pool, &custom, (code, label), &meanings).await);
            // Lists have their labels in the order of their codes.
            let list = format!("{label}_neskolko");
            let query = format!(
                "select distinct code::text, label from \
                    (select unnest({codes}) as code, unnest({list}) as label \
                     from bitrix24_report.{custom}) as lists \
                 where code is not null",
                codes = code.replace(label, &list),
            );
            let shown: Vec<(String, Option<String>)> =
                sqlx::query_as(AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
            assert!(!shown.is_empty(), "{custom} has no list of {label}");
            found.extend(
                shown
                    .into_iter()
                    .filter(|(code, label)| label.as_ref() != meanings.get(code))
                    .map(|(code, label)| format!("{custom}: {label:?} for {code} in a list")),
            );
        }
        let choices = format!(
            "select distinct choice from (select pole_enumeration as choice \
                from bitrix24_report.{custom} \
             union all select unnest(pole_enumeration_neskolko) from bitrix24_report.{custom}) c \
             where choice is not null"
        );
        let choices: BTreeSet<String> = sqlx::query_scalar(AssertSqlSafe(choices))
            .fetch_all(pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
        let known =
            BTreeSet::from(["Да", "Нет", "Не \"знаю\"", "Другое/прочее"].map(str::to_owned));
        found.extend(
            choices.difference(&known).map(|choice| format!("{custom}: choice {choice:?}")),
        );
    }
    found.extend(wrong(pool, "leads", ("moved_by_id", "moved_by"), &meanings.people()).await);
    found.extend(wrong(pool, "leads", ("currency_id", "currency"), &meanings.currencies()).await);
    let ends = [("P", "in progress"), ("S", "successful"), ("F", "failed")];
    let ends = ends.map(|(code, label)| (code.to_owned(), label.to_owned())).into();
    found.extend(wrong(pool, "leads", ("status_semantic_id", "status_semantic"), &ends).await);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_unresolved_but_what_the_portal_hides() {
    let options = Options { contacts: 150, leads: 150, malformed: 0, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let daemon = portal.daemon(&database);
    let pool = database.pool();
    eventually("records in the views", || async {
        let there = "select to_regclass('bitrix24_report.leads_custom') is not null";
        let full = "select (select count(*) from bitrix24_report.contacts_custom) = 150 \
                    and (select count(*) from bitrix24_report.leads_custom) = 150 \
                    and (select count(*) from pg_attribute where attrelid = \
                        'bitrix24_report.leads_custom'::regclass) > 30";
        value::<bool>(pool, there).await && value::<bool>(pool, full).await
    })
    .await;
    let meanings = Meanings(portal.names());
    let dictionaries = "select count(*) = 5 and bool_and(read_at is not null) \
                        from bitrix24.sync_dictionaries";
    eventually("the dictionaries", || async { value::<bool>(pool, dictionaries).await }).await;
    assert_eq!(unresolved(pool, &meanings).await, Vec::<String>::new());
    drop(daemon);
}
