//! The server is killed while it tells a forge something: what was heard is not said again.

use crate::world::{KINDS, World};
use serde_json::{Value, json};
use shipway_domain::forge::ForgeKind;
use shipway_testkit::until;

/// What a forge was told of a pull request: comments, statuses of its commit, its app's deployments with their states.
#[derive(Debug, PartialEq)]
struct Told {
    comments: Vec<String>,
    statuses: Vec<String>,
    deployments: Vec<Value>,
}

/// Tells a forge of a review app; the server is killed when the forge has heard the request that changes something after
/// `n` others, and another one goes on. None where there are no more than `n`.
async fn told_by_two(kind: ForgeKind, n: usize) -> Option<Told> {
    let world = World::new(kind).await;
    let commit = world.commit("web: listen");
    // Nothing is told before all of it is to be told.
    world.forge.set_down(true);
    world.pull(7, &commit, true).await;
    assert_eq!(world.screen().await, "acorn-pr-7 created");
    let World { server, forge, connection, door, .. } = world;
    door.close();
    server.platform.stop().await;
    let ground = server.ground.clone();
    drop(server);

    ground.world.jump(jiff::SignedDuration::from_hours(1));
    forge.set_down(false);
    forge.hang_after(n);
    let first = ground.server(None).await;
    let is_done = || {
        let messages = first.platform.store().read(|c| c.forge_messages(connection.id)).unwrap();
        let said = |m: &shipway_store::ForgeMessage| m.told.as_ref() == Some(&m.wanted);
        messages.len() == 3 && messages.iter().all(said)
    };
    until("all is told, or the forge hangs", async || (forge.hung() || is_done()).then_some(())).await;
    let killed = forge.hung();
    first.platform.stop().await;
    drop(first);

    let second = ground.server(None).await;
    second.platform.tell_forges().await.unwrap();
    second.platform.stop().await;
    let told = Told {
        comments: forge.comments(7),
        statuses: forge.statuses(commit.as_str()),
        deployments: forge
            .deployments("acorn-pr-7")
            .iter()
            .map(|deployment| json!([deployment["sha"], deployment["states"]]))
            .collect(),
    };
    killed.then_some(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_before_it_writes_down_what_it_told_says_nothing_twice() {
    for kind in KINDS {
        let mut n = 0;
        while let Some(told) = told_by_two(kind, n).await {
            let deployments = if kind == ForgeKind::Gitea { 0 } else { 1 };
            let numbers = (told.comments.len(), told.statuses.len(), told.deployments.len());
            assert_eq!(numbers, (1, 1, deployments), "{kind}, killed at {n}: {told:?}");
            let states = told.deployments.iter().map(|deployment| deployment[1].clone());
            assert!(states.into_iter().all(|states| states == json!(["success"])), "{kind}, killed at {n}: {told:?}");
            n += 1;
        }
        let requests = match kind {
            ForgeKind::Github | ForgeKind::Gitlab => 4,
            ForgeKind::Gitea => 2,
        };
        assert_eq!(n, requests, "{kind}: killed at each request that changes something");
    }
}
