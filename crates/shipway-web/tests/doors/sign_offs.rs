//! Stages that want sign-offs, by git, by the API and by pages.

use crate::pages::Browser;
use crate::stage::Stage;
use serde_json::{Value, json};
use shipway_dashboard::path;
use shipway_domain::admission::{Permission, Scope};
use shipway_engine::NewToken;
use shipway_testkit::until;

const SIGN_OFFS: &str = "/shipway/v1/pipelines/shop/sign-offs";

fn of(stage: &str, what: &str) -> String {
    format!("/shipway/v1/pipelines/shop/stages/{stage}/{what}")
}

async fn require(stage: &Stage, at: &str, parties: Value) {
    let set = stage.call(&stage.token, "PUT", &of(at, "parties"), &json!({ "parties": parties })).await;
    assert_eq!(set.status, 200, "{}", set.body);
}

async fn sign(stage: &Stage, token: &str, at: &str, commit: &str, party: &str) -> (u16, Value) {
    let body = json!({ "commit": commit, "party": party, "comment": "Looks\nright" });
    let signed = stage.call(token, "POST", &of(at, "sign-offs"), &body).await;
    (signed.status, signed.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_refused_and_a_branch_waits_until_all_have_signed() {
    let stage = Stage::open().await;
    let (staging, production) = stage.pipeline().await;
    let (_, ada) = stage.person("ada@example.org").await;
    let (_, bob) = stage.person("bob@example.org").await;
    for (email, app) in [("ada@example.org", &staging), ("bob@example.org", &production)] {
        stage.platform.give_access(&stage.caller, app, email, Permission::View).await.unwrap();
    }
    for at in ["staging", "production"] {
        let parties = json!([
            { "name": "qa", "people": ["ada@example.org"] }, { "name": "product", "people": ["bob@example.org"] },
        ]);
        require(&stage, at, parties).await;
    }
    let triggers = "/shipway/v1/apps/shop-staging/triggers";
    let added = stage.call(&stage.token, "POST", triggers, &json!({ "branch": "staging" })).await;
    assert_eq!(added.status, 201, "{}", added.body);

    let checkout = stage.checkout();
    let commit = checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    let short = &commit[..7];
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    let sentence = format!(
        "production of shop takes only code that its parties have signed off, and {short} lacks the sign-off of qa and product \
         (shipway sign-off shop production {short} --as qa). Ask ada@example.org (qa) and bob@example.org (product)."
    );
    assert!(!pushed && screen.contains(&sentence), "{screen}");

    // The branch is kept, and what it would deploy waits.
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop-staging"), "main:staging"]).await;
    let waits = format!(
        "remote: -----> branch staging deploys shop-staging once it is signed off: {short} waits for the sign-off of qa and \
         product: shipway sign-off shop staging {short} --as qa"
    );
    assert!(pushed && screen.contains(&waits), "{screen}");
    let state = async || stage.ask(triggers).await["deploys"][0]["state"].as_str().map(String::from);
    assert_eq!(state().await.as_deref(), Some("waiting"));
    let listed = stage.ask(SIGN_OFFS).await;
    let first = &listed["waiting"][0];
    assert_eq!(
        (&first["commit"], &first["app"]["name"], &first["name"]),
        (&json!(commit), &json!("shop-staging"), &json!("staging"))
    );
    assert_eq!(first["missing"].as_array().map(Vec::len), Some(2), "{listed}");
    let page = path("pipeline", &["shop"]);
    let browser = Browser::sign_in(&stage, &ada).await;
    let board = browser.get(&page).await.body;
    assert!(board.contains("waits for the sign-off of qa and product"), "{board}");
    assert!(board.contains("Sign off for staging as qa"), "{board}");

    let (status, signed) = sign(&stage, &ada, "staging", short, "qa").await;
    assert_eq!((status, &signed["commit"], &signed["comment"]), (201, &json!(commit), &json!("Looks right")));
    assert_eq!(signed["missing"][0]["name"], "product", "{signed}");
    let (status, refused) = sign(&stage, &ada, "staging", short, "product").await;
    assert_eq!((status, &refused["id"]), (403, &json!("forbidden")), "{refused}");
    let (status, signed) = sign(&stage, &bob, "staging", short, "product").await;
    assert_eq!((status, &signed["missing"]), (201, &json!([])));
    until("it goes out by itself", async || (state().await.as_deref() == Some("succeeded")).then_some(())).await;
    assert_eq!(stage.ask(SIGN_OFFS).await["waiting"], json!([]));
    assert_eq!(stage.ask("/shipway/v1/apps/shop-staging/status").await["commit"], json!(commit));

    // For production it is another thing to sign; then the same bytes go on, and the push as well.
    let promote = json!({ "from": "staging", "to": "production" });
    let refused = stage.call(&stage.token, "POST", "/shipway/v1/promotions", &promote).await;
    assert!(refused.status == 403 && refused.json()["message"] == json!(sentence), "{}", refused.body);
    let couple = |app: &shipway_store::App| json!({ "app": { "id": app.id } });
    let order = json!({
        "pipeline": { "id": listed["pipeline"]["id"] }, "source": couple(&staging), "targets": [couple(&production)],
    });
    let refused = stage.call(&stage.token, "POST", "/pipeline-promotions", &order).await;
    assert!(refused.status == 403 && refused.json()["message"] == json!(sentence), "{}", refused.body);
    let owner = Browser::sign_in(&stage, &stage.token).await;
    let asked = owner.get(&path("promote.ask", &["shop", "shop-staging"])).await.body;
    assert!(asked.contains("lacks the sign-off of qa and product"), "{asked}");
    // By the board's button, and by the API.
    let board = browser.get(&page).await.body;
    let form = path("sign_off", &["shop", "production"]);
    assert!(
        board.contains(&format!("action=\"{form}\"")) && board.contains("Sign off for production as qa"),
        "{board}"
    );
    assert!(!board.contains("as product<"), "{board}");
    let pressed = browser.post(&page, &form, &[("commit", &commit), ("party", "qa")]).await;
    assert_eq!((pressed.status, pressed.header("location")), (303, Some(page.as_str())), "{}", pressed.body);
    let refused = browser.post(&page, &form, &[("commit", &commit), ("party", "product")]).await;
    assert!(refused.status == 403 && refused.body.contains("not for product"), "{}", refused.body);
    assert!(!browser.get(&page).await.body.contains("Sign off for"));
    assert_eq!(sign(&stage, &bob, "prod", &commit, "product").await.0, 201);
    let begun = stage.call(&stage.token, "POST", "/pipeline-promotions", &order).await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    until("production runs it", async || {
        let status = stage.ask("/shipway/v1/apps/shop/status").await;
        (status["commit"] == json!(commit)).then_some(())
    })
    .await;

    // Of anything else, the difference, and what would be taken.
    let next = checkout.write(&[("page.txt", "two\n")], "Say two");
    let next = &next[..7];
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "main"]).await;
    let said = [
        format!("remote:  !     Signed off is {short}: git push heroku {short}:main"),
        format!("remote:  !     {next} has, and it has not:"),
        format!("remote:  !       {next} Say two"),
    ];
    assert!(!pushed && said.iter().all(|line| screen.contains(line)), "{screen}");
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), &format!("{short}:main")]).await;
    assert!(pushed, "{screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_was_refused_is_the_same_code_when_it_is_signed_and_sent_again() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    require(&stage, "production", json!([{ "name": "qa", "people": [crate::stage::OWNER] }])).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("Procfile"), "web: listen\n").unwrap();
    let send = async || {
        let archive = directory.path().join("source.tgz");
        let mut tar = std::process::Command::new("tar");
        tar.current_dir(directory.path()).args(["-czf", "source.tgz", "Procfile"]);
        assert!(crate::stage::run(tar).await.status.success());
        let source = stage.call(&stage.token, "POST", "/apps/shop/sources", &json!({})).await.json();
        let put = source["source_blob"]["put_url"].as_str().unwrap().to_string();
        assert_eq!(
            stage.curl(&["-sS", "-i", "-H", "Expect:", "-T", archive.to_str().unwrap(), &put]).await.status,
            200
        );
        let build = json!({ "source_blob": { "url": source["source_blob"]["get_url"], "version": "v1" } });
        stage.call(&stage.token, "POST", "/apps/shop/builds", &build).await
    };
    let refused = send().await;
    let message = refused.json()["message"].as_str().unwrap_or_default().to_string();
    assert!(refused.status == 403 && message.contains("lacks the sign-off of qa"), "{}", refused.body);
    let short = message.split("shipway sign-off shop production ").nth(1).and_then(|rest| rest.get(..7)).unwrap();
    assert_eq!(sign(&stage, &stage.token, "production", short, "qa").await.0, 201);
    let begun = send().await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    until("it runs", async || {
        let builds = stage.ask("/shipway/v1/apps/shop/builds").await;
        builds.to_string().contains("succeeded").then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_13_who_may_say_what_a_stage_wants_and_who_signs() {
    let stage = Stage::open().await;
    let (_, production) = stage.pipeline().await;
    let mut people = Vec::new();
    let [view, deploy, manage] = [Permission::View, Permission::Deploy, Permission::Manage];
    for (name, permission) in [("eve", Some(view)), ("dan", Some(deploy)), ("max", Some(manage)), ("sam", None)] {
        let email = format!("{name}@example.org");
        let (caller, token) = stage.person(&email).await;
        if let Some(permission) = permission {
            stage.platform.give_access(&stage.caller, &production, &email, permission).await.unwrap();
        }
        people.push((caller, token));
    }
    let scope = |scope| NewToken { description: "ci".into(), scope, expires_in_seconds: None };
    let ci = Scope::Deploy { app: production.id };
    let (_, ci) = stage.platform.create_token(&people[1].0, scope(ci)).await.unwrap();
    let (_, reading) = stage.platform.create_token(&people[0].0, scope(Scope::Read)).await.unwrap();
    let [eve, dan, max, stranger] = [0, 1, 2, 3].map(|n| people[n].1.clone());
    let tokens = ["nobody".to_string(), stranger, ci, reading, eve, dan, max, stage.token.clone()];
    let parties = json!({ "parties": [{ "name": "qa", "people": ["eve@example.org"] }] });
    require(&stage, "production", parties["parties"].clone()).await;
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let signature = json!({ "commit": commit, "party": "qa" });
    let withdrawn = format!("{}/{commit}", of("production", "sign-offs"));
    let mut table = Vec::new();
    for (method, path, body) in [
        ("GET", SIGN_OFFS, &json!({})),
        ("PUT", &of("production", "parties"), &parties),
        ("POST", &of("production", "sign-offs"), &signature),
        ("DELETE", &withdrawn, &json!({})),
    ] {
        let mut cells = Vec::new();
        for token in &tokens {
            cells.push(stage.call(token, method, path, body).await.status.to_string());
        }
        table.push(format!("{method:6} {}", cells.join(" ")));
    }
    // Nobody, a stranger, a token for deploys, one that reads; who looks (and is named), deploys, manages; the owner.
    let expected = [
        "GET    401 404 403 200 200 200 200 200",
        "PUT    401 404 403 403 403 403 403 200",
        "POST   401 404 403 403 201 403 403 403",
        "DELETE 401 404 403 403 200 422 422 422",
    ];
    assert_eq!(table, expected);

    let bad = async |method: &str, path: &str, body: Value, status: u16, words: &str| {
        let answer = stage.call(&stage.token, method, path, &body).await;
        assert!(answer.status == status && answer.body.contains(words), "{path}: {} {}", answer.status, answer.body);
    };
    bad("PUT", &of("prodution", "parties"), parties.clone(), 422, "must be test, review, development").await;
    bad("PUT", &of("production", "parties"), json!({}), 422, "Name `parties`").await;
    bad("PUT", &of("production", "parties"), json!({ "parties": [{ "people": [] }] }), 422, "name").await;
    bad("POST", &of("production", "sign-offs"), json!({ "party": "qa" }), 422, "commit").await;
    bad("POST", &of("production", "sign-offs"), json!({ "commit": commit }), 422, "party").await;
    bad("DELETE", &format!("{}/main", of("production", "sign-offs")), json!({}), 422, "is no commit").await;
    stage.end().await;
}
