//! `crm.item.list`, `crm.item.get` and `crm.item.fields` (vendor pages `crm-item-list`,
//! `crm-item-get`, `crm-item-fields`, `object-fields`): the same records as those of the
//! classic lists, in another dialect.

mod catalogue;
mod lists;
mod rows;

pub(super) use catalogue::item_catalogue;
pub(super) use lists::array;
pub(super) use rows::ItemRow;

use super::entity::Entity;
use super::php::{Array, Php};
use super::portal::{Failure, Portal};

/// The family that a call names by its `entityTypeId`, if there is one.
pub(super) fn named_entity(params: &Array) -> Option<Entity> {
    Entity::of_type(params.get("entityTypeId")?.to_int())
}

/// The same for a method that cannot do without.
pub(super) fn entity_of(portal: &Portal, params: &Array) -> Result<Entity, Failure> {
    let id = match params.get("entityTypeId") {
        None | Some(Php::Null) => {
            let text = "Could not find value for parameter {entityTypeId}";
            return Err(Failure::parameter(text));
        }
        Some(id) => id.to_int(),
    };
    let entity = Entity::of_type(id).filter(|entity| portal.has_family(*entity));
    entity.ok_or_else(|| Failure::new(400, "NOT_FOUND", "SPA not found"))
}

/// Whether user fields go by their original names.
fn original_names(params: &Array) -> bool {
    let wanted = params.get("useOriginalUfNames").and_then(Php::to_text);
    wanted.is_some_and(|wanted| wanted == "Y")
}
