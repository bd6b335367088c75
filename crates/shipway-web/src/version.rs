//! The version of the API that a client asks for by `Accept`.

use crate::ApiError;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Answers for version 3, its variants (`3.sdk`) and whoever names none, as the Platform API does; others find nothing.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    if is_served(request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "This version of the API is not served here. Ask for version 3 in the Accept header: \
         application/vnd.heroku+json; version=3",
    )
    .into_response()
}

/// Whether one of the media types that are accepted can be served; who names none takes any.
fn is_served(headers: &HeaderMap) -> bool {
    let all: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut types = all.iter().flat_map(|value| value.split(',')).filter(|one| !one.trim().is_empty()).peekable();
    types.peek().is_none() || types.any(serves)
}

/// Whether a media type with its parameters is none of Heroku's, names no version, or names version 3.
fn serves(one: &str) -> bool {
    let mut parts = one.split(';').map(str::trim);
    let is_herokus = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/vnd.heroku+json"));
    let version = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("version"));
    match version {
        Some((_, version)) if is_herokus => {
            let version = version.trim_matches('"');
            version == "3" || version.starts_with("3.")
        }
        _ => true,
    }
}
