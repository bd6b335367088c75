//! Operations: what is under way, where it stands, and how to stop it.

use crate::present::{People, time};
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::{NameOrId, OperationId};
use shipway_engine::{Platform, StepView};
use shipway_store::Operation;

fn id(call: &Call) -> Result<OperationId> {
    let wanted = call.parameter("operation");
    wanted.parse().map_err(|_| ApiError::missing_one("operation", wanted, "`shipway ops` lists them with their ids."))
}

/// An operation. Of several apps each says in `error` what a failure came to for it.
fn show(call: &Call, people: &mut People<'_>, operation: &Operation, steps: &[StepView]) -> Result<Value> {
    let platform = call.platform();
    let mut apps = Vec::new();
    for id in &operation.apps {
        let name = platform.store().read(|c| match c.app(&id.into())? {
            Some(app) => Ok(Some(app.name.to_string())),
            // How it ended is asked for when it is gone.
            None => c.last_name_of(*id),
        })?;
        let ending = platform.ending(operation, *id)?;
        let error = ending.map(|ending| ending.text).filter(|_| operation.apps.len() > 1);
        apps.push(json!({ "id": id, "name": name, "error": error }));
    }
    Ok(json!({
        "id": operation.id,
        "kind": operation.kind,
        "state": operation.status.as_str(),
        "app": apps.first(),
        "apps": apps,
        "step": at_step(steps),
        "user": people.reference(operation.account),
        "via": operation.plan.get("via"),
        "waiting_for": waits_for(platform, operation),
        "error": operation.error,
        "cancellable": platform.is_cancellable(operation),
        "created_at": time(operation.created_at),
        "updated_at": time(operation.updated_at),
    }))
}

/// The step that it is at, or ended at.
pub(crate) fn at_step(steps: &[StepView]) -> Option<&str> {
    let now = steps.iter().find(|step| matches!(step.state, "running" | "failed"));
    now.or_else(|| steps.iter().rev().find(|step| step.state == "succeeded")).map(|step| step.title.as_str())
}

/// Behind what it waits: `deploy 0193…`.
pub(crate) fn waits_for(platform: &Platform, operation: &Operation) -> Option<String> {
    let before = platform.waiting_behind(operation.id).filter(|_| !operation.status.is_final())?;
    let kind = platform.store().read(|c| c.operation(before)).map(|before| before.kind);
    Some(format!("{} {before}", kind.unwrap_or_default()))
}

/// GET /shipway/v1/operations?app=NAME: the newest 200 that the caller may see.
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.query("app").map(|app| call.platform().app(&call.caller, &NameOrId::parse(app))).transpose()?;
    let mut people = People::new(&call.web);
    let mut shown = Vec::new();
    for operation in call.platform().operations(&call.caller, app.as_ref())? {
        let steps = call.platform().steps(operation.id)?;
        shown.push(show(&call, &mut people, &operation, &steps)?);
    }
    Ok(Answer::ok(shown.into()))
}

/// GET /shipway/v1/operations/{operation}: with its steps.
pub async fn info(call: Call) -> Result<Answer> {
    let operation = call.platform().operation(&call.caller, id(&call)?)?;
    let steps = call.platform().steps(operation.id)?;
    let mut body = show(&call, &mut People::new(&call.web), &operation, &steps)?;
    let now = call.platform().now();
    body["steps"] = steps
        .iter()
        .map(|step| {
            let end = step.ended_at.unwrap_or(now);
            json!({
                "name": step.name,
                "state": step.state,
                "started_at": step.started_at.map(time),
                "ended_at": step.ended_at.map(time),
                "duration_ms": step.started_at.map(|start| end.duration_since(start).as_millis().max(0) as u64),
                "error": step.error,
            })
        })
        .collect();
    Ok(Answer::ok(body))
}

/// POST /shipway/v1/operations/{operation}/actions/cancel: what it did so far is undone. Errors: 409 once it switched.
pub async fn cancel(call: Call) -> Result<Answer> {
    let id = id(&call)?;
    call.platform().cancel(&call.caller, id).await?;
    let operation = call.platform().operation(&call.caller, id)?;
    let steps = call.platform().steps(id)?;
    Ok(Answer::accepted(show(&call, &mut People::new(&call.web), &operation, &steps)?))
}
