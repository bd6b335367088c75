//! What is about the API itself: rate limits, and answers where there is nothing.

use crate::call::{Call, Open};
use crate::{Answer, ApiError, Result};
use axum::http::{Method, StatusCode, Uri};
use serde_json::json;

/// GET /account/rate-limits
pub async fn rate_limits(call: Call) -> Result<Answer> {
    Ok(Answer::ok(json!({ "remaining": call.web.limits().remaining(call.caller.actor.account) })))
}

/// Every path that no door has.
pub async fn nothing_here(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("This platform does not serve {method} {path}. docs/api-coverage.md lists what it does."),
    )
}

/// A path that exists, with a method that it does not have.
pub async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "This platform does not serve {method} {path}, only other methods. docs/api-coverage.md lists what it does."
        ),
    )
}

/// GET /api/v4/current-status: what `heroku status` shows.
pub async fn status(_: Open) -> Result<Answer> {
    let green = |system: &str| json!({ "system": system, "status": "green" });
    Ok(Answer::ok(json!({ "status": [green("Apps"), green("Data"), green("Tools")], "incidents": [] })))
}
