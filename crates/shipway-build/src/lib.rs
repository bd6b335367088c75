//! Buildpacks and layers: from a commit's tree to an artifact.
//!
//! [`Builder::build`] is the one door. It takes a checked-out tree, asks the buildpacks, and gives back a
//! [`SlugManifest`]: dependency layers named by what they were made from, then the app's own tree. Whatever an app or a
//! buildpack brings to run is run through the [`shipway_runtime::Runtime`] contract, never beside it; what this crate does
//! itself with a tree (reading, packing, moving) follows no link out of it.
//!
//! Read on in `builder` (the order of things), `languages` (built-in buildpacks), `classic` (Heroku's buildpack API).

mod builder;
mod classic;
mod dyno_env;
mod languages;
mod model;
mod output;
mod session;
mod slug;
mod sources;
pub mod static_site;
mod toolchains;
mod tree;
mod versions;

pub use builder::Builder;
pub use dyno_env::dyno_env;
pub use model::{
    BuildError, BuildOutcome, BuildRequest, BuilderConfig, LayerKind, LayerRef, Limit, Pins, SlugManifest,
};
pub use output::BuildOutput;
