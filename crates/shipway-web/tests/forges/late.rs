//! Pushes that a forge tells of out of order.

use crate::world::{KINDS, World};
use shipway_domain::CommitId;
use shipway_domain::forge::ForgeKind;
use shipway_domain::triggers::RefKind;
use shipway_store::{App, ForgeDelivery};

/// A world whose app `acorn-staging` is deployed by the branch main, and two commits, oldest first. (Its upstream ends in
/// the newest commit that there is.)
async fn following_main(kind: ForgeKind, wait_for_ci: bool) -> (World, App, [CommitId; 2]) {
    let world = World::new(kind).await;
    let app = world.server.app("acorn-staging");
    let platform = &world.server.platform;
    platform.add_trigger(&world.server.caller, &app, RefKind::Branch, "main", wait_for_ci).await.unwrap();
    let commits = ["web: listen-after 1ms", "web: listen-after 2ms"].map(|procfile| world.commit(procfile));
    (world, app, commits)
}

impl World {
    /// Hears of a push to main.
    async fn push(&self, before: &CommitId, after: &CommitId) -> ForgeDelivery {
        let (secret, id) = (&self.connection.secret, format!("{}-{}", before.short(), after.short()));
        self.hear(self.forge.moved_hook(secret, &id, "refs/heads/main", before.as_str(), after.as_str())).await
    }

    /// What became of the pushes, newest first: `3f9c2a1 succeeded`.
    async fn pushes(&self, app: &App) -> Vec<String> {
        self.server.platform.deploy_triggered().await.unwrap();
        self.server.quiet().await;
        let views = self.server.platform.triggered(app, 10).unwrap();
        views.iter().map(|view| format!("{} {}", view.deploy.commit.short(), view.state)).collect()
    }
}

fn said(commit: &CommitId, word: &str) -> String {
    format!("{} {word}", commit.short())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_push_that_comes_late_is_not_deployed() {
    for kind in KINDS {
        let (world, app, [first, older]) = following_main(kind, false).await;
        world.push(&first, &older).await;
        let deployed = said(&older, "succeeded");
        assert_eq!(world.pushes(&app).await, std::slice::from_ref(&deployed), "{kind}");
        let newer = world.commit("web: listen-after 3ms");
        world.push(&older, &newer).await;
        assert_eq!(world.pushes(&app).await, [said(&newer, "succeeded"), deployed.clone()], "{kind}");

        let nothing = CommitId::parse(&"1".repeat(40)).unwrap();
        let late = world.push(&nothing, &first).await;
        let words = format!(
            "main is at {0}; not for acorn-staging: {0} was pushed to branch main before {1}, which is deployed already: \
             the forge told of it late. To run it all the same: git push heroku {0}:main",
            first.short(),
            newer.short()
        );
        assert_eq!(late.message, Some(words), "{kind}");
        let shown = world.pushes(&app).await;
        assert_eq!(shown, [said(&first, "refused"), said(&newer, "succeeded"), deployed.clone()], "{kind}");
        assert_eq!(world.server.served(&app).await, "v3", "{kind}");

        // Somebody has forced it back: it was where it was last heard to be.
        world.push(&newer, &older).await;
        assert_eq!(world.pushes(&app).await[0], deployed, "{kind}");
        assert_eq!(world.server.served(&app).await, "v4", "{kind}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_push_that_comes_while_the_newer_is_deployed_is_refused_when_it_has_its_turn() {
    let (world, app, [first, older]) = following_main(ForgeKind::Github, false).await;
    let newer = world.commit("web: listen; echo slow-build");
    world.push(&older, &newer).await;
    let platform = &world.server.platform;
    platform.deploy_triggered().await.unwrap();
    // Nothing is deployed yet, so nothing speaks against it.
    let late = world.push(&first, &older).await;
    assert_eq!(late.message, Some(format!("main is at {}, for acorn-staging", older.short())));
    platform.deploy_triggered().await.unwrap();
    world.server.ground.builder.go.notify_one();
    let mut shown = world.pushes(&app).await;
    // The forge is asked as well where main is, and may say the newer one once more: it runs, or is about to.
    shown.retain(|row| *row != said(&newer, "superseded"));
    assert_eq!(shown, [said(&older, "failed"), said(&newer, "succeeded")]);
    let rows = platform.triggered(&app, 10).unwrap();
    let why = rows.iter().find(|row| row.deploy.commit == older).and_then(|row| row.message.clone()).unwrap();
    assert!(why.contains("the forge told of it late"), "{why}");
    assert_eq!(world.server.served(&app).await, "v2");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_push_that_comes_late_does_not_take_the_place_of_one_that_waits_for_ci() {
    let (world, app, [first, older]) = following_main(ForgeKind::Github, true).await;
    let newer = world.commit("web: listen-after 3ms");
    world.push(&older, &newer).await;
    assert_eq!(world.pushes(&app).await, [said(&newer, "waiting")]);
    let late = world.push(&first, &older).await.message.unwrap();
    assert!(late.contains(&format!("before {}, which waits: the forge told of it late", newer.short())), "{late}");
    assert_eq!(world.pushes(&app).await, [said(&older, "refused"), said(&newer, "waiting")]);
    let secret = &world.connection.secret;
    world.hear(world.forge.check_hook(secret, "passed", newer.as_str(), "success")).await;
    assert_eq!(world.pushes(&app).await[1], said(&newer, "succeeded"));
    assert_eq!(world.server.served(&app).await, "v2");
    world.end().await;
}
