//! Add-ons and their like, of which there are none yet: lists are empty, and nothing is found by name.

use crate::{Answer, ApiError, Call, Result};
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

/// POST /apps/{app}/addons
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Err(ApiError::invalid(format!(
        "There are no add-ons here yet. Give the app the address of a service that you run: heroku config:set \
         DATABASE_URL=postgres://... -a {}",
        app.name
    )))
}

/// POST /teams/apps
pub async fn create_in_team(_: Call) -> Result<Answer> {
    Err(ApiError::invalid(
        "There are no teams here. Create the app without --team and give people access with `heroku access:add`.",
    ))
}

/// POST /actions/addons/resolve
pub async fn resolve(_: Call) -> Result<Answer> {
    Err(ApiError::missing("add_on"))
}

/// POST /actions/addon-attachments/resolve. The CLI falls back to config vars on exactly this answer.
pub async fn resolve_attachment(_: Call) -> Result<Answer> {
    Err(ApiError::missing("add_on attachment"))
}
