//! A request of the API, read: who, from where, with which parameters and body.

use crate::address::Origin;
use crate::auth::authenticate;
use crate::limits::Remaining;
use crate::payload::Payload;
use crate::range::{Fields, Range};
use crate::{Answer, ApiError, Result, Web};
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use bytes::Bytes;
use serde_json::Value;
use shipway_domain::NameOrId;
use shipway_domain::address::percent_decoded;
use shipway_domain::admission::Scope;
use shipway_engine::ports::Caller;
use shipway_engine::{Holder, Platform};
use shipway_net::ConnInfo;
use shipway_store::App;
use std::time::Duration;

/// The largest body that the API reads, in bytes. Sources are uploaded elsewhere.
pub const MAX_BODY: usize = 1024 * 1024;

/// For all of it to come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// All that a token with the scope `deploy:APP` may ask for: to deploy, whether it worked, to tell what checks say, and to end
/// itself. What is not here is refused to it, routes to come included; of which app and pipeline, the handlers ask.
const DEPLOYS: [(Method, &str); 20] = [
    (Method::GET, "/account"),
    (Method::GET, "/account/rate-limits"),
    (Method::GET, "/oauth/authorizations/{authorization}"),
    (Method::DELETE, "/oauth/authorizations/{authorization}"),
    (Method::GET, "/apps"),
    (Method::GET, "/apps/{app}"),
    (Method::POST, "/sources"),
    (Method::POST, "/apps/{app}/sources"),
    (Method::GET, "/apps/{app}/builds"),
    (Method::POST, "/apps/{app}/builds"),
    (Method::GET, "/apps/{app}/builds/{build}"),
    (Method::DELETE, "/apps/{app}/builds/{build}"),
    (Method::GET, "/apps/{app}/slugs/{slug}"),
    (Method::GET, "/apps/{app}/releases"),
    (Method::GET, "/apps/{app}/releases/{release}"),
    (Method::GET, "/shipway/v1/operations"),
    (Method::GET, "/shipway/v1/operations/{operation}"),
    (Method::POST, "/shipway/v1/operations/{operation}/actions/cancel"),
    (Method::POST, "/shipway/v1/apps/{app}/redeploy"),
    (Method::POST, "/shipway/v1/pipelines/{pipeline}/checks"),
];

/// A request of which nobody has asked yet who makes it.
pub struct Open {
    /// What the doors share.
    pub web: Web,
    /// How the request came.
    pub origin: Origin,
    /// Its headers.
    pub headers: HeaderMap,
    /// Between whom; none over the socket for this machine's users.
    pub connection: Option<ConnInfo>,
    target: String,
    parameters: Vec<(String, String)>,
    query: Vec<(String, String)>,
    body: Bytes,
}

/// A request of somebody known.
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// The token that was shown, as what goes on after the answer asks for it again.
    pub holder: Holder,
    request: Open,
}

impl std::ops::Deref for Call {
    type Target = Open;
    fn deref(&self) -> &Open {
        &self.request
    }
}

impl Open {
    async fn read(request: Request, web: &Web) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let parameters = RawPathParams::from_request_parts(&mut parts, web)
            .await
            .map_err(|_| ApiError::bad_request("The path is not valid UTF-8."))?
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let target = parts.uri.path_and_query().map_or_else(String::new, |target| target.to_string());
        let query = form_fields(parts.uri.query().unwrap_or_default());
        let origin = Origin::of(&parts, web.base());
        let connection = parts.extensions.get::<ConnInfo>().copied();
        let body = whole(body).await?;
        Ok(Self { web: web.clone(), origin, headers: parts.headers, connection, target, parameters, query, body })
    }

    /// The engine.
    pub fn platform(&self) -> &Platform {
        self.web.platform()
    }

    /// A parameter of the path. One that the route does not have is empty.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A field of a form that was posted, as the browser sent it.
    pub fn field(&self, name: &str) -> Option<String> {
        let fields = form_fields(std::str::from_utf8(&self.body).unwrap_or_default());
        fields.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// A cookie.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let all = self.headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        all.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }

    /// The path that was asked for, with its query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The body as a JSON object; no body is an empty one. Errors: 400 where it is not one.
    pub fn payload(&self) -> Result<Payload> {
        Payload::parse(&self.body)
    }

    /// One page of a list, as `Range` asks. `fields` names what a list can be sorted by, the first by default.
    pub fn page<T>(&self, rows: Vec<T>, fields: &Fields<T>, present: impl FnMut(&T) -> Value) -> Result<Answer> {
        let range = match self.headers.get(header::RANGE) {
            None => Range::default(),
            Some(value) => Range::parse(value.to_str().unwrap_or_default())?,
        };
        Ok(range.page(rows, fields, present))
    }

    /// The same for what takes a look at the store to be shown. Errors: the first that a shown row has.
    pub fn try_page<T>(
        &self,
        rows: Vec<T>,
        fields: &Fields<T>,
        mut present: impl FnMut(&T) -> Result<Value>,
    ) -> Result<Answer> {
        let mut failed = None;
        let page = self.page(rows, fields, |row| {
            present(row).unwrap_or_else(|e| {
                failed.get_or_insert(e);
                Value::Null
            })
        })?;
        failed.map_or(Ok(page), Err)
    }
}

impl Call {
    /// Passes tokens that may look at what else the account has. One for CI, or one that only says who somebody is, may
    /// not. Errors: 403.
    pub fn may_read_account(&self) -> Result<()> {
        match &self.caller.actor.scope {
            Scope::Deploy { .. } | Scope::Identity => Err(self.out_of_scope("read your account's keys and tokens")),
            _ => Ok(()),
        }
    }

    /// Passes tokens that may change what the account has. Errors: 403.
    pub fn may_change_account(&self) -> Result<()> {
        match &self.caller.actor.scope {
            Scope::Global | Scope::WriteProtected => Ok(()),
            _ => Err(self.out_of_scope("change your account")),
        }
    }

    /// Passes tokens that may change anything at all. Errors: 403.
    pub fn may_write(&self) -> Result<()> {
        self.caller.actor.scope.writes().then_some(()).ok_or_else(|| self.out_of_scope("change anything"))
    }

    fn out_of_scope(&self, what: &str) -> ApiError {
        self.platform().out_of_scope(&self.caller, what).into()
    }

    /// The app of the path. What may not be seen does not exist.
    pub fn app(&self) -> Result<App> {
        Ok(self.platform().app(&self.caller, &NameOrId::parse(self.parameter("app")))?)
    }
}

impl FromRequest<Web> for Open {
    type Rejection = ApiError;

    async fn from_request(request: Request, web: &Web) -> Result<Self> {
        Self::read(request, web).await
    }
}

impl FromRequest<Web> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, web: &Web) -> Result<Self> {
        // Before the body: a stranger is told so without anything of his being read.
        let (caller, holder) = authenticate(web, request.headers(), "api")?;
        let left = web.limits().take(caller.actor.account)?;
        if let Some(Remaining(remaining)) = request.extensions().get() {
            // Set once: a request is read once.
            let _ = remaining.set(left);
        }
        deploys_only(web.platform(), &caller, &request)?;
        if request.body().is_end_stream() {
            return Ok(Self { caller, holder, request: Open::read(request, web).await? });
        }
        let request = Open::read(request, web).await?;
        // The body had a minute to come, in which the token may have ended or its person may have been removed.
        let (caller, holder) = authenticate(web, &request.headers, caller.via)?;
        Ok(Self { caller, holder, request })
    }
}

/// Errors: 403 for a deploy token where it has nothing to do.
fn deploys_only(platform: &Platform, caller: &Caller, request: &Request) -> Result<()> {
    if !matches!(caller.actor.scope, Scope::Deploy { .. }) {
        return Ok(());
    }
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match DEPLOYS.iter().any(|(allowed, route)| allowed == method && *route == path) {
        true => Ok(()),
        false => Err(platform.out_of_scope(caller, "do this").into()),
    }
}

/// A body to its end. Errors: 413; 400 for one that breaks off; 408 for one that does not come: whoever announces one could
/// hold a connection with it for as long as a quiet build may take.
pub(crate) async fn whole(body: Body) -> Result<Bytes> {
    match tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, MAX_BODY)).await {
        Ok(read) => read.map_err(|e| unread(&e)),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!("The request's body did not come within {} seconds. Send it again.", BODY_TIME.as_secs()),
        )),
    }
}

fn unread(e: &axum::Error) -> ApiError {
    let text = std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string);
    if text.contains("limit") {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            "The request's body is larger than 1 MiB. Send a source archive to the `put_url` of POST /sources instead.",
        )
    } else {
        ApiError::bad_request("The request's body ended before it was complete.")
    }
}

/// The fields of a query or a form, decoded; what does not decode is kept as it is.
fn form_fields(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (form_decoded(name), form_decoded(value))
        })
        .collect()
}

fn form_decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};

    /// Reads a body that comes in these pieces, and then nothing more without an end.
    async fn check(pieces: &[&'static str], ends: bool, expected: Result<&str, StatusCode>) {
        let come = stream::iter(pieces.iter().map(|piece| Ok::<_, std::io::Error>(*piece)).collect::<Vec<_>>());
        let body = match ends {
            true => Body::from_stream(come),
            false => Body::from_stream(come.chain(stream::pending())),
        };
        let read = whole(body).await;
        assert_eq!(read.as_deref().map_err(ApiError::status), expected.map(str::as_bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn attack_33_a_body_that_does_not_come_is_not_waited_for() {
        check(&["{\"name\":", "\"shop\"}"], true, Ok("{\"name\":\"shop\"}")).await;
        let begun = tokio::time::Instant::now();
        check(&["{\"name\":"], false, Err(StatusCode::REQUEST_TIMEOUT)).await;
        check(&[], false, Err(StatusCode::REQUEST_TIMEOUT)).await;
        assert_eq!(begun.elapsed(), 2 * BODY_TIME);
    }
}
