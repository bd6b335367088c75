//! Attack 14: what is sent after an answer has begun ends with the right to it.

use crate::support::{Person, World};
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use shipway_domain::NameOrId;
use shipway_domain::admission::Permission;
use std::time::Duration;
use tower::ServiceExt;

/// What a page is told when it is to ask again.
const CHANGED: &str = "event: changed\ndata: \n\n";

/// A stream that somebody has opened.
async fn open(world: &World, path: &str, secret: &str) -> BodyDataStream {
    let request = Request::builder()
        .uri(path)
        .header("host", "127.0.0.1:5000")
        .header("accept", "text/event-stream")
        .header("authorization", format!("Bearer {secret}"))
        .header("cookie", format!("shipway={secret}"));
    let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    assert_eq!(response.headers()["content-type"], "text/event-stream", "{path}");
    response.into_body().into_data_stream()
}

/// Everything that still comes. Errors: it has no end.
async fn rest(mut stream: BodyDataStream) -> Option<String> {
    let all = async {
        let mut text = String::new();
        while let Some(piece) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
        }
        text
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.ok()
}

/// The streams of the app `shop`, with what each may still say: that something has changed, so that a page asks again.
async fn streams(world: &World, secret: &str) -> Vec<(String, &'static str)> {
    let order = Request::post("/apps/shop/log-sessions").header("authorization", format!("Bearer {secret}"));
    let order = order.body(Body::from(json!({ "lines": 0, "tail": true }).to_string())).unwrap();
    let logs = world.send(order).await.json()["logplex_url"].as_str().unwrap().to_string();
    let logs = logs.strip_prefix("http://127.0.0.1:5000").unwrap_or(&logs);
    vec![
        (logs.to_string(), "logplex"),
        ("/dashboard/apps/shop/logs/events".into(), CHANGED),
        ("/dashboard/apps/shop/events".into(), CHANGED),
        ("/dashboard/pipelines/shop/events".into(), CHANGED),
    ]
}

/// Holds that all of them end at the next change, and say nothing of it.
async fn end(world: &World, opened: Vec<(String, &str, BodyDataStream)>, why: &str) {
    let change = json!({ "SECRET_OF_TOMORROW": why });
    let changed = world.call(Person::Owner, "PATCH", "/apps/shop/config-vars", &change).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    for (path, last, stream) in opened {
        let said = rest(stream).await.unwrap_or_else(|| panic!("{path} goes on {why}"));
        // What happened before may be told as well: a page is told so once more than it has to be.
        let others = said.replace(CHANGED, "").matches("data:").count();
        assert!(said.contains(last) && others == usize::from(last != CHANGED), "{path} {why}: {said}");
        assert!(!said.contains(why), "{path} {why}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_14_a_stream_ends_with_the_session_or_the_access_that_opened_it() {
    let world = World::new().await;
    let owner = world.caller(Person::Owner);
    let account = world.caller(Person::Viewer).actor.account;
    let shop = world.platform.app(&owner, &NameOrId::parse("shop")).unwrap();

    let session = world.platform.session_for(account, "a page").await.unwrap();
    let (actor, token) = world.platform.authenticate(&session).unwrap();
    let mut all = streams(&world, &session).await;
    let logs = all[0].0.clone();
    all.extend([
        ("/shipway/v1/events".into(), "event: ended"),
        ("/dashboard/events".into(), CHANGED),
        ("/dashboard/operations/events".into(), CHANGED),
    ]);
    let mut opened = Vec::new();
    for (path, last) in all {
        let stream = open(&world, &path, &session).await;
        opened.push((path, last, stream));
    }
    let viewer = shipway_engine::ports::Caller { actor, via: "test" };
    world.platform.revoke_token(&viewer, token, token).await.unwrap();
    end(&world, opened, "after the session").await;
    let again = world.call(Person::Nobody, "GET", &logs, &Value::Null).await;
    assert_eq!((again.status.as_u16(), again.json()["id"].as_str()), (403, Some("expired")));

    let session = world.platform.session_for(account, "a page").await.unwrap();
    let mut opened = Vec::new();
    for (path, last) in streams(&world, &session).await {
        let stream = open(&world, &path, &session).await;
        opened.push((path, last, stream));
    }
    let logs = opened[0].0.clone();
    world.platform.remove_collaborator(&owner, &shop, "viewer@example.org").await.unwrap();
    end(&world, opened, "after the access").await;
    assert_eq!(world.call(Person::Nobody, "GET", &logs, &Value::Null).await.status, 404);
    // Who comes back looks.
    world.platform.give_access(&owner, &shop, "viewer@example.org", Permission::View).await.unwrap();
    drop(open(&world, &logs, &session).await);
}
