//! Errors as the API's clients read them: `id`, `message`, and where to read on.

use crate::Answer;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shipway_domain::NameError;
use shipway_engine::Kind;
use shipway_store::StoreError;

/// An error with its status.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    id: &'static str,
    message: String,
    resource: Option<&'static str>,
    cause: Option<String>,
}

/// The result of every handler.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// An error that the engine does not know of.
    pub fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self { status, id, message: message.into(), resource: None, cause: None }
    }

    /// 400: the request itself cannot be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 422: it can be read and makes no sense as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_params", message)
    }

    /// 404 for the API's noun: `app`, `release`, `add_on`.
    pub fn missing(resource: &'static str) -> Self {
        shipway_engine::Error::missing(resource).into()
    }

    /// The same, where it is known how it was called, with the sentence that says where the right one stands.
    pub fn missing_one(resource: &'static str, which: &str, next: &str) -> Self {
        shipway_engine::Error::missing_one(resource, which, next).into()
    }

    /// 401.
    pub fn unauthorized() -> Self {
        shipway_engine::Error::unauthorized().into()
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its text for users.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl ApiError {
    /// Writes an error of the platform's own down for its operator; its causes never leave the server.
    pub(crate) fn log(&self) {
        if self.status.is_server_error() {
            tracing::error!(error.id = self.id, cause = self.cause.as_deref().unwrap_or("-"), "{}", self.message);
        }
    }
}

impl From<shipway_engine::Error> for ApiError {
    fn from(e: shipway_engine::Error) -> Self {
        let status = match e.kind {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Platform => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, id: e.id, message: e.message, resource: e.resource, cause: e.cause }
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        shipway_engine::Error::from(e).into()
    }
}

impl From<NameError> for ApiError {
    fn from(e: NameError) -> Self {
        shipway_engine::Error::from(e).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut body = json!({ "id": self.id, "message": self.message });
        if let Some(resource) = self.resource {
            body["resource"] = resource.into();
        }
        let answer = Answer::new(self.status, body);
        match self.status {
            StatusCode::UNAUTHORIZED => answer.header("www-authenticate", "Bearer realm=\"Shipway\""),
            StatusCode::TOO_MANY_REQUESTS => answer.header("retry-after", "60"),
            _ => answer,
        }
        .into_response()
    }
}
