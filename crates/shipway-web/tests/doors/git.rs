//! Sessions with the real git client.

use crate::pages::Browser;
use crate::stage::{Checkout, OWNER, Stage};
use serde_json::json;
use shipway_dashboard::path;
use shipway_domain::Stage as PipelineStage;
use shipway_domain::admission::{Permission, Scope};
use shipway_domain::{NameOrId, OperationId};
use shipway_engine::NewToken;
use shipway_store::{App, AppSettings, Build};
use shipway_testkit::until;
use std::os::unix::process::CommandExt;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_deploys_and_shows_its_transcript() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(pushed, "{screen}");
    for line in
        ["remote: -----> Procfile app detected", "remote:        Released v", "http://shop.localhost:8080/ deployed"]
    {
        assert!(screen.contains(line), "{line:?} is not in\n{screen}");
    }
    let operation = stage.platform.store().read(|c| c.builds(app.id)).unwrap()[0].operation;
    let way_out = format!("Ctrl-C leaves it running; this ends it: shipway ops {operation} --cancel");
    assert!(screen.contains(&way_out), "{way_out:?} is not in\n{screen}");
    // main and master are one branch, and both are what runs.
    let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop")]).await;
    assert!(refs.contains(&format!("{commit}\trefs/heads/main")), "{refs}");
    assert!(refs.contains(&format!("{commit}\trefs/heads/master")), "{refs}");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main:master"]).await;
    assert!(pushed && screen.contains("Everything up-to-date"), "{screen}");
    // A tag of the same commit is something new to git, and nothing to run.
    checkout.now(&["tag", "-a", "-m", "One", "v1.0"]);
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "v1.0:main"]).await;
    let there = format!("shop runs {} already. To release it again: shipway redeploy -a shop", &commit[..7]);
    assert!(pushed && screen.contains(&there), "{screen}");
    assert_eq!(stage.platform.store().read(|c| c.builds(app.id)).unwrap().len(), 1);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_build_rejects_the_push_and_leaves_the_branch() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    let first = checkout.commit("web: listen\n");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);
    checkout.commit("web: broken-build\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(!pushed);
    assert!(screen.contains("! [remote rejected] main -> main (The build is broken on purpose.)"), "{screen}");
    let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop"), "main"]).await;
    assert!(refs.starts_with(&first), "{refs}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_says_what_its_health_check_was_answered() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    let check =
        r#"{ "healthchecks": { "web": [{ "type": "startup", "path": "/up", "status": "200", "timeout": 9 }] } }"#;
    checkout.write(&[("Procfile", "web: listen-strict shop.localhost\n"), ("app.json", check)], "Check");
    let screen = checkout.deploy("shop").await;
    let passed_over = "healthchecks.web[0].timeout has no effect: there are `path` and `status`";
    assert!(screen.contains(passed_over), "{screen}");
    checkout.commit("web: listen-status 301\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(!pushed && screen.contains("It answered 301 to GET /up; only 200 counts as healthy."), "{screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_branches_are_kept_or_refused_as_the_app_says() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let remote = checkout.remote("shop");
    let (pushed, screen) = checkout.run(&["push", &remote, "main:feature"]).await;
    assert!(!pushed);
    let reason = "pushed to feature, which does not deploy; push it to main: git push heroku ";
    assert!(screen.contains(reason), "{screen}");
    let store = |settings: &mut AppSettings| settings.store_other_branches = true;
    stage.platform.change_settings(&stage.caller, &app, store).await.unwrap();
    assert!(checkout.run(&["push", &remote, "main:feature"]).await.0);
    checkout.now(&["tag", "v1"]);
    assert!(checkout.run(&["push", &remote, "v1"]).await.0);
    let (_, refs) = checkout.run(&["ls-remote", &remote]).await;
    assert!(refs.contains("refs/heads/feature") && refs.contains("refs/tags/v1"), "{refs}");
    assert!(!refs.contains("refs/heads/main"), "nothing runs: {refs}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_names_of_the_running_branch_must_agree() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    checkout.now(&["branch", "older"]);
    checkout.commit("web: listen; echo 2\n");
    let remote = checkout.remote("shop");
    let (pushed, screen) = checkout.run(&["push", &remote, "main:main", "older:master"]).await;
    assert!(!pushed && screen.contains("main and master are one branch here"), "{screen}");
    let (pushed, screen) = checkout.run(&["push", &remote, "main:main", "main:master"]).await;
    assert!(pushed, "{screen}");
    assert_eq!(screen.matches("Procfile app detected").count(), 1, "one deploy: {screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_push_waits_and_says_behind_whom() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = std::sync::Arc::new(stage.checkout());
    checkout.commit("web: listen; echo slow-build\n");
    let first = tokio::spawn({
        let checkout = checkout.clone();
        async move { checkout.run(&["push", &checkout.remote("shop"), "main"]).await }
    });
    until("the first build runs", async || stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop()).await;
    let other = stage.checkout();
    other.commit("web: listen\n");
    let second = tokio::spawn(async move { other.run(&["push", &other.remote("shop"), "main"]).await });
    until("the second waits", async || {
        let builds = stage.platform.store().read(|c| c.builds(app.id)).unwrap();
        builds.get(1).and_then(|build| stage.platform.waiting_behind(build.operation))
    })
    .await;
    stage.builder.go.notify_one();
    let (pushed, screen) = first.await.unwrap();
    assert!(pushed, "{screen}");
    let (pushed, screen) = second.await.unwrap();
    assert!(pushed, "{screen}");
    assert!(screen.contains(&format!("Waiting behind a deploy by {OWNER}")), "{screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_goes_on_when_its_pusher_is_gone() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen; echo slow-build\n");
    let mut push = checkout.git(&["push", "-q", &checkout.remote("shop"), "main"]);
    let mut push = push.process_group(0).spawn().unwrap();
    let build =
        until("the build runs", async || stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop()).await;
    // Git talks to servers by a process of its own: both go.
    let group = rustix::process::Pid::from_child(&push);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    push.wait().unwrap();
    stage.builder.go.notify_one();
    let outcome = stage.platform.live(build.operation).await.unwrap();
    assert!(matches!(outcome, shipway_engine::Outcome::Live { .. }), "{outcome:?}");
    let refs = checkout.run(&["ls-remote", &checkout.remote("shop")]).await.1;
    assert!(refs.contains("refs/heads/main"), "{refs}");
    stage.end().await;
}

/// A push to `shop` whose build waits, and its operation.
async fn slow_push(stage: &Stage, checkout: &Arc<Checkout>) -> (tokio::task::JoinHandle<(bool, String)>, OperationId) {
    let before = builds(stage).len();
    let pushing = checkout.clone();
    let push = tokio::spawn(async move { pushing.run(&["push", &pushing.remote("shop"), "main"]).await });
    let begun = until("the push is there", async || builds(stage).get(before).map(|build| build.operation)).await;
    (push, begun)
}

fn builds(stage: &Stage) -> Vec<Build> {
    let app = stage.platform.app(&stage.caller, &NameOrId::parse("shop")).unwrap();
    stage.platform.store().read(|c| c.builds(app.id)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_again_after_ctrl_c_is_deployed_once() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = Arc::new(stage.checkout());
    let commit = checkout.commit("web: listen; echo slow-build\n");
    let mut push = checkout.git(&["push", "-q", &checkout.remote("shop"), "main"]);
    let mut push = push.process_group(0).spawn().unwrap();
    until("the build runs", async || builds(&stage).pop()).await;
    let group = rustix::process::Pid::from_child(&push);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    push.wait().unwrap();
    let (again, waits) = slow_push(&stage, &checkout).await;
    until("it waits", async || stage.platform.waiting_behind(waits)).await;
    stage.builder.go.notify_one();
    let (pushed, screen) = again.await.unwrap();
    assert!(pushed, "{screen}");
    for line in [
        format!("remote: -----> Nothing to deploy: shop runs {} already", &commit[..7]),
        format!("remote:        v2 by {OWNER} brought it while this push waited"),
        "remote:        To release it again: shipway redeploy -a shop".to_string(),
    ] {
        assert!(screen.contains(&line), "{line:?} is not in\n{screen}");
    }
    assert_eq!(stage.platform.store().read(|c| c.releases(app.id)).unwrap().len(), 2);
    let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop"), "main"]).await;
    assert!(refs.starts_with(&commit), "{refs}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_back_while_a_push_is_under_way_is_told_that_it_comes_after() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = Arc::new(stage.checkout());
    for procfile in ["web: listen\n", "web: listen; echo 2\n"] {
        checkout.commit(procfile);
        checkout.deploy("shop").await;
    }
    let back = async || stage.call(&stage.token, "POST", "/apps/shop/releases", &json!({ "release": "v2" })).await;
    assert_eq!(back().await.header("x-heroku-warning"), None, "nothing comes");
    until("it is back", async || {
        let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop"), "main"]).await;
        (!refs.starts_with(&checkout.now(&["rev-parse", "HEAD"]))).then_some(())
    })
    .await;
    let commit = checkout.commit("web: listen; echo slow-build\n");
    let (push, operation) = slow_push(&stage, &checkout).await;
    let comes = format!(
        "A push of {} by {OWNER} is under way and will replace this when its turn comes. To cancel it: shipway ops \
         {operation} --cancel",
        &commit[..7]
    );
    let answer = back().await;
    assert_eq!((answer.status, answer.header("x-heroku-warning")), (201, Some(comes.to_lowercase().as_str())));
    // Ours says it before and after, and it keeps nobody from going back.
    let preview = stage.ask("/shipway/v1/apps/shop/rollback?to=v2").await;
    assert_eq!((&preview["coming"], &preview["warning"]), (&json!([comes]), &json!([])));
    for way in ["rollback", "previous"] {
        let gone = stage.call(&stage.token, "POST", &format!("/shipway/v1/apps/shop/{way}"), &json!({})).await;
        assert_eq!((gone.status, &gone.json()["coming"]), (201, &json!([comes])), "{way}: {}", gone.body);
    }
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let asked = browser.get(&path("rollback", &["shop", "v3"])).await.body;
    assert!(asked.contains(&comes), "{asked}");

    let cancel = format!("/shipway/v1/operations/{operation}/actions/cancel");
    assert_eq!(stage.call(&stage.token, "POST", &cancel, &json!({})).await.status, 202);
    assert_eq!(back().await.header("x-heroku-warning"), None, "it was cancelled");
    stage.builder.go.notify_one();
    let (pushed, screen) = push.await.unwrap();
    assert!(!pushed && screen.contains("It was cancelled."), "{screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_strangers_and_onlookers_do_not_push() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let mut checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let remote = checkout.remote("shop");
    checkout.token = "nonsense".into();
    let (pushed, screen) = checkout.run(&["push", &remote, "main"]).await;
    assert!(!pushed && screen.contains("Authentication failed"), "{screen}");
    assert!(screen.contains("remote: That token is unknown here, was revoked or has expired."), "{screen}");
    let (_, token) = stage.person("stranger@example.org").await;
    checkout.token = token;
    for verb in [["push", &remote, "main"], ["fetch", &remote, "main"]] {
        let (done, screen) = checkout.run(&verb).await;
        assert!(
            !done && screen.contains("there is no app `shop` here that you (stranger@example.org) can see"),
            "{screen}"
        );
    }
    assert!(stage.platform.store().read(|c| c.builds(app.id)).unwrap().is_empty());
    let plain = stage.get("/shop.git/info/refs?service=git-receive-pack", &[]).await;
    assert_eq!(plain.status, 401);
    assert_eq!(plain.header("www-authenticate"), Some("basic realm=\"shipway\""));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_deploys_by_its_trigger_and_its_failure_rejects_it() {
    let stage = Stage::open().await;
    let dev = stage.create("dev").await;
    let triggers = "/shipway/v1/apps/dev/triggers";
    let added = stage.call(&stage.token, "POST", triggers, &serde_json::json!({ "tag": "v*" })).await;
    assert_eq!(added.status, 201, "{}", added.body);
    let again = stage.call(&stage.token, "POST", triggers, &serde_json::json!({ "tag": "v*" })).await;
    let there = "dev has a trigger for tag v* already. All of them: shipway triggers -a dev";
    assert_eq!((again.status, again.json()["message"].as_str()), (422, Some(there)));
    for wrong in
        [serde_json::json!({}), serde_json::json!({ "tag": "a b" }), serde_json::json!({ "tag": "v", "branch": "v" })]
    {
        assert_eq!(stage.call(&stage.token, "POST", triggers, &wrong).await.status, 422, "{wrong}");
    }
    let checkout = stage.checkout();
    let remote = checkout.remote("dev");
    let first = checkout.commit("web: listen\n");
    checkout.now(&["tag", "-a", "v0.3.0", "-m", "The third"]);
    let (pushed, screen) = checkout.run(&["push", &remote, "v0.3.0"]).await;
    assert!(pushed && screen.contains("remote:        Released v2"), "{screen}");
    let (_, refs) = checkout.run(&["ls-remote", &remote]).await;
    assert!(refs.contains("refs/tags/v0.3.0") && refs.contains(&format!("{first}\trefs/heads/main")), "{refs}");
    // Another name is a tag like any other.
    checkout.now(&["tag", "nightly"]);
    let (pushed, screen) = checkout.run(&["push", &remote, "nightly"]).await;
    assert!(pushed && !screen.contains("Released"), "{screen}");
    // One that fails is not there afterwards, so that it can be pushed again.
    checkout.commit("web: broken-build\n");
    checkout.now(&["tag", "v0.3.1"]);
    let (pushed, screen) = checkout.run(&["push", &remote, "v0.3.1"]).await;
    assert!(
        !pushed && screen.contains("! [remote rejected] v0.3.1 -> v0.3.1 (The build is broken on purpose.)"),
        "{screen}"
    );
    assert!(!checkout.run(&["ls-remote", &remote]).await.1.contains("v0.3.1"));

    let shown = stage.ask(triggers).await;
    let deploys = shown["deploys"].as_array().unwrap();
    let lines: Vec<String> =
        deploys.iter().map(|d| format!("{} {}", d["name"].as_str().unwrap(), d["state"].as_str().unwrap())).collect();
    assert_eq!(lines, ["v0.3.1 failed", "v0.3.0 succeeded"]);
    let previous = stage.platform.deployed(&dev).unwrap().unwrap();
    assert_eq!(previous.words(), format!("v2: v0.3.0, {}", &first[..7]));
    let id = shown["triggers"][0]["id"].as_str().unwrap();
    assert_eq!(
        stage.call(&stage.token, "DELETE", &format!("{triggers}/{id}"), &serde_json::json!({})).await.status,
        200
    );
    assert_eq!(
        stage.call(&stage.token, "DELETE", &format!("{triggers}/{id}"), &serde_json::json!({})).await.status,
        404
    );
    let (_, eve) = stage.person("eve@example.org").await;
    assert_eq!(stage.call(&eve, "GET", triggers, &serde_json::json!({})).await.status, 404);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_pushed_to_one_app_deploys_another_of_its_pipeline_when_its_checks_have_passed() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    let staging = stage.platform.app(&stage.caller, &shipway_domain::NameOrId::parse("shop-staging")).unwrap();
    let trigger = serde_json::json!({ "branch": "release/*", "wait_for_ci": true });
    let path = "/shipway/v1/apps/shop-staging/triggers";
    assert_eq!(stage.call(&stage.token, "POST", path, &trigger).await.status, 201);
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main:refs/heads/release/2"]).await;
    let told = "remote: -----> branch release/2 deploys shop-staging: shipway triggers -a shop-staging";
    assert!(pushed && screen.contains(told), "{screen}");
    let message = until("it says why it waits", async || {
        stage.ask(path).await["deploys"][0]["message"].as_str().map(str::to_string)
    });
    assert_eq!(message.await, format!("waits for CI: nothing was heard of {} yet", &commit[..7]));
    let passed = serde_json::json!({ "commit": commit, "state": "succeeded" });
    let (_, eve) = stage.person("eve@example.org").await;
    let checks = "/shipway/v1/pipelines/shop/checks";
    assert_eq!(stage.call(&eve, "POST", checks, &passed).await.status, 404);
    assert_eq!(stage.call(&stage.token, "POST", checks, &passed).await.status, 201);
    until("it deploys", async || (stage.ask(path).await["deploys"][0]["state"] == "succeeded").then_some(())).await;
    assert_eq!(stage.platform.release(&staging, "current").unwrap().description, format!("Deploy {}", &commit[..7]));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_20_a_deploy_token_tells_of_checks_in_its_apps_pipeline_and_nowhere_else() {
    let stage = Stage::open().await;
    let (staging, _) = stage.pipeline().await;
    let lone = stage.create("lone").await;
    let other = stage.platform.create_pipeline(&stage.caller, "other").await.unwrap();
    let (dan, dans) = stage.person("dan@example.org").await;
    stage.platform.give_access(&stage.caller, &staging, "dan@example.org", Permission::Deploy).await.unwrap();
    let token = async |caller, app: &App| {
        let scope = Scope::Deploy { app: app.id };
        let new = NewToken { description: "ci".into(), scope, expires_in_seconds: None };
        stage.platform.create_token(caller, new).await.unwrap().1
    };
    let (ci, lones) = (token(&stage.caller, &staging).await, token(&stage.caller, &lone).await);
    let limited = token(&dan, &staging).await;
    let body = serde_json::json!({ "commit": "0123456789abcdef0123456789abcdef01234567", "state": "failed" });
    let say = async |token: &str, pipeline: &str| {
        let path = format!("/shipway/v1/pipelines/{pipeline}/checks");
        stage.call(token, "POST", &path, &body).await.status
    };
    assert_eq!(say(&ci, "shop").await, 201);
    // Another pipeline of the same owner looks like one that is not there.
    assert_eq!([say(&ci, "other").await, say(&ci, &other.id.to_string()).await, say(&ci, "nobodys").await], [404; 3]);
    assert_eq!([say(&lones, "shop").await, say(&lones, "other").await], [404; 2]);
    // A token has no more than its account: one that deploys does not say what lets others' deploys go.
    assert_eq!([say(&dans, "shop").await, say(&limited, "shop").await], [403; 2]);
    let unknown = serde_json::json!({ "commit": body["commit"], "state": "unknown" });
    assert_eq!(stage.call(&ci, "POST", "/shipway/v1/pipelines/shop/checks", &unknown).await.status, 422);
    // Nothing else of the pipeline.
    for (method, path) in [
        ("GET", "/pipelines/shop"),
        ("GET", "/shipway/v1/pipelines/shop/review-apps"),
        ("PATCH", "/pipelines/shop/review-app-config"),
        ("POST", "/review-apps"),
        ("GET", "/shipway/v1/apps/shop-staging/triggers"),
        ("GET", "/shipway/v1/pipelines/shop/sign-offs"),
    ] {
        assert_eq!(stage.call(&ci, method, path, &serde_json::json!({})).await.status, 403, "{method} {path}");
    }
    // Where the app stands now is what counts.
    stage.platform.couple(&stage.caller, &other, &lone, PipelineStage::Staging).await.unwrap();
    assert_eq!([say(&lones, "other").await, say(&lones, "shop").await], [201, 404]);
    stage.end().await;
}
