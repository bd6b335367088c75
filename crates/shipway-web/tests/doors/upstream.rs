//! The line that a team works on, pushed to us as CI does it.

use crate::pages::Browser;
use crate::stage::Stage;
use serde_json::{Value, json};
use shipway_dashboard::path;
use shipway_testkit::until;

const UPSTREAM: &str = "/shipway/v1/pipelines/shop/upstream";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_ships_first_and_is_ahead_of_main_until_main_has_it() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    let checkout = stage.checkout();
    let remote = checkout.remote("shop");
    let words = async |app: &str| {
        let beside = stage.ask(&format!("/shipway/v1/apps/{app}/status")).await["beside"]["words"].clone();
        beside.as_str().unwrap_or("not known").to_string()
    };
    checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    checkout.deploy("shop").await;
    assert_eq!(words("shop").await, "not known");
    assert_eq!(stage.ask(UPSTREAM).await["branch"], Value::Null);

    let (pushed, screen) = checkout.run(&["push", &remote, "main:refs/upstream/main"]).await;
    assert!(pushed, "{screen}");
    assert_eq!(words("shop").await, "all of main, and nothing else");
    // Penny's way: the branch goes to production, and is merged afterwards.
    checkout.now(&["checkout", "-q", "-b", "totals"]);
    checkout.write(&[("a", "1\n")], "Add totals");
    checkout.write(&[("b", "1\n")], "Round them");
    let screen = checkout.deploy("shop").await;
    assert!(!screen.contains("lacks"), "{screen}");
    assert_eq!(words("shop").await, "ahead of main by 2");
    // Squashed onto a main that went on meanwhile.
    checkout.now(&["checkout", "-q", "main"]);
    let fix = checkout.write(&[("fix", "1\n")], "Fix \x1b[2Jit");
    checkout.now(&["merge", "-q", "--squash", "totals"]);
    checkout.now(&["commit", "-q", "-m", "Add totals (#1)"]);
    assert!(checkout.run(&["push", &remote, "main:refs/upstream/main"]).await.0);
    assert_eq!(words("shop").await, "behind main by 1");
    let shown = stage.ask(UPSTREAM).await;
    let missing = &shown["apps"][1]["beside"]["behind"];
    assert_eq!((&shown["apps"][1]["name"], &missing[0]["subject"]), (&json!("shop"), &json!("Fix [2Jit")));
    // A branch that lacks the fix is told so before it deploys.
    checkout.now(&["checkout", "-q", "totals"]);
    checkout.write(&[("c", "1\n")], "More");
    let screen = checkout.deploy("shop-staging").await;
    assert!(screen.contains("remote:  !     This lacks 1 commit of main, as of "), "{screen}");
    assert!(screen.contains(&format!("remote:  !       {} Fix [2Jit", &fix[..7])), "{screen}");
    assert_eq!(words("shop-staging").await, "ahead of main by 1, behind it by 1");
    let compared = stage.ask("/shipway/v1/compare?base=production&head=staging").await;
    assert_eq!(compared["head"]["beside"]["words"], "ahead of main by 1, behind it by 1");

    // Production takes none that does, once its pipeline says so.
    let rule = json!({ "refuse_behind": ["production"] });
    let ruled = stage.call(&stage.token, "PATCH", UPSTREAM, &rule).await;
    assert_eq!((ruled.status, &ruled.json()["refuse_behind"]), (200, &json!(["production"])));
    let (pushed, screen) = checkout.run(&["push", "-f", &remote, "HEAD:main"]).await;
    let reason = "This code lacks 1 commit of main, and production of shop takes none that does: merge or rebase, and \
                  deploy that. You can lift that rule, for all stages: shipway upstream require -p shop";
    assert!(!pushed && screen.contains(reason), "{screen}");
    checkout.now(&["rebase", "-q", "main"]);
    checkout.deploy("shop").await;
    assert_eq!(words("shop").await, "ahead of main by 1");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gate_keeps_out_is_said_before_anybody_presses_anything() {
    const REASON: &str = "This code lacks 1 commit of main, and production of shop takes none that does";
    let stage = Stage::open().await;
    let (_, live) = stage.pipeline().await;
    stage.platform.create_product(&stage.caller, "store", &["shop".to_string()]).await.unwrap();
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    checkout.deploy("shop").await;
    checkout.now(&["checkout", "-q", "-b", "totals"]);
    checkout.write(&[("a", "1\n")], "Add totals");
    checkout.deploy("shop-staging").await;
    checkout.now(&["checkout", "-q", "main"]);
    checkout.write(&[("fix", "1\n")], "Fix it");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main:refs/upstream/main"]).await.0);
    let (board, product) = (path("pipeline", &["shop"]), path("product", &["store"]));
    let (promote, together) = (path("promote", &["shop", "shop-staging"]), path("together", &["store"]));
    let whole = format!("{together}?from=staging&to=production");
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let asked = browser.get(&whole).await.body;
    let seen = asked.split_once("name=\"seen\" value=\"").unwrap().1.split('"').next().unwrap().to_string();
    assert_eq!(
        stage.call(&stage.token, "PATCH", UPSTREAM, &json!({ "refuse_behind": ["production"] })).await.status,
        200
    );

    for page in [&board, &product, &promote, &whole] {
        let page = browser.get(page).await.body;
        assert!(page.contains(REASON), "{page}");
        assert!(
            !page.contains("class=\"button primary\"") && !page.contains("<button class=\"primary\">Promote"),
            "{page}"
        );
    }
    let order = json!({ "from": "staging", "to": "production", "pipeline": "shop" });
    let mut look = order.clone();
    look["dry_run"] = true.into();
    let planned = stage.call(&stage.token, "POST", "/shipway/v1/promotions", &look).await.json();
    assert!(planned["moves"][0]["refused"].as_str().unwrap().starts_with(REASON), "{planned}");
    // Whoever presses all the same is told the same.
    let one = browser.post(&board, &promote, &[("release", "v2"), ("to", "production")]).await;
    let all = [("from", "staging"), ("to", "production"), ("seen", &seen)];
    let all = browser.post(&board, &together, &all).await;
    for refused in [one, all] {
        assert!(refused.status == 403 && refused.body.contains(REASON), "{} {}", refused.status, refused.body);
    }
    let targets = json!([{ "app": { "id": live.id } }]);
    let api = json!({ "pipeline": "shop", "source": { "app": "shop-staging" }, "targets": targets });
    for (door, order) in [("/shipway/v1/promotions", &order), ("/pipeline-promotions", &api)] {
        let refused = stage.call(&stage.token, "POST", door, order).await;
        let message = refused.json()["message"].as_str().unwrap_or_default().to_string();
        assert!(refused.status == 403 && message.starts_with(REASON), "{door}: {}", refused.body);
    }

    // Merged, it is offered, and goes.
    checkout.now(&["checkout", "-q", "totals"]);
    checkout.now(&["merge", "-q", "--no-edit", "main"]);
    checkout.deploy("shop-staging").await;
    for page in [&board, &product] {
        let page = browser.get(page).await.body;
        assert!(page.contains("class=\"button primary\""), "{page}");
    }
    for page in [&promote, &whole] {
        let page = browser.get(page).await.body;
        assert!(!page.contains(REASON) && page.contains("<button class=\"primary\">Promote"), "{page}");
    }
    let sent = browser.post(&promote, &promote, &[("release", "v3"), ("to", "production")]).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    until("it runs", async || {
        let live = stage.platform.app(&stage.caller, &live.id.into()).unwrap();
        let runs = stage.platform.release(&live, "current").unwrap().description;
        runs.starts_with("Promote shop-staging v3").then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ci_s_state_is_said_at_a_push_and_asked_for_where_the_stage_says_so() {
    let stage = Stage::open().await;
    let (_, live) = stage.pipeline().await;
    let checkout = stage.checkout();
    let remote = checkout.remote("shop");
    let report = async |commit: &str, state: &str| {
        let body = json!({ "commit": commit, "state": state });
        let told = stage.call(&stage.token, "POST", "/shipway/v1/pipelines/shop/checks", &body).await;
        assert_eq!(told.status, 201, "{}", told.body);
    };
    // Nobody reports anything here: nothing is said of it.
    let begin = checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    let screen = checkout.deploy("shop-staging").await;
    assert!(!screen.contains(" CI "), "{screen}");
    report(&begin, "succeeded").await;
    assert!(!checkout.deploy("shop").await.contains(" CI "));
    for (file, state, words) in [
        ("a", None, "nothing was heard of CI for"),
        ("b", Some("pending"), "CI runs for"),
        ("c", Some("failed"), "CI failed for"),
    ] {
        let commit = checkout.write(&[(file, "1\n")], "More");
        if let Some(state) = state {
            report(&commit, state).await;
        }
        let screen = checkout.deploy("shop-staging").await;
        assert!(screen.contains(&format!("remote:  !     {words} {}", &commit[..7])), "{screen}");
    }

    // Production takes only what has passed, once its pipeline says so; the other rule is as it was.
    let none = stage.call(&stage.token, "PATCH", UPSTREAM, &json!({})).await;
    assert!(none.status == 422 && none.body.contains("Name `refuse_behind` or `refuse_unchecked`"), "{}", none.body);
    let behind = json!({ "refuse_behind": ["staging"] });
    assert_eq!(stage.call(&stage.token, "PATCH", UPSTREAM, &behind).await.status, 200);
    let rule = json!({ "refuse_unchecked": ["production"] });
    let ruled = stage.call(&stage.token, "PATCH", UPSTREAM, &rule).await;
    assert_eq!((ruled.status, &ruled.json()["refuse_unchecked"]), (200, &json!(["production"])));
    assert_eq!(ruled.json()["refuse_behind"], json!(["staging"]));
    let commit = checkout.now(&["rev-parse", "HEAD"]).trim().to_string();
    let reason = format!(
        "production of shop takes only commits that CI has passed, and CI failed for {}: have a run of it pass, then try \
         again. You can lift that rule, for all stages: shipway upstream require --ci -p shop",
        &commit[..7]
    );
    let (pushed, screen) = checkout.run(&["push", &remote, "HEAD:main"]).await;
    assert!(!pushed && screen.contains(&reason), "{screen}");
    // Nor by a promotion, whose stage did not ask.
    let order = json!({
        "pipeline": "shop", "source": { "app": "shop-staging" }, "targets": [{ "app": { "id": live.id } }],
    });
    let promoted = stage.call(&stage.token, "POST", "/pipeline-promotions", &order).await;
    assert_eq!((promoted.status, promoted.json()["message"].as_str()), (403, Some(reason.as_str())));
    report(&commit, "succeeded").await;
    let screen = checkout.deploy("shop").await;
    assert!(!screen.contains(" CI "), "{screen}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_23_upstreams_are_fetched_from_the_public_internet_alone() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    let set = async |token: &str, body: Value| {
        let answer = stage.call(token, "POST", UPSTREAM, &body).await;
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_string())
    };
    for (url, words) in [
        ("http://example.org/x.git", "only https:// addresses are fetched, and it begins with \"http\"."),
        ("file:///etc", "only https:// addresses are fetched"),
        ("ext::sh -c id", "only https:// addresses are fetched"),
        ("--upload-pack=id", "only https:// addresses are fetched"),
        ("https://127.0.0.2/x.git", "127.0.0.2 is in a private network, which is not fetched from"),
        (
            "https://user:s3cret@169.254.169.254/x",
            "https://169.254.169.254/x was not fetched: 169.254.169.254 is in a private",
        ),
        ("https://localhost:5000/x.git", "localhost is in a private network"),
        ("https://a b/x", "it is not a plain https:// address."),
    ] {
        let (status, message) = set(&stage.token, json!({ "url": url })).await;
        assert!(status == 422 && message.contains(words), "{url}: {status} {message}");
        assert!(!message.contains("s3cret"), "attack 41: {message}");
    }
    for branch in ["../x", "a b", "--x", ""] {
        assert_eq!(set(&stage.token, json!({ "branch": branch })).await.0, 422, "{branch:?}");
    }
    assert_eq!(stage.ask(UPSTREAM).await["branch"], Value::Null, "nothing was kept");
    // Only who may change the pipeline may say, and only who may deploy to one of its apps may push it.
    let (_, eve) = stage.person("eve@example.org").await;
    assert_eq!(set(&eve, json!({ "branch": "main" })).await.0, 404);
    assert_eq!(set(&stage.token, json!({ "branch": "trunk" })).await.0, 201);
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    let refused = async |target: &str, words: &str| {
        let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), target]).await;
        assert!(!pushed && screen.contains(words), "{target}: {screen}");
    };
    refused("main:refs/upstream/main", "The upstream of shop is trunk, not main").await;
    refused("main:refs/elsewhere/x", "only branches (refs/heads/) and tags (refs/tags/) can be pushed").await;
    stage.create("alone").await;
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("alone"), "main:refs/upstream/main"]).await;
    assert!(!pushed && screen.contains("alone is in no pipeline"), "{screen}");
    assert!(checkout.run(&["push", &checkout.remote("shop"), "main:refs/upstream/trunk"]).await.0);
    assert!(stage.ask(UPSTREAM).await["tip"].is_string());
    // Forgotten, with its repository.
    assert_eq!(stage.call(&stage.token, "DELETE", UPSTREAM, &json!({})).await.status, 200);
    assert_eq!(std::fs::read_dir(stage.home.path().join("upstreams")).unwrap().count(), 0);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_is_fetched_by_git_over_tls() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    // The forge is a server of ours: an app's repository, read over https with a token.
    let checkout = stage.checkout();
    checkout.write(&[("Procfile", "web: listen\n")], "Begin");
    checkout.deploy("shop").await;
    stage.create("source").await;
    checkout.deploy("source").await;
    let (host, token) = (&checkout.host, &stage.token);
    let set = async |url: String| {
        let answer = stage.call(token, "POST", UPSTREAM, &json!({ "url": url, "branch": "main" })).await;
        (answer.status, answer.body)
    };
    let (status, said) = set(format!("https://ada:{token}@{host}/source.git")).await;
    assert!(status == 201 && !said.contains(token.as_str()), "attack 41: {said}");
    let words = async || stage.ask("/shipway/v1/apps/shop/status").await["beside"]["words"].clone();
    assert_eq!(words().await, "all of main, and nothing else");

    checkout.write(&[("fix", "1\n")], "Fix it");
    checkout.deploy("source").await;
    let fetched = stage.call(token, "POST", &format!("{UPSTREAM}/actions/fetch"), &json!({})).await;
    assert_eq!(fetched.status, 200, "{}", fetched.body);
    assert_eq!(words().await, "behind main by 1");

    for (url, reason) in [
        (format!("https://ada:nobody-s-token@{host}/source.git"), "was not fetched"),
        (format!("https://ada:{token}@{host}/missing.git"), "was not fetched"),
        (format!("https://localhost:{}/source.git", stage.address.port()), "localhost is in a private network"),
    ] {
        let (status, said) = set(url).await;
        assert!(status == 422 && said.contains(reason), "{status} {said}");
        assert!(!said.contains(token.as_str()) && !said.contains("nobody-s-token"), "attack 41: {said}");
    }
    // A certificate that nobody vouches for ends it.
    std::fs::write(
        stage.home.path().join("ca.pem"),
        shipway_net::Ca::load_or_create(&stage.home.path().join("other")).unwrap().ca_pem(),
    )
    .unwrap();
    let refused = stage.call(token, "POST", &format!("{UPSTREAM}/actions/fetch"), &json!({})).await;
    assert!(refused.status == 422 && refused.body.contains("certificate"), "{} {}", refused.status, refused.body);
    assert_eq!(words().await, "behind main by 1", "what was heard last is kept");
    stage.end().await;
}
