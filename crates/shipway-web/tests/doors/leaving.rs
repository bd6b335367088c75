//! Somebody who was removed, at every door.

use crate::stage::{OWNER, Stage};
use serde_json::json;
use shipway_domain::NameOrId;
use shipway_domain::admission::{Permission, Scope};
use shipway_engine::NewToken;
use shipway_testkit::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ADA: &str = "ada@example.org";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_no_token_of_somebody_who_was_removed_opens_any_door() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (ada, session) = stage.person(ADA).await;
    stage.platform.give_access(&stage.caller, &app, ADA, Permission::Manage).await.unwrap();
    let mut tokens = vec![("session", session.clone())];
    for (name, scope) in [
        ("global", Scope::Global),
        ("write", Scope::Write),
        ("read", Scope::Read),
        ("deploy", Scope::Deploy { app: app.id }),
        ("identity", Scope::Identity),
    ] {
        let new = NewToken { description: name.into(), scope, expires_in_seconds: None };
        tokens.push((name, stage.platform.create_token(&ada, new).await.unwrap().1));
    }
    // A login in a browser that she has approved and no command line has fetched yet.
    let login = stage.platform.begin_login("a laptop");
    stage.platform.approve_login(&ada, &login.request).await.unwrap();
    let output = stage.call(&session, "POST", "/apps/shop/log-sessions", &json!({ "lines": 0, "tail": true })).await;
    let logs = output.json()["logplex_url"].as_str().unwrap().replace(&stage.url(""), "");
    assert_eq!(
        stage.call(&session, "PATCH", "/account", &json!({ "new_password": "a long password" })).await.status,
        200
    );

    let path = format!("/shipway/v1/users/{ADA}");
    let own = stage.call(&session, "DELETE", &format!("/shipway/v1/users/{OWNER}"), &json!({})).await;
    assert_eq!(own.status, 403, "{}", own.body);
    let removed = stage.call(&stage.token, "DELETE", &path, &json!({})).await;
    assert_eq!(removed.status, 200, "{}", removed.body);
    assert_eq!((&removed.json()["email"], &removed.json()["given_to"]), (&json!(ADA), &json!(null)));

    let fetched = stage.platform.await_login(&login.secret, std::time::Duration::ZERO).await.unwrap().unwrap();
    tokens.push(("fetched", fetched));
    for (name, token) in &tokens {
        for (method, path) in [
            ("GET", "/account"),
            ("GET", "/apps"),
            ("GET", "/apps/shop"),
            ("POST", "/apps/shop/dynos"),
            ("POST", "/oauth/authorizations"),
            ("DELETE", "/account"),
            ("GET", "/shipway/v1/operations"),
            ("GET", "/shipway/v1/events"),
        ] {
            let answer = stage.call(token, method, path, &json!({})).await;
            assert_eq!(answer.status, 401, "{name} {method} {path}: {}", answer.body);
        }
        let basic = ["-sS", "-i", "-u", &format!(":{token}"), &stage.url("/apps")];
        assert_eq!(stage.curl(&basic).await.status, 401, "{name} by Basic");
        let git = stage.url("/shop.git/info/refs?service=git-receive-pack");
        let git = ["-sS", "-i", "-u", &format!("heroku:{token}"), &git];
        assert_eq!(stage.curl(&git).await.status, 401, "{name} by git");
        let page = stage.get("/dashboard/apps/shop", &[&format!("Cookie: shipway={token}")]).await;
        assert_eq!(page.status, 303, "{name} by a page leads to the sign-in: {}", page.body);
    }
    let again = stage.get(&logs, &[]).await;
    assert_eq!(again.status, 403, "a log session's URL: {}", again.body);
    let basic =
        ["-sS", "-i", "-u", &format!("{ADA}:a long password"), "-X", "POST", &stage.url("/oauth/authorizations")];
    assert_eq!(stage.curl(&basic).await.status, 401, "by her password");

    // The machine's own door gives sessions of whoever administers now.
    let bob = shipway_domain::Email::parse("bob@example.org").unwrap();
    let (_, bobs) = stage.platform.add_account(&stage.caller, &bob, None, true).await.unwrap();
    let gone =
        stage.call(&bobs, "DELETE", &format!("/shipway/v1/users/{OWNER}?give_to=bob@example.org"), &json!({})).await;
    assert_eq!((gone.status, &gone.json()["apps"]), (200, &json!(["shop"])), "{}", gone.body);
    let socket = stage.home.path().join("run/api.sock");
    let ask =
        ["-sS", "-i", "-X", "POST", "http://localhost/shipway/v1/session", "--unix-socket", socket.to_str().unwrap()];
    assert_eq!(stage.curl(&ask).await.json()["email"], "bob@example.org");
    assert_eq!(stage.call(&stage.token, "GET", "/account", &json!({})).await.status, 401, "the first token of all");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_a_request_that_was_begun_before_is_not_carried_out_after() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (_, token) = stage.person(ADA).await;
    stage.platform.give_access(&stage.caller, &app, ADA, Permission::Manage).await.unwrap();
    // Its head has come, and its body has not: whoever shows the token is known, and waits.
    let body = json!({ "COLOUR": "black" }).to_string();
    let mut request = TcpStream::connect(stage.address).await.unwrap();
    let head = format!(
        "PATCH /apps/shop/config-vars HTTP/1.1\r\nHost: {0}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {1}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        stage.address,
        body.len()
    );
    request.write_all(head.as_bytes()).await.unwrap();
    // `100 Continue` says that the body is being read.
    let mut said = String::new();
    while !said.ends_with("\r\n\r\n") {
        said.push(request.read_u8().await.unwrap().into());
    }
    assert!(said.starts_with("HTTP/1.1 100"), "{said}");
    stage.platform.remove_account(&stage.caller, &NameOrId::parse(ADA), None).await.unwrap();
    request.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(stage.platform.config_vars(&stage.caller, &app).unwrap().is_empty());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_of_somebody_who_is_removed_goes_on_and_so_does_what_they_detached() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (_, token) = stage.person(ADA).await;
    stage.platform.give_access(&stage.caller, &app, ADA, Permission::Operate).await.unwrap();
    let mut checkout = stage.checkout();
    checkout.token = token.clone();
    checkout.commit("web: listen\n");
    let remote = checkout.remote("shop");
    assert!(checkout.run(&["push", &remote, "main"]).await.0);
    let run = json!({ "command": "sleep", "attach": false });
    let kept = stage.call(&token, "POST", "/apps/shop/dynos", &run).await.json()["id"].as_str().unwrap().to_string();
    let there = || {
        let dynos = stage.platform.store().read(|c| c.dynos(app.id)).unwrap();
        dynos.iter().any(|dyno| dyno.id.to_string() == kept)
    };
    assert!(there());
    checkout.commit("web: listen; echo slow-build\n");
    let push = tokio::spawn(async move { checkout.run(&["push", &remote, "main"]).await.1 });
    let operation = until("the push is under way", async || {
        stage.platform.store().read(|c| c.open_operations()).unwrap().first().map(|open| open.id)
    });
    let operation = operation.await;

    stage.platform.remove_account(&stage.caller, &NameOrId::parse(ADA), None).await.unwrap();
    let screen = push.await.unwrap();
    assert!(screen.contains("The token that this was opened with has ended."), "{screen}");
    assert!(there(), "what was detached is the app's");
    stage.builder.go.notify_one();
    assert!(matches!(stage.platform.live(operation).await.unwrap(), shipway_engine::Outcome::Live { .. }));
    let newest = stage.call(&stage.token, "GET", "/apps/shop/releases/3", &json!({})).await.json();
    assert_eq!(newest["user"]["email"], ADA, "and it is hers on record");
    stage.end().await;
}
