//! What a pipeline decides about its review apps: whether new ones are made, how many, and what they wait for.

use crate::review_apps::{automatic, commit, names, news, reviewed, screen, with_pipeline};
use jiff::SignedDuration;
use shipway_domain::review::{BranchName, Checks, ReviewAppStatus};
use shipway_engine::{NewReviewApp, ReviewSource};
use shipway_store::ReviewAppSettings;
use shipway_testkit::Ground;
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn review_apps_that_are_there_keep_password_ci_and_age_when_no_new_ones_are_made() {
    let server = Ground::new().server(None).await;
    let settings = ReviewAppSettings { wait_for_ci: true, destroy_stale_apps: true, ..automatic() };
    let (pipeline, _) = with_pipeline(&server, settings.clone()).await;
    let platform = &server.platform;
    let [good, waits, next] =
        ["web: listen", "web: listen-after 1ms", "web: listen-after 2ms"].map(|web| commit(&server, web, "{}"));
    platform.checks_changed(pipeline.id, good.clone(), Checks::Succeeded).await.unwrap();
    platform.pull_request_changed(pipeline.id, news(1, &good, true, 0)).await.unwrap();
    platform.pull_request_changed(pipeline.id, news(2, &waits, true, 0)).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    assert!(shown.starts_with("acorn-pr-1 created\n- pending Waits for CI"), "{shown}");
    let password = Some("correct-horse-battery".to_string());
    platform.set_review_password(&server.caller, &pipeline, password).await.unwrap();
    let guarded = || {
        let table = platform.route_table().unwrap();
        let reviews = table.apps.iter().filter(|app| app.name.starts_with("acorn-pr-"));
        reviews.map(|app| app.password.is_some()).collect::<Vec<_>>()
    };
    platform.disable_review_apps(&server.caller, &pipeline).await.unwrap();
    assert_eq!(guarded(), [true], "nobody who could not see it sees it now");
    assert!(platform.review_app_config(&pipeline).unwrap_err().message.contains("are not enabled for acorn"));

    // No new ones are made: not of what waited, not of what comes.
    platform.checks_changed(pipeline.id, waits, Checks::Succeeded).await.unwrap();
    platform.pull_request_changed(pipeline.id, news(3, &good, true, 5)).await.unwrap();
    let enable = "- pending Waits until review apps are enabled: heroku reviewapps:enable";
    assert_eq!(screen(&server, pipeline.id).await, format!("acorn-pr-1 created\n{enable}"));
    // What is there goes on as before.
    platform.pull_request_changed(pipeline.id, news(1, &next, true, 10)).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    assert!(shown.starts_with("acorn-pr-1 created Waits for CI"), "{shown}");
    platform.checks_changed(pipeline.id, next, Checks::Succeeded).await.unwrap();
    screen(&server, pipeline.id).await;
    assert_eq!(server.served(&server.app("acorn-pr-1")).await, "v3");

    // Enabled again, what was there keeps the password, and so do those that come.
    let again = settings.clone();
    platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = again).await.unwrap();
    let all = "acorn-pr-1 created\nacorn-pr-2 created\nacorn-pr-3 created";
    assert_eq!(screen(&server, pipeline.id).await, all);
    assert_eq!(guarded(), [true; 3]);
    // A password can be changed, and they grow stale, while none is made.
    platform.disable_review_apps(&server.caller, &pipeline).await.unwrap();
    let other = Some("staple-correct-horse".to_string());
    platform.set_review_password(&server.caller, &pipeline, other.clone()).await.unwrap();
    assert_eq!(platform.store().read(|c| c.review_password(pipeline.id)).unwrap(), other);
    server.ground.world.jump(SignedDuration::from_hours(6 * 24));
    assert_eq!(screen(&server, pipeline.id).await, "");
    // With the last of them the password is forgotten.
    platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = settings).await.unwrap();
    assert_eq!(platform.store().read(|c| c.review_password(pipeline.id)).unwrap(), None);
}

fn of_branch(branch: &str) -> NewReviewApp {
    NewReviewApp {
        branch: BranchName::parse(branch).unwrap(),
        pr_number: None,
        source: ReviewSource::Branch,
        environment: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_made_by_hand_than_the_quota_either() {
    let server = Ground::new().server(None).await;
    let (pipeline, parent) =
        with_pipeline(&server, ReviewAppSettings { quota: 2, ..ReviewAppSettings::default() }).await;
    let platform = &server.platform;
    let good = commit(&server, "web: listen", "{}");
    let make = async |branch: &str| {
        server.ground.repositories.set_head(parent.id, branch, Some(&good));
        let made = platform.create_review_app(&server.caller, &pipeline, of_branch(branch)).await;
        screen(&server, pipeline.id).await;
        made.map(|_| ()).map_err(|e| e.message)
    };
    make("one").await.unwrap();
    make("two").await.unwrap();
    let refused = make("three").await.unwrap_err();
    let expected = "acorn has 2 review apps, and its quota is 2. Raise it: shipway reviewapps set acorn --quota 3\n\
                    Or remove one. The oldest is acorn-one (branch one, made 20";
    assert!(refused.starts_with(expected), "{refused}");
    assert!(refused.ends_with("): shipway reviewapps destroy -p acorn acorn-one"), "{refused}");
    assert_eq!(names(&server), ["acorn-one", "acorn-staging", "acorn-two"]);
    let oldest = reviewed(&server, &server.app("acorn-one"));
    platform.delete_review_app(&server.caller, &oldest).await.unwrap();
    screen(&server, pipeline.id).await;
    make("three").await.unwrap();
    let none = ReviewAppSettings { quota: 0, ..ReviewAppSettings::default() };
    platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = none).await.unwrap();
    assert!(make("four").await.unwrap_err().starts_with("acorn has 2 review apps, and its quota is 0."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_waits_for_its_checks_where_somebody_tells_of_them() {
    let server = Ground::new().server(None).await;
    let settings = ReviewAppSettings { wait_for_ci: true, ..ReviewAppSettings::default() };
    let (pipeline, parent) = with_pipeline(&server, settings).await;
    let platform = &server.platform;
    let push = |branch: &str, web: &str| {
        let commit = commit(&server, web, "{}");
        server.ground.repositories.set_head(parent.id, branch, Some(&commit));
        commit
    };
    // Nobody tells of checks: nobody would ever let it go.
    push("one", "web: listen");
    platform.create_review_app(&server.caller, &pipeline, of_branch("one")).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-one created");
    push("one", "web: listen-after 1ms");
    screen(&server, pipeline.id).await;
    let app = server.app("acorn-one");
    assert_eq!(server.served(&app).await, "v3");

    // CI tells that it runs, then that it failed; the next commit passes.
    let failing = push("one", "web: listen-after 2ms");
    platform.checks_changed(pipeline.id, failing.clone(), Checks::Pending).await.unwrap();
    let runs = "acorn-one created Waits for CI: the checks of this commit have not passed yet.";
    assert_eq!(screen(&server, pipeline.id).await, runs);
    platform.checks_changed(pipeline.id, failing, Checks::Failed).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-one created Waits for CI: a check of this commit failed.");
    assert_eq!(server.served(&app).await, "v3");
    // Who told once is waited for.
    let passing = push("one", "web: listen-after 3ms");
    assert_eq!(screen(&server, pipeline.id).await, runs);
    platform.checks_changed(pipeline.id, passing, Checks::Succeeded).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-one created");
    assert_eq!(server.served(&app).await, "v4");

    // One that is asked for waits too; what is given by hand would be forgotten meanwhile.
    let second = push("two", "web: listen-after 4ms");
    let vars = BTreeMap::from([(shipway_domain::ConfigKey::parse("COLOUR").unwrap(), "red".to_string())]);
    let with_vars = NewReviewApp { environment: vars, ..of_branch("two") };
    let refused = platform.create_review_app(&server.caller, &pipeline, with_vars).await.unwrap_err();
    assert!(refused.message.contains("Leave `environment` out, or ask again then."), "{refused}");
    let made = platform.create_review_app(&server.caller, &pipeline, of_branch("two")).await.unwrap();
    assert_eq!(made.status, ReviewAppStatus::Pending);
    let shown = screen(&server, pipeline.id).await;
    assert_eq!(shown, "acorn-one created\n- pending Waits for CI: the checks of this commit have not passed yet.");
    platform.checks_changed(pipeline.id, second, Checks::Succeeded).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-one created\nacorn-two created");
}
