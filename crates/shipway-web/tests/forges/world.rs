//! A platform with its API's port open, a pipeline that is connected to a forge, and that forge.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use shipway_domain::forge::{ForgeCredentials, ForgeKind};
use shipway_domain::review::ReviewAppStatus;
use shipway_domain::{CommitId, Stage};
use shipway_engine::{NewCredentials, NewForge, Platform};
use shipway_net::{Lifecycle, Phase};
use shipway_store::{ForgeConnection, ForgeDelivery, Pipeline, ReviewAppSettings};
use shipway_testkit::forge::{Hook, REPOSITORY, TOKEN};
use shipway_testkit::{ForgeDouble, Ground, Server, until};
use shipway_web::{BaseUrls, Listeners, Web, serve_api};
use std::net::SocketAddr;
use tokio::net::TcpListener;

pub const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

/// When a sender comes again that was told to: a forge waits longer.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

pub struct World {
    pub server: Server,
    pub forge: ForgeDouble,
    pub pipeline: Pipeline,
    pub connection: ForgeConnection,
    pub door: Door,
}

/// A port of the API.
pub struct Door {
    pub address: SocketAddr,
    lifecycle: Lifecycle,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl Door {
    pub async fn open(platform: &Platform) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let http = format!("http://{address}");
        let base = BaseUrls { https: http.replace("http", "https"), http, git_host: address.to_string() };
        let lifecycle = Lifecycle::new();
        let listeners = Listeners { tcp: vec![listener], tls: None, socket: None, trusted_uids: vec![] };
        tokio::spawn(serve_api(Web::new(platform.clone(), base), listeners, lifecycle.clone()));
        Self { address, lifecycle }
    }

    /// A connection that is kept.
    pub async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn knock(&self, connection: &str, hook: Hook) -> Reply {
        send_hook(&mut self.connect().await, connection, hook).await
    }

    pub fn close(&self) {
        self.lifecycle.advance(Phase::Aborting);
    }
}

pub async fn send_hook(sender: &mut SendRequest<Full<Bytes>>, connection: &str, hook: Hook) -> Reply {
    let path = format!("/shipway/v1/forges/{connection}/webhook");
    let headers: Vec<(&str, &str)> = hook.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    send(sender, Method::POST, &path, &headers, hook.body.clone().into()).await
}

pub async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.ready().await.unwrap();
    let answer = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let retry_after = head.headers.get("retry-after").and_then(|v| v.to_str().ok()).map(String::from);
    Reply { status: head.status, retry_after, body: serde_json::from_slice(&body).unwrap_or_default() }
}

pub fn new_forge(forge: &ForgeDouble) -> NewForge {
    NewForge {
        kind: forge.kind,
        url: Some(forge.url()),
        repository: REPOSITORY.into(),
        credentials: NewCredentials::Given(ForgeCredentials::Token { token: TOKEN.into() }),
        home_url: "http://shipway.test".into(),
    }
}

/// Review apps by themselves, 200 at most.
pub fn automatic() -> ReviewAppSettings {
    ReviewAppSettings { automatic_review_apps: true, quota: 200, ..ReviewAppSettings::default() }
}

impl World {
    /// The pipeline `acorn` with the app `acorn-staging`, review apps by themselves.
    pub async fn new(kind: ForgeKind) -> Self {
        Self::with(kind, automatic()).await
    }

    pub async fn with(kind: ForgeKind, settings: ReviewAppSettings) -> Self {
        Self::on(Ground::new(), kind, settings).await
    }

    pub async fn on(ground: Ground, kind: ForgeKind, settings: ReviewAppSettings) -> Self {
        let server = ground.server(None).await;
        let forge = ForgeDouble::start(kind).await;
        let (platform, caller) = (&server.platform, &server.caller);
        let pipeline = platform.create_pipeline(caller, "acorn").await.unwrap();
        let parent = server.create("acorn-staging").await;
        platform.couple(caller, &pipeline, &parent, Stage::Staging).await.unwrap();
        platform.set_review_app_config(caller, &pipeline, move |s| *s = settings).await.unwrap();
        let connection = platform.connect_forge(caller, &pipeline, new_forge(&forge)).await.unwrap();
        let door = Door::open(platform).await;
        Self { server, forge, pipeline, connection, door }
    }

    pub fn commit(&self, procfile: &str) -> CommitId {
        self.server.ground.repositories.commit(procfile)
    }

    /// Sends a webhook and waits until it was carried out.
    pub async fn hear(&self, hook: Hook) -> ForgeDelivery {
        let reply = self.door.knock(&self.connection.id.to_string(), hook).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.body);
        self.server.platform.carry_out_deliveries().await.unwrap();
        let id = reply.body["id"].as_str().unwrap().parse().unwrap();
        until("the delivery is over", async || {
            let delivery = self.server.platform.store().read(|c| c.forge_delivery(id)).unwrap().unwrap();
            delivery.finished_at.is_some().then_some(delivery)
        })
        .await
    }

    /// A pull request opened or changed at the forge, and heard of.
    pub async fn pull(&self, number: u64, commit: &CommitId, open: bool) -> ForgeDelivery {
        let pull = self.forge.set_pull(number, &format!("change-{number}"), commit.as_str(), open);
        let id = format!("pull-{number}-{}", pull.changed_at);
        self.hear(self.forge.pull_hook(&self.connection.secret, &id, &pull)).await
    }

    /// Looks until nothing is under way, and shows the review apps: `acorn-pr-7 created`.
    pub async fn screen(&self) -> String {
        let platform = &self.server.platform;
        loop {
            platform.review_all().await.unwrap();
            let open = platform.store().read(|c| c.open_operations()).unwrap();
            let rows = platform.store().read(|c| c.review_apps(self.pipeline.id)).unwrap();
            let busy = |s: ReviewAppStatus| matches!(s, ReviewAppStatus::Creating | ReviewAppStatus::Deleting);
            if open.is_empty() && !rows.iter().any(|r| busy(r.status)) {
                let live = rows.iter().filter(|r| r.status != ReviewAppStatus::Deleted);
                let line = |name: Option<String>, status: String| format!("{} {status}", name.unwrap_or("-".into()));
                let lines: Vec<String> =
                    live.map(|r| line(r.app_name.as_ref().map(ToString::to_string), r.status.to_string())).collect();
                return lines.join("\n");
            }
            self.server.quiet().await;
        }
    }

    /// The server killed where it is, and another one on the same ground.
    pub async fn restarted(self) -> Self {
        let Self { server, forge, pipeline, connection, door } = self;
        door.close();
        server.platform.stop().await;
        let ground = server.ground.clone();
        drop(server);
        let server = ground.server(None).await;
        let door = Door::open(&server.platform).await;
        Self { server, forge, pipeline, connection, door }
    }

    /// Sends webhooks by eight senders at once; whoever is told to come again does. Each is taken, or was before.
    pub async fn storm(&self, hooks: &[Hook]) {
        let id = self.connection.id.to_string();
        let senders = hooks.chunks(hooks.len().div_ceil(8)).map(async |hooks| {
            let mut port = self.door.connect().await;
            for hook in hooks {
                loop {
                    let reply = send_hook(&mut port, &id, hook.clone()).await;
                    match reply.status {
                        StatusCode::ACCEPTED | StatusCode::OK => break,
                        StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(AGAIN).await,
                        other => panic!("{other}: {}", reply.body),
                    }
                }
            }
        });
        futures::future::join_all(senders).await;
    }

    pub async fn end(self) {
        self.door.close();
        self.server.platform.stop().await;
    }
}
