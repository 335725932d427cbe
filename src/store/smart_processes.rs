//! The smart processes of the portal, and the tables of their items.
//!
//! The items of each process lie in partitions of their own, which have the names, the keys and
//! the columns that its declaration expects. A process that the portal no longer lists keeps them.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Generation, Store, StoreError};
use crate::entity::{Entity, SMART_ITEMS, smart_process};

/// Those who read all items are not kept waiting for the tables of a new process, nor does the
/// lease wait for them.
const SHORT_LOCKS: &str = "set local lock_timeout = '3s'";

/// A smart process as the portal last listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmartProcess {
    /// Its items.
    pub entity: &'static Entity,
    /// What people see.
    pub title: String,
    /// When the portal stopped listing it, if it did.
    pub gone_since: Option<DateTime<Utc>>,
    /// Whether its items have tables.
    pub has_tables: bool,
}

impl Store {
    /// The smart processes that the portal has or had, in the order of their numbers.
    pub async fn smart_processes(&self) -> Result<Vec<SmartProcess>, StoreError> {
        let rows: Vec<(i64, String, Option<DateTime<Utc>>, bool)> = sqlx::query_as(
            "select p.entity_type_id, p.title, p.gone_since, \
                exists (select from pg_class c where c.relname = 'smart_items_' || p.entity_type_id \
                    and c.relnamespace = to_regnamespace(quote_ident($1))) \
             from smart_processes p order by p.entity_type_id",
        )
        .bind(self.schema.as_str())
        .fetch_all(&self.pool)
        .await?;
        let process = |(number, title, gone_since, has_tables): (i64, _, _, _)| {
            // The portal may list kinds of records that are no smart processes to us.
            let entity = smart_process(u32::try_from(number).ok()?)?;
            Some(SmartProcess { entity, title, gone_since, has_tables })
        };
        Ok(rows.into_iter().filter_map(process).collect())
    }

    /// The items of the smart processes that the portal has, whether or not they have tables yet.
    pub async fn present_smart_items(&self) -> Result<Vec<&'static Entity>, StoreError> {
        let processes = self.smart_processes().await?;
        let present = processes.iter().filter(|process| process.gone_since.is_none());
        Ok(present.map(|process| process.entity).collect())
    }

    /// Everything that has tables in this schema: what all portals have, and the items of each
    /// smart process that was ever mirrored.
    pub async fn entities(&self) -> Result<Vec<&'static Entity>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        self.entities_on(&mut connection).await
    }

    /// The same within a transaction.
    pub(super) async fn entities_on(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<&'static Entity>, StoreError> {
        let partitions: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
             where i.inhparent = to_regclass('smart_items') order by c.relname",
        )
        .fetch_all(connection)
        .await?;
        let stored = partitions.iter().filter_map(|table| Entity::by_name(table));
        Ok(Entity::ALL.into_iter().chain(stored).chain(Entity::WHOLE).collect())
    }

    /// The same entities, with each process in place of all of them.
    pub async fn each_of(
        &self,
        entities: &[&'static Entity],
    ) -> Result<Vec<&'static Entity>, StoreError> {
        let mut each = Vec::with_capacity(entities.len());
        for entity in entities {
            let meant = if **entity == SMART_ITEMS {
                self.present_smart_items().await?
            } else {
                vec![*entity]
            };
            each.extend(meant.into_iter().filter(|one| !entities.contains(one) || one == entity));
        }
        Ok(each)
    }

    /// Makes the tables of a smart process's items if there are none. Whoever may read the items
    /// of all processes may read these. Without a generation nobody needs to hold the lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is made then.
    pub async fn make_smart_tables(
        &self,
        generation: Option<Generation>,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let Some(number) = entity.smart_process() else { return Ok(()) };
        let mut transaction = self.begin_reporting(generation).await?;
        let exists: bool = sqlx::query_scalar(
            "select exists (select from pg_class where relname = $1 \
                and relnamespace = to_regnamespace(quote_ident($2)))",
        )
        .bind(entity.name)
        .bind(self.schema.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        if exists {
            return Ok(());
        }
        sqlx::raw_sql(SHORT_LOCKS).execute(&mut *transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(tables(entity, number))).execute(&mut *transaction).await?;
        transaction.commit().await?;
        tracing::info!(entity = entity.name, "the tables of a smart process were made");
        Ok(())
    }
}

/// The statements that make the tables.
///
/// They are made beside the others and attached, which lets readers of all processes go on;
/// `create table … partition of` would lock them out.
fn tables(entity: &'static Entity, number: u32) -> String {
    let key = entity.key();
    let mut sql = String::new();
    let mut make = |table: &str, of: &str, primary_key: &str, more: &str| {
        // `write!` to a String cannot fail.
        let _ = write!(
            sql,
            "create table \"{table}\" (like \"{of}\" including all); \
             alter table \"{table}\" alter column entity_type_id set default {number}, \
                add primary key ({primary_key}){more}; \
             comment on table \"{table}\" is \
                'Those of {of} that belong to the smart process {number}.'; \
             alter table \"{of}\" attach partition \"{table}\" for values in ({number}); \
             do $grant$ declare reader text; begin \
                for reader in select distinct case granted.grantee when 0 then 'public' \
                        else quote_ident(pg_get_userbyid(granted.grantee)) end \
                    from pg_class c, aclexplode(c.relacl) as granted \
                    where c.oid = '\"{of}\"'::regclass and granted.privilege_type = 'SELECT' \
                loop execute format('grant select on %I to %s', '{table}', reader); end loop; \
             end $grant$; "
        );
    };
    make(entity.name, SMART_ITEMS.name, "id", "");
    for (own, of) in entity.multi_fields.iter().zip(SMART_ITEMS.multi_fields) {
        let linked = own.link.map_or("id", |link| link.column);
        let parent = format!(
            ", add foreign key (\"{key}\") references \"{}\" on delete cascade",
            entity.name
        );
        make(own.table, of.table, &format!("\"{key}\", \"{linked}\""), &parent);
    }
    let (changes, of) =
        (format!("{}_changes", entity.singular), format!("{}_changes", SMART_ITEMS.singular));
    make(&changes, &of, "id", "");
    let _ = write!(
        sql,
        "create index \"{changes}_item\" on \"{changes}\" (\"{key}\", seen_at); \
         create index \"{changes}_seen\" on \"{changes}\" (seen_at); "
    );
    sql
}
