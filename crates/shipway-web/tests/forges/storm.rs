//! A hundred pull requests by a storm of webhooks: twice, out of order, not at all, and through a server that is killed.
//! Once with databases that are texts, once with PostgreSQL's.

use crate::postgres::Postgres;
use crate::world::{World, automatic};
use shipway_domain::forge::ForgeKind;
use shipway_domain::review::ReviewAppStatus;
use shipway_testkit::until;
use std::collections::BTreeMap;

/// A config var that is required and that only the app's own add-on gives.
const WITH_DATABASE: &str =
    r#"{ "env": { "DATABASE_URL": { "required": true } }, "addons": [{ "plan": "heroku-postgresql:essential-0" }] }"#;

/// Pull requests of the storm.
const PULLS: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_webhooks_ends_with_what_the_forge_says() {
    let world = World::new(ForgeKind::Github).await;
    let databases = world.server.ground.addons.clone();
    storm(world, async || databases.count()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_webhooks_leaves_no_database_and_no_role_in_postgresql() {
    let Some(postgres) = Postgres::start() else {
        eprintln!("skipped: PostgreSQL is not installed");
        return;
    };
    let world = World::on(postgres.ground.clone(), ForgeKind::Github, automatic()).await;
    let count = async || {
        let (databases, roles) = postgres.made().await;
        assert_eq!(databases, roles, "each database has its role, and the other way round");
        databases
    };
    storm(world, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_that_is_closed_while_its_database_is_made_leaves_none() {
    let world = World::new(ForgeKind::Github).await;
    let databases = world.server.ground.addons.clone();
    databases.slow.send_replace(true);
    let commit =
        world.server.ground.repositories.commit_of(&[("Procfile", "web: listen"), ("app.json", WITH_DATABASE)]);
    world.pull(7, &commit, true).await;
    world.server.platform.review_all().await.unwrap();
    until("the database is in the making", async || (databases.making() == 1).then_some(())).await;
    world.pull(7, &commit, false).await;
    world.server.platform.review_all().await.unwrap();
    let status = || world.server.platform.review_apps(&world.pipeline).unwrap().first().map(|row| row.status);
    until("the app is going", async || (status() == Some(ReviewAppStatus::Deleting)).then_some(())).await;
    databases.slow.send_replace(false);
    assert_eq!(world.screen().await, "");
    assert_eq!(databases.count(), 0, "what was made too late is gone as well");
    world.end().await;
}

/// Opens and closes pull requests; `databases`: how many there are now.
async fn storm(world: World, databases: impl AsyncFn() -> usize) {
    let repositories = world.server.ground.repositories.clone();
    let commit = |n: usize| {
        let procfile = format!("web: listen-after {n}ms");
        repositories.commit_of(&[("Procfile", &procfile), ("app.json", WITH_DATABASE)])
    };
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut chance = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let mut storm = Vec::new();
    for number in 1..=PULLS {
        let last = chance(3) as usize;
        let mut history: Vec<_> = (0..=last).map(|n| (commit(n), true)).collect();
        // One in ten stays open.
        if number % 10 != 0 {
            history.push((commit(last), false));
        }
        for (commit, open) in history {
            let pull = world.forge.set_pull(number, &format!("change-{number}"), commit.as_str(), open);
            let id = format!("{number}-{}", pull.changed_at);
            let hook = world.forge.pull_hook(&world.connection.secret, &id, &pull);
            match chance(4) {
                0 => {}
                1 => storm.extend([hook.clone(), hook]),
                _ => storm.push(hook),
            }
        }
    }
    for at in (1..storm.len()).rev() {
        storm.swap(at, chance(at as u64 + 1) as usize);
    }
    // Half of it, the server killed with what it had begun, the rest; some of the first half is sent again.
    let (first, rest) = storm.split_at(storm.len() / 2);
    world.storm(first).await;
    let world = world.restarted().await;
    world.storm(&[rest, &first[..20]].concat()).await;
    let platform = &world.server.platform;
    platform.carry_out_deliveries().await.unwrap();
    world.screen().await;
    assert_eq!(platform.store().read(|c| c.count_waiting_forge_deliveries()).unwrap(), 0, "all of it was carried out");

    // Some openings and closings were never heard of: the forge is asked.
    platform.sweep_pull_requests().await.unwrap();
    world.screen().await;
    let rows = platform.review_apps(&world.pipeline).unwrap();
    let there: BTreeMap<u64, String> = rows.iter().map(|r| (r.pr_number.unwrap(), r.commit.to_string())).collect();
    assert_eq!(there, world.forge.open_pulls());
    assert!(rows.iter().all(|r| r.status == ReviewAppStatus::Created));
    assert_eq!(world.server.apps().len(), there.len() + 1, "no app but these and the parent");
    assert_eq!(databases().await, there.len(), "one database each");

    // All closed, and nobody heard of it.
    for (number, commit) in world.forge.open_pulls() {
        world.forge.set_pull(number, "gone", &commit, false);
    }
    platform.sweep_pull_requests().await.unwrap();
    assert_eq!(world.screen().await, "");
    assert_eq!(world.server.apps().len(), 1, "the parent");
    assert_eq!(databases().await, 0, "no database is left");
    world.end().await;
}
