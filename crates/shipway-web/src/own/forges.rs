//! Pipelines' connections to forges, and the door that forges knock at.

use crate::payload::Payload;
use crate::present::time;
use crate::{Answer, ApiError, Call, Result, Web};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shipway_domain::forge::{DeployKey, ForgeCredentials, ForgeKind};
use shipway_domain::{ForgeConnectionId, NameOrId};
use shipway_engine::ports::{WebhookRefused, WebhookRequest};
use shipway_engine::{Delivered, NewCredentials, NewDeployKey, NewForge, Refusal, fingerprint};
use shipway_store::{ForgeConnection, ForgeDelivery, Pipeline};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The largest webhook that is read, in bytes. GitHub sends 25 MB at most, and none that matters here comes near this.
const BODY_BYTES: usize = 5 << 20;
/// How long a forge may take to send one.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Webhooks that are read at once: what they hold in memory together is 16 times the largest.
const READING: usize = 16;
/// Webhooks that wait to be read.
const WAITING: usize = 256;
/// When to come again, in seconds.
const AGAIN: &str = "30";

/// Bounds what webhooks take together, before anybody knows whose they are, and what those of one connection take.
pub(crate) struct Gate {
    all: Share,
    of_one: Mutex<HashMap<ForgeConnectionId, Arc<Share>>>,
}

struct Share {
    waiting: Semaphore,
    reading: Semaphore,
}

impl Share {
    fn new(waiting: usize, reading: usize) -> Self {
        Self { waiting: Semaphore::new(waiting), reading: Semaphore::new(reading) }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { all: Share::new(WAITING, READING), of_one: Mutex::default() }
    }
}

impl Gate {
    /// A quarter of everything: one who sends much, or slowly, leaves the rest to others.
    fn share_of(&self, connection: ForgeConnectionId) -> Arc<Share> {
        let mut shares = self.of_one.lock().expect("no panic while a share is taken");
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        shares.entry(connection).or_insert_with(|| Arc::new(Share::new(WAITING / 4, READING / 4))).clone()
    }
}

fn pipeline(call: &Call) -> Result<Pipeline> {
    Ok(call.platform().pipeline(&call.caller, &NameOrId::parse(call.parameter("pipeline")))?)
}

fn show(pipeline: &Pipeline, forge: &ForgeConnection) -> Value {
    json!({
        "id": forge.id,
        "pipeline": { "id": pipeline.id, "name": pipeline.name },
        "kind": forge.kind,
        "url": forge.url,
        "repository": forge.repository,
        "credentials": forge.credentials.word(),
        "deploy_key": if let ForgeCredentials::DeployKey(key) = &forge.credentials { show_key(key) } else { Value::Null },
        "webhook": { "url": format!("{}/shipway/v1/forges/{}/webhook", forge.home_url, forge.id) },
        "heard_at": forge.heard_at.map(time),
        "failure": forge.failure,
        "created_at": time(forge.created_at),
        "updated_at": time(forge.updated_at),
    })
}

/// The half of a deploy key that is to be seen, and by what its server is known.
fn show_key(key: &DeployKey) -> Value {
    json!({
        "public_key": key.public,
        "server": { "user": key.server.user(), "host": key.server.host(), "port": key.server.port() },
        "host_keys": key.host_keys.iter()
            .map(|key| json!({ "type": key.kind, "fingerprint": fingerprint(key) }))
            .collect::<Vec<_>>(),
    })
}

fn show_delivery(delivery: &ForgeDelivery) -> Value {
    json!({
        "id": delivery.id,
        "given_id": delivery.given,
        "event": delivery.event,
        "status": delivery.status,
        "message": delivery.message,
        "redeliverable": delivery.kept,
        "received_at": time(delivery.received_at),
        "finished_at": delivery.finished_at.map(time),
    })
}

/// GET /shipway/v1/forges: the connections of all pipelines that the caller may see.
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().forges(&call.caller)?;
    Ok(Answer::ok(all.iter().map(|(pipeline, forge)| show(pipeline, forge)).collect()))
}

/// GET /shipway/v1/pipelines/{pipeline}/forge
pub async fn info(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    Ok(Answer::ok(show(&pipeline, &call.platform().forge_of(&pipeline)?)))
}

/// Where this platform is for the forge: as the caller says it, else as the caller reached it.
fn home(call: &Call, said: Option<String>) -> Result<String> {
    let Some(said) = said else {
        // Over the socket nobody needs an address.
        let reached = call.connection.map(|_| call.origin.url(""));
        return Ok(reached.unwrap_or_else(|| call.web.base().http.clone()));
    };
    let plain = said.trim_end_matches('/');
    let uri = plain.parse::<Uri>().ok().filter(|uri| uri.authority().is_some_and(|a| !a.as_str().contains('@')));
    match uri
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" && uri.query().is_none())
    {
        Some(_) => Ok(plain.to_owned()),
        None => Err(ApiError::invalid("`home_url` must be this platform's address, such as https://paas.example.org")),
    }
}

/// What is to open the forge: one thing, or nothing.
fn credentials(payload: &Payload) -> Result<NewCredentials> {
    let given = match (payload.text("token")?, payload.object("app")?, payload.object("deploy_key")?) {
        (Some(token), None, None) => ForgeCredentials::Token { token },
        (None, Some(app), None) => {
            let id = app.number_or_text("id")?.ok_or_else(|| ApiError::invalid("`app.id` is missing."))?;
            ForgeCredentials::App { app_id: id, key: app.required("private_key")? }
        }
        (None, None, Some(key)) => {
            let port = key.number("port")?.map(|port| {
                u16::try_from(port).map_err(|_| ApiError::invalid("`deploy_key.port` must be from 1 to 65535."))
            });
            return Ok(NewCredentials::DeployKey(NewDeployKey {
                user: key.text("user")?,
                port: port.transpose()?,
                known_hosts: key.text("known_hosts")?,
            }));
        }
        (None, None, None) => ForgeCredentials::None,
        _ => return Err(ApiError::invalid("Give one of `token`, `app` and `deploy_key`.")),
    };
    Ok(NewCredentials::Given(given))
}

/// POST /shipway/v1/pipelines/{pipeline}/forge `{kind, repository, url?, token? | app: {id, private_key}? |
/// deploy_key: {user?, port?, known_hosts?}?, home_url?}`. The answer has the webhook's secret, this once.
pub async fn connect(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let payload = call.payload()?;
    let credentials = credentials(&payload)?;
    let new = NewForge {
        kind: ForgeKind::parse(&payload.required("kind")?)?,
        url: payload.text("url")?,
        repository: payload.required("repository")?,
        credentials,
        home_url: home(&call, payload.text("home_url")?)?,
    };
    let forge = call.platform().connect_forge(&call.caller, &pipeline, new).await?;
    let mut shown = show(&pipeline, &forge);
    shown["webhook"]["secret"] = forge.secret.as_str().into();
    Ok(Answer::created(shown))
}

/// DELETE /shipway/v1/pipelines/{pipeline}/forge
pub async fn disconnect(call: Call) -> Result<Answer> {
    let pipeline = pipeline(&call)?;
    let forge = call.platform().disconnect_forge(&call.caller, &pipeline).await?;
    Ok(Answer::ok(show(&pipeline, &forge)))
}

/// GET /shipway/v1/pipelines/{pipeline}/forge/deliveries: the newest 100, newest first.
pub async fn deliveries(call: Call) -> Result<Answer> {
    let all = call.platform().forge_deliveries(&call.caller, &pipeline(&call)?)?;
    Ok(Answer::ok(all.iter().map(show_delivery).collect()))
}

/// POST /shipway/v1/forges/deliveries/{delivery}/actions/redeliver
pub async fn redeliver(call: Call) -> Result<Answer> {
    let id = call.parameter("delivery").parse().map_err(|_| ApiError::missing("delivery"))?;
    let delivery = call.platform().redeliver(&call.caller, id).await?;
    Ok(Answer::new(StatusCode::ACCEPTED, show_delivery(&delivery)))
}

/// POST /shipway/v1/forges/{connection}/webhook: 202 when it is written down, 200 when it was before.
pub async fn receive(State(web): State<Web>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    let connection = path.map(|Path(connection)| connection).unwrap_or_default();
    match take(&web, &connection, request).await {
        Ok(Delivered::New(id)) => Answer::new(StatusCode::ACCEPTED, json!({ "id": id, "status": "received" })),
        Ok(Delivered::Known) => Answer::ok(json!({ "status": "known" })),
        Err(refused) => return refused,
    }
    .into_response()
}

async fn take(web: &Web, connection: &str, request: Request) -> Result<Delivered, Response> {
    let full = || refused(Refusal::Full);
    let gate = web.webhooks();
    let Ok(_waits) = gate.all.waiting.try_acquire() else { return Err(full()) };
    let id: ForgeConnectionId = connection.parse().map_err(|_| refused(WebhookRefused::Unauthorized.into()))?;
    // What is nobody's is not read.
    web.platform().expects_webhook(id).map_err(refused)?;
    let own = gate.share_of(id);
    let Ok(_own) = own.waiting.try_acquire() else { return Err(full()) };
    let _own_reads = own.reading.acquire().await.map_err(|_| full())?;
    let _reads = gate.all.reading.acquire().await.map_err(|_| full())?;
    let (parts, body) = request.into_parts();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_BYTES)).await;
    let body = match read {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => return Err(unread(&e).into_response()),
        Err(_) => {
            let words = "The webhook's body was not sent within 10 s.";
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", words).into_response());
        }
    };
    let request = WebhookRequest { headers: &headers, body: &body };
    web.platform().receive_webhook(id, request).await.map_err(refused)
}

fn unread(e: &axum::Error) -> ApiError {
    match std::error::Error::source(e).is_some_and(|source| source.to_string().contains("limit")) {
        true => {
            let words = "The webhook's body is larger than 5 MiB.";
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", words)
        }
        false => ApiError::bad_request("The webhook's body ended before it was complete."),
    }
}

/// A wrong address, no signature and a wrong one look alike.
fn refused(refusal: Refusal) -> Response {
    let error = match refusal {
        Refusal::Webhook(WebhookRefused::Unauthorized) => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "This is not a webhook that is expected here. Check its address and secret: shipway forges connect",
        ),
        Refusal::Webhook(WebhookRefused::MediaType) => ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Set the webhook's content type to application/json.",
        ),
        Refusal::Webhook(WebhookRefused::Malformed(why)) => ApiError::bad_request(why),
        Refusal::Full => {
            let words = "Too many webhooks wait to be carried out. Come again in 30 s.";
            let mut answer = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", words).into_response();
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(AGAIN));
            return answer;
        }
        Refusal::Platform(e) => e.into(),
    };
    error.into_response()
}
