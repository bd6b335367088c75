//! What the Platform API does not have of review apps: a fork's permission, a password.

use crate::{Answer, ApiError, Call, Result, present};
use serde_json::json;
use shipway_domain::NameOrId;
use shipway_store::Pipeline;

fn named(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

/// GET /shipway/v1/pipelines/{pipeline}/review-apps: with names, addresses, titles and commits.
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().review_apps(&named(&call)?)?;
    Ok(Answer::ok(all.iter().map(|review| present::whole_review_app(&call.web, review)).collect()))
}

/// POST /shipway/v1/pipelines/{pipeline}/pull-requests/{number}/actions/allow: builds a fork's commit as it is now.
pub async fn allow(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let number = call.parameter("number").parse().map_err(|_| ApiError::missing("pull_request"))?;
    let request = call.platform().allow_pull_request(&call.caller, &pipeline, number, None).await?;
    Ok(Answer::ok(json!({ "number": number, "commit": request.commit, "fork": request.fork, "title": request.title })))
}

/// PUT /shipway/v1/pipelines/{pipeline}/review-apps/password `{password}`: `null` opens them to everybody.
pub async fn password(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let password = call.payload()?.text("password")?;
    let set = password.is_some();
    call.platform().set_review_password(&call.caller, &pipeline, password).await?;
    Ok(Answer::ok(json!({ "pipeline": { "id": pipeline.id, "name": pipeline.name }, "password": set })))
}
