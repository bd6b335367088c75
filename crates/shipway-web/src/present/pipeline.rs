//! Pipelines and the places of apps in them.

use super::{named, time};
use serde_json::{Value, json};
use shipway_store::{Coupling, Pipeline};

/// A pipeline.
pub fn pipeline(pipeline: &Pipeline) -> Value {
    json!({
        "created_at": time(pipeline.created_at),
        "generation": named("generation", "cedar"),
        "id": pipeline.id,
        "name": pipeline.name,
        "owner": pipeline_owner(pipeline),
        "updated_at": time(pipeline.updated_at),
    })
}

/// Whose a pipeline is.
pub fn pipeline_owner(pipeline: &Pipeline) -> Value {
    let kind = if pipeline.owner_email.team().is_some() { "team" } else { "user" };
    json!({ "id": pipeline.owner, "type": kind })
}

/// An app's place. `pipeline.name` and `display_name` are not in the public schema; the CLI reads the first.
pub fn coupling(coupling: &Coupling) -> Value {
    json!({
        "app": { "id": coupling.app },
        "created_at": time(coupling.created_at),
        "display_name": coupling.display_name,
        "id": coupling.id,
        "pipeline": { "id": coupling.pipeline, "name": coupling.pipeline_name },
        "stage": coupling.stage,
        "updated_at": time(coupling.updated_at),
    })
}

/// The stack of apps that a pipeline makes.
pub fn pipeline_stack(stack: &str) -> Value {
    json!({ "stack": named("stack", stack) })
}
