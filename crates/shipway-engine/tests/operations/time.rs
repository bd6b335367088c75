//! What time does to a platform: clocks that are set, code that gets old and is collected, a host that is upgraded.

use jiff::SignedDuration;
use shipway_domain::Stage;
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_engine::ports::{Builder, World};
use shipway_engine::{Faults, PromotionOrder, Settings, Which};
use shipway_runtime::Runtime;
use shipway_testkit::{Ground, Server, settings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The clock is set forwards by a year and back by two, in turn, at every moment of every step.
#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_clock_that_jumps_changes_nothing() {
    let ground = Ground::new();
    let (world, turn) = (ground.world.clone(), AtomicI64::new(1));
    let faults: Faults = Arc::new(move |_, _| {
        let sign = turn.fetch_xor(-2, Ordering::SeqCst);
        world.jump(SignedDuration::from_hours(24 * 365 * sign));
        None
    });
    let server = ground.server(Some(faults)).await;
    let app = server.create("acorn").await;
    for (n, procfile) in
        ["web: listen", "web: listen-after 5ms\nrelease: echo migrated", "web: listen"].iter().enumerate()
    {
        assert_eq!(server.push(&app, procfile).await, Ok(format!("v{}", n + 2)));
        server.quiet().await;
        server.whole(procfile).await;
    }
    assert_eq!(
        server.push(&app, "web: exit 1").await,
        Err("H10: web.1 ended with status 1 before it was ready.".into())
    );
    let second = server.platform.release(&app, "v2").unwrap();
    server.platform.rollback(&server.caller, &app, &second).await.unwrap();
    server.quiet().await;
    server.whole("rolled back").await;
    let list = server.release_list(&app);
    let versions: Vec<&str> = list.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(versions, ["v6", "v5", "v4", "v3", "v2", "v1"], "by number, whatever the clock said");
    // A server that starts in another year goes on all the same.
    server.platform.stop().await;
    drop(server);
    ground.world.jump(SignedDuration::from_hours(-24 * 365 * 3));
    let server = ground.server(None).await;
    server.quiet().await;
    server.whole("in another year").await;
    server.takes_pushes(&["acorn".into()], "in another year").await;
}

/// Pushes of new and old code, rollbacks, config changes and collections, in a random order, some of them at once. What
/// can be rolled back to is never collected, and what cannot is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_can_go_back_to_is_never_collected() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen-after 1ms").await.unwrap();
    let procfile = |n: u64| format!("web: listen-after 1ms;echo {n}");
    for round in 0..60 {
        // Long enough for every slug to be old.
        server.quiet().await;
        ground.world.jump(SignedDuration::from_hours(2));
        let dice = ground.world.random();
        let act = async {
            match dice % 4 {
                0 | 1 => server.push(&app, &procfile(round)).await.map(drop),
                2 => server.push(&app, &procfile(dice / 4 % (round + 1))).await.map(drop),
                _ => back(&server, dice / 4).await,
            }
        };
        let (acted, tidied) = tokio::join!(act, server.platform.tidy());
        acted.unwrap_or_else(|e| panic!("round {round}: {e}"));
        tidied.unwrap();
        server.quiet().await;
        server.platform.tidy().await.unwrap();
        // All but v1 came with code.
        let worked =
            server.releases(&app).into_iter().filter(|r| r.version > 1 && r.status == ReleaseStatus::Succeeded);
        for release in worked.take(20) {
            assert!(
                server.platform.eligible_for_rollback(&release),
                "round {round}: v{} was collected",
                release.version
            );
            let slug = server.platform.store().read(|c| c.slug(release.slug.unwrap())).unwrap().unwrap();
            ground.builder.ensure(&slug.manifest).await.unwrap();
        }
    }
    server.quiet().await;
    ground.world.jump(SignedDuration::from_hours(2));
    server.platform.tidy().await.unwrap();
    let artifacts = ground.builder.artifacts();
    let made = ground.builder.builds.load(Ordering::SeqCst) as usize;
    assert!(artifacts <= 21 && artifacts < made, "{artifacts} artifacts of {made} are left");
}

async fn back(server: &Server, dice: u64) -> Result<(), String> {
    let app = server.app("acorn");
    let mut eligible = server.releases(&app);
    eligible.retain(|r| server.platform.eligible_for_rollback(r));
    let to = &eligible[dice as usize % eligible.len()];
    server.platform.rollback(&server.caller, &app, to).await.map(drop).map_err(|e| e.to_string())
}

/// The warnings in an app's log, since the last time they were asked for.
fn warnings(server: &Server, app: &shipway_store::App, told: &mut usize) -> Vec<String> {
    let directory = server.ground.home.path().join("logs").join(app.id.to_string());
    let (entries, _) = shipway_logs::Reader::last(&directory, shipway_logs::Filter::default(), 1_000).unwrap();
    let lines = entries.iter().map(|entry| String::from_utf8_lossy(&entry.message).into_owned());
    let all: Vec<String> = lines.filter(|line| line.starts_with("Warning: ")).collect();
    all[std::mem::replace(told, all.len())..].to_vec()
}

/// A slug knows the host that it was built on; every release that starts it on another one says so, and a new build ends it.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_was_built_on_another_host_is_released_with_a_warning() {
    let ground = Ground::new();
    let mut told = 0;
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let second = server.platform.release(&app, "v2").unwrap();
    server.platform.restart(&server.caller, &app, Which::All).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [] as [&str; 0], "it runs where it was built");
    server.platform.stop().await;
    drop(server);

    let upgraded = "debian-13-x86_64 python-3.13.5";
    let upgraded_settings = Settings { stack_fingerprint: upgraded.into(), ..settings(ground.home.path()) };
    let server = ground.server_as(upgraded_settings.clone(), None).await;
    let slug = server.platform.store().read(|c| c.slug(second.slug.unwrap())).unwrap().unwrap();
    assert_eq!(slug.stack_fingerprint, "debian-12-x86_64");
    let expected = format!(
        "Warning: Commit {} was built on debian-12-x86_64, and this host is {upgraded}: push a new commit to build it here",
        slug.commit.as_ref().unwrap().short()
    );
    let config = BTreeMap::from([("COLOUR".to_string(), Some("red".to_string()))]);
    server.platform.set_config_vars(&server.caller, &app, config).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [expected.as_str()], "a config change");
    server.platform.restart(&server.caller, &app, Which::All).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [expected.as_str()], "a restart");
    server.push(&app, "web: listen-after 1ms").await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [] as [&str; 0], "it was built here");
    server.platform.rollback(&server.caller, &app, &second).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [expected.as_str()], "a rollback");
    server.whole("rolled back").await;

    let (_, operation) = server.platform.redeploy(&server.caller, &app).await.unwrap();
    server.outcome(operation).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &app, &mut told), [expected.as_str()], "a redeploy");
    let pipeline = server.platform.create_pipeline(&server.caller, "acorn").await.unwrap();
    let (live, mut told_live) = (server.create("acorn-live").await, 0);
    server.platform.couple(&server.caller, &pipeline, &app, Stage::Staging).await.unwrap();
    server.platform.couple(&server.caller, &pipeline, &live, Stage::Production).await.unwrap();
    let order =
        PromotionOrder { pipeline, source: app.clone(), release: None, targets: vec![live.clone()], reason: None };
    let begun = server.platform.promote(&server.caller, order).await.unwrap();
    server.platform.promoted(begun.promotion.id).await.unwrap();
    server.quiet().await;
    assert_eq!(warnings(&server, &live, &mut told_live), [expected.as_str()], "a promotion");
    server.platform.stop().await;

    // The machine itself was started again, as after an upgrade of its distribution.
    for dyno in server.platform.store().read(|c| c.dynos(app.id)).unwrap() {
        ground.runtime.remove(dyno.id).await.unwrap();
    }
    drop(server);
    let server = ground.server_as(upgraded_settings, None).await;
    server.settled(&app).await;
    assert_eq!(warnings(&server, &app, &mut told), [expected.as_str()], "dynos that went with the machine");
    assert_eq!(warnings(&server, &live, &mut told_live), [] as [&str; 0], "dynos that ran on");
    server.whole("started again").await;
}
