//! The child tables: phones, e-mails, websites, messengers, links, and linked records.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{
    history::{self, Journal},
    statements::{ChildStatements, Statements},
};
use crate::entity::{
    Entity, RecordId,
    phone::PhoneRules,
    record::{Child, ChildList, CustomFields, Record},
};

/// The stored children of some parents, by parent and in the order of their IDs.
pub(super) type Children = HashMap<i64, Vec<Child>>;

/// Makes the children of the written records equal to the records: deletes those that
/// are gone, writes those that differ, touches no other. A list that is untrusted, or that the
/// source does not bring, changes nothing.
/// What changed in records that were there before is told to the journal.
///
/// The parents' rows are locked by this transaction's upsert, so nobody else changes
/// their children meanwhile.
pub(super) async fn replace(
    connection: &mut PgConnection,
    entity: &'static Entity,
    records: &[&Record],
    written: &HashMap<RecordId, bool>,
    phones: PhoneRules,
    mut journal: Option<&mut Journal>,
) -> Result<(), sqlx::Error> {
    let parents: Vec<(&Record, bool)> =
        records.iter().filter_map(|record| Some((*record, *written.get(&record.id())?))).collect();
    // A record that is new has no children yet.
    let old: Vec<i64> = parents
        .iter()
        .filter(|(_, inserted)| !inserted)
        .map(|(record, _)| record.id().get())
        .collect();
    for (index, statements) in Statements::of(entity).children().iter().enumerate() {
        let stored = read(connection, statements, &old).await?;
        let lists =
            parents.iter().filter_map(|(record, _)| match record.children().get(index)? {
                ChildList::Known(list) => Some((record.id().get(), list.as_slice())),
                ChildList::Untrusted | ChildList::Kept => None,
            });
        if let Some(journal) = &mut journal {
            for (record, _) in parents.iter().filter(|(_, inserted)| !inserted) {
                let Some(list) = history::known(record, index) else { continue };
                let id = record.id().get();
                let before = stored.get(&id).map_or(&[][..], Vec::as_slice);
                journal.children(entity.multi_fields[index].field, id, before, list);
            }
        }
        Difference::between(lists, &stored).apply(connection, statements, phones).await?;
    }
    Ok(())
}

/// Reads the children of some parents.
pub(super) async fn read(
    connection: &mut PgConnection,
    statements: &'static ChildStatements,
    parents: &[i64],
) -> Result<Children, sqlx::Error> {
    let mut children = Children::new();
    if parents.is_empty() {
        return Ok(children);
    }
    let rows: Vec<(i64, i64, Option<String>, Option<String>)> =
        sqlx::query_as(statements.read()).bind(parents).fetch_all(connection).await?;
    for (parent, id, mut value, value_type) in rows {
        if let Some(stored) = value.as_deref().filter(|_| statements.are_objects())
            && let Ok(canonical) = CustomFields::from_stored(stored)
        {
            value = Some(canonical.as_str().to_owned());
        }
        children.entry(parent).or_default().push(Child { id, value, value_type });
    }
    Ok(children)
}

/// What has to be deleted from and written to one child table; parallel arrays.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference<'a> {
    gone: (Vec<i64>, Vec<i64>),
    parents: Vec<i64>,
    ids: Vec<i64>,
    values: Vec<Option<&'a str>>,
    value_types: Vec<Option<&'a str>>,
}

impl<'a> Difference<'a> {
    fn between(lists: impl Iterator<Item = (i64, &'a [Child])>, stored: &Children) -> Self {
        let mut difference = Self::default();
        for (parent, list) in lists {
            // Both are in the order of IDs.
            let mut old = stored.get(&parent).into_iter().flatten().peekable();
            for child in list {
                while let Some(gone) = old.next_if(|old| old.id < child.id) {
                    difference.delete(parent, gone);
                }
                if old.next_if(|old| old.id == child.id) != Some(child) {
                    difference.write(parent, child);
                }
            }
            for gone in old {
                difference.delete(parent, gone);
            }
        }
        difference
    }

    fn delete(&mut self, parent: i64, child: &Child) {
        self.gone.0.push(parent);
        self.gone.1.push(child.id);
    }

    fn write(&mut self, parent: i64, child: &'a Child) {
        self.parents.push(parent);
        self.ids.push(child.id);
        self.values.push(child.value.as_deref());
        self.value_types.push(child.value_type.as_deref());
    }

    async fn apply(
        self,
        connection: &mut PgConnection,
        statements: &'static ChildStatements,
        phones: PhoneRules,
    ) -> Result<(), sqlx::Error> {
        if !self.gone.0.is_empty() {
            sqlx::query(statements.delete())
                .bind(self.gone.0)
                .bind(self.gone.1)
                .execute(&mut *connection)
                .await?;
        }
        if !self.ids.is_empty() {
            let numbers = statements.are_phones().then(|| {
                self.values.iter().map(|value| phones.e164((*value)?)).collect::<Vec<_>>()
            });
            let mut upsert = sqlx::query(statements.upsert())
                .bind(self.parents)
                .bind(self.ids)
                .bind(self.values)
                .bind(self.value_types);
            if let Some(numbers) = numbers {
                upsert = upsert.bind(numbers);
            }
            upsert.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(id: i64, value: &str) -> Child {
        Child { id, value: Some(value.to_owned()), value_type: None }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let stored =
            Children::from([(7, vec![child(1, "same"), child(2, "old"), child(3, "gone")])]);
        let (seven, eight) =
            ([child(1, "same"), child(2, "new"), child(4, "more")], [child(1, "first")]);
        let lists = [(7, seven.as_slice()), (8, eight.as_slice())];
        let difference = Difference::between(lists.into_iter(), &stored);
        assert_eq!(difference.gone, (vec![7], vec![3]));
        assert_eq!(difference.parents, [7, 7, 8]);
        assert_eq!(difference.ids, [2, 4, 1]);
        assert_eq!(difference.values, [Some("new"), Some("more"), Some("first")]);
    }
}
