//! Refs that deploy an app by themselves, and what checks say of commits.

use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::review::Checks;
use shipway_domain::triggers::RefKind;
use shipway_domain::{CommitId, NameOrId, TriggerId};
use shipway_engine::TriggeredView;
use shipway_store::RefTrigger;

/// Triggered deploys that are listed.
const LISTED: u32 = 10;

fn trigger(trigger: &RefTrigger) -> Value {
    json!({
        "id": trigger.id, "kind": trigger.pattern.kind(), "pattern": trigger.pattern.glob(),
        "wait_for_ci": trigger.wait_for_ci, "created_at": time(trigger.created_at),
    })
}

fn triggered(view: &TriggeredView) -> Value {
    let deploy = &view.deploy;
    json!({
        "id": deploy.id, "kind": deploy.reference.kind(), "name": deploy.reference.name(), "pattern": deploy.glob,
        "commit": deploy.commit, "by": deploy.by, "state": view.state, "message": view.message,
        "operation": deploy.operation.map(|id| json!({ "id": id })), "created_at": time(deploy.created_at),
    })
}

/// GET /shipway/v1/apps/{app}/triggers: its triggers, and the newest deploys that they asked for.
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let triggers = call.platform().triggers(&app)?;
    let deploys = call.platform().triggered(&app, LISTED)?;
    Ok(Answer::ok(json!({
        "app": { "id": app.id, "name": app.name },
        "triggers": triggers.iter().map(trigger).collect::<Vec<_>>(),
        "deploys": deploys.iter().map(triggered).collect::<Vec<_>>(),
    })))
}

/// POST /shipway/v1/apps/{app}/triggers `{branch | tag, wait_for_ci?}`: a name, or a pattern with `*`.
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let (kind, glob) = match (payload.text("branch")?, payload.text("tag")?) {
        (Some(branch), None) => (RefKind::Branch, branch),
        (None, Some(tag)) => (RefKind::Tag, tag),
        _ => return Err(ApiError::invalid("Name either `branch` or `tag`: a name, or a pattern such as v*.")),
    };
    let wait = payload.flag("wait_for_ci")?.unwrap_or(false);
    let made = call.platform().add_trigger(&call.caller, &app, kind, &glob, wait).await?;
    Ok(Answer::created(trigger(&made)))
}

/// DELETE /shipway/v1/apps/{app}/triggers/{trigger}
pub async fn destroy(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let id: TriggerId = call.parameter("trigger").parse().map_err(|_| ApiError::missing("trigger"))?;
    let removed = call.platform().remove_trigger(&call.caller, &app, id).await?;
    Ok(Answer::ok(trigger(&removed)))
}

/// POST /shipway/v1/pipelines/{pipeline}/checks `{commit, state}`: what CI says of a commit, where no forge tells us.
pub async fn checks(call: Call) -> Result<Answer> {
    let pipeline = NameOrId::parse(call.parameter("pipeline"));
    let payload = call.payload()?;
    let commit = CommitId::parse(&payload.required("commit")?)?;
    let checks = Checks::from_text(&payload.required("state")?)
        .filter(|checks| *checks != Checks::Unknown)
        .ok_or_else(|| ApiError::invalid("`state` is one of pending, succeeded, failed."))?;
    call.platform().report_checks(&call.caller, &pipeline, commit.clone(), checks).await?;
    Ok(Answer::created(json!({ "commit": commit, "state": checks })))
}
