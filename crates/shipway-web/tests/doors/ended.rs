//! What is open when the right to it ends, over sockets: it ends at once, whatever else happens or does not.

use crate::stage::Stage;
use shipway_domain::admission::Permission;
use shipway_engine::Outcome;
use shipway_store::Build;
use shipway_testkit::until;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is said last, where the protocol has room for it.
const TOKEN: &str = "The token that this was opened with has ended. Log in again: heroku login";
const ACCESS: &str = "What this shows is gone, or your access to it has ended.";

/// A stream that somebody has opened: its head has come.
async fn open(stage: &Stage, path: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\
         Cookie: shipway={token}\r\nConnection: close\r\n\r\n",
        stage.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap().into());
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    stream
}

/// All that is still said until the server ends it.
async fn rest(path: &str, mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    ended.unwrap_or_else(|_| panic!("{path} goes on")).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A push of the owner's whose build waits until it is told to go on.
async fn slow_build(stage: &Stage, app: &shipway_store::App, token: &str) -> (Build, tokio::task::JoinHandle<String>) {
    let mut checkout = stage.checkout();
    checkout.token = token.to_string();
    checkout.commit("web: listen; echo slow-build\n");
    let remote = checkout.remote(app.name.as_str());
    let push = tokio::spawn(async move { checkout.run(&["push", &remote, "main"]).await.1 });
    let build = until("the build runs", async || {
        let build = stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop()?;
        let said = std::fs::read_to_string(stage.home.path().join("outputs").join(build.id.to_string()));
        said.is_ok_and(|text| text.contains("waiting")).then_some(build)
    });
    (build.await, push)
}

/// The streams of the app `shop` and what each says last of its end: the reason, or that the page is to ask again.
async fn of_app(stage: &Stage, token: &str, build: &Build, why: &'static str) -> Vec<(String, &'static str)> {
    let order = serde_json::json!({ "lines": 0, "tail": true });
    let logs = stage.call(token, "POST", "/apps/shop/log-sessions", &order).await.json();
    let shown = stage.call(token, "GET", &format!("/apps/shop/builds/{}", build.id), &serde_json::json!({})).await;
    let path = |url: &serde_json::Value| url.as_str().unwrap().replace(&stage.url(""), "");
    let page = format!("/dashboard/apps/shop/builds/{}", build.id);
    vec![
        (path(&logs["logplex_url"]), why),
        (path(&shown.json()["output_stream_url"]), why),
        (format!("{page}/events"), "event: changed"),
        (format!("{page}/output"), why),
        ("/dashboard/apps/shop/events".into(), "event: changed"),
        ("/dashboard/apps/shop/logs/events".into(), "event: changed"),
        ("/dashboard/pipelines/shop/events".into(), "event: changed"),
    ]
}

/// Those that show what the account sees, and end with the token alone.
fn of_account(why: &'static str) -> Vec<(String, &'static str)> {
    vec![
        ("/dashboard/events".into(), "event: changed"),
        ("/dashboard/operations/events".into(), "event: changed"),
        ("/shipway/v1/events".into(), why),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_14_every_stream_ends_when_its_token_or_the_access_does() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let pipeline = stage.platform.create_pipeline(&stage.caller, "shop").await.unwrap();
    stage.platform.couple(&stage.caller, &pipeline, &app, shipway_domain::Stage::Staging).await.unwrap();
    let (build, push) = slow_build(&stage, &app, &stage.token).await;
    let (ada, _) = stage.person("ada@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::View).await.unwrap();
    let mut kept = open(&stage, &of_app(&stage, &stage.token, &build, "").await[0].0, &stage.token).await;

    for end in ["revoked", "rotated", "removed", "left"] {
        if end == "left" {
            stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::View).await.unwrap();
        }
        let token = stage.platform.session_for(ada.actor.account, "a laptop").await.unwrap();
        let id = stage.platform.authenticate(&token).unwrap().1;
        let streams = match end {
            "removed" => of_app(&stage, &token, &build, ACCESS).await,
            _ => [of_app(&stage, &token, &build, TOKEN).await, of_account(TOKEN)].concat(),
        };
        let mut opened = Vec::new();
        for (path, last) in &streams {
            opened.push((path, last, open(&stage, path, &token).await));
        }
        match end {
            "revoked" => drop(stage.platform.revoke_token(&ada, id, id).await.unwrap()),
            "rotated" => drop(stage.platform.rotate_token(&ada, id).await.unwrap()),
            "left" => {
                let which = shipway_domain::NameOrId::parse("ada@example.org");
                drop(stage.platform.remove_account(&stage.caller, &which, None).await.unwrap());
            }
            _ => drop(stage.platform.remove_collaborator(&stage.caller, &app, "ada@example.org").await.unwrap()),
        }
        for (path, last, stream) in opened {
            let said = rest(&format!("{end}: {path}"), stream).await;
            assert!(said.contains(last), "{end}: {path} says {said:?}");
        }
        // What a signed URL opened, it does not open again.
        for (path, _) in streams.iter().take(2) {
            let again = stage.get(path, &[]).await;
            let expected = if end == "removed" { 404 } else { 403 };
            assert_eq!(again.status, expected, "{end}: {path}: {}", again.body);
        }
    }

    // Nobody else's ended.
    stage.builder.go.notify_one();
    assert!(push.await.unwrap().contains("deployed"));
    let mut said = String::new();
    let all = async {
        while !said.contains("Build succeeded") {
            let read = kept.read_u8().await.unwrap();
            said.push(read.into());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("the owner's tail goes on");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_token_ends_shows_no_more_and_goes_on() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (ada, token) = stage.person("ada@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "ada@example.org", Permission::Deploy).await.unwrap();
    let (build, push) = slow_build(&stage, &app, &token).await;
    let id = stage.platform.authenticate(&token).unwrap().1;
    stage.platform.revoke_token(&ada, id, id).await.unwrap();
    let screen = push.await.unwrap();
    assert!(screen.contains(TOKEN), "{screen}");
    assert!(screen.contains(&format!("shipway ops {}", build.operation)), "{screen}");
    stage.builder.go.notify_one();
    let outcome = stage.platform.live(build.operation).await.unwrap();
    assert!(matches!(outcome, Outcome::Live { .. }), "what was admitted is carried out");
    stage.end().await;
}
