//! Review apps and app setups: a team's day with pull requests and branches, as sessions.

use jiff::{SignedDuration, Timestamp};
use shipway_domain::pipeline::Stage;
use shipway_domain::review::{AppSetupStatus, BranchName, Checks, ReviewAppStatus};
use shipway_domain::{CommitId, NameOrId, PipelineId};
use shipway_engine::ports::PullRequestNews;
use shipway_engine::{Faults, Moment, NewAddon, NewReviewApp, ReviewSource, UpdateApp, UpdateCoupling};
use shipway_runtime::fake::Fault;
use shipway_store::{App, Pipeline, ReviewApp, ReviewAppSettings};
use shipway_testkit::{Ground, Server, Trial, until};
use std::collections::BTreeMap;
use std::sync::Arc;

const APP_JSON: &str = r#"{
  "name": "Acorn",
  "scripts": { "postdeploy": "echo seeded $COLOUR", "pr-predestroy": "echo bye" },
  "env": { "COLOUR": "plain", "SECRET_KEY": { "generator": "secret" }, "SENTRY_DSN": { "required": false } },
  "formation": { "worker": { "quantity": 1 }, "clock": { "quantity": 1 } },
  "environments": { "review": { "env": { "COLOUR": "review" } } }
}"#;

/// A platform with the pipeline `acorn` and its app `acorn-staging`, review apps enabled.
pub async fn with_pipeline(server: &Server, settings: ReviewAppSettings) -> (Pipeline, App) {
    let platform = &server.platform;
    let pipeline = platform.create_pipeline(&server.caller, "acorn").await.unwrap();
    let parent = server.create("acorn-staging").await;
    platform.couple(&server.caller, &pipeline, &parent, Stage::Staging).await.unwrap();
    set(server, &parent, "STRIPE_KEY", "sk_parent").await;
    set(server, &parent, "DATABASE_URL", "postgres://parent").await;
    platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = settings).await.unwrap();
    (pipeline, parent)
}

pub fn automatic() -> ReviewAppSettings {
    ReviewAppSettings { automatic_review_apps: true, ..ReviewAppSettings::default() }
}

async fn set(server: &Server, app: &App, key: &str, value: &str) {
    let vars = BTreeMap::from([(key.to_string(), Some(value.to_string()))]);
    server.platform.set_config_vars(&server.caller, app, vars).await.unwrap();
    server.settled(app).await;
}

pub fn commit(server: &Server, procfile: &str, app_json: &str) -> CommitId {
    server.ground.repositories.commit_of(&[("Procfile", procfile), ("app.json", app_json)])
}

fn second(n: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + n).unwrap()
}

pub fn news(number: u64, commit: &CommitId, open: bool, at: i64) -> PullRequestNews {
    PullRequestNews {
        number,
        title: format!("Change {number}"),
        branch: BranchName::parse(&format!("change-{number}")).unwrap(),
        commit: commit.clone(),
        fork: None,
        open,
        changed_at: second(at),
    }
}

/// Looks until nothing is under way, and shows the review apps: `acorn-pr-7 created Change…`.
pub async fn screen(server: &Server, pipeline: PipelineId) -> String {
    loop {
        server.platform.review_all().await.unwrap();
        let open = server.platform.store().read(|c| c.open_operations()).unwrap();
        let rows = server.platform.store().read(|c| c.review_apps(pipeline)).unwrap();
        let busy = |r: &ReviewApp| matches!(r.status, ReviewAppStatus::Creating | ReviewAppStatus::Deleting);
        if open.is_empty() && !rows.iter().any(busy) {
            let line = |r: &ReviewApp| {
                let name = r.app_name.as_ref().map_or("-".into(), ToString::to_string);
                let message = r.message.as_deref().and_then(|m| m.lines().next()).unwrap_or_default();
                format!("{name} {} {message}", r.status).trim_end().to_string()
            };
            let live = rows.iter().filter(|r| r.status != ReviewAppStatus::Deleted);
            return live.map(line).collect::<Vec<_>>().join("\n");
        }
        server.quiet().await;
    }
}

fn config(server: &Server, app: &str) -> BTreeMap<String, String> {
    let vars = server.platform.store().read(|c| c.config_vars(server.app(app).id)).unwrap();
    vars.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

pub fn names(server: &Server) -> Vec<String> {
    server.apps().iter().map(|a| a.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_from_opening_to_closing() {
    let server = Ground::new().server(None).await;
    let (pipeline, parent) = with_pipeline(&server, automatic()).await;
    // The parent's database under other names.
    let plan = NewAddon { plan: "heroku-postgresql".into(), name: Some("gold".into()), ..NewAddon::default() };
    server.platform.create_addon(&server.caller, &parent, plan).await.unwrap();
    let attached = server.platform.store().read(|c| c.attached_vars(parent.id)).unwrap();
    let url = attached.values().next().unwrap().clone();
    set(&server, &parent, "REPLICA_URL", &url).await;
    set(&server, &parent, "PGPASSWORD", url.split(['@', ':']).nth(2).unwrap()).await;
    let first = commit(&server, "web: listen\nworker: sleep", APP_JSON);
    server.platform.pull_request_changed(pipeline.id, news(7, &first, true, 0)).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-7 created");

    let app = server.app("acorn-pr-7");
    assert_eq!(server.settled(&app).await, "web.1 up, worker.1 up");
    assert_eq!(server.served(&app).await, "v2");
    assert_eq!(server.platform.coupling_of(&app).unwrap().stage, Stage::Review);
    let mut vars = config(&server, "acorn-pr-7");
    assert_eq!(vars.remove("SECRET_KEY").map(|s| s.len()), Some(64), "made up");
    let vars: Vec<String> = vars.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        vars,
        [
            "COLOUR=review",
            "HEROKU_BRANCH=change-7",
            "HEROKU_PARENT_APP_NAME=acorn-staging",
            "HEROKU_PR_NUMBER=7",
            "STRIPE_KEY=sk_parent"
        ],
        "inherited, but never what leads to the parent's data"
    );
    let setup = server.platform.store().read(|c| c.app_setup(reviewed(&server, &app).setup.unwrap())).unwrap().unwrap();
    assert_eq!((setup.status, setup.postdeploy_status), (AppSetupStatus::Succeeded, Some(0)));
    let transcript = server.transcript(&app);
    let withheld = "Not inherited, because they lead to the parent app's data: DATABASE_URL, PGPASSWORD, REPLICA_URL";
    assert!(transcript.contains("seeded") && transcript.contains(withheld), "{transcript}");
    let lost = "The formation of app.json has clock, the Procfile has not: no dyno of it will run";
    assert!(transcript.contains(lost), "{transcript}");

    // It would go with its pull request wherever it stood.
    let there = server.platform.coupling_of(&app).unwrap();
    let staging = UpdateCoupling { stage: Some(Stage::Staging), display_name: None };
    let moved = server.platform.update_coupling(&server.caller, &there, &app, staging).await.map(drop);
    for refused in [moved, server.platform.uncouple(&server.caller, &there, &app).await] {
        assert_eq!(
            refused.unwrap_err().message,
            "acorn-pr-7 is the review app of change-7: it stays in review, and goes with its database when change-7 does. To \
             keep the code, push it to an app of its own: heroku create, heroku pipelines:add. To remove it: shipway \
             reviewapps destroy -p acorn acorn-pr-7"
        );
    }

    // A push deploys; the postdeploy script is not run again.
    let next = commit(&server, "web: listen-after 1ms\nworker: sleep", APP_JSON);
    server.platform.pull_request_changed(pipeline.id, news(7, &next, true, 10)).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-7 created");
    assert_eq!(server.served(&app).await, "v3");
    assert!(!server.transcript(&app).contains("seeded"));

    // Closed: nothing is left. Opened again: the same address.
    server.platform.pull_request_changed(pipeline.id, news(7, &next, false, 20)).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "");
    assert_eq!(names(&server), ["acorn-staging"]);
    server.platform.pull_request_changed(pipeline.id, news(7, &next, true, 30)).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-7 created");
    assert_eq!(config(&server, parent.name.as_str()).len(), 5, "the parent is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_while_an_app_is_set_up_stays() {
    let server = Ground::new().server(None).await;
    let (pipeline, _) = with_pipeline(&server, automatic()).await;
    let app_json = r#"{ "addons": ["heroku-postgresql:essential-0"], "env": { "COLOUR": "plain", "PAGE": "small" } }"#;
    let commit = commit(&server, "web: listen", app_json);
    server.ground.addons.slow.send_replace(true);
    server.platform.pull_request_changed(pipeline.id, news(7, &commit, true, 0)).await.unwrap();
    until("its database is in the making", async || {
        server.platform.review_all().await.unwrap();
        (server.ground.addons.making() == 1).then_some(())
    })
    .await;
    let app = server.app("acorn-pr-7");
    let change = UpdateApp { name: Some("oak".into()), maintenance: Some(true), ..UpdateApp::default() };
    server.platform.update_app(&server.caller, &app, change).await.unwrap();
    let colour = BTreeMap::from([("COLOUR".to_string(), Some("green".to_string()))]);
    server.platform.set_config_vars(&server.caller, &app, colour).await.unwrap();
    server.ground.addons.slow.send_replace(false);
    screen(&server, pipeline.id).await;

    let app = server.app("oak");
    assert_eq!(server.settled(&app).await, "web.1 up");
    assert!(app.maintenance);
    let vars = config(&server, "oak");
    assert_eq!((vars["COLOUR"].as_str(), vars["PAGE"].as_str()), ("green", "small"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postdeploy_script_that_cannot_be_run_has_failed_and_the_app_runs() {
    let ground = Ground::new();
    let runtime = ground.runtime.clone();
    let faults: Faults = Arc::new(move |step, moment| {
        if (step, moment) == ("postdeploy", Moment::Started) {
            (0..10).for_each(|_| runtime.arm(Fault::FailStart("no room".into())));
        }
        None
    });
    let server = ground.server(Some(faults)).await;
    let (pipeline, _) = with_pipeline(&server, automatic()).await;
    let seeds = commit(&server, "web: listen", r#"{ "scripts": { "postdeploy": "echo seeded" } }"#);
    server.platform.pull_request_changed(pipeline.id, news(7, &seeds, true, 0)).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    assert!(shown.starts_with("acorn-pr-7 errored The postdeploy script could not be run: "), "{shown}");
    assert_eq!(server.served(&server.app("acorn-pr-7")).await, "v2");
}

pub fn reviewed(server: &Server, app: &App) -> ReviewApp {
    server.platform.review_app_of(app).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_json_lacks_is_said_by_name_and_nothing_is_left() {
    let server = Ground::new().server(None).await;
    let (pipeline, _) = with_pipeline(&server, automatic()).await;
    let broken = commit(&server, "web: listen", "{\n  \"env\": { \"A\": 1 }\n}");
    server.platform.pull_request_changed(pipeline.id, news(1, &broken, true, 0)).await.unwrap();
    let needs = commit(
        &server,
        "web: listen",
        "{ \"env\": {\n \"API_KEY\": { \"description\": \"Ask Ida.\" },\n \"STRIPE_KEY\": { \"required\": true } } }",
    );
    server.platform.pull_request_changed(pipeline.id, news(2, &needs, true, 0)).await.unwrap();
    let addons = commit(&server, "web: listen", "{\n \"addons\": [\"acme-search:tiny\"] }");
    server.platform.pull_request_changed(pipeline.id, news(3, &addons, true, 0)).await.unwrap();
    let crashes = commit(&server, "web: exit 3", "{}");
    server.platform.pull_request_changed(pipeline.id, news(4, &crashes, true, 0)).await.unwrap();
    let postdeploy = commit(&server, "web: listen", r#"{ "scripts": { "postdeploy": "echo oops;exit 4" } }"#);
    server.platform.pull_request_changed(pipeline.id, news(5, &postdeploy, true, 0)).await.unwrap();
    let cobol = "{\n \"buildpacks\": [{\n \"url\": \"heroku/cobol\" }] }";
    let cobol = commit(&server, "web: listen", cobol);
    server.platform.pull_request_changed(pipeline.id, news(6, &cobol, true, 0)).await.unwrap();
    let cedar = commit(&server, "web: listen", "{\n\"stack\": \"cedar-14\" }");
    server.platform.pull_request_changed(pipeline.id, news(7, &cedar, true, 0)).await.unwrap();
    screen(&server, pipeline.id).await;
    let rows = server.platform.review_apps(&pipeline).unwrap();
    let messages: Vec<&str> = rows.iter().map(|r| r.message.as_deref().unwrap_or_default()).collect();
    assert_eq!(
        messages[0],
        "The repository's app.json is not valid:\napp.json:2:17: env.A must be a string, or an object with \
         `description`, `value`, `required` or `generator`, not a number"
    );
    assert_eq!(
        messages[1],
        "acorn-pr-2 lacks config vars that its app.json requires:\n  API_KEY (app.json line 2): Ask Ida.\n\
         Set them on the parent app or for the pipeline's stage, or give them a value in app.json."
    );
    assert_eq!(
        messages[2],
        "This platform has no add-on acme-search:tiny (app.json line 2). Take it out of app.json, or have review apps made \
         without such: shipway reviewapps set acorn --without-addons true"
    );
    assert!(messages[3].starts_with("H10: web.1 ended with status 3"), "{}", messages[3]);
    assert_eq!(messages[4], "The postdeploy script exited with status 4. Its last line: oops");
    assert!(messages[5].starts_with("There is no buildpack heroku/cobol here (app.json line 3)."), "{}", messages[5]);
    assert!(messages[6].starts_with("There is no stack \"cedar-14\""), "{}", messages[6]);
    assert!(messages[6].ends_with("It is named in line 2 of app.json."), "{}", messages[6]);
    assert!(rows.iter().all(|r| r.status == ReviewAppStatus::Errored));
    assert_eq!(names(&server), ["acorn-pr-5", "acorn-staging"], "what failed before it ran is gone");
    let setup = server.platform.store().read(|c| c.app_setup(rows[0].setup.unwrap())).unwrap().unwrap();
    assert_eq!(setup.manifest_errors.len(), 1);

    // The same commit is not tried again; another one is, under the same name.
    let fixed = commit(&server, "web: listen", "{}");
    server.platform.pull_request_changed(pipeline.id, news(1, &fixed, true, 10)).await.unwrap();
    assert!(screen(&server, pipeline.id).await.starts_with("acorn-pr-1 created\nacorn-pr-2 errored acorn-pr-2 lacks"));

    // Without add-ons that are not here, where the team says so.
    let without = ReviewAppSettings { without_addons: true, ..automatic() };
    server.platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = without).await.unwrap();
    let again = commit(&server, "web: listen-after 1ms", "{\n \"addons\": [\"acme-search:tiny\"] }");
    server.platform.pull_request_changed(pipeline.id, news(3, &again, true, 10)).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    assert!(shown.contains("\nacorn-pr-3 created\n"), "{shown}");
    let transcript = server.transcript(&server.app("acorn-pr-3"));
    assert!(transcript.contains("Left out, as asked for: acme-search:tiny (app.json line 2)"), "{transcript}");
    // Made again by hand, one keeps the address that it had.
    let stage = BTreeMap::from([("API_KEY".to_string(), Some("k".to_string()))]);
    server.platform.set_stage_config(&server.caller, &pipeline, Stage::Review, stage).await.unwrap();
    let second = server.platform.review_apps(&pipeline).unwrap()[1].clone();
    server.platform.retry_review_app(&server.caller, &pipeline, second).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    assert!(shown.contains("\nacorn-pr-2 created\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_34_the_name_of_a_review_app_is_nobody_elses() {
    let server = Ground::new().server(None).await;
    let (pipeline, parent) = with_pipeline(&server, automatic()).await;
    let crashes = commit(&server, "web: exit 3", "{}");
    server.platform.pull_request_changed(pipeline.id, news(7, &crashes, true, 0)).await.unwrap();
    assert!(screen(&server, pipeline.id).await.starts_with("acorn-pr-7 errored"));
    // It has no app at the moment; its address is still its own.
    let new = shipway_engine::NewApp { name: Some("acorn-pr-7".into()), ..shipway_engine::NewApp::default() };
    let taken = server.platform.create_app(&server.caller, new).await.unwrap_err();
    assert!(taken.message.starts_with("Name acorn-pr-7 is already taken"), "{taken}");
    let rename = shipway_engine::UpdateApp { name: Some("acorn-pr-7".into()), ..shipway_engine::UpdateApp::default() };
    let taken = server.platform.update_app(&server.caller, &parent, rename).await.unwrap_err();
    assert!(taken.message.starts_with("Name acorn-pr-7 is already taken"), "{taken}");
    // Somebody who was there first keeps the name; the review app gets another one.
    server.create("acorn-pr-8").await;
    let good = commit(&server, "web: listen", "{}");
    server.platform.pull_request_changed(pipeline.id, news(8, &good, true, 0)).await.unwrap();
    let shown = screen(&server, pipeline.id).await;
    let eighth = shown.lines().nth(1).unwrap();
    assert!(eighth.starts_with("acorn-pr-8-") && eighth.ends_with(" created"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_27_a_fork_gets_no_secrets_and_no_build_until_a_maintainer_allows_its_commit() {
    let server = Ground::new().server(None).await;
    let (pipeline, _) = with_pipeline(&server, automatic()).await;
    let stage = BTreeMap::from([("STAGE_SECRET".to_string(), Some("s3cret".to_string()))]);
    server.platform.set_stage_config(&server.caller, &pipeline, Stage::Review, stage).await.unwrap();
    // A change of app.json that wants to see everything.
    let hostile = r#"{ "env": { "STRIPE_KEY": { "required": false }, "STAGE_SECRET": { "required": false } },
                       "scripts": { "postdeploy": "env STRIPE_KEY;env STAGE_SECRET;env DATABASE_URL" } }"#;
    let evil = commit(&server, "web: listen", hostile);
    let fork = |commit: &CommitId, at| PullRequestNews { fork: Some("eve/acorn".into()), ..news(9, commit, true, at) };
    server.platform.pull_request_changed(pipeline.id, fork(&evil, 0)).await.unwrap();
    let builds = || server.ground.builder.builds.load(std::sync::atomic::Ordering::SeqCst);
    assert!(screen(&server, pipeline.id).await.starts_with("- pending Waits for a maintainer"));
    assert_eq!(builds(), 0);
    // By hand neither.
    let by_hand = NewReviewApp {
        branch: BranchName::parse("change-9").unwrap(),
        pr_number: Some(9),
        source: ReviewSource::Branch,
        environment: BTreeMap::new(),
    };
    let refused = server.platform.create_review_app(&server.caller, &pipeline, by_hand).await.unwrap_err();
    assert!(refused.message.contains("already") || refused.message.contains("fork"), "{refused}");

    server.platform.allow_pull_request(&server.caller, &pipeline, 9, None).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-9 created");
    let app = server.app("acorn-pr-9");
    let vars: Vec<String> = config(&server, "acorn-pr-9").into_keys().collect();
    assert_eq!(vars, ["HEROKU_BRANCH", "HEROKU_PARENT_APP_NAME", "HEROKU_PR_NUMBER"]);
    let transcript = server.transcript(&app);
    assert!(!transcript.contains("sk_parent") && !transcript.contains("s3cret"), "{transcript}");

    // The next commit waits again, and what was allowed runs on.
    let second = commit(&server, "web: listen-after 1ms", "{}");
    server.platform.pull_request_changed(pipeline.id, fork(&second, 10)).await.unwrap();
    assert!(screen(&server, pipeline.id).await.starts_with("acorn-pr-9 created Waits for a maintainer"));
    assert_eq!((server.served(&app).await.as_str(), builds()), ("v2", 1));
    // Unless the team wants it otherwise.
    let keep = ReviewAppSettings { keep_fork_permission: true, ..automatic() };
    server.platform.set_review_app_config(&server.caller, &pipeline, move |s| *s = keep).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-9 created");
    assert_eq!((server.served(&app).await.as_str(), builds()), ("v3", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_ci_age_and_room() {
    let server = Ground::new().server(None).await;
    let settings = ReviewAppSettings { wait_for_ci: true, quota: 1, destroy_stale_apps: true, ..automatic() };
    let (pipeline, parent) = with_pipeline(&server, settings).await;
    let platform = &server.platform;
    let good = commit(&server, "web: listen", "{}");

    let by_hand = |branch: &str| NewReviewApp {
        branch: BranchName::parse(branch).unwrap(),
        pr_number: None,
        source: ReviewSource::Branch,
        environment: BTreeMap::new(),
    };
    let missing = platform.create_review_app(&server.caller, &pipeline, by_hand("login")).await.unwrap_err();
    assert_eq!(
        missing.message,
        "There is no such branch. Push it to acorn-staging first: git push <remote of acorn-staging> <branch>"
    );
    server.ground.repositories.set_head(parent.id, "login", Some(&good));
    platform.create_review_app(&server.caller, &pipeline, by_hand("login")).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-login created");
    let twice = platform.create_review_app(&server.caller, &pipeline, by_hand("login")).await.unwrap_err();
    assert!(twice.message.contains("acorn-login (created)"), "{twice}");
    // A push to the branch.
    let next = commit(&server, "web: listen-after 1ms", "{}");
    server.ground.repositories.set_head(parent.id, "login", Some(&next));
    screen(&server, pipeline.id).await;
    assert_eq!(server.served(&server.app("acorn-login")).await, "v3");

    // A pull request waits for its checks, then for room.
    platform.pull_request_changed(pipeline.id, news(1, &good, true, 0)).await.unwrap();
    assert!(
        screen(&server, pipeline.id)
            .await
            .ends_with("- pending Waits for CI: the checks of this commit have not passed yet.")
    );
    platform.checks_changed(pipeline.id, good.clone(), Checks::Succeeded).await.unwrap();
    assert!(
        screen(&server, pipeline.id)
            .await
            .ends_with("- pending Waits for room: 1 review apps are there, which is the most. Close one.")
    );
    // The branch is deleted: its app goes, and the other one comes.
    server.ground.repositories.set_head(parent.id, "login", None);
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-1 created");

    // Nobody touched it for six days: it goes, and does not come back for the same commit.
    server.ground.world.jump(SignedDuration::from_hours(6 * 24));
    assert_eq!(screen(&server, pipeline.id).await, "");
    platform.pull_request_changed(pipeline.id, news(1, &good, true, 50)).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "");
    platform.pull_request_changed(pipeline.id, news(1, &next, true, 60)).await.unwrap();
    platform.checks_changed(pipeline.id, next, Checks::Succeeded).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "acorn-pr-1 created");
    // Removed by hand: the same.
    let review = reviewed(&server, &server.app("acorn-pr-1"));
    platform.delete_review_app(&server.caller, &review).await.unwrap();
    assert_eq!(screen(&server, pipeline.id).await, "");
    assert_eq!(names(&server), ["acorn-staging"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_app_is_not_released_without_what_its_app_json_insists_on() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let push = async |app_json: &str| {
        let commit = commit(&server, "web: listen", app_json);
        let (_, operation) = server.platform.deploy(&server.caller, &app, commit).await.unwrap();
        server.outcome(operation).await
    };
    let insists = r#"{ "env": { "API_KEY": { "required": true }, "OTHER": {} } }"#;
    assert_eq!(
        push(insists).await.unwrap_err(),
        "acorn lacks config vars that its app.json requires:\n  API_KEY (app.json line 1)\n\
         Set them: heroku config:set API_KEY=… -a acorn"
    );
    assert_eq!(server.releases(&app).len(), 1, "it used no number");
    set(&server, &app, "API_KEY", "k").await;
    assert_eq!(push(insists).await.as_deref(), Ok("v3"));
    // A file that is wrong is told, and holds nothing up.
    assert_eq!(push("{ \"env\": 7 }").await.as_deref(), Ok("v4"));
    assert!(server.transcript(&app).contains("app.json:1:10: env must be an object, not a number"));
}

/// Without secrets that are made up: two runs must look the same.
const PLAIN: &str = r#"{ "scripts": { "postdeploy": "echo seeded", "pr-predestroy": "echo bye" },
                         "env": { "COLOUR": "plain" }, "formation": { "worker": { "quantity": 1 } } }"#;

/// The parent, and a branch that is pushed.
async fn with_branch(server: Arc<Server>) {
    let (_, parent) = with_pipeline(&server, ReviewAppSettings::default()).await;
    let good = commit(&server, "web: listen\nworker: sleep", PLAIN);
    server.ground.repositories.set_head(parent.id, "login", Some(&good));
}

async fn make(server: &Server) {
    let pipeline = server.platform.pipeline(&server.caller, &NameOrId::Name("acorn".into())).unwrap();
    let new = NewReviewApp {
        branch: BranchName::parse("login").unwrap(),
        pr_number: None,
        source: ReviewSource::Branch,
        environment: BTreeMap::new(),
    };
    let _ = server.platform.create_review_app(&server.caller, &pipeline, new).await;
}

/// The review apps, and how many setups say what.
async fn look(server: Arc<Server>) -> String {
    let pipeline = server.platform.pipeline(&server.caller, &NameOrId::Name("acorn".into())).unwrap();
    let rows = server.platform.review_apps(&pipeline).unwrap();
    let lines: Vec<String> =
        rows.iter().map(|r| format!("{} {} app={}", r.branch, r.status, r.app.is_some())).collect();
    format!("review apps: {}\n", lines.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_review_app_is_made_whole_or_not_at_all() {
    let trial = Trial::of(|server| async move { make(&server).await }).on(with_branch).looking_at(look);
    let undisturbed = trial.undisturbed().await;
    assert!(undisturbed.after.contains("login created app=true"), "{}", undisturbed.after);
    let steps: Vec<&str> = undisturbed.points.iter().map(|p| p.0.as_str()).collect();
    assert!(steps.contains(&"create") && steps.contains(&"setup") && steps.contains(&"postdeploy"), "{steps:?}");
    trial.survives_death(&undisturbed).await;
    trial.repeats(&undisturbed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_review_app_that_fails_leaves_nothing_but_its_reason() {
    let trial = Trial::of(|server| async move { make(&server).await })
        .on(|server| async move {
            with_branch(server.clone()).await;
            let parent = server.app("acorn-staging");
            let bad = commit(&server, "web: exit 3\nrelease: echo migrated", PLAIN);
            server.ground.repositories.set_head(parent.id, "login", Some(&bad));
        })
        .looking_at(look);
    let undisturbed = trial.undisturbed().await;
    assert!(undisturbed.after.contains("login errored app=false"), "{}", undisturbed.after);
    assert!(!undisturbed.after.contains("acorn-login "), "{}", undisturbed.after);
    trial.survives_death(&undisturbed).await;
    trial.repeats(&undisturbed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_review_app_ends_whole() {
    let trial = Trial::of(|server| async move {
        let review = reviewed(&server, &server.app("acorn-login"));
        server.platform.delete_review_app(&server.caller, &review).await.unwrap();
    })
    .on(|server| async move {
        with_branch(server.clone()).await;
        make(&server).await;
        server.quiet().await;
    })
    .looking_at(look);
    let undisturbed = trial.undisturbed().await;
    assert!(undisturbed.before.contains("login created app=true"), "{}", undisturbed.before);
    assert!(undisturbed.after.ends_with("review apps: \n"), "{}", undisturbed.after);
    trial.survives_death(&undisturbed).await;
    trial.repeats(&undisturbed).await;
}
