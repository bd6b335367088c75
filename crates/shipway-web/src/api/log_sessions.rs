//! Log sessions: a signed URL that shows an app's logs.

use crate::signed::LogSession;
use crate::{Answer, ApiError, Call, Result};
use jiff::SignedDuration;
use serde_json::json;

/// Lines of the past when nobody says how many.
const DEFAULT_LINES: u64 = 100;

/// How long a session can be opened, and opened again by a client that lost its connection.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// POST /apps/{app}/log-sessions
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let source = payload.text("source")?.filter(|s| !s.is_empty());
    if let Some(other) = source.as_deref().filter(|s| !matches!(*s, "app" | "heroku")) {
        let other: String = other.chars().take(80).collect();
        return Err(ApiError::invalid(format!("There is no log source {other:?}: there are app and heroku.")));
    }
    let now = call.platform().now();
    let session = LogSession {
        id: uuid::Uuid::new_v4(),
        app: app.id,
        holder: call.holder.clone(),
        lines: payload.number("lines")?.unwrap_or(DEFAULT_LINES).min(LogSession::MAX_LINES.into()) as u32,
        tail: payload.flag("tail")?.unwrap_or(false),
        dyno: payload.text("dyno")?.or(payload.text("type")?).filter(|s| !s.is_empty()),
        source,
        expires_at: now.as_second().saturating_add(LIFETIME.as_secs()),
    };
    let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Ok(Answer::created(json!({
        "created_at": at,
        "id": session.id,
        "logplex_url": call.origin.url(&call.web.signed().logs(&session)),
        "updated_at": at,
    })))
}
