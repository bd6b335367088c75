//! Answers: JSON with a status, and the headers that every answer has.

use crate::limits::Remaining;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// What a handler of the API answers.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// 200: here it is, or done.
    pub fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// 201: it exists now.
    pub fn created(body: Value) -> Self {
        Self::new(StatusCode::CREATED, body)
    }

    /// 202: accepted, and it will happen.
    pub fn accepted(body: Value) -> Self {
        Self::new(StatusCode::ACCEPTED, body)
    }

    /// An answer with any status.
    pub fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, headers: Vec::new() }
    }

    /// Adds a header; text that cannot be in a header is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// Adds a field to a body that is an object.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        if let Some(fields) = self.body.as_object_mut() {
            fields.insert(name.into(), value);
        }
        self
    }

    /// Adds a warning that the CLI prints once. Headers are ASCII: other characters become `?`.
    pub fn warning(self, text: &str) -> Self {
        let plain: String = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        self.header("x-heroku-warning", &plain)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let text = self.body.to_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let tag: String = digest.as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect();
        let mut response = (self.status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept-Encoding"));
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
            headers.insert(header::ETAG, tag);
        }
        headers.extend(self.headers.into_iter().map(|(n, v)| (Some(n), v)));
        response
    }
}

/// Gives every answer of every door its `Request-Id`, those of known people what is left of their calls, and answers 304 to who has the body already.
pub(crate) async fn finish(mut request: Request, next: Next) -> Response {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request.headers().get(header::IF_NONE_MATCH).cloned().filter(|_| readable);
    let remaining = Remaining::default();
    request.extensions_mut().insert(remaining.clone());
    let mut response = next.run(request).await;
    if let (Some(known), Some(tag)) = (known, response.headers().get(header::ETAG))
        && response.status().is_success()
        && matches(known.as_bytes(), tag.as_bytes())
    {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    if let Some(left) = remaining.0.get() {
        response.headers_mut().insert("ratelimit-remaining", HeaderValue::from(*left));
    }
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("request-id", id);
    }
    response
}

/// Whether a list of entity tags names `tag`; a weak one counts, and so does `*`.
fn matches(list: &[u8], tag: &[u8]) -> bool {
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).any(|one| {
        let one = one.strip_prefix(b"W/").unwrap_or(one);
        one == tag || one == b"*"
    })
}
