//! What the operator and an app's people set, and what comes of it.

use shipway_domain::quantity::Quantity;
use shipway_domain::size::DynoSizes;
use shipway_domain::{NameOrId, ProcessType, Stage};
use shipway_engine::{ScaleUpdate, Settings};
use shipway_runtime::Runtime;
use shipway_store::{App, AppSettings};
use shipway_testkit::{Ground, Server, settings};
use std::collections::BTreeMap;

async fn set(server: &Server, app: &App, settings: AppSettings) {
    server.platform.change_settings(&server.caller, app, move |there| *there = settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_phase_that_comes_last_leaves_the_database_alone_when_the_start_fails() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let ran = || server.transcript(&app).contains("Running release command...");
    server.push(&app, "web: listen").await.unwrap();
    let fails = "web: exit 3\nrelease: echo migrating";
    assert!(server.push(&app, fails).await.unwrap_err().starts_with("H10: web.1 ended with status 3"));
    assert!(ran(), "before any new dyno starts");

    set(&server, &app, AppSettings { release_phase_last: true, ..AppSettings::default() }).await;
    let app = server.app("acorn");
    let fails = "web: exit 3 \nrelease: echo migrating";
    assert!(server.push(&app, fails).await.unwrap_err().starts_with("H10: web.1 ended with status 3"));
    assert!(!ran(), "not before the new dynos are healthy: {}", server.transcript(&app));
    // It runs before traffic moves: when it fails, the old version serves on.
    let refused = server.push(&app, "web: listen\nrelease: exit 4").await.unwrap_err();
    assert!(refused.starts_with("Release command failed"), "{refused}");
    assert_eq!(server.served(&app).await, "v2");
    assert_eq!(server.push(&app, "web: listen\nrelease: echo migrated").await.as_deref(), Ok("v6"));
    assert!(ran());
}

#[tokio::test(flavor = "multi_thread")]
async fn web_dynos_that_may_not_overlap_are_started_after_the_old_ones() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let web = ProcessType::parse("web").unwrap();
    set(&server, &app, AppSettings { overlap: BTreeMap::from([(web, false)]), ..AppSettings::default() }).await;
    // Nothing is waited for before the switch, so that a version that ends is released too.
    assert_eq!(server.push(&app, "web: exit 3").await.as_deref(), Ok("v3"));
    assert_eq!(server.push(&app, "web: listen; echo again").await.as_deref(), Ok("v4"));
    server.serves(&app, "v4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_of_the_operators_is_taken_and_one_that_is_gone_counts_as_the_default() {
    let ground = Ground::new();
    let mut sizes = DynoSizes::default();
    sizes.define(&"large=2048,cpu=400".parse().unwrap());
    let server = ground.server_as(Settings { sizes, ..settings(ground.home.path()) }, None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let to = |size: &str, quantity: u32| {
        let quantity = Some(Quantity::Exactly(quantity));
        vec![ScaleUpdate { process_type: "web".into(), quantity, size: Some(size.into()) }]
    };
    server.platform.scale(&server.caller, &app, to("Large", 1)).await.unwrap();
    server.settled(&app).await;
    let started = async || ground.runtime.plan(ground.runtime.list().await.unwrap()[0].dyno).unwrap().size;
    assert_eq!((started().await.name.as_str(), started().await.memory_mib), ("large", 2048));
    server.platform.stop().await;
    drop(server);

    // The operator's next start says nothing of it any more.
    let server = ground.server(None).await;
    let log = || {
        let last = shipway_logs::Reader::last(
            &ground.home.path().join("logs").join(app.id.to_string()),
            Default::default(),
            50,
        );
        last.unwrap().0.iter().map(|e| String::from_utf8_lossy(&e.message).into_owned()).collect::<Vec<_>>().join("\n")
    };
    let warning = "Warning: the dyno size large is not there any more: web dynos start as basic. \
                   To choose another: heroku ps:scale web=1:basic";
    assert!(log().contains(warning), "{}", log());
    assert_eq!(server.push(&app, "web: listen; echo again").await.as_deref(), Ok("v3"));
    server.settled(&app).await;
    assert_eq!(started().await.name, "basic");
    let refused = server.platform.scale(&server.caller, &app, to("large", 2)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Dyno size \"large\" is not one of this platform's: eco, basic, standard-1x, standard-2x."
    );
    server.platform.scale(&server.caller, &app, to("basic", 2)).await.unwrap();
    assert_eq!(server.settled(&app).await, "web.1 up, web.2 up");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_change_different_settings_at_once_both_get_theirs() {
    let server = Ground::new().server(None).await;
    let (platform, caller) = (&server.platform, &server.caller);
    // Both looked before either of them wrote.
    let app = server.create("acorn").await;
    let pipeline = platform.create_pipeline(caller, "acorn").await.unwrap();
    let (one, other) = tokio::join!(
        platform.change_settings(caller, &app, |settings| settings.release_phase_last = true),
        platform.change_settings(caller, &app, |settings| settings.store_other_branches = true),
    );
    one.and(other).unwrap();
    let settings = server.app("acorn").settings;
    assert!(settings.release_phase_last && settings.store_other_branches, "{settings:?}");

    let (one, other, renamed) = tokio::join!(
        platform.change_pipeline_settings(caller, &pipeline, |settings| settings.may_skip_stages = true),
        platform
            .change_pipeline_settings(caller, &pipeline, |settings| settings.refuse_behind = [Stage::Staging].into()),
        platform.rename_pipeline(caller, &pipeline, "oak"),
    );
    one.and(other).and(renamed).unwrap();
    let there = platform.pipeline(caller, &NameOrId::Id(pipeline.id.0)).unwrap();
    assert!(there.settings.may_skip_stages && there.settings.refuse_behind.contains(&Stage::Staging));
    assert_eq!(there.name.as_str(), "oak");

    let (one, other) = tokio::join!(
        platform.set_review_app_config(caller, &pipeline, |settings| settings.quota = 3),
        platform.set_review_app_config(caller, &pipeline, |settings| settings.stale_days = 9),
    );
    one.and(other).unwrap();
    let settings = platform.review_app_config(&pipeline).unwrap().settings;
    assert_eq!((settings.quota, settings.stale_days), (3, 9));
}
