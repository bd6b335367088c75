//! The same commit pushed again while it deploys: whoever ends `git push` does not end the deploy.

use crate::promotions::{order, pipeline};
use shipway_domain::lifecycle::BuildStatus;
use shipway_domain::{CommitId, OperationId};
use shipway_store::App;
use shipway_testkit::{Ground, Server, until};
use std::collections::BTreeMap;

const SLOW: &str = "web: listen-after 1ms\n# slow-build";

async fn push(server: &Server, app: &App, commit: &CommitId) -> OperationId {
    server.platform.deploy(&server.caller, app, commit.clone()).await.unwrap().1
}

async fn waits(server: &Server, push: OperationId) {
    until("the push waits", async || server.platform.waiting_behind(push)).await;
}

/// A commit that is being deployed, and was pushed again: the second push waits.
async fn pushed_twice() -> (Server, App, CommitId, [OperationId; 2]) {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let commit = server.ground.repositories.commit(SLOW);
    let first = push(&server, &app, &commit).await;
    let again = push(&server, &app, &commit).await;
    waits(&server, again).await;
    (server, app, commit, [first, again])
}

async fn set_colour(server: &Server, app: &App) {
    let vars = BTreeMap::from([("COLOUR".to_string(), Some("green".to_string()))]);
    server.platform.set_config_vars(&server.caller, app, vars).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_to_run_while_it_waited_is_not_released_again() {
    let (server, app, commit, [first, again]) = pushed_twice().await;
    // Config that changes meanwhile makes no difference.
    set_colour(&server, &app).await;
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(first).await.as_deref(), Ok("v3"));
    assert_eq!(server.outcome(again).await.as_deref(), Ok(""), "it worked, and made no release");
    server.quiet().await;
    assert_eq!(
        server.release_list(&app),
        "v3 succeeded Deploy\nv2 succeeded Set COLOUR config var\nv1 succeeded Initial release"
    );
    let short = commit.short();
    let said = server.transcript(&app);
    for line in [
        format!("-----> Nothing to deploy: acorn runs {short} already"),
        "       v3 by owner@example.org brought it while this push waited".into(),
        "       To release it again: shipway redeploy -a acorn".into(),
    ] {
        assert!(said.contains(&line), "{line:?} is not in\n{said}");
    }
    let build = server.platform.store().read(|c| Ok(c.builds(app.id)?.pop())).unwrap().unwrap();
    assert_eq!((build.status, build.release, server.ground.repositories.pins()), (BuildStatus::Succeeded, None, 0));
    let told = server.platform.store().read(|c| c.ledger(Some(app.id), 5)).unwrap();
    assert!(told.iter().any(|entry| entry.action == "deploy-unneeded" && entry.detail["release"] == 3), "{told:?}");
    server.whole("after a push that had nothing to do").await;
    // Pushed when it runs, it is meant. Whether the first build read the config of before was left open: it may be built anew.
    server.ground.builder.go.notify_one();
    assert_eq!(server.push(&app, SLOW).await.as_deref(), Ok("v4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_run_by_a_promotion_during_the_build_is_not_released_again() {
    let server = Ground::new().server(None).await;
    let shop = pipeline(&server, "shop", "shop-staging staging, shop-live production").await;
    server.ground.builder.go.notify_one();
    server.push(&server.app("shop-staging"), SLOW).await.unwrap();
    let live = server.app("shop-live");
    // Config that builds may read: it is built again.
    set_colour(&server, &live).await;
    server.quiet().await;
    let commit = server.ground.repositories.commit(SLOW);
    let push = push(&server, &live, &commit).await;
    server.platform.promote(&server.caller, order(&server, &shop, "shop-staging", &["shop-live"])).await.unwrap();
    server.serves(&live, "v3").await;
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(push).await.as_deref(), Ok(""));
    server.quiet().await;
    assert_eq!(server.served(&live).await, "v3");
    assert_eq!(server.ground.repositories.pins(), 0);
    server.whole("after a push that a promotion was faster than").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_something_else_than_what_runs_is_deployed_whatever_ran_before() {
    let server = Ground::new().server(None).await;
    let (app, other) = (server.create("acorn").await, server.create("oak").await);
    let old = server.ground.repositories.commit("web: listen");
    let first = push(&server, &app, &old).await;
    assert_eq!(server.outcome(first).await.as_deref(), Ok("v2"));
    let slow = server.ground.repositories.commit(SLOW);
    let newer = push(&server, &app, &slow).await;
    // An older state, forced, while the newer one comes; and the same commit for another app.
    let back = push(&server, &app, &old).await;
    waits(&server, back).await;
    let elsewhere = push(&server, &other, &old).await;
    assert_eq!(server.outcome(elsewhere).await.as_deref(), Ok("v2"));
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(newer).await.as_deref(), Ok("v3"));
    assert_eq!(server.outcome(back).await.as_deref(), Ok("v4"));

    // After a rollback: to what runs then, and on to what ran before it.
    let app = server.app("acorn");
    let third = server.platform.release(&app, "v3").unwrap();
    server.platform.rollback(&server.caller, &app, &third).await.unwrap();
    server.serves(&app, "v5").await;
    let on = push(&server, &app, &old).await;
    assert_eq!(server.outcome(on).await.as_deref(), Ok("v6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_stopped_while_it_waits_leaves_nothing_pending() {
    let (server, app, _, [first, again]) = pushed_twice().await;
    server.platform.cancel(&server.caller, again).await.unwrap();
    server.ground.builder.go.notify_one();
    assert_eq!(server.outcome(first).await.as_deref(), Ok("v2"));
    assert_eq!(server.outcome(again).await.unwrap_err(), "It was cancelled. What ran before runs on.");
    let builds = server.platform.store().read(|c| c.builds(app.id)).unwrap();
    assert!(builds.iter().all(|build| build.status != BuildStatus::Pending), "{builds:?}");
}
