//! What is derived from phones: the form in which they can be compared.
//!
//! Every phone that is written gets its `e164` by the rules of the moment. When the rules
//! change, by another country or a newer library, all phones are derived anew, a part at a
//! time, beside the ordinary work. The change waits for the batches that are under way, so
//! that no phone is left behind with what the old rules said.

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use tokio::sync::RwLock;

use super::{Generation, Store, StoreError};
use crate::entity::{
    Entity, MultiField,
    phone::{LIBRARY, PhoneRules, Region},
};

/// Phones that one transaction derives at most: other writers hardly notice it.
const ROWS: usize = 1_000;

/// The rules of a store and its clones.
#[derive(Debug, Default)]
pub(super) struct Phones {
    /// The country that the settings name.
    preferred: Option<Region>,
    /// What phones are written by; none before they were first settled.
    rules: RwLock<Option<PhoneRules>>,
}

impl Phones {
    /// The rules to write by, and what keeps them from changing.
    pub(super) async fn hold(&self) -> impl std::ops::Deref<Target = Option<PhoneRules>> {
        self.rules.read().await
    }

    /// The rules to write by before they are settled.
    pub(super) const fn unsettled(&self) -> PhoneRules {
        PhoneRules { region: self.preferred }
    }
}

impl Store {
    /// Reads numbers without a country as those of this one, whatever the portal says.
    #[must_use]
    pub fn with_default_region(mut self, region: Option<Region>) -> Self {
        self.phones = Arc::new(Phones { preferred: region, rules: RwLock::default() });
        self
    }

    /// Looks up by which rules phones are to be derived, writes by those from now on, and
    /// has all phones derived anew if they were derived by others.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; the rules stay then.
    pub async fn settle_phone_rules(&self, generation: Generation) -> Result<(), StoreError> {
        let wanted = PhoneRules { region: self.default_region().await? };
        let region = wanted.region.map(|region| region.to_string());
        let derived: Vec<String> = sqlx::query_scalar(
            "select entity from sync_phone_numbers \
             where library = $1 and region is not distinct from $2",
        )
        .bind(LIBRARY)
        .bind(&region)
        .fetch_all(&self.pool)
        .await?;
        let settled = *self.phones.hold().await == Some(wanted);
        let mut with_phones = Entity::ALL.into_iter().filter(|entity| phones_of(entity).is_some());
        if settled && with_phones.all(|entity| derived.iter().any(|one| one == entity.name)) {
            return Ok(());
        }
        // Waits for the batches under way: later ones write by the new rules.
        let mut rules = self.phones.rules.write().await;
        // What this process has written by other rules is to be derived in any case.
        let others = rules.is_some_and(|rules| rules != wanted);
        let mut transaction = self.begin_leased(generation).await?;
        for entity in Entity::ALL {
            let Some(phones) = phones_of(entity) else { continue };
            // Nobody writes now, so an empty table has nothing to derive, and never will.
            let settle = format!(
                "insert into sync_phone_numbers as t (entity, library, region, derived_at) \
                 select $1, $2, $3, case when not exists (select from \"{}\") \
                    then clock_timestamp() end \
                 on conflict (entity) do update set library = excluded.library, \
                    region = excluded.region, cursor_parent = 0, cursor_id = 0, \
                    derived_at = excluded.derived_at \
                 where $4 or t.library <> excluded.library \
                    or t.region is distinct from excluded.region",
                phones.table
            );
            sqlx::query(AssertSqlSafe(settle))
                .bind(entity.name)
                .bind(LIBRARY)
                .bind(&region)
                .bind(others)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        *rules = Some(wanted);
        Ok(())
    }

    /// The country of numbers that are written without one: that of the settings, else the
    /// portal's.
    async fn default_region(&self) -> Result<Option<Region>, StoreError> {
        if self.phones.preferred.is_some() {
            return Ok(self.phones.preferred);
        }
        let country: Option<Option<String>> =
            sqlx::query_scalar("select country from portal").fetch_optional(&self.pool).await?;
        // The portal may name what is no country.
        Ok(country.flatten().and_then(|country| country.parse().ok()))
    }

    /// Derives some phones of an entity by the rules in force, and goes on where it was left;
    /// writes only what differs. Returns whether there may be more; a paused entity is left
    /// alone.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn derive_some_phones(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<bool, StoreError> {
        // To the end: what is derived by these rules must not be noted as derived by others.
        let held = self.phones.hold().await;
        let Some(rules) = *held else { return Ok(false) };
        let Some(phones) = phones_of(entity) else { return Ok(false) };
        let statements = Deriving::of(entity, phones);
        let mut transaction = self.begin_leased(generation).await?;
        let cursor: Option<(i64, i64)> = sqlx::query_as(
            "select cursor_parent, cursor_id from sync_phone_numbers \
             where entity = $1 and library = $2 and region is not distinct from $3 \
                and derived_at is null \
                and not exists (select from sync_pauses where entity = $1)",
        )
        .bind(entity.name)
        .bind(LIBRARY)
        .bind(rules.region.map(|region| region.to_string()))
        .fetch_optional(&mut *transaction)
        .await?;
        let Some((mut parent, mut id)) = cursor else { return Ok(false) };
        let rows: Vec<(i64, i64, Option<String>, Option<String>)> =
            sqlx::query_as(AssertSqlSafe(statements.read))
                .bind(parent)
                .bind(id)
                .bind(i64::try_from(ROWS).unwrap_or(i64::MAX))
                .fetch_all(&mut *transaction)
                .await?;
        let more = rows.len() == ROWS;
        if let Some(last) = rows.last() {
            (parent, id) = (last.0, last.1);
        }
        let mut differing = Derived::default();
        for (parent, id, value, before) in rows {
            let now = value.as_deref().and_then(|value| rules.e164(value));
            if now != before {
                differing.push(parent, id, value, now);
            }
        }
        if !differing.parents.is_empty() {
            sqlx::query(AssertSqlSafe(statements.write))
                .bind(differing.parents)
                .bind(differing.ids)
                .bind(differing.values)
                .bind(differing.numbers)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "update sync_phone_numbers set cursor_parent = $2, cursor_id = $3, \
                derived_at = case when $4 then null else clock_timestamp() end \
             where entity = $1",
        )
        .bind(entity.name)
        .bind(parent)
        .bind(id)
        .bind(more)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(more)
    }
}

/// An entity's phones, if it has any.
fn phones_of(entity: &'static Entity) -> Option<&'static MultiField> {
    entity.multi_fields.iter().find(|field| field.is_phone())
}

/// What deriving asks of one table of phones. Every name is a constant of a declaration.
struct Deriving {
    /// `$1` and `$2` above which parent and ID, `$3` how many → parent, ID, value, number.
    read: String,
    /// `$1` to `$4` parents, IDs, values, numbers.
    write: String,
}

impl Deriving {
    fn of(entity: &'static Entity, phones: &'static MultiField) -> Self {
        let table = phones.table;
        let parent = format!("\"{}\"", entity.key());
        Self {
            read: format!(
                "select {parent}, id, value, e164 from \"{table}\" where ({parent}, id) > ($1, $2) \
                 order by {parent}, id limit $3"
            ),
            // Locked in the order in which batches lock them. A phone that was written since
            // it was read has its number already.
            write: format!(
                "with new as ( \
                    select t.{parent} as parent, t.id, u.e164 from \"{table}\" t \
                    join unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) \
                        as u (parent, id, value, e164) on t.{parent} = u.parent and t.id = u.id \
                    where t.{parent} = any($1) and t.value is not distinct from u.value \
                    order by t.{parent}, t.id for no key update of t) \
                 update \"{table}\" as t set e164 = new.e164 from new \
                 where t.{parent} = any($1) and t.{parent} = new.parent and t.id = new.id"
            ),
        }
    }
}

/// Phones whose number is another by now; parallel arrays.
#[derive(Default)]
struct Derived {
    parents: Vec<i64>,
    ids: Vec<i64>,
    values: Vec<Option<String>>,
    numbers: Vec<Option<String>>,
}

impl Derived {
    fn push(&mut self, parent: i64, id: i64, value: Option<String>, number: Option<String>) {
        self.parents.push(parent);
        self.ids.push(id);
        self.values.push(value);
        self.numbers.push(number);
    }
}
