//! What is asked for on the way and of which there is none: lists are empty, and nothing is found by name.

use crate::{Answer, Call, Result};
use serde_json::json;

/// Lists of an app that are empty.
pub async fn none_of_app(call: Call) -> Result<Answer> {
    call.app()?;
    Ok(Answer::ok(json!([])))
}

/// Lists of an account that are empty.
pub async fn none(_: Call) -> Result<Answer> {
    Ok(Answer::ok(json!([])))
}

/// GET /apps/{app}/usage: nothing is metered.
pub async fn no_usage(call: Call) -> Result<Answer> {
    call.app()?;
    Ok(Answer::ok(json!({ "addons": [] })))
}

/// GET /data/maintenances/v1/apps/{app}: nobody plans any for you.
pub async fn no_maintenances(call: Call) -> Result<Answer> {
    call.app()?;
    Ok(Answer::ok(json!({ "maintenances": [] })))
}
