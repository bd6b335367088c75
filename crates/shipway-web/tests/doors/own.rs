//! `/shipway/v1` and `/auth`, as the `shipway` command and the Heroku CLI use them.

use crate::stage::{Answer, OWNER, Stage};
use serde_json::{Value, json};
use shipway_domain::admission::Scope;
use shipway_engine::NewToken;
use shipway_testkit::until;

impl Stage {
    pub async fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let authorization = format!("Authorization: Bearer {token}");
        let (url, body) = (self.url(path), body.to_string());
        let mut arguments = vec!["-sS", "-i", "-X", method, "-H", &authorization, &url];
        if method != "GET" {
            arguments.extend(["-H", "Content-Type: application/json", "-d", &body]);
        }
        self.curl(&arguments).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_gives_a_session_to_whom_the_kernel_vouches_for() {
    let stage = Stage::open().await;
    let socket = stage.home.path().join("run/api.sock");
    let socket = socket.to_str().unwrap();
    let ask = ["-sS", "-i", "-X", "POST", "http://localhost/shipway/v1/session"];
    let session = stage.curl(&[&["--unix-socket", socket], &ask[..]].concat()).await;
    assert_eq!(session.status, 201, "{}", session.body);
    let session = session.json();
    assert_eq!(session["email"], OWNER);
    assert_eq!(session["url"], stage.url("").as_str());
    assert_eq!(session["ca"], stage.authority.as_str());
    let token = session["token"].as_str().unwrap();
    assert_eq!(stage.call(token, "GET", "/account", &json!({})).await.json()["email"], OWNER);
    // By the port there is nobody to vouch.
    let refused = stage.curl(&["-sS", "-i", "-X", "POST", &stage.url("/shipway/v1/session")]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.json()["message"].as_str().unwrap().contains("shipway login --server"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_users_of_the_machine_are_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let stage = Stage::open().await;
    std::fs::set_permissions(stage.home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = stage.home.path().join("run/api.sock");
    let mut command = std::process::Command::new("curl");
    command.args(["-sS", "-X", "POST", "http://localhost/shipway/v1/session", "--unix-socket"]).arg(socket);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    let output = crate::stage::run(command).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["id"], "forbidden", "{answer}");
    assert!(answer["message"].as_str().unwrap().starts_with("User id 65534 of this machine is nobody here."));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_listed_with_their_steps_and_cancelled() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen; echo slow-build\n");
    let mut push = checkout.git(&["push", "-q", &checkout.remote("shop"), "main"]).spawn().unwrap();
    let get = async |path: &str| stage.call(&stage.token, "GET", path, &json!({})).await;
    let operation = until("the build runs", async || {
        let list = get("/shipway/v1/operations?app=shop").await.json();
        (list[0]["step"] == "build").then(|| list[0].clone())
    })
    .await;
    assert_eq!(operation["kind"], "deploy");
    assert_eq!(operation["state"], "running");
    assert_eq!(operation["app"]["name"], "shop");
    assert_eq!(operation["user"]["email"], OWNER);
    assert_eq!(operation["via"], "git");
    let path = format!("/shipway/v1/operations/{}", operation["id"].as_str().unwrap());
    let steps = get(&path).await.json()["steps"].clone();
    let words: Vec<_> = steps.as_array().unwrap().iter().map(|s| format!("{} {}", s["name"], s["state"])).collect();
    assert_eq!(words[..3], ["\"pin\" \"succeeded\"", "\"build\" \"running\"", "\"release\" \"waiting\""]);
    assert_eq!(stage.call(&stage.token, "POST", &format!("{path}/actions/cancel"), &json!({})).await.status, 202);
    stage.builder.go.notify_one();
    let status = tokio::task::spawn_blocking(move || push.wait().unwrap()).await.unwrap();
    assert!(!status.success(), "a cancelled push is rejected");
    assert_eq!(get(&path).await.json()["state"], "failed");
    let builds = get("/shipway/v1/apps/shop/builds").await.json();
    assert_eq!(builds.as_array().map(Vec::len), Some(1));
    assert_eq!(stage.call(&stage.token, "POST", "/shipway/v1/apps/shop/redeploy", &json!({})).await.status, 422);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redeploy_answers_with_the_version_that_serves() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);
    let answer = stage.call(&stage.token, "POST", "/shipway/v1/apps/shop/redeploy", &json!({})).await;
    assert_eq!((answer.status, &answer.json()["version"]), (201, &json!(3)));
    let status = stage.call(&stage.token, "GET", "/shipway/v1/status", &json!({})).await.json();
    assert_eq!((&status["apps"], &status["tier"]), (&json!(1), &json!("fake")));
    let settings = "/shipway/v1/apps/shop/settings";
    let change = json!({ "store_other_branches": true, "health_check_path": "/up", "overlap": { "worker": true } });
    let set = stage.call(&stage.token, "PATCH", settings, &change).await.json();
    assert_eq!(set["overlap"]["worker"], true);
    assert_eq!(stage.call(&stage.token, "GET", settings, &json!({})).await.json(), set);
    for (name, value, words) in [
        ("health_check_path", "up", "`health_check_path` must be a path like /health"),
        ("health_check_path", "/a\r\nX-Evil: 1", "`health_check_path` must be a path like /health"),
        ("health_check_status", "2xx", "`health_check_status` must be statuses from 100 to 599"),
    ] {
        let wrong = stage.call(&stage.token, "PATCH", settings, &json!({ name: value })).await;
        assert!(wrong.status == 422 && wrong.body.contains(words), "{}", wrong.body);
    }
    let change =
        json!({ "health_check_path": "", "health_check_status": "200-299,301", "overlap": { "worker": null } });
    let set = stage.call(&stage.token, "PATCH", settings, &change).await.json();
    assert_eq!((&set["health_check_path"], &set["health_check_status"]), (&Value::Null, &json!("200-299,301")));
    assert_eq!((&set["overlap"], &set["store_other_branches"]), (&json!({}), &json!(true)));
    let usual = stage.call(&stage.token, "PATCH", settings, &json!({ "health_check_status": "" })).await.json();
    assert_eq!(usual["health_check_status"], Value::Null);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_add_users_and_others_do_not() {
    let stage = Stage::open().await;
    let new = json!({ "email": "bob@example.org", "name": "Bob" });
    let added = stage.call(&stage.token, "POST", "/shipway/v1/users", &new).await;
    assert_eq!(added.status, 201, "{}", added.body);
    let token = added.json()["token"].as_str().unwrap().to_string();
    let other = json!({ "email": "eve@example.org" });
    assert_eq!(stage.call(&token, "POST", "/shipway/v1/users", &other).await.status, 403);
    let emails = async |token: &str| {
        let list = stage.call(token, "GET", "/shipway/v1/users", &json!({})).await.json();
        list.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(emails(&stage.token).await, [OWNER, "bob@example.org"]);
    assert_eq!(emails(&token).await, ["bob@example.org"]);
    let wrong = stage.call(&stage.token, "POST", "/shipway/v1/users", &json!({ "email": "bob" })).await;
    assert!(wrong.status == 422 && wrong.json()["message"].as_str().unwrap().contains("bob"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_give_somebody_another_token_and_others_do_not() {
    let stage = Stage::open().await;
    let (_, bobs) = stage.person("bob@example.org").await;
    let path = "/shipway/v1/users/bob%40example.org/tokens";
    let give = async |token: &str, body: &Value| stage.call(token, "POST", path, body).await;
    let whose = async |token: &str| stage.call(token, "GET", "/account", &Value::Null).await;
    let refused = give(&bobs, &json!({})).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("Ask one to run `shipway users token`"), "{}", refused.body);
    // An administrator's token that may do less than its account may not either.
    for scope in [Scope::Read, Scope::WriteProtected] {
        let new = NewToken { description: "less".into(), scope, expires_in_seconds: None };
        let (_, less) = stage.platform.create_token(&stage.caller, new).await.unwrap();
        assert_eq!(give(&less, &json!({})).await.status, 403);
    }

    let given = give(&stage.token, &json!({})).await;
    assert_eq!((given.status, &given.json()["revoked"]), (201, &json!(0)));
    let second = given.json()["token"].as_str().unwrap().to_string();
    assert_eq!(whose(&second).await.json()["email"], "bob@example.org");
    assert_eq!(whose(&bobs).await.status, 200, "what he had still holds");

    let given = give(&stage.token, &json!({ "revoke": true })).await;
    // The account's first one, that of the session, the one from before.
    assert_eq!((given.status, &given.json()["revoked"]), (201, &json!(3)));
    assert_eq!((whose(&bobs).await.status, whose(&second).await.status), (401, 401));
    assert_eq!(whose(given.json()["token"].as_str().unwrap()).await.status, 200);
    assert_eq!(whose(&stage.token).await.status, 200, "nobody else's ended");
    let ledger = stage.platform.store().read(|c| c.ledger(None, 10)).unwrap();
    let entry = ledger.iter().find(|e| e.action == "token-given").unwrap();
    assert_eq!((entry.actor.as_str(), &entry.detail["email"]), (OWNER, &json!("bob@example.org")));

    let nobody = stage.call(&stage.token, "POST", "/shipway/v1/users/eve%40example.org/tokens", &json!({})).await;
    assert_eq!(nobody.status, 404);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_of_the_operators_is_listed_and_scaled_to() {
    let stage = Stage::with(|mut settings| {
        settings.sizes.define(&"large=2048,cpu=400".parse().unwrap());
        settings
    })
    .await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);
    let sizes = stage.call(&stage.token, "GET", "/dyno-sizes", &Value::Null).await.json();
    let shown: Vec<_> =
        sizes.as_array().unwrap().iter().map(|size| format!("{} {}", size["name"], size["memory"])).collect();
    assert_eq!(shown[4], "\"Large\" 2.0");
    assert_eq!(shown.len(), 5);
    let body = json!({ "updates": [{ "type": "web", "quantity": 1, "size": "LARGE" }] });
    let scaled = stage.call(&stage.token, "PATCH", "/apps/shop/formation", &body).await;
    assert_eq!((scaled.status, &scaled.json()[0]["size"]), (200, &json!("Large")), "{}", scaled.body);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_every_route_of_ours_asks_who_it_is() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (_, stranger) = stage.person("stranger@example.org").await;
    let routes = [
        ("GET", format!("/shipway/v1/apps/{}/builds", app.id)),
        ("POST", format!("/shipway/v1/apps/{}/redeploy", app.id)),
        ("GET", "/shipway/v1/apps/shop/settings".into()),
        ("PATCH", "/shipway/v1/apps/shop/settings".into()),
        ("GET", "/shipway/v1/operations?app=shop".into()),
    ];
    for (method, path) in routes {
        assert_eq!(stage.call("nonsense", method, &path, &json!({})).await.status, 401, "{method} {path}");
        assert_eq!(stage.call(&stranger, method, &path, &json!({})).await.status, 404, "{method} {path}");
    }
    for path in ["status", "events", "users", "operations"] {
        assert_eq!(
            stage.call("nonsense", "GET", &format!("/shipway/v1/{path}"), &json!({})).await.status,
            401,
            "{path}"
        );
    }
    stage.end().await;
}
