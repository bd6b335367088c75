//! What stages want signed, what was signed, and what waits for it.

use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_domain::sign_off::Party;
use shipway_domain::{NameOrId, Stage};
use shipway_engine::{StageRule, Waits};
use shipway_store::{Pipeline, SignOff};

fn pipeline(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

fn stage(call: &Call) -> Result<Stage> {
    let given = call.parameter("stage");
    match Stage::from_people(given) {
        Some(stage) => Ok(stage),
        None => Ok(Stage::parse(given)?),
    }
}

fn party(party: &Party) -> Value {
    json!({
        "name": party.name,
        "people": party.people.iter().map(|person| json!({ "email": person.email })).collect::<Vec<_>>(),
    })
}

fn sign_off(sign_off: &SignOff) -> Value {
    json!({
        "id": sign_off.id, "stage": sign_off.stage, "commit": sign_off.commit, "party": sign_off.party,
        "user": { "email": sign_off.email }, "artifacts": sign_off.artifacts, "comment": sign_off.comment,
        "created_at": time(sign_off.created_at),
    })
}

fn waits(waits: &Waits) -> Value {
    let deploy = &waits.deploy;
    json!({
        "app": { "name": waits.app }, "stage": waits.stage, "commit": deploy.commit,
        "kind": deploy.reference.kind(), "name": deploy.reference.name(), "by": deploy.by,
        "missing": waits.missing.iter().map(party).collect::<Vec<_>>(), "created_at": time(deploy.created_at),
    })
}

fn rule(rule: &StageRule) -> Value {
    json!({ "stage": rule.stage, "parties": rule.parties.iter().map(party).collect::<Vec<_>>() })
}

fn show(call: &Call, pipeline: &Pipeline) -> Result<Value> {
    let platform = call.platform();
    Ok(json!({
        "pipeline": { "id": pipeline.id, "name": pipeline.name },
        "stages": platform.sign_off_rules(pipeline)?.iter().map(rule).collect::<Vec<_>>(),
        "waiting": platform.waiting_for_sign_offs(&call.caller, pipeline)?.iter().map(waits).collect::<Vec<_>>(),
        "sign_offs": platform.sign_offs(pipeline)?.iter().map(sign_off).collect::<Vec<_>>(),
    }))
}

/// GET /shipway/v1/pipelines/{pipeline}/sign-offs: what stages want, what waits for it, and the newest that were given.
pub async fn list(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    Ok(Answer::ok(show(&call, &pipeline)?))
}

/// PUT /shipway/v1/pipelines/{pipeline}/stages/{stage}/parties `{parties: [{name, people: [email]}]}`: all at once; none
/// lifts the rule.
pub async fn require(call: Call) -> Result<Answer> {
    let (pipeline, stage) = (pipeline(&call)?, stage(&call)?);
    let Some(named) = call.payload()?.objects("parties")? else {
        return Err(ApiError::invalid("Name `parties`: a list of {name, people}, empty to want no sign-offs."));
    };
    let mut parties = Vec::with_capacity(named.len());
    for party in &named {
        parties.push((party.required("name")?, party.texts("people")?.unwrap_or_default()));
    }
    call.platform().require_sign_offs(&call.caller, &pipeline, stage, &parties).await?;
    Ok(Answer::ok(show(&call, &pipeline)?))
}

/// POST /shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs `{commit, party, comment?}`: in the caller's name.
pub async fn give(call: Call) -> Result<Answer> {
    let (pipeline, stage) = (pipeline(&call)?, stage(&call)?);
    let payload = call.payload()?;
    let (commit, party, comment) = (payload.required("commit")?, payload.required("party")?, payload.text("comment")?);
    let platform = call.platform();
    let given = platform.sign_off(&call.caller, &pipeline, stage, &commit, &party, comment.as_deref()).await?;
    Ok(Answer::created(with_missing(&call, &pipeline, &given)?))
}

/// DELETE /shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs/{commit}: the caller's own.
pub async fn withdraw(call: Call) -> Result<Answer> {
    let (pipeline, stage) = (pipeline(&call)?, stage(&call)?);
    let platform = call.platform();
    let gone = platform.withdraw_sign_off(&call.caller, &pipeline, stage, call.parameter("commit")).await?;
    Ok(Answer::ok(with_missing(&call, &pipeline, &gone)?))
}

/// A sign-off, with the parties that the commit still lacks.
fn with_missing(call: &Call, pipeline: &Pipeline, given: &SignOff) -> Result<Value> {
    let mut shown = sign_off(given);
    let missing = call.platform().unsigned_by(pipeline, given.stage, &given.commit)?;
    shown["missing"] = missing.iter().map(party).collect();
    Ok(shown)
}
