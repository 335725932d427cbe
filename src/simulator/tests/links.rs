//! Links lead to records, however many there are of whatever.

use std::collections::{BTreeMap, BTreeSet};

use super::super::entity::Entity;
use super::super::fields::{Content, Type};
use super::super::options::Options;
use super::super::records::Plain;
use super::Desk;

fn family(kind: Type, name: &str) -> Option<Entity> {
    Some(match kind {
        Type::Company => Entity::Companies,
        Type::Contact => Entity::Contacts,
        Type::Lead => Entity::Leads,
        Type::Deal => Entity::Deals,
        Type::Quote => Entity::Quotes,
        Type::Entity => match name {
            "PARENT_ID_2" => Entity::Deals,
            "PARENT_ID_128" => Entity::Projects,
            _ => return None,
        },
        _ => return None,
    })
}

/// How many links lead from what to what, and those that lead nowhere.
fn links(desk: &Desk) -> (BTreeMap<(Entity, Entity), usize>, Vec<String>) {
    let portal = &desk.portal;
    let ids = |entity: Entity| -> BTreeSet<i64> {
        let listed = portal.tables[entity.index()].iter().filter(|record| record.category == 0);
        listed.map(|record| record.id).collect()
    };
    let known = Entity::EVERY.map(ids);
    let (mut led, mut lost) = (BTreeMap::new(), Vec::new());
    for entity in Entity::EVERY {
        for record in portal.tables[entity.index()].iter() {
            let facts = portal.generator.facts(entity, record);
            let mut found = Vec::new();
            for (field, value) in entity.fields().iter().zip(&facts.plain) {
                if let (Plain::Int(id), Some(to)) = (value, family(field.kind, field.name)) {
                    found.push((to, *id));
                } else if let (Type::Entity, Plain::Int(_)) = (field.kind, value) {
                    lost.push(format!("{} of {entity:?}", field.name));
                }
                if field.content == Content::Links {
                    let to = family(field.kind, field.name).unwrap();
                    found.extend(facts.linked.iter().map(|id| (to, *id)));
                }
            }
            let of = |name: &str| {
                let at = entity.fields().iter().position(|field| field.name == name)?;
                match facts.plain[at] {
                    Plain::Int(number) => Some(number),
                    _ => None,
                }
            };
            if let (Some(kind), Some(id)) = (of("OWNER_TYPE_ID"), of("OWNER_ID")) {
                found.push((Entity::of_type(kind).unwrap(), id));
            }
            for (to, id) in found {
                *led.entry((entity, to)).or_insert(0) += 1;
                if !known[to.index()].contains(&id) {
                    lost.push(format!("{id} of {to:?} in {entity:?}"));
                }
            }
        }
    }
    (led, lost)
}

#[test]
fn whatever_counts_there_are_every_link_leads_to_a_record() {
    let few = Options { unseen_targets: false, malformed: 0, ..Options::default() };
    let all = Options { contacts: 100, leads: 90, companies: 7, deals: 80, ..few.clone() };
    let all = Options { quotes: 60, smart_invoices: 50, projects: 40, activities: 90, ..all };
    let (led, lost) = links(&Desk::new(all));
    assert_eq!(lost, Vec::<String>::new());
    let from_to = |from, to| led.get(&(from, to)).copied().unwrap_or(0);
    for to in [Entity::Companies, Entity::Contacts, Entity::Leads, Entity::Quotes] {
        assert!(from_to(Entity::Deals, to) > 3, "{to:?}: {led:?}");
    }
    for to in [Entity::Contacts, Entity::Leads, Entity::Companies, Entity::Deals] {
        assert!(from_to(Entity::Activities, to) > 5, "{to:?}: {led:?}");
    }
    assert!(from_to(Entity::Projects, Entity::Contacts) > 5, "{led:?}");

    // What the portal does not have is linked to by nothing, and activities are about the rest.
    let some = Options { contacts: 1, leads: 60, deals: 30, activities: 50, ..few };
    let (led, lost) = links(&Desk::new(some));
    assert_eq!(lost, Vec::<String>::new());
    assert!(!led.keys().any(|(_, to)| *to == Entity::Companies), "{led:?}");
    assert!(led[&(Entity::Leads, Entity::Contacts)] > 10, "{led:?}");
}

#[test]
fn links_to_what_nobody_sees_are_kept_only_where_there_are_no_records_of_it() {
    let (led, lost) = links(&Desk::new(Options { malformed: 0, ..Options::default() }));
    assert!(led[&(Entity::Leads, Entity::Contacts)] > 50, "{led:?}");
    let seen = |lost: &&String| lost.contains("of Contacts") || lost.contains("of Leads in");
    assert_eq!(lost.iter().filter(seen).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(lost.iter().any(|lost| lost.contains("of Companies in Contacts")));
}
