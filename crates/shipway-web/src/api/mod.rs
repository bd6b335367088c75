//! Handlers of the Platform API, one file per noun: read the payload, one call of the engine, present.

pub(crate) mod absent;
pub(crate) mod accounts;
pub(crate) mod addons;
pub(crate) mod apps;
pub(crate) mod attachments;
pub(crate) mod authorizations;
pub(crate) mod buildpacks;
pub(crate) mod builds;
pub(crate) mod catalog;
pub(crate) mod collaborators;
pub(crate) mod config_vars;
pub(crate) mod couplings;
pub(crate) mod databases;
pub(crate) mod domains;
pub(crate) mod dynos;
pub(crate) mod features;
pub(crate) mod formation;
pub(crate) mod github;
pub(crate) mod keys;
pub(crate) mod log_sessions;
pub(crate) mod meta;
pub(crate) mod pipelines;
pub(crate) mod promotions;
pub(crate) mod releases;
pub(crate) mod sources;
pub(crate) mod transfers;
