//! The dashboard in Chromium, which `tests/pages/drive.mjs` has do what it is told here.
//!
//! `bin/test` runs these. By hand, with `npm ci` done in `tests/pages`:
//! `SHIPWAY_TEST_PAGES=$PWD/tests/pages cargo nextest run -p shipway-web --run-ignored all browser`

use crate::stage::{OWNER, Stage, run};
use serde_json::{Value, json};
use shipway_dashboard::path;
use shipway_domain::review::{Checks, ReviewAppStatus};
use shipway_domain::{BranchName, CommitId, ReviewAppId, Stage as Place};
use shipway_engine::{NewReviewApp, ReviewSource, Settings};
use shipway_store::{ConfigVars, Pipeline, PullRequest, ReviewApp, ReviewAppSettings, ReviewOrigin};
use shipway_testkit::until;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The directory of `drive.mjs` and `axe.mjs`, with their modules installed.
fn scripts() -> PathBuf {
    std::env::var_os("SHIPWAY_TEST_PAGES").expect("SHIPWAY_TEST_PAGES names tests/pages").into()
}

/// Chromium, signed in.
struct Chromium {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Chromium {
    fn open(stage: &Stage, size: &[&str]) -> Self {
        let mut node = Command::new("node");
        node.current_dir(scripts()).args(["drive.mjs", &stage.url("")]).args(size);
        let mut process = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node starts");
        let (commands, answers) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut browser = Self { process, commands, answers };
        browser.tell(json!(["sign_in", stage.token]));
        browser
    }

    /// Has a command of `drive.mjs` carried out.
    #[track_caller]
    fn tell(&mut self, command: Value) -> Value {
        writeln!(self.commands.as_mut().unwrap(), "{command}").expect("the driver listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{command}: {e}: {line:?}"));
        assert!(answer["error"].is_null(), "{}", answer["error"].as_str().unwrap_or_default());
        answer["ok"].clone()
    }

    #[track_caller]
    fn see(&mut self, selector: &str, text: &str) {
        self.tell(json!(["see", selector, text]));
    }

    /// Where these begin, from the top of the page.
    #[track_caller]
    fn tops(&mut self, selectors: &[&str]) -> Vec<Value> {
        selectors.iter().map(|selector| self.tell(json!(["top", selector]))).collect()
    }

    /// Nothing is wrong with the page, and it has complained of nothing.
    #[track_caller]
    fn holds(&mut self) {
        assert_eq!(self.tell(json!(["wrong"])), json!([]));
        assert_eq!(self.tell(json!(["complaints"])), json!([]));
    }

    /// By Tab to what is called `name`, and Enter.
    #[track_caller]
    fn enter(&mut self, name: &str) {
        self.tell(json!(["reach", name]));
        self.tell(json!(["press", "Enter"]));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The end of its input ends it, and the browser with it.
        self.commands.take();
        for _ in 0..100 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that lets an app start as slowly as a browser needs to see it.
async fn patient() -> Stage {
    Stage::with(|settings| Settings { boot_seconds: 30, ..settings }).await
}

/// A pipeline with an app in staging and one in production that runs other code.
async fn line(stage: &Stage) -> Pipeline {
    let (staging, production) = (stage.create("shop-staging").await, stage.create("shop").await);
    let pipeline = stage.platform.create_pipeline(&stage.caller, "acorn").await.unwrap();
    for (app, place) in [(&staging, Place::Staging), (&production, Place::Production)] {
        stage.platform.couple(&stage.caller, &pipeline, app, place).await.unwrap();
    }
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Invoices in the customer’s language");
    checkout.deploy("shop").await;
    // Slow enough to be seen while it starts.
    checkout.write(&[("Procfile", "web: listen-after 3000ms\n")], "Round totals per line, not per cart");
    checkout.deploy("shop-staging").await;
    pipeline
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: bin/test"]
async fn pages_hold_in_a_real_browser() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\nworker: sleep\n")], "Sell things");
    checkout.deploy("shop").await;
    checkout.write(&[("Procfile", "web: broken-build\n")], "Break it");
    assert!(!checkout.run(&["push", &checkout.remote("shop"), "main"]).await.0);
    let app = stage.platform.app(&stage.caller, &shipway_domain::NameOrId::parse("shop")).unwrap();
    let set = [("KEY".to_string(), Some("value".to_string()))].into();
    stage.platform.set_config_vars(&stage.caller, &app, set).await.unwrap();
    let mut node = Command::new("node");
    node.current_dir(scripts()).args(["axe.mjs", &stage.url(""), &stage.token]);
    let output = run(node).await;
    let [said, complaints] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{said}{complaints}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: bin/test"]
async fn the_board_follows_a_promotion_that_is_made_elsewhere() {
    let stage = patient().await;
    let pipeline = line(&stage).await;
    let mut browser = Chromium::open(&stage, &[]);
    browser.tell(json!(["open", path("pipeline", &["acorn"])]));
    browser.see("main", "v2 of shop-staging");
    browser.see(".production .card", "Invoices in the customer’s language");
    let landmarks = ["h1", ".staging h3", ".production h3", "#activity"];
    let before = browser.tops(&landmarks);

    let targets = json!([{ "app": "shop" }]);
    let order = json!({ "pipeline": pipeline.id, "source": { "app": "shop-staging" }, "targets": targets });
    let made = stage.call(&stage.token, "POST", "/pipeline-promotions", &order).await;
    assert_eq!(made.status, 201, "{}", made.body);
    browser.see(".production .under", "Wait until they are healthy");
    assert_eq!(browser.tops(&landmarks), before, "nothing moves while it goes on");
    browser.holds();
    browser.see(".production .card", "Round totals per line, not per cart");
    browser.see("main", "Nothing of shop-staging waits for production.");
    browser.see(".staging .card", "No changes to promote");
    browser.see("#activity ~ ul", "promoted");
    assert_eq!(browser.tops(&landmarks), before, "nor when it is done");
    assert_eq!(browser.tell(json!(["stayed"])), json!(true), "without a reload");
    browser.holds();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: bin/test"]
async fn promoting_and_going_back_without_a_mouse() {
    let stage = patient().await;
    line(&stage).await;
    let mut browser = Chromium::open(&stage, &[]);
    browser.tell(json!(["open", path("pipeline", &["acorn"])]));
    // The difference can be looked at and left, and the focus is where it was.
    browser.enter("Promote to production…");
    browser.see("dialog", "Round totals per line, not per cart");
    browser.holds();
    browser.tell(json!(["press", "Escape"]));
    let on = browser.tell(json!(["focused"]));
    assert!(on["name"].as_str().unwrap().contains("Promote to production…"), "{on}");
    browser.tell(json!(["press", "Enter"]));
    browser.see("dialog", "Promote shop-staging v2 to production?");
    browser.enter("Promote to production");
    browser.see("h1", "Promote");
    // The operation is followed to its end, and the way back stands beside it.
    browser.see(".steps", "Wait until they are healthy");
    browser.see("main", "It serves now: shop");
    browser.holds();
    assert!(browser.tell(json!(["at"])).as_str().unwrap().starts_with("/dashboard/operations/"));
    browser.enter("Roll back to v2…");
    browser.see("dialog", "Roll shop back to v2?");
    browser.enter("Roll back to v2");
    browser.see("h1", "Rollback to v2");
    browser.see("main", "It serves now: shop");
    browser.holds();
    let app = stage.platform.app(&stage.caller, &shipway_domain::NameOrId::parse("shop")).unwrap();
    assert_eq!(stage.platform.release(&app, "current").unwrap().description, "Rollback to v2");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: bin/test"]
async fn signing_explaining_allowing_and_a_whole_product_without_a_mouse() {
    let stage = patient().await;
    let pipeline = line(&stage).await;
    review(&stage, &pipeline, 7, "Gift cards", Checks::Succeeded, ReviewAppStatus::Pending).await;
    let from_a_fork = stage.platform.store().write(move |c| {
        let request = c.pull_requests(pipeline.id)?.remove(0);
        let row = c.review_apps(pipeline.id)?.remove(0);
        let fork = Some("mallory/shop".to_string());
        c.put_pull_request(&PullRequest { fork: fork.clone(), ..request })?;
        c.put_review_app(&ReviewApp { fork, ..row })
    });
    from_a_fork.await.unwrap();
    let parties = json!({ "parties": [{ "name": "qa", "people": [OWNER] }] });
    let at = "/shipway/v1/pipelines/acorn/stages/production/parties";
    assert_eq!(stage.call(&stage.token, "PUT", at, &parties).await.status, 200);
    let commit = stage.ask("/shipway/v1/apps/shop-staging/status").await["commit"].as_str().unwrap().to_string();
    stage.contradict("acorn", "staging", &commit).await;

    let mut browser = Chromium::open(&stage, &[]);
    browser.tell(json!(["open", path("pipeline", &["acorn"])]));
    browser.see("main", "lacks the sign-off of qa");
    browser.enter("Sign off for production as qa");
    browser.see("[role=status]", &format!("You signed {} off for production, as qa.", &commit[..7]));
    browser.holds();
    browser.enter("Allow the build…");
    browser.see("dialog", "mallory/shop");
    browser.holds();
    browser.enter("Allow 0000000");
    browser.see("[role=status]", "0000000");
    let request = stage.platform.store().read(|c| c.pull_request(pipeline.id, 7)).unwrap().unwrap();
    assert_eq!(request.allowed, Some(request.commit));

    // What speaks against it stands there, and the way past it is a sentence.
    browser.enter("Promote to production…");
    browser.see("dialog", "says web is sha256:0000");
    browser.tell(json!(["reach", "Why? It is kept with it."]));
    browser.tell(json!(["type", "That image never ran"]));
    browser.holds();
    browser.enter("Promote to production");
    browser.see("main", "It serves now: shop");
    browser.holds();

    stage.platform.create_product(&stage.caller, "store", &["acorn".to_string()]).await.unwrap();
    assert_eq!(stage.call(&stage.token, "PUT", at, &json!({ "parties": [] })).await.status, 200);
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Gift cards");
    let (pushed, screen) = checkout.run(&["push", "-f", &checkout.remote("shop-staging"), "main"]).await;
    assert!(pushed, "{screen}");
    browser.tell(json!(["open", path("product", &["store"])]));
    browser.enter("Promote staging to production…");
    browser.see("dialog", "Promote all of store from staging to production?");
    browser.see("dialog", "Gift cards");
    browser.holds();
    browser.enter("Promote to production");
    browser.see("main", "It serves now: shop");
    browser.holds();
    stage.end().await;
}

/// Puts a review app with a pull request on the board: one that runs, fails its checks, or waits.
async fn review(stage: &Stage, pipeline: &Pipeline, number: u64, title: &str, checks: Checks, status: ReviewAppStatus) {
    let (store, now) = (stage.platform.store(), stage.platform.now());
    let commit = CommitId::parse(&format!("{number:040x}")).unwrap();
    let branch = BranchName::parse(&format!("change-{number}")).unwrap();
    let request = PullRequest {
        pipeline: pipeline.id,
        number,
        title: title.into(),
        branch: branch.clone(),
        commit: commit.clone(),
        fork: None,
        open: true,
        checks,
        allowed: None,
        parked: None,
        changed_at: now,
    };
    let app = match status {
        ReviewAppStatus::Created => Some(stage.create(&format!("acorn-pr-{number}")).await),
        _ => None,
    };
    let waits = "Waits for CI: the checks of this commit have not passed yet.";
    let row = ReviewApp {
        id: ReviewAppId(uuid::Uuid::new_v4()),
        pipeline: pipeline.id,
        origin: ReviewOrigin::PullRequest,
        app: app.as_ref().map(|app| app.id),
        app_name: app.as_ref().map(|app| app.name.clone()),
        setup: None,
        pr_number: Some(number),
        branch,
        fork: None,
        commit,
        status,
        message: (status == ReviewAppStatus::Pending).then(|| waits.into()),
        creator: stage.caller.actor.account,
        deployed_at: now,
        created_at: now,
        updated_at: now,
    };
    store
        .write(move |c| {
            c.put_pull_request(&request)?;
            c.put_review_app(&row)
        })
        .await
        .unwrap();
    if let Some(app) = app {
        stage.platform.couple(&stage.caller, pipeline, &app, Place::Review).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: bin/test"]
async fn a_board_with_much_on_it_and_a_review_app_that_is_tried_again() {
    let stage = patient().await;
    let pipeline = line(&stage).await;
    let (platform, caller) = (&stage.platform, &stage.caller);
    for n in 2..=5 {
        let app = stage.create(&format!("invoices-of-the-northern-eu-{n}")).await;
        platform.couple(caller, &pipeline, &app, Place::Staging).await.unwrap();
    }
    let settings = ReviewAppSettings { wait_for_ci: true, ..ReviewAppSettings::default() };
    platform.set_review_app_config(caller, &pipeline, move |s| *s = settings).await.unwrap();
    let long = "A title that goes on and on, because whoever wrote it had much to say about what it is that changes";
    for number in 1..=40 {
        let (title, checks, status) = match number {
            1 => (long, Checks::Failed, ReviewAppStatus::Created),
            2..=4 => ("Faster search", Checks::Pending, ReviewAppStatus::Pending),
            _ => ("Gift cards", Checks::Succeeded, ReviewAppStatus::Created),
        };
        review(&stage, &pipeline, number, title, checks, status).await;
    }
    // What it lacks is not in its code, so that only somebody's word can mend it.
    let checkout = stage.checkout();
    let app_json = r#"{ "env": { "TOKEN_OF_THE_BANK": { "required": true } } }"#;
    checkout.write(&[("Procfile", "web: listen\n"), ("app.json", app_json)], "Pay by bank");
    checkout.now(&["branch", "-M", "pay"]);
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop-staging"), "pay"]).await;
    assert!(pushed, "{screen}");
    let new = NewReviewApp {
        branch: BranchName::parse("pay").unwrap(),
        pr_number: None,
        source: ReviewSource::Branch,
        environment: ConfigVars::new(),
    };
    let made = platform.create_review_app(caller, &pipeline, new).await.unwrap();
    until("it has failed", async || {
        let review = platform.review_app(caller, made.id).unwrap();
        (review.status == ReviewAppStatus::Errored).then_some(())
    })
    .await;

    for size in [&[][..], &["narrow"]] {
        let mut browser = Chromium::open(&stage, size);
        browser.tell(json!(["open", path("pipeline", &["acorn"])]));
        browser.see(".review h2", "41");
        browser.see(".review", "and 33 more.");
        browser.see(".review .card", "checks failed");
        browser.see(".review .failure", "TOKEN_OF_THE_BANK");
        assert_eq!(browser.tell(json!(["text", ".staging .card h3"])).as_array().unwrap().len(), 5);
        browser.holds();
        browser.tell(json!(["open", format!("{}?q=%2317", path("pipeline", &["acorn"]))]));
        assert_eq!(browser.tell(json!(["text", ".review .card h3"])).as_array().unwrap().len(), 1);
        browser.holds();
    }

    let set = [("TOKEN_OF_THE_BANK".to_string(), Some("given".to_string()))].into();
    platform.set_stage_config(caller, &pipeline, Place::Review, set).await.unwrap();
    let mut browser = Chromium::open(&stage, &[]);
    browser.tell(json!(["open", format!("{}?q=pay", path("pipeline", &["acorn"]))]));
    browser.enter("Retry");
    browser.see("main", "The review app of pay is being made again.");
    browser.see(".review .pill.good", "up");
    browser.see(".review h3 a", "acorn-pay");
    browser.holds();
    stage.end().await;
}
