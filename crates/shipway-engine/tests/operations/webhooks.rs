//! App webhooks: what is told of an app's end, and again after the server was killed.

use async_trait::async_trait;
use serde_json::{Value, json};
use shipway_domain::webhooks::{DeliveryStatus, Include, Resources};
use shipway_engine::ports::{Post, Receivers};
use shipway_engine::{UpdateApp, WebhookOrder};
use shipway_store::App;
use shipway_testkit::{Ground, Server, until};
use std::sync::{Arc, Mutex};

/// A receiver that keeps what it is told, and answers 204, or never; at an address with `silent` in it never.
#[derive(Default)]
struct Receiver {
    never_answers: bool,
    told: Mutex<Vec<Value>>,
}

#[async_trait]
impl Receivers for Receiver {
    fn resources(&self, app: &App) -> shipway_engine::Result<Resources> {
        let shown = json!({ "name": app.name, "maintenance": app.maintenance });
        Ok(Resources::from([((Include::App, app.id.to_string()), shown)]))
    }

    fn check(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn send(&self, post: Post) -> Result<u16, String> {
        self.told.lock().unwrap().push(serde_json::from_str(&post.body).unwrap());
        if self.never_answers || post.url.contains("silent") {
            std::future::pending::<()>().await;
        }
        Ok(204)
    }
}

impl Receiver {
    /// What it was told once there are `n` of them.
    async fn told(&self, n: usize) -> Vec<Value> {
        until(&format!("told of {n}"), async || (self.told.lock().unwrap().len() >= n).then_some(())).await;
        self.told.lock().unwrap().clone()
    }
}

fn order() -> WebhookOrder {
    WebhookOrder {
        url: Some("https://receiver.example.org/".into()),
        include: Some(vec!["api:app".into()]),
        level: Some("sync".into()),
        ..WebhookOrder::default()
    }
}

/// A server that tells a receiver of `acorn`.
async fn telling(ground: &Ground, receiver: &Arc<Receiver>) -> (Server, App) {
    let server = ground.server(None).await;
    server.platform.keep_webhooks(receiver.clone());
    let app = server.create("acorn").await;
    server.platform.create_webhook(&server.caller, &app, order()).await.unwrap();
    (server, app)
}

/// Rows of webhooks, events and deliveries that are kept of an app.
fn rows(server: &Server, app: &App) -> (usize, usize, usize) {
    let count = server.platform.store().read(|c| {
        let events = c.webhook_events(app.id, 100)?.len();
        Ok((c.webhooks(app.id)?.len(), events, c.webhook_deliveries(app.id, 100)?.len()))
    });
    count.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_app_is_told_and_nothing_is_left_of_it() {
    let receiver = Arc::new(Receiver::default());
    let (server, app) = telling(&Ground::new(), &receiver).await;
    server.platform.destroy_app(&server.caller, &app).await.unwrap();
    let told = receiver.told(1).await;
    let last = told.last().unwrap();
    assert_eq!((&last["action"], &last["resource"]), (&json!("destroy"), &json!("app")), "{told:?}");
    assert_eq!((&last["data"]["name"], &last["actor"]["email"]), (&json!("acorn"), &json!("owner@example.org")));
    assert_eq!(last["published_at"], last["created_at"]);
    until("nothing is left", async || (rows(&server, &app) == (0, 0, 0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_the_server_was_killed_is_sent_again_under_its_id() {
    let ground = Ground::new();
    let silent = Arc::new(Receiver { never_answers: true, ..Receiver::default() });
    let (server, app) = telling(&ground, &silent).await;
    let on = UpdateApp { maintenance: Some(true), ..UpdateApp::default() };
    server.platform.update_app(&server.caller, &app, on).await.unwrap();
    let before = silent.told(1).await;
    server.platform.stop().await;
    drop(server);

    let server = ground.server(None).await;
    let receiver = Arc::new(Receiver::default());
    server.platform.keep_webhooks(receiver.clone());
    let after = receiver.told(1).await;
    let id = |told: &[Value], what: &str| told[0]["webhook_metadata"][what]["id"].clone();
    assert_eq!(id(&before, "delivery"), id(&after, "delivery"));
    assert_ne!(id(&before, "attempt"), id(&after, "attempt"));
    assert_eq!(after[0]["data"], json!({ "name": "acorn", "maintenance": true }));
    let done = || {
        let all = server.platform.store().read(|c| c.webhook_deliveries(app.id, 10)).unwrap();
        all.iter().all(|delivery| delivery.status == DeliveryStatus::Succeeded && delivery.attempts == 1)
    };
    until("the delivery is done", async || done().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_app_is_told_after_the_server_was_killed_too() {
    let ground = Ground::new();
    let silent = Arc::new(Receiver { never_answers: true, ..Receiver::default() });
    let (server, app) = telling(&ground, &silent).await;
    server.platform.destroy_app(&server.caller, &app).await.unwrap();
    silent.told(1).await;
    // The name is free for somebody else's app, whose webhooks are its own.
    let next = server.create("acorn").await;
    assert_eq!(rows(&server, &next), (0, 0, 0));
    server.platform.stop().await;
    drop(server);

    let server = ground.server(None).await;
    let receiver = Arc::new(Receiver::default());
    server.platform.keep_webhooks(receiver.clone());
    assert_eq!(receiver.told(1).await[0]["action"], "destroy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_holds_up_nobody_elses() {
    let receiver = Arc::new(Receiver::default());
    let server = Ground::new().server(None).await;
    server.platform.keep_webhooks(receiver.clone());
    let (acorn, birch) = (server.create("acorn").await, server.create("birch").await);
    for n in 0..20 {
        let silent = WebhookOrder { url: Some(format!("https://silent.example.org/{n}")), ..order() };
        server.platform.create_webhook(&server.caller, &acorn, silent).await.unwrap();
    }
    for n in 0..3 {
        let answers = WebhookOrder { url: Some(format!("https://receiver.example.org/{n}")), ..order() };
        server.platform.create_webhook(&server.caller, &birch, answers).await.unwrap();
    }
    let on = UpdateApp { maintenance: Some(true), ..UpdateApp::default() };
    server.platform.update_app(&server.caller, &acorn, on.clone()).await.unwrap();
    receiver.told(2).await;
    server.platform.update_app(&server.caller, &birch, on).await.unwrap();
    let told = receiver.told(5).await;
    let of = |name: &str| told.iter().filter(|told| told["data"]["name"] == name).count();
    assert_eq!((of("acorn"), of("birch")), (2, 3), "{told:?}");
    let done = || {
        let all = server.platform.store().read(|c| c.webhook_deliveries(birch.id, 10)).unwrap();
        all.len() == 3 && all.iter().all(|delivery| delivery.status == DeliveryStatus::Succeeded)
    };
    until("those that answer have it", async || done().then_some(())).await;
    assert_eq!(receiver.told(5).await.len(), 5, "two of an app at a time");
}
