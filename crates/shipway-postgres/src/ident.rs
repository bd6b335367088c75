//! The names that an add-on has inside the cluster. They are made of its id alone: nothing of a user's reaches SQL.

use shipway_domain::AddonId;

/// The role that owns an add-on's database.
pub(crate) fn role(addon: AddonId) -> String {
    format!("u{}", addon.0.simple())
}

/// An add-on's database.
pub(crate) fn database(addon: AddonId) -> String {
    format!("d{}", addon.0.simple())
}

/// The database in which a restore or a reset makes what will take the old one's place.
pub(crate) fn scratch(addon: AddonId) -> String {
    format!("{}_new", database(addon))
}

/// What the old database is called once the new one has its name.
pub(crate) fn replaced(addon: AddonId) -> String {
    format!("{}_old", database(addon))
}
