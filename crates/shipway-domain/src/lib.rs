//! The nouns of the platform: ids, names, lifecycles and plans.
//!
//! Values in, values out. Nothing here does I/O, reads a clock or draws a random number: time and ids come in as
//! arguments, so no function of this crate can fail for a reason outside its arguments.

pub mod addon;
pub mod address;
pub mod admission;
pub mod app_json;
pub mod buildpack;
pub mod compare;
pub mod forge;
pub mod formation;
pub mod health;
pub mod ids;
pub mod lifecycle;
pub mod migrations;
pub mod names;
pub mod pipeline;
pub mod procfile;
pub mod quantity;
pub mod review;
pub mod route;
pub mod sign_off;
pub mod size;
pub mod ssh;
pub mod team;
pub mod triggers;
pub mod webhooks;

pub use addon::{AddonName, AttachmentName};
pub use ids::*;
pub use names::*;
pub use pipeline::{DisplayName, PipelineName, ProductName, PromotionStatus, Stage, TargetStatus};

/// A time as people are told it: to the minute, and where on earth.
pub fn minute(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
