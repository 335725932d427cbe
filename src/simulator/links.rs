//! Where links lead: to records that the portal began with.
//!
//! The generator draws a number for each link. What it stands for is told here, so that the rest of
//! a record is the same however many records of other families there are.

use std::sync::Arc;

use super::dataset::mix;
use super::entity::{Entity, FAMILIES};
use super::fields::{Content, Field, Type};
use super::records::{Facts, Plain, Table};

/// The records that links may lead to.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    ids: [Arc<[i64]>; FAMILIES],
    /// Whether links to what has no records at all are kept.
    unseen: bool,
}

impl Targets {
    /// The records that everybody sees.
    pub(super) fn of(tables: &[Table; FAMILIES], unseen: bool) -> Self {
        let listed = |table: &Table| {
            table.iter().filter(|record| record.category == 0).map(|record| record.id).collect()
        };
        Self { ids: tables.each_ref().map(listed), unseen }
    }

    /// Puts IDs of records where numbers were drawn.
    pub(super) fn lead(&self, entity: Entity, facts: &mut Facts) {
        let fields = entity.fields();
        for (field, value) in fields.iter().zip(&mut facts.plain) {
            if let (Plain::Int(drawn), Some(family)) = (&*value, target(field)) {
                *value = self.one_of(&family, *drawn).map_or(Plain::Unset, Plain::Int);
            }
        }
        let further = fields.iter().find(|field| field.content == Content::Links).and_then(target);
        let further = further.unwrap_or(Target::Nobody);
        let drawn = std::mem::take(&mut facts.linked);
        for id in drawn.into_iter().filter_map(|id| self.one_of(&further, id)) {
            if !facts.linked.contains(&id) {
                facts.linked.push(id);
            }
        }
        self.own(fields, facts);
    }

    /// The record that a drawn number stands for.
    fn one_of(&self, target: &Target, drawn: i64) -> Option<i64> {
        let ids: &[i64] = match target {
            Target::Family(family) => &self.ids[family.index()],
            Target::Nobody => &[],
        };
        match u64::try_from(ids.len()) {
            Ok(count) if count > 0 => {
                let at = mix(drawn.unsigned_abs(), 6) % count;
                usize::try_from(at).ok().and_then(|at| ids.get(at)).copied()
            }
            _ => self.unseen.then_some(drawn),
        }
    }

    /// An activity is about a record of the kind that it names; nothing else is without one.
    fn own(&self, fields: &[Field], facts: &mut Facts) {
        let place = |owner: Content| fields.iter().position(|field| field.content == owner);
        let kinds = fields.iter().position(|field| field.name == "OWNER_TYPE_ID");
        let (Some(of), Some(kinds)) = (place(Content::Owner), kinds) else { return };
        let (Plain::Int(drawn), Plain::Int(kind)) = (&facts.plain[of], &facts.plain[kinds]) else {
            return;
        };
        let (drawn, mut family) = (*drawn, Entity::of_type(*kind));
        if !self.unseen && !family.is_some_and(|family| self.has(family)) {
            let having = |family: &Entity| self.has(*family);
            let people = [Entity::Contacts, Entity::Leads, Entity::Companies, Entity::Deals];
            family = people.into_iter().find(having).or(family);
        }
        let Some(family) = family else { return };
        facts.plain[kinds] = Plain::Int(family.type_id());
        let owner = self.one_of(&Target::Family(family), drawn).unwrap_or(drawn);
        facts.plain[of] = Plain::Int(owner);
    }

    fn has(&self, family: Entity) -> bool {
        !self.ids[family.index()].is_empty()
    }
}

/// What a field links to.
enum Target {
    Family(Entity),
    /// A smart process that this portal never has.
    Nobody,
}

/// What a field links to, if it is a link.
fn target(field: &Field) -> Option<Target> {
    Some(Target::Family(match field.kind {
        Type::Company => Entity::Companies,
        Type::Contact => Entity::Contacts,
        Type::Lead => Entity::Leads,
        Type::Deal => Entity::Deals,
        Type::Quote => Entity::Quotes,
        Type::Entity => {
            let number = field.name.strip_prefix("PARENT_ID_")?.parse().ok()?;
            return Some(Entity::of_type(number).map_or(Target::Nobody, Target::Family));
        }
        _ => return None,
    }))
}
