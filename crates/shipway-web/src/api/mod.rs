//! Handlers of the Platform API, one file per noun.

pub(crate) mod meta;
