//! The portal's content: deterministic from a seed, nasty on purpose.
//!
//! A record's facts are made on demand from (seed, entity, first id), so a
//! million records cost little memory and no start-up time.

use super::content::{alter, custom, further_links, multi_fields, observers, plain, spoil};
use super::entity::{Entity, FAMILIES};
use super::links::Targets;
use super::pipelines::Standing;
use super::records::{Body, Facts, Multi, Record, Table};
use super::user_fields::UserField;

/// The first id of the block that no 32-bit integer holds.
const BIG_BLOCK: i64 = 2_147_484_648;
/// One contact in so many belongs to a category that the lists hide.
const HIDDEN_EVERY: u64 = 150;
const DAY: i64 = 86_400;

/// A small deterministic generator (`SplitMix64`).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        finish(self.0)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number from `from` to `to`, both included.
    pub(super) fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        from + i64::try_from(self.below(span.saturating_add(1))).unwrap_or(0)
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = u64::try_from(choices.len()).unwrap_or(1);
        choices[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Mixes two numbers into one.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    finish(a ^ finish(b.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The number that decides everything about a record.
pub(super) fn salt(seed: u64, entity: Entity, origin: i64) -> u64 {
    let entity = u64::try_from(entity.index()).unwrap_or(0) + 1;
    mix(mix(seed, entity), origin.unsigned_abs())
}

/// What the generator needs to know of the portal.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    pub(super) seed: u64,
    /// The user fields that the portal started with.
    pub(super) user_fields: [Vec<UserField>; FAMILIES],
    /// Share of records, one in so many, with a malformed value; 0 for none.
    pub(super) malformed: u64,
    /// What links lead to; nothing before the tables are filled.
    pub(super) targets: Targets,
}

impl Generator {
    /// The facts of a record.
    pub(super) fn facts(&self, entity: Entity, record: &Record) -> Facts {
        match &record.body {
            Body::Own(facts) => Facts::clone(facts),
            Body::Generated { origin, edit } => self.make(entity, *origin, *edit, record.created),
        }
    }

    /// Where a generated record stands at first.
    pub(super) fn standing(&self, entity: Entity, origin: i64) -> Standing {
        let salt = salt(self.seed, entity, origin);
        Standing::picked(entity, mix(salt, 5), mix(salt, 1))
    }

    /// The multi-fields that a record holds or has held, as a bit set.
    pub(super) fn had(&self, entity: Entity, record: &Record) -> u8 {
        let made;
        let multi = match &record.body {
            Body::Own(facts) => &facts.multi,
            Body::Generated { origin, .. } => {
                made = held(entity, &mut Rng::new(salt(self.seed, entity, *origin)), *origin);
                &made
            }
        };
        let bit = |kind: usize| u8::from(!multi[kind].is_empty()) << kind;
        record.had | (0..multi.len()).map(bit).sum::<u8>()
    }

    fn make(&self, entity: Entity, origin: i64, edit: u32, created: i64) -> Facts {
        let salt = salt(self.seed, entity, origin);
        let mut rng = Rng::new(salt);
        let multi = held(entity, &mut rng, origin);
        let standing = self.standing(entity, origin);
        // What the classic lists do not show has dice of its own, so that it moves nothing else.
        let mut beside = Rng::new(mix(salt, 4));
        let plain = entity
            .fields()
            .iter()
            .map(|field| {
                let dice = if field.classic { &mut rng } else { &mut beside };
                plain(dice, field.content, created, standing)
            })
            .collect();
        let custom =
            self.user_fields[entity.index()].iter().map(|field| custom(&mut rng, field)).collect();
        let (linked, observers) = (further_links(&mut beside), observers(&mut beside));
        let mut facts = Facts { plain, multi, custom, linked, observers, products: Vec::new() };
        if self.malformed > 0 && mix(salt, 2).is_multiple_of(self.malformed) {
            spoil(&mut facts, entity, mix(salt, 3));
        }
        if edit > 0 {
            alter(&mut facts, entity, salt, origin, edit);
        }
        self.targets.lead(entity, &mut facts);
        facts
    }

    /// Fills a table with `count` listed records and a few of another category.
    /// `newest` is the latest modification, in wall-clock seconds.
    pub(super) fn populate(&self, entity: Entity, count: u64, gaps: u64, newest: i64) -> Table {
        let mut table = Table::default();
        let mut rng = Rng::new(salt(self.seed, entity, -1));
        let bulk_second = newest - 90 * DAY - 4321;
        let bulk = count / 10..count / 10 + 5000.min(count / 4);
        let oldest = newest - 8 * 365 * DAY;
        let mut id = 0_i64;
        let mut listed = 0;
        while listed < count {
            id += 1;
            while rng.below(100) < gaps {
                id += 1;
            }
            if id < BIG_BLOCK && listed >= count - count / 20 {
                id = BIG_BLOCK;
            }
            let progress = i64::try_from(listed * 1000 / count).unwrap_or(0);
            let created = oldest + (newest - oldest) / 1000 * progress + rng.between(0, DAY / 2);
            let modified = if bulk.contains(&listed) {
                bulk_second
            } else {
                rng.between(created.min(newest), newest)
            };
            let hidden = entity.has_hidden_categories() && rng.once_in(HIDDEN_EVERY);
            table.put(Record {
                id,
                category: if hidden { 5 } else { 0 },
                created,
                modified,
                body: Body::Generated { origin: id, edit: 0 },
                had: 0,
                row: None,
                item: None,
            });
            listed = u64::try_from(table.listed()).unwrap_or(count);
        }
        table
    }
}

/// The multi-fields of a new record.
fn held(entity: Entity, rng: &mut Rng, origin: i64) -> [Vec<Multi>; 5] {
    if entity.has_multi_fields() { multi_fields(rng, origin) } else { Default::default() }
}

#[cfg(test)]
mod tests {
    use super::super::records::Plain;
    use super::super::user_fields::initial_user_fields;
    use super::*;

    fn generator(seed: u64) -> Generator {
        Generator {
            seed,
            user_fields: Entity::EVERY.map(initial_user_fields),
            malformed: 50,
            targets: Targets::default(),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_records() {
        let make = |seed| {
            let generator = generator(seed);
            let table = generator.populate(Entity::Contacts, 300, 30, 1_700_000_000);
            let facts: Vec<Facts> =
                table.iter().map(|record| generator.facts(Entity::Contacts, record)).collect();
            let heads: Vec<(i64, i64)> = table.iter().map(|r| (r.id, r.modified)).collect();
            (heads, facts)
        };
        assert!(make(7) == make(7));
        assert!(make(7) != make(8));
    }

    #[test]
    fn the_table_has_gaps_a_big_block_a_bulk_second_and_hidden_records() {
        let table = generator(1).populate(Entity::Contacts, 4_000, 30, 1_700_000_000);
        assert_eq!(table.listed(), 4_000);
        let small = table.range(..BIG_BLOCK).count();
        let last = table.range(..BIG_BLOCK).next_back().unwrap().id;
        let holes = 1.0
            - f64::from(u32::try_from(small).unwrap()) / f64::from(u32::try_from(last).unwrap());
        assert!((0.25..0.35).contains(&holes), "{holes}");
        assert!(table.range(i64::from(u32::MAX / 2)..).count() >= 200);
        let bulk = 1_700_000_000 - 90 * DAY - 4321;
        assert!(table.modified_between(bulk, bulk).count() >= 900);
        assert!(table.iter().any(|record| record.category == 5));
    }

    #[test]
    fn every_change_alters_the_facts() {
        let generator = generator(3);
        let table = generator.populate(Entity::Leads, 50, 0, 1_700_000_000);
        for record in table.iter() {
            let mut record = record.clone();
            let mut before = generator.facts(Entity::Leads, &record);
            for edit in 1..8 {
                record.body = Body::Generated { origin: record.id, edit };
                let after = generator.facts(Entity::Leads, &record);
                assert!(before != after);
                before = after;
            }
        }
    }

    #[test]
    fn there_are_up_to_ten_values_and_long_comments() {
        let generator = generator(5);
        let table = generator.populate(Entity::Contacts, 3_000, 30, 1_700_000_000);
        let facts: Vec<Facts> =
            table.iter().map(|record| generator.facts(Entity::Contacts, record)).collect();
        assert!(facts.iter().any(|f| f.multi[0].len() == 10));
        assert!(facts.iter().any(|f| f.multi.iter().all(Vec::is_empty)));
        let long = |plain: &Plain| matches!(plain, Plain::Text(text) if text.len() >= 60_000);
        assert!(facts.iter().any(|f| f.plain.iter().any(long)));
        let spoilt = |plain: &Plain| matches!(plain, Plain::Raw(_));
        assert!(facts.iter().any(|f| f.plain.iter().any(spoilt)));
    }
}
