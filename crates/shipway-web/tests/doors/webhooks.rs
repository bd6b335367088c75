//! A receiver elsewhere, told of a deploy.

use crate::stage::Stage;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::{Value, json};
use shipway_net::outward::Outward;
use shipway_testkit::until;
use shipway_web::WebReceivers;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What came: head and body.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// Takes requests, and answers the first ones as it is told, then 204.
async fn receiver(first: &'static [&'static str]) -> (String, Received) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?key=1", listener.local_addr().unwrap());
    let received = Received::default();
    let all = received.clone();
    tokio::spawn(async move {
        let mut answers = first.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut text, mut piece) = (String::new(), [0; 4096]);
            let (head, body) = loop {
                let n = stream.read(&mut piece).await.unwrap();
                text.push_str(std::str::from_utf8(&piece[..n]).unwrap());
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.to_lowercase().split("content-length: ").nth(1).map(|l| l.lines().next().unwrap().parse());
                if body.len() >= length.unwrap().unwrap() {
                    break (head.to_string(), body.to_string());
                }
            };
            let status = answers.next().unwrap_or(&"204 No Content");
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            all.lock().unwrap().push((head, body));
        }
    });
    (url, received)
}

fn tell(stage: &Stage, private_hosts: &[&str]) {
    let hosts: Vec<String> = private_hosts.iter().map(ToString::to_string).collect();
    stage.platform.keep_webhooks(Arc::new(WebReceivers::new(&stage.web, Outward::new(&hosts))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_is_told_of_a_deploy_and_signs_are_right() {
    let stage = Stage::open().await;
    tell(&stage, &["127.0.0.1"]);
    stage.create("shop").await;
    let (url, received) = receiver(&[]).await;
    let order = json!({
        "url": url, "include": ["api:build", "api:release"], "level": "sync", "secret": "s3cret", "authorization": "Bearer t0ken",
    });
    let made = stage.call(&stage.token, "POST", "/apps/shop/webhooks", &order).await;
    assert_eq!((made.status, made.header("heroku-webhook-secret")), (201, Some("s3cret")), "{}", made.body);
    assert!(!made.body.contains("t0ken") && !made.body.contains("s3cret"), "{}", made.body);
    let vars = [("TOKEN".to_string(), Some("correct-horse".to_string()))].into();
    let app = stage.platform.app(&stage.caller, &shipway_domain::NameOrId::parse("shop")).unwrap();
    stage.platform.set_config_vars(&stage.caller, &app, vars).await.unwrap();
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);

    let told = until("it is told of the release", async || {
        let all = received.lock().unwrap().clone();
        let release = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            body["resource"] == "release" && body["data"]["version"] == 3 && body["data"]["current"] == true
        };
        all.iter().any(|(_, body)| release(body)).then_some(all)
    })
    .await;
    let mut sequences = Vec::new();
    for (head, body) in &told {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, body.as_bytes()));
        let head = head.replace("heroku-webhook-hmac-sha256", "Heroku-Webhook-Hmac-SHA256");
        assert!(
            head.starts_with("POST /hooks?key=1 HTTP/1.1\r\n") && head.contains("authorization: Bearer t0ken"),
            "{head}"
        );
        assert!(head.contains(&format!("Heroku-Webhook-Hmac-SHA256: {signature}")), "{head}");
        assert!(!body.contains("correct-horse"), "attack 41: {body}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(["build", "release"].contains(&body["resource"].as_str().unwrap()), "{body}");
        assert_eq!(body["webhook_metadata"]["webhook"]["id"], made.json()["id"]);
        sequences.push(body["sequence"].as_str().unwrap().to_string());
    }
    sequences.sort();
    sequences.dedup();
    assert_eq!(sequences.len(), told.len(), "each event once");
    let built: Vec<Value> = told.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    let first = built.iter().find(|body| body["resource"] == "build").unwrap();
    assert_eq!((&first["action"], &first["data"]["output_stream_url"]), (&json!("create"), &Value::Null));
    assert_eq!(first["actor"]["email"], crate::stage::OWNER);
    until("all are succeeded", async || {
        let all = stage.ask("/apps/shop/webhook-deliveries").await;
        let succeeded = |d: &Value| d["status"] == "succeeded" && d["last_attempt"]["code"] == 204;
        all.as_array().unwrap().iter().all(succeeded).then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_is_tried_again_where_it_matters() {
    let stage = Stage::open().await;
    tell(&stage, &["127.0.0.1"]);
    stage.create("shop").await;
    let (url, _) = receiver(&["500 Oops", "302 Found", "500 Oops", "500 Oops"]).await;
    for level in ["notify", "sync"] {
        let order = json!({ "url": url, "include": ["api:domain"], "level": level });
        assert_eq!(stage.call(&stage.token, "POST", "/apps/shop/webhooks", &order).await.status, 201);
    }
    let domain = json!({ "hostname": "www.example.org", "sni_endpoint": null });
    assert_eq!(stage.call(&stage.token, "POST", "/apps/shop/domains", &domain).await.status, 201);
    let all = until("both were tried", async || {
        let all = stage.ask("/apps/shop/webhook-deliveries").await;
        let tried = |d: &Value| d["num_attempts"] == 1;
        let all = all.as_array().unwrap().clone();
        (all.len() == 2 && all.iter().all(tried)).then_some(all)
    })
    .await;
    let of = |level: &str| all.iter().find(|d| d["webhook"]["level"] == level).unwrap();
    assert_eq!((&of("notify")["status"], &of("notify")["next_attempt_at"]), (&json!("failed"), &Value::Null));
    assert_eq!(of("sync")["status"], "retrying");
    assert!(of("sync")["next_attempt_at"].is_string());
    let filtered = stage.ask("/apps/shop/webhook-deliveries?eq%5Bstatus%5D=failed").await;
    assert_eq!(filtered.as_array().unwrap().len(), 1, "{filtered}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_webhooks_go_to_the_public_internet_alone() {
    let stage = Stage::open().await;
    tell(&stage, &[]);
    stage.create("shop").await;
    for url in [
        "http://127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://169.254.169.254/latest",
        "https://localhost/x",
        "http://example.org/x",
        "file:///etc/passwd",
        "gopher://example.org/",
        "",
    ] {
        let order = json!({ "url": url, "include": ["api:app"], "level": "notify" });
        let answer = stage.call(&stage.token, "POST", "/apps/shop/webhooks", &order).await;
        assert_eq!(answer.status, 422, "{url}: {}", answer.body);
        assert!(answer.body.contains("Nothing can be sent to this url"), "{}", answer.body);
    }
    let (_, eve) = stage.person("eve@example.org").await;
    assert_eq!(stage.call(&eve, "GET", "/apps/shop/webhooks", &json!({})).await.status, 404);
    stage.end().await;
}
