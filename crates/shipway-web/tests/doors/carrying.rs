//! What the board carries on besides the next stage: with a reason, past a stage, all of a product, a fork's commit.

use crate::pages::Browser;
use crate::stage::Stage;
use serde_json::json;
use shipway_dashboard::path;
use shipway_domain::review::{Checks, ReviewAppStatus};
use shipway_domain::{BranchName, CommitId, NameOrId, ReviewAppId, Stage as Place};
use shipway_store::{App, Pipeline, PipelineSettings, PullRequest, ReviewApp, ReviewAppSettings, ReviewOrigin};
use shipway_testkit::until;

impl Stage {
    /// A pipeline with these apps.
    async fn line(&self, name: &str, apps: &[(&App, Place)]) -> Pipeline {
        let pipeline = self.platform.create_pipeline(&self.caller, name).await.unwrap();
        for (app, place) in apps {
            self.platform.couple(&self.caller, &pipeline, app, *place).await.unwrap();
        }
        pipeline
    }

    /// A record at `environment` that names code which nobody has.
    pub(crate) async fn contradict(&self, pipeline: &str, environment: &str, commit: &str) {
        let records = format!("/repos/shipway/{pipeline}/deployments");
        let payload = json!({ "docker_image_shas": { "web": "sha256:0000" } });
        let new = json!({ "ref": commit, "environment": environment, "payload": payload });
        let made = self.call(&self.token, "POST", &records, &new).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let statuses = format!("{records}/{}/statuses", made.json()["id"]);
        assert_eq!(self.call(&self.token, "POST", &statuses, &json!({ "state": "success" })).await.status, 201);
    }

    fn runs(&self, app: &App) -> String {
        let app = self.platform.app(&self.caller, &NameOrId::Id(app.id.0)).unwrap();
        self.platform.release(&app, "current").unwrap().description
    }

    async fn promoted(&self, app: &App, what: &str) {
        until(what, async || self.runs(app).starts_with(what).then_some(())).await;
    }

    /// Why the newest promotion was asked for.
    fn reason(&self) -> String {
        let ledger = self.platform.store().read(|c| c.ledger(None, 50)).unwrap();
        let asked = ledger.iter().find(|entry| entry.action == "promotion-asked").unwrap();
        asked.detail["reason"].as_str().unwrap_or_default().to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_that_needs_a_reason_asks_for_it() {
    let stage = Stage::open().await;
    let (dev, staging, live) =
        (stage.create("shop-dev").await, stage.create("shop-staging").await, stage.create("shop").await);
    let apps = [(&dev, Place::Development), (&staging, Place::Staging), (&live, Place::Production)];
    let pipeline = stage.line("acorn", &apps).await;
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    checkout.deploy("shop-staging").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let promote = path("promote", &["acorn", "shop-staging"]);
    assert!(!browser.get(&promote).await.body.contains("name=\"reason\""), "nothing speaks against it");

    stage.contradict("acorn", "staging", &commit).await;
    let asked = browser.get(&promote).await.body;
    assert!(asked.contains("says web is sha256:0000") && asked.contains("name=\"reason\" required"), "{asked}");
    let without = browser.post(&promote, &promote, &[("release", "v2")]).await;
    assert!(without.status == 409 && without.body.contains("Nothing was promoted."), "{}", without.body);
    let sent = browser.post(&promote, &promote, &[("release", "v2"), ("reason", "That image never ran")]).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    stage.promoted(&live, "Promote shop-staging v2").await;
    assert_eq!(stage.reason(), "That image never ran");

    // Past a stage: where the pipeline allows it, with a reason.
    checkout.commit("web: listen; echo 2\n");
    checkout.deploy("shop-dev").await;
    let past = path("promote", &["acorn", "shop-dev"]);
    let beyond = format!("{past}?to=production");
    assert!(!browser.get(&past).await.body.contains("Promote to production instead"));
    let refused = browser.get(&beyond).await.body;
    assert!(refused.contains("leaves out staging, which the pipeline acorn does not allow."), "{refused}");
    assert!(!refused.contains("name=\"release\""), "no form: {refused}");
    let settings = PipelineSettings { may_skip_stages: true, ..pipeline.settings.clone() };
    stage.platform.change_pipeline_settings(&stage.caller, &pipeline, move |s| *s = settings).await.unwrap();
    assert!(browser.get(&past).await.body.contains("Promote to production instead"));
    let asked = browser.get(&beyond).await.body;
    assert!(asked.contains("It leaves out staging.") && asked.contains("name=\"reason\" required"), "{asked}");
    let fields = [("release", "v2"), ("to", "production")];
    let without = browser.post(&beyond, &past, &fields).await;
    assert!(without.status == 422 && without.body.contains("say why"), "{}", without.body);
    let sent = browser.post(&beyond, &past, &[&fields[..], &[("reason", "Staging is being moved")]].concat()).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    stage.promoted(&live, "Promote shop-dev v2").await;
    assert_eq!(stage.reason(), "Staging is being moved");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_board_says_what_production_lacks_of_what_the_code_insists_on() {
    let stage = Stage::open().await;
    let (staging, _) = stage.pipeline().await;
    let vars = [("TOKEN_OF_THE_BANK".to_string(), Some("x".to_string()))];
    stage.platform.set_config_vars(&stage.caller, &staging, vars.into()).await.unwrap();
    stage.platform.create_product(&stage.caller, "store", &["shop".to_string()]).await.unwrap();
    let checkout = stage.checkout();
    let app_json = r#"{ "env": { "TOKEN_OF_THE_BANK": { "required": true } } }"#;
    checkout.write(&[("Procfile", "web: listen\n"), ("app.json", app_json)], "Ask the bank");
    checkout.deploy("shop-staging").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let promote = path("promote", &["shop", "shop-staging"]);
    let together = format!("{}?from=staging&to=production", path("together", &["store"]));
    for ask in [&promote, &together] {
        let asked = browser.get(ask).await.body;
        assert!(asked.contains("shop lacks") && asked.contains("heroku config:set TOKEN_OF_THE_BANK"), "{asked}");
        assert!(!asked.contains("<button class=\"primary\">Promote"), "{asked}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_is_promoted_from_its_board() {
    let stage = Stage::open().await;
    let mut lives = Vec::new();
    for name in ["odb", "sso"] {
        let (staging, live) = (stage.create(&format!("{name}-staging")).await, stage.create(name).await);
        stage.line(name, &[(&staging, Place::Staging), (&live, Place::Production)]).await;
        lives.push(live);
    }
    let pipelines = ["odb".to_string(), "sso".to_string()];
    stage.platform.create_product(&stage.caller, "store", &pipelines).await.unwrap();
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let board = path("product", &["store"]);
    assert!(browser.get(&board).await.body.contains("odb-staging has no code yet"), "why nothing moves is said");
    let checkout = stage.checkout();
    let commit = checkout.commit("web: listen\n");
    checkout.deploy("odb-staging").await;
    checkout.deploy("sso-staging").await;
    let shown = browser.get(&board).await.body;
    assert!(shown.contains("Promote staging to production…"), "{shown}");

    // What would move stands before the button; when it is something else by now, nothing moves.
    let together = path("together", &["store"]);
    let ask = format!("{together}?from=staging&to=production");
    let asked = browser.get(&ask).await.body;
    for words in ["Promote all of store from staging to production?", "on odb, sso.", "odb: Migrations", "sso: Config"]
    {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let seen = asked.split_once("name=\"seen\" value=\"").unwrap().1.split('"').next().unwrap().to_string();
    let form = |seen: &str| {
        vec![("from", "staging"), ("to", "production"), ("seen", seen)]
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect::<Vec<_>>()
    };
    let send = async |mut fields: Vec<(&'static str, String)>, more: &[(&'static str, &str)]| {
        fields.extend(more.iter().map(|(name, value)| (*name, value.to_string())));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post(&ask, &together, &fields).await
    };
    let nothing = send(form(""), &[]).await;
    assert!(nothing.status == 422 && nothing.body.contains("what you looked at"), "{}", nothing.body);
    let other = send(form(&seen.replacen("odb=", "odb=0", 1)), &[]).await;
    assert!(other.status == 409 && other.body.contains("moved since you looked"), "{}", other.body);
    stage.contradict("odb", "staging", &commit).await;
    assert!(browser.get(&ask).await.body.contains("name=\"reason\" required"));
    assert_eq!(send(form(&seen), &[]).await.status, 409);

    let sent = send(form(&seen), &[("reason", "That image never ran")]).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    assert!(sent.header("location").unwrap().starts_with("/dashboard/operations/"), "{}", sent.head);
    for live in &lives {
        stage.promoted(live, &format!("Promote {}-staging v2", live.name)).await;
    }
    assert_eq!(stage.reason(), "That image never ran");
    until("all is done, and said", async || {
        let shown = browser.get(&board).await.body;
        shown.contains("No changes to promote: production already runs all that staging runs.").then_some(())
    })
    .await;

    // Who sees one of the pipelines alone moves nothing; who sees none, sees no product.
    let (eve, token) = stage.person("eve@example.org").await;
    let outside = Browser::sign_in(&stage, &token).await;
    assert_eq!(outside.get(&ask).await.status, 404);
    stage.platform.add_collaborator(&stage.caller, &lives[0], &eve.actor.email).await.unwrap();
    let refused = outside.get(&ask).await;
    assert!(refused.status == 200 && !refused.body.contains("name=\"seen\""), "{}", refused.body);
    let posted = outside.post(&board, &together, &[("from", "staging"), ("to", "production"), ("seen", &seen)]).await;
    assert!(posted.status >= 400, "{}", posted.body);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_stood_by_when_another_failed_says_so_everywhere() {
    let stage = Stage::open().await;
    let checkout = stage.checkout();
    for name in ["odb", "sso"] {
        let (staging, live) = (stage.create(&format!("{name}-staging")).await, stage.create(name).await);
        stage.line(name, &[(&staging, Place::Staging), (&live, Place::Production)]).await;
    }
    stage.platform.create_product(&stage.caller, "store", &["odb".to_string(), "sso".to_string()]).await.unwrap();
    checkout.commit("web: listen\n");
    for app in ["odb-staging", "sso-staging", "odb", "sso"] {
        checkout.deploy(app).await;
    }
    checkout.commit("web: listen; echo 2\n");
    checkout.deploy("odb-staging").await;
    // It is well under its own name, and nowhere else.
    let check = r#"{ "healthchecks": { "web": [{ "type": "startup", "path": "/up", "status": "200" }] } }"#;
    checkout.write(&[("Procfile", "web: listen-strict sso-staging.localhost\n"), ("app.json", check)], "Check");
    checkout.deploy("sso-staging").await;
    let order = json!({ "from": "staging", "to": "production", "product": "store" });
    let begun = stage.call(&stage.token, "POST", "/shipway/v1/promotions", &order).await.json();
    let operation = begun["operation"]["id"].as_str().unwrap().to_string();
    let promotion = format!("/shipway/v1/promotions/{}", begun["id"].as_str().unwrap());
    let ended = until("it is over", async || {
        let now = stage.ask(&promotion).await;
        (now["status"] != "pending").then_some(now)
    })
    .await;
    let left = "Left as it was: the new dynos of sso did not become healthy.";
    let of = |app: &str| ended["targets"].as_array().unwrap().iter().find(|t| t["app"]["name"] == app).unwrap().clone();
    assert_eq!((&of("odb")["status"], &of("odb")["error"]), (&json!("failed"), &json!(left)));
    assert!(of("sso")["error"].as_str().unwrap().starts_with("sso: "), "{ended}");

    // The Heroku CLI says "release expired" of one, and "release command failed" of the other.
    for (app, status) in [("odb", "expired"), ("sso", "failed")] {
        assert_eq!(stage.ask(&format!("/apps/{app}/releases/3")).await["status"], status, "{app}");
    }
    let shown = stage.ask(&format!("/shipway/v1/operations/{operation}")).await;
    let errors: Vec<_> = shown["apps"].as_array().unwrap().iter().map(|app| (&app["name"], &app["error"])).collect();
    assert!(errors.contains(&(&json!("odb"), &json!(left))), "{shown}");
    let browser = Browser::sign_in(&stage, &stage.token).await;
    for (page, words) in [
        (path("app", &["odb"]), "Promote 2 apps changed nothing here; v2 serves on."),
        (path("pipeline", &["odb"]), left),
        (path("release", &["odb", "v3"]), "v3 was not released; v2 serves on."),
        (path("releases", &["odb"]), "expired"),
        (path("app.activity", &["odb"]), "left the app as it was"),
        (path("app.activity", &["odb"]), left),
        (path("app", &["sso"]), "Promote 2 apps failed; v2 serves on."),
        (path("app.activity", &["sso"]), "failed to promote to the app"),
    ] {
        let page = browser.get(&page).await.body;
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_a_forks_commit_is_allowed_on_the_board_by_who_may_deploy() {
    let stage = Stage::open().await;
    let (staging, live) = (stage.create("shop-staging").await, stage.create("shop").await);
    let pipeline = stage.line("acorn", &[(&staging, Place::Staging), (&live, Place::Production)]).await;
    let commit = CommitId::parse(&"7".repeat(40)).unwrap();
    let (now, branch) = (stage.platform.now(), BranchName::parse("gift-cards").unwrap());
    let request = PullRequest {
        pipeline: pipeline.id,
        number: 7,
        title: "Gift cards".into(),
        branch: branch.clone(),
        commit: commit.clone(),
        fork: Some("mallory/shop".into()),
        open: true,
        checks: Checks::Unknown,
        allowed: None,
        parked: None,
        changed_at: now,
    };
    let row = ReviewApp {
        id: ReviewAppId(uuid::Uuid::new_v4()),
        pipeline: pipeline.id,
        origin: ReviewOrigin::PullRequest,
        app: None,
        app_name: None,
        setup: None,
        pr_number: Some(7),
        branch,
        fork: request.fork.clone(),
        commit: commit.clone(),
        status: ReviewAppStatus::Pending,
        message: Some("Waits for a maintainer.".into()),
        creator: stage.caller.actor.account,
        deployed_at: now,
        created_at: now,
        updated_at: now,
    };
    let written = stage.platform.store().write(move |c| {
        c.put_pull_request(&request)?;
        c.put_review_app(&row)
    });
    written.await.unwrap();
    let allowed = || stage.platform.store().read(|c| c.pull_request(pipeline.id, 7)).unwrap().unwrap().allowed;
    let (board, allow) = (path("pipeline", &["acorn"]), path("fork.allow", &["acorn", "7"]));

    // Who may deploy to another app of the pipeline sees that it waits, and may not change that.
    let (dev, token) = stage.person("dev@example.org").await;
    stage.platform.add_collaborator(&stage.caller, &live, &dev.actor.email).await.unwrap();
    let other = Browser::sign_in(&stage, &token).await;
    let shown = other.get(&board).await.body;
    assert!(shown.contains("mallory/shop") && !shown.contains("Allow the build"), "{shown}");
    assert!(!other.get(&allow).await.body.contains("name=\"commit\""));
    let posted = other.post(&board, &allow, &[("commit", commit.as_str())]).await;
    assert!((posted.status == 403 || posted.status == 404) && allowed().is_none(), "{}", posted.body);

    let browser = Browser::sign_in(&stage, &stage.token).await;
    assert!(browser.get(&board).await.body.contains("Allow the build…"));
    let asked = browser.get(&allow).await.body;
    assert!(
        asked.contains("mallory/shop") && asked.contains("Gift cards") && asked.contains("Allow 7777777"),
        "{asked}"
    );
    let moved = browser.post(&allow, &allow, &[("commit", &"8".repeat(40))]).await;
    assert!(moved.status == 409 && moved.body.contains("look again"), "{}", moved.body);
    assert_eq!(browser.post(&allow, &allow, &[]).await.status, 422);
    assert_eq!(allowed(), None);
    let sent = browser.post(&allow, &allow, &[("commit", commit.as_str())]).await;
    assert_eq!((sent.status, sent.header("location")), (303, Some(board.as_str())), "{}", sent.body);
    assert_eq!(allowed().as_ref(), Some(&commit));
    assert!(browser.get(&allow).await.body.contains("does not wait for it"), "once is enough");
    assert_eq!(browser.get(&path("fork.ask", &["acorn", "8"])).await.status, 404);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_review_app_is_made_and_removed_on_the_board() {
    let stage = Stage::open().await;
    let staging = stage.create("shop-staging").await;
    let pipeline = stage.line("acorn", &[(&staging, Place::Staging)]).await;
    let (board, make) = (path("pipeline", &["acorn"]), path("review.make", &["acorn"]));
    let browser = Browser::sign_in(&stage, &stage.token).await;
    assert!(!browser.get(&board).await.body.contains("Make a review app"), "review apps are not enabled");
    let settings = ReviewAppSettings::default();
    stage.platform.set_review_app_config(&stage.caller, &pipeline, move |s| *s = settings).await.unwrap();
    assert!(browser.get(&board).await.body.contains("Make a review app"));

    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop-staging"), "HEAD:login"]).await;
    assert!(pushed, "{screen}");
    let none = browser.post(&board, &make, &[("branch", "nowhere")]).await;
    assert!(none.status == 422 || none.status == 404, "{}: {}", none.status, none.body);
    assert_eq!(browser.post(&board, &make, &[("branch", "a b;c")]).await.status, 422);
    let made = browser.post(&board, &make, &[("branch", "login")]).await;
    assert_eq!((made.status, made.header("location")), (303, Some(board.as_str())), "{}", made.body);
    let review = until("it is there", async || {
        let all = stage.platform.review_apps(&pipeline).unwrap();
        all.into_iter().find(|review| review.status == ReviewAppStatus::Created)
    });
    let review = review.await;
    assert_eq!(browser.post(&board, &make, &[("branch", "login")]).await.status, 409, "there is one");

    // Who may only look has neither button, and is refused.
    let remove = path("review.remove", &["acorn", &review.id.to_string()]);
    let (dev, token) = stage.person("dev@example.org").await;
    let view = shipway_domain::admission::Permission::View;
    stage.platform.give_access(&stage.caller, &staging, &dev.actor.email, view).await.unwrap();
    let other = Browser::sign_in(&stage, &token).await;
    let shown = other.get(&board).await.body;
    assert!(!shown.contains("Make a review app") && !shown.contains("Remove…"), "{shown}");
    for (action, fields) in [(&make, vec![("branch", "login")]), (&remove, vec![])] {
        let status = other.post(&board, action, &fields).await.status;
        assert!(status == 403 || status == 404, "{action}: {status}");
    }

    let asked = browser.get(&remove).await.body;
    assert!(asked.contains("its database too") && asked.contains("It can be made again from its branch."), "{asked}");
    let sent = browser.post(&remove, &remove, &[]).await;
    assert_eq!((sent.status, sent.header("location")), (303, Some(board.as_str())), "{}", sent.body);
    until("it is gone", async || stage.platform.review_apps(&pipeline).unwrap().is_empty().then_some(())).await;
    stage.end().await;
}
