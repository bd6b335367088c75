//! Sessions with the real git client.

use crate::stage::{OWNER, Stage, until};
use shipway_engine::UpdateApp;
use shipway_store::AppSettings;
use std::os::unix::process::CommandExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_deploys_and_shows_its_transcript() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    assert!(pushed, "{screen}");
    for line in
        ["remote: -----> Procfile app detected", "remote:        Released v", "http://shop.localhost:8080/ deployed"]
    {
        assert!(screen.contains(line), "{line:?} is not in\n{screen}");
    }
    // main and master are one branch, and both are what runs.
    let (_, refs) = checkout.run(&["ls-remote", &checkout.remote("shop")]).await;
    assert!(refs.contains(&format!("{commit}\trefs/heads/main")), "{refs}");
    assert!(refs.contains(&format!("{commit}\trefs/heads/master")), "{refs}");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main:master"]).await;
    assert!(pushed && screen.contains("Everything up-to-date"), "{screen}");
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
async fn other_branches_are_kept_or_refused_as_the_app_says() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let remote = checkout.remote("shop");
    let (pushed, screen) = checkout.run(&["push", &remote, "main:feature"]).await;
    assert!(!pushed);
    let reason = "pushed to feature, which does not deploy; push it to main: git push heroku feature:main";
    assert!(screen.contains(reason), "{screen}");
    let settings = AppSettings { store_other_branches: true, ..AppSettings::default() };
    let change = UpdateApp { settings: Some(settings), ..UpdateApp::default() };
    stage.platform.update_app(&stage.caller, &app, change).await.unwrap();
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
