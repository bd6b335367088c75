//! What would change, what is not alike, and what a way back has to mind: with real repositories.

use crate::pages::Browser;
use crate::stage::{Checkout, Stage};
use serde_json::{Value, json};
use shipway_dashboard::path;
use shipway_domain::Stage as PipelineStage;
use shipway_engine::{NewAddon, TogetherOrder};
use shipway_store::App;
use std::collections::BTreeMap;

const DJANGO: &str =
    "from django.db import migrations\n\nclass Migration(migrations.Migration):\n    operations = []\n";

impl Checkout {
    /// Commits files with a message.
    pub fn write(&self, files: &[(&str, &str)], message: &str) -> String {
        for (path, content) in files {
            let path = self.directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.now(&["add", "."]);
        self.now(&["commit", "-q", "--allow-empty", "-m", message]);
        self.now(&["rev-parse", "HEAD"])
    }

    /// Pushes what is checked out to an app's main.
    pub async fn deploy(&self, app: &str) -> String {
        let (pushed, screen) = self.run(&["push", "-f", &self.remote(app), "HEAD:main"]).await;
        assert!(pushed, "{screen}");
        screen
    }
}

impl Stage {
    pub async fn ask(&self, path: &str) -> Value {
        let answer = self.call(&self.token, "GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Two apps, in staging and production of the pipeline `shop`.
    pub async fn pipeline(&self) -> (App, App) {
        let (staging, production) = (self.create("shop-staging").await, self.create("shop").await);
        let pipeline = self.platform.create_pipeline(&self.caller, "shop").await.unwrap();
        for (app, stage) in [(&staging, PipelineStage::Staging), (&production, PipelineStage::Production)] {
            self.platform.couple(&self.caller, &pipeline, app, stage).await.unwrap();
        }
        (staging, production)
    }

    async fn configure(&self, app: &App, vars: &[(&str, &str)]) {
        let vars: BTreeMap<_, _> = vars.iter().map(|(k, v)| ((*k).to_string(), Some((*v).to_string()))).collect();
        self.platform.set_config_vars(&self.caller, app, vars).await.unwrap();
    }
}

fn each<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_staging_would_change_on_production() {
    let stage = Stage::open().await;
    let (staging, production) = stage.pipeline().await;
    let checkout = stage.checkout();
    let first = [
        ("Procfile", "web: listen\n"),
        ("manage.py", ""),
        ("orders/migrations/0001_initial.py", DJANGO),
        ("app.json", r#"{ "cron": [{ "command": "bin/sweep", "schedule": "0 4 * * *" }] }"#),
    ];
    let old = checkout.write(&first, "Sell things");
    checkout.deploy("shop").await;
    stage.configure(&production, &[("SAME", "1"), ("VITE_API", "https://prod"), ("ONLY_HERE", "secret-value")]).await;
    let app_json = r#"{
        "cron": [{ "command": "bin/sweep", "schedule": "*/10 * * * *" }],
        "name": "Shop", "description": "Sells <b>things</b>.\nAll day.", "keywords": ["till"], "success_url": "/welcome",
        "website": "https://shop.example/about", "repository": "https://git.example/shop", "logo": "http://evil.example/x.svg"
    }"#;
    let second = [
        ("Procfile", "web: listen\nworker: sleep\n"),
        ("orders/migrations/0002_total.py", DJANGO),
        ("app.json", app_json),
    ];
    let buildpacks = ["heroku/nodejs", "heroku/procfile"].map(String::from).to_vec();
    stage.platform.set_buildpacks(&stage.caller, &staging, buildpacks).await.unwrap();
    checkout.write(&second, "Add totals (#12)\n\nLong \x1b]0;story\x07");
    let new = checkout.write(&[("README", "\x1b[2J\n")], "\x1b]0;owned\x07Say so");
    checkout.deploy("shop-staging").await;
    stage.configure(&staging, &[("SAME", "1"), ("VITE_API", "https://staging"), ("NEW", "other-value")]).await;

    let found = stage.ask("/shipway/v1/compare?base=production&head=staging&pipeline=shop").await;
    assert_eq!((&found["base"]["commit"], &found["head"]["commit"]), (&json!(old), &json!(new)));
    assert_eq!((&found["base"]["stage"], &found["same_artifact"]), (&json!("production"), &json!(false)));
    assert_eq!(each(&found["commits"]["ahead"], "subject"), ["]0;ownedSay so", "Add totals (#12)"]);
    assert_eq!((&found["commits"]["ahead_count"], &found["commits"]["behind_count"]), (&json!(2), &json!(0)));
    assert_eq!(found["commits"]["pull_requests"], json!([{ "number": 12, "title": "Add totals" }]));
    assert_eq!(found["commits"]["authors"], json!([{ "name": "Ada", "commits": 2 }]));
    assert_eq!((&found["size"]["files"], &found["size"]["commits"]), (&json!(4), &json!(2)));
    assert_eq!(found["config"]["added"], json!(["NEW"]));
    assert_eq!(found["config"]["removed"], json!(["ONLY_HERE"]));
    assert_eq!((&found["config"]["changed"], &found["config"]["baked"]), (&json!(["VITE_API"]), &json!(["VITE_API"])));
    assert_eq!(found["processes"], json!([{ "name": "worker", "base": null, "head": "sleep" }]));
    assert_eq!(found["schedules"], json!([{ "name": "bin/sweep", "base": "0 4 * * *", "head": "*/10 * * * *" }]));
    let buildpacks =
        json!([{ "name": "buildpacks", "base": "heroku/procfile", "head": "heroku/nodejs, heroku/procfile" }]);
    assert_eq!(found["build"], buildpacks);
    assert_eq!(each(&found["migrations"]["added"], "name"), ["0002_total"]);
    let text = found.to_string();
    assert!(!text.contains("secret-value") && !text.contains("https://prod"), "values are never told: {text}");
    assert!(!text.contains("\\u001b"), "attack 12: {text}");

    // The other way round, by names of apps, and by releases and commits of one app.
    let back = stage.ask("/shipway/v1/compare?base=shop-staging&head=shop").await;
    assert_eq!((&back["commits"]["behind_count"], &back["commits"]["ahead_count"]), (&json!(2), &json!(0)));
    assert_eq!(each(&back["migrations"]["removed"], "name"), ["0002_total"]);
    checkout.deploy("shop").await;
    let releases = stage.ask("/shipway/v1/compare?base=shop@v2&head=shop@v4").await;
    assert_eq!(releases["commits"]["ahead_count"], 2);
    assert_eq!(releases["config"]["added"], json!(["ONLY_HERE", "SAME", "VITE_API"]));
    // What the app is to be built with next says nothing of what built its releases; a promotion brings what did.
    stage.platform.set_buildpacks(&stage.caller, &production, vec!["heroku/python".into()]).await.unwrap();
    assert_eq!(stage.ask("/shipway/v1/compare?base=shop@v2&head=shop@v4").await["build"], json!([]));
    let order = TogetherOrder { from: "shop-staging".into(), to: "shop".into(), ..TogetherOrder::default() };
    let promoted = stage.platform.promote_together(&stage.caller, &order).await.unwrap();
    stage.platform.promoted(promoted.promotion.id).await.unwrap();
    assert_eq!(stage.ask("/shipway/v1/compare?base=shop@v2&head=shop@v5").await["build"], buildpacks);
    said_by_app_json(&stage).await;
    let commits = stage.ask(&format!("/shipway/v1/compare?base=shop@{}&head=shop@main", &old[..7])).await;
    assert_eq!((&commits["commits"]["ahead_count"], &commits["config"]), (&json!(2), &Value::Null));
    let same = stage.ask("/shipway/v1/compare?base=production&head=staging").await;
    assert_eq!((&same["commits"]["ahead_count"], &same["migrations"]["added"]), (&json!(0), &json!([])));
    assert_eq!((&same["same_artifact"], &same["config"]["changed"]), (&json!(true), &json!(["VITE_API"])));
    assert_eq!(same["config"]["baked"], json!([]), "both run the same build");
    stage.end().await;
}

/// What the app.json of the promoted code says, where people look. Its addresses are links; nothing of them is loaded, and
/// a logo that is not of https is not even that.
async fn said_by_app_json(stage: &Stage) {
    let about = stage.ask("/shipway/v1/apps/shop/status").await["about"].take();
    assert_eq!((&about["name"], &about["keywords"]), (&json!("Shop"), &json!(["till"])));
    assert_eq!(about["success_url"], json!(format!("{}welcome", stage.platform.web_url("shop"))));
    assert_eq!((&about["website"], &about["logo"]), (&json!("https://shop.example/about"), &Value::Null));
    let page = Browser::sign_in(stage, &stage.token).await.get(&path("app", &["shop"])).await.body;
    assert!(page.contains("Sells &lt;b&gt;things&lt;/b&gt;.") && page.contains("till"), "{page}");
    assert!(page.contains("href=\"https://shop.example/about\"") && !page.contains("evil.example"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sides_that_are_not_there_are_said() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    let refused = async |token: &str, query: &str| {
        let answer = stage.call(token, "GET", &format!("/shipway/v1/compare?{query}"), &Value::Null).await;
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_string())
    };
    let mine = stage.token.clone();
    let check = async |query: &str, status: u16, words: &str| {
        let (found, message) = refused(&mine, query).await;
        assert!(found == status && message.contains(words), "{query}: {found} {message}");
    };
    check("base=shop", 422, "Name `head`").await;
    check("base=shop&head=nobody", 404, "There is no app \"nobody\"").await;
    check("base=shop&head=shop@v9", 404, "shop has no release v9.").await;
    check("base=shop&head=shop@deadbeef", 404, "shop has no commit \"deadbeef\".").await;
    check("base=shop&head=shop@--output=x", 404, "has no commit").await;
    check("base=shop&head=development", 422, "No pipeline that you can see has an app in development.").await;
    check("base=shop&head=staging&pipeline=other", 404, "pipeline").await;
    // Two apps in one stage.
    let qa = stage.create("shop-qa").await;
    let pipeline = stage.platform.pipelines(&stage.caller).unwrap().remove(0);
    stage.platform.couple(&stage.caller, &pipeline, &qa, PipelineStage::Staging).await.unwrap();
    check(
        "base=shop&head=staging",
        422,
        "Several apps stand in staging: shop-staging (shop), shop-qa (shop). Name one.",
    )
    .await;
    // Nothing was deployed yet.
    let empty = stage.ask("/shipway/v1/compare?base=shop&head=shop-staging").await;
    assert_eq!(empty["unknown"], json!(["shop v1 has no code.", "shop-staging v1 has no code."]));
    assert_eq!((&empty["commits"], &empty["migrations"]), (&Value::Null, &Value::Null));
    // What may not be seen does not exist.
    let (_, theirs) = stage.person("eve@example.org").await;
    assert_eq!(refused(&theirs, "base=shop&head=shop-staging").await.0, 404);
    assert_eq!(refused(&theirs, "base=production&head=staging").await.0, 422);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parity_of_two_apps() {
    let stage = Stage::open().await;
    let (staging, production) = stage.pipeline().await;
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\nworker: sleep\n")], "Work");
    checkout.deploy("shop").await;
    checkout.deploy("shop-staging").await;
    let alike = stage.ask("/shipway/v1/parity?base=staging&head=production").await;
    assert_eq!((&alike["formation"], &alike["build"], &alike["domains"]), (&json!([]), &json!([]), &json!([])));
    stage.configure(&production, &[("SENTRY_DSN", "x")]).await;
    stage.configure(&staging, &[("DEBUG", "x")]).await;
    stage.platform.add_domain(&stage.caller, &production, "www.example.org").await.unwrap();
    let scaled = json!({ "updates": [{ "type": "web", "quantity": 2, "size": "standard-1x" }] });
    assert_eq!(stage.call(&stage.token, "PATCH", "/apps/shop/formation", &scaled).await.status, 200);
    let found = stage.ask("/shipway/v1/parity?base=staging&head=production").await;
    let web = json!({ "name": "web", "base": "1 x basic", "head": "2 x standard-1x" });
    assert_eq!(found["formation"], json!([web]), "{found}");
    assert_eq!((&found["config"]["added"], &found["config"]["removed"]), (&json!(["SENTRY_DSN"]), &json!(["DEBUG"])));
    assert_eq!(found["domains"], json!([{ "name": "www.example.org", "base": null, "head": "yes" }]));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_warns_when_the_schema_has_moved_on() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let checkout = stage.checkout();
    let first = [("Procfile", "web: listen\n"), ("manage.py", ""), ("orders/migrations/0001_initial.py", DJANGO)];
    checkout.write(&first, "One");
    checkout.deploy("shop").await;
    checkout.write(&[("README", "more\n")], "Two");
    checkout.deploy("shop").await;
    checkout.write(&[("orders/migrations/0002_total.py", DJANGO)], "Three");
    checkout.deploy("shop").await;

    let preview = stage.ask("/shipway/v1/apps/shop/rollback").await;
    assert_eq!(preview["to"]["version"], 3);
    let said: Vec<&str> = preview["warning"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(
        &said[..4],
        [
            "The schema has moved on since v3, whose code does not know: orders.0002_total (Django).",
            "To take them back, the last one first, with the code of v4 running:",
            "  heroku run -a shop \"python manage.py migrate orders 0001_initial\"",
            "They need the code of v4. Once v3 runs, go on again first: heroku rollback v4 -a shop",
        ]
    );
    assert_eq!(said[4..], ["There is no backup from before v4, to put the database back as it was."]);
    // The Heroku CLI prints this header.
    let answer = stage.call(&stage.token, "POST", "/apps/shop/releases", &json!({ "release": "v3" })).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert!(answer.header("x-heroku-warning").unwrap().starts_with("the schema has moved on since v3"));
    assert_eq!(answer.json()["description"], "Rollback to v3");
    // From there the schema is still that of v4; and there is nothing to say on the way on, or between v2 and v3.
    assert_eq!(stage.ask("/shipway/v1/apps/shop/rollback?to=v2").await["schema"]["with_code_of"], 4);
    assert_eq!(stage.ask("/shipway/v1/apps/shop/rollback?to=v4").await["warning"], json!([]));
    let on = stage.call(&stage.token, "POST", "/shipway/v1/apps/shop/rollback", &json!({ "release": "v4" })).await;
    assert_eq!((on.status, &on.json()["version"]), (201, &json!(6)));
    assert!(on.header("x-heroku-warning").is_none());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_has_the_migrations_is_no_way_back_before_them() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let plan = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
    let addon = stage.platform.create_addon(&stage.caller, &app, plan).await.unwrap();
    let checkout = stage.checkout();
    let first = [("Procfile", "web: listen\n"), ("manage.py", ""), ("orders/migrations/0001_initial.py", DJANGO)];
    checkout.write(&first, "One");
    checkout.deploy("shop").await;
    checkout.write(&[("orders/migrations/0002_total.py", DJANGO)], "Two");
    checkout.deploy("shop").await;
    let backup = stage.platform.capture(&stage.caller, &addon).await.unwrap();
    stage.platform.live(backup.operation).await.unwrap();
    // More code since than is looked at for migrations.
    for n in 0..10 {
        checkout.write(&[("README", &format!("{n}\n"))], "More");
        checkout.deploy("shop").await;
    }
    let preview = stage.ask("/shipway/v1/apps/shop/rollback?to=v3").await;
    let said = preview["warning"].as_array().unwrap().last().unwrap();
    assert_eq!(said, "There is no backup from before v4, to put the database back as it was.");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_past_a_release_that_failed_names_what_can_be_done() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let checkout = stage.checkout();
    let first = [("Procfile", "web: listen\n"), ("manage.py", ""), ("orders/migrations/0001_initial.py", DJANGO)];
    checkout.write(&first, "One");
    checkout.deploy("shop").await;
    let plan = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
    let addon = stage.platform.create_addon(&stage.caller, &app, plan).await.unwrap();
    let backup = stage.platform.capture(&stage.caller, &addon).await.unwrap();
    stage.platform.live(backup.operation).await.unwrap();
    let second =
        [("Procfile", "web: listen\nrelease: echo migrated;exit 4\n"), ("orders/migrations/0002_total.py", DJANGO)];
    let commit = checkout.write(&second, "Two");
    checkout.run(&["push", "-f", &checkout.remote("shop"), "HEAD:main"]).await;

    let preview = stage.ask("/shipway/v1/apps/shop/rollback?to=v3").await;
    let said: Vec<&str> = preview["warning"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(
        said[3],
        format!(
            "They need the code of v4, which failed: push {} again with its release phase mended, then run the commands.",
            &commit[..7]
        )
    );
    assert!(said[4].starts_with("Or put the database back as it was in b001 of "), "{said:?}");
    assert!(said[4].ends_with("heroku pg:backups:restore b001 -a shop"), "{said:?}");
    stage.end().await;
}
