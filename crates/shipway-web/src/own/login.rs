//! The browser login of `heroku login` and `shipway login`: the terminal's half. The page is the dashboard's.
//!
//! Source: the Heroku CLI's `Login` class: POST /auth, then a long poll that is asked again after a 5xx only.

use crate::call::Open;
use crate::{Answer, ApiError, Result};
use axum::http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use shipway_net::ConnInfo;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

/// How long one poll is held: the CLI gives up after 60 s of silence.
const PATIENCE: Duration = Duration::from_secs(50);
/// How long a request can be approved; as the engine has it.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// How many are remembered; the oldest give way.
const MOST: usize = 1000;

/// Where logins were asked from, for the page that approves them.
#[derive(Default)]
pub(crate) struct Asked {
    by_request: Mutex<HashMap<String, (Option<IpAddr>, Timestamp)>>,
}

impl Asked {
    fn note(&self, request: &str, from: Option<IpAddr>, now: Timestamp) {
        let mut asked = self.by_request.lock().expect("no panic while logging in");
        asked.retain(|_, (_, at)| now.duration_since(*at) < LIFETIME);
        if asked.len() >= MOST
            && let Some(oldest) = asked.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone())
        {
            asked.remove(&oldest);
        }
        asked.insert(request.to_string(), (from, now));
    }

    /// From where and when; none for one that this server has not seen or has forgotten.
    pub(crate) fn find(&self, request: &str) -> Option<(Option<IpAddr>, Timestamp)> {
        self.by_request.lock().expect("no panic while logging in").get(request).copied()
    }
}

/// POST /auth `{description}`: where to approve it, and where to wait for that.
pub async fn begin(open: Open) -> Result<Answer> {
    let description = open.payload()?.text("description")?.unwrap_or_else(|| "A command line".into());
    let login = open.platform().begin_login(&description);
    let from = open.connection.map(|info: ConnInfo| info.peer.ip());
    open.web.asked().note(&login.request, from, open.platform().now());
    Ok(Answer::created(json!({
        "browser_url": shipway_dashboard::path("cli_login", &[&login.request]),
        "cli_url": "/auth/wait",
        "token": login.secret,
    })))
}

/// GET /auth/wait with the token of [`begin`]: held until somebody decides.
pub async fn wait(open: Open) -> Result<Answer> {
    let secret = crate::credentials(&open.headers).ok_or_else(ApiError::unauthorized)?.secret;
    let began = std::time::Instant::now();
    if let Some(token) = open.platform().await_login(&secret, PATIENCE).await? {
        return Ok(Answer::ok(json!({ "access_token": token })));
    }
    if began.elapsed() < PATIENCE {
        return Ok(Answer::ok(json!({ "error": "The login was turned down in the browser." })));
    }
    // Ours asks again after an answer that says nothing, the Heroku CLI only after a failure.
    let ours = open.headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"shipway/"));
    if ours {
        return Ok(Answer::ok(json!({})));
    }
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "pending",
        "Nobody has approved the login yet. Open the page in your browser, or start again with `heroku login`.",
    ))
}
