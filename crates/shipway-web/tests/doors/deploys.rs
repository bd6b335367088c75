//! Pages of what deploys an app: whose turn it is, what was replaced, triggers. By forms alone.

use crate::pages::Browser;
use crate::stage::Stage;
use shipway_dashboard::path;
use shipway_domain::NameOrId;
use shipway_domain::admission::Permission;
use shipway_testkit::until;

/// The description of the release that an app runs.
async fn runs(stage: &Stage, expected: &str) {
    until(expected, async || {
        let app = stage.platform.app(&stage.caller, &NameOrId::parse("shop")).unwrap();
        let release = stage.platform.release(&app, "current").ok()?;
        release.description.starts_with(expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_overwritten_is_told_and_brings_it_back_by_one_press() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let (_, token) = stage.person("bob@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "bob@example.org", Permission::Operate).await.unwrap();
    let mut bobs = stage.checkout();
    bobs.token = token.clone();
    bobs.write(&[("Procfile", "web: listen\n")], "What Bob tries");
    bobs.deploy("shop").await;
    let hers = stage.checkout();
    hers.write(&[("Procfile", "web: listen\nworker: sleep\n")], "What Ida tries");
    hers.deploy("shop").await;

    let bob = Browser::sign_in(&stage, &token).await;
    let (page, previous) = (path("app", &["shop"]), path("previous", &["shop"]));
    until("he is told", async || {
        bob.get("/dashboard").await.body.contains("replaced what you had deployed").then_some(())
    })
    .await;
    let told = bob.get(&page).await.body;
    assert!(told.contains("For you") && told.contains(">Bring v2 back<"), "{told}");
    let asked = bob.get(&previous).await.body;
    assert!(asked.contains("Bring v2 back to shop?") && asked.contains("worker"), "{asked}");
    let stale = bob.post(&page, &previous, &[("version", "3")]).await;
    assert!(stale.status == 409 && stale.body.contains("v2 would come back now"), "{}", stale.body);
    let pressed = bob.post(&page, &previous, &[("version", "2")]).await;
    assert_eq!(pressed.status, 303, "{}", pressed.body);
    let operation = pressed.header("location").unwrap().to_string();
    runs(&stage, "Bring back v2").await;
    until("the operation's page has the way back", async || {
        let shown = bob.get(&operation).await.body;
        (shown.contains("It serves now") && shown.contains("back to v3…")).then_some(())
    })
    .await;
    assert!(!bob.get("/dashboard").await.body.contains("replaced what you had deployed"), "he has read it");

    // Whom it overwrote is told in turn, and may take it as read.
    let ida = Browser::sign_in(&stage, &stage.token).await;
    until("she is told", async || ida.get(&page).await.body.contains("bob@example.org replaced").then_some(())).await;
    assert_eq!(ida.post(&page, &path("notices.read", &["shop"]), &[]).await.status, 303);
    assert!(!ida.get(&page).await.body.contains("bob@example.org replaced"));
    let deploys = ida.get(&path("deploys", &["shop"])).await.body;
    assert!(deploys.contains("What Bob tries") && deploys.contains("Bring v3 back…"), "{deploys}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservations_and_triggers_by_forms_as_the_api_allows_them() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let [bob, eve] = [("bob@example.org", Permission::Operate), ("eve@example.org", Permission::View)];
    let mut people = Vec::new();
    for (email, permission) in [bob, eve] {
        let (_, token) = stage.person(email).await;
        stage.platform.give_access(&stage.caller, &app, email, permission).await.unwrap();
        people.push(Browser::sign_in(&stage, &token).await);
    }
    let (_, token) = stage.person("stranger@example.org").await;
    let stranger = Browser::sign_in(&stage, &token).await;
    let (ida, bob, eve) = (Browser::sign_in(&stage, &stage.token).await, &people[0], &people[1]);
    let [page, reserve, end, triggers] =
        ["deploys", "reserve", "unreserve", "trigger.add"].map(|route| path(route, &["shop"]));

    assert_eq!(stranger.get(&page).await.status, 404);
    assert_eq!(stranger.post("/dashboard", &reserve, &[("hours", "2")]).await.status, 404);
    let reserved = bob.post(&page, &reserve, &[("hours", "2"), ("reason", "the demo")]).await;
    assert_eq!((reserved.status, reserved.header("location")), (303, Some(page.as_str())), "{}", reserved.body);
    for browser in [&ida, bob, eve] {
        let shown = browser.get(&page).await.body;
        assert!(shown.contains("Reserved by <b>bob@example.org</b>") && shown.contains("the demo"), "{shown}");
    }
    assert!(ida.get(&path("app", &["shop"])).await.body.contains("Whose turn it is"));
    // Hers it is to end, as she says who has access; not to take; and of who may look, neither.
    assert!(!ida.get(&page).await.body.contains(&format!("action=\"{reserve}\"")));
    let taken = ida.post(&page, &reserve, &[("hours", "2")]).await;
    assert!(
        taken.status == 403 && taken.body.contains("reserved by bob@example.org"),
        "{}: {}",
        taken.status,
        taken.body
    );
    assert!(!eve.get(&page).await.body.contains(&format!("action=\"{end}\"")));
    assert_eq!(eve.post(&page, &end, &[]).await.status, 403);
    assert_eq!(bob.post(&page, &reserve, &[("hours", "100000")]).await.status, 422);
    assert_eq!(bob.post(&page, &reserve, &[("hours", "soon")]).await.status, 422);
    assert_eq!(ida.post(&page, &end, &[]).await.status, 303);
    assert!(bob.get(&page).await.body.contains("Nobody has reserved it."));

    assert!(ida.get(&page).await.body.contains("No branch and no tag deploys shop by itself."));
    for (kind, pattern, wait) in [("branch", "main", &[("wait", "yes")][..]), ("tag", "v*", &[])] {
        let fields = [&[("kind", kind), ("pattern", pattern)], wait].concat();
        assert_eq!(ida.post(&page, &triggers, &fields).await.status, 303);
    }
    let shown = eve.get(&page).await.body;
    assert!(shown.contains("once its checks have passed") && shown.contains("at once"), "{shown}");
    assert!(!shown.contains(&format!("action=\"{triggers}\"")));
    assert_eq!(eve.post(&page, &triggers, &[("kind", "tag"), ("pattern", "x")]).await.status, 403);
    for pattern in ["v*", "v 1"] {
        let refused = ida.post(&page, &triggers, &[("kind", "tag"), ("pattern", pattern)]).await;
        let kept = format!("value=\"{pattern}\"");
        assert!(refused.status == 200 && refused.body.contains("id=\"refused\""), "{}", refused.body);
        assert!(refused.body.contains(&kept), "{}", refused.body);
    }
    let all = stage.ask("/shipway/v1/apps/shop/triggers").await;
    assert_eq!(all["triggers"].as_array().map(Vec::len), Some(2));
    let first = all["triggers"][0]["id"].as_str().unwrap();
    assert_eq!(eve.post(&page, &path("trigger.remove", &["shop", first]), &[]).await.status, 403);
    assert_eq!(ida.post(&page, &path("trigger.remove", &["shop", first]), &[]).await.status, 303);
    assert_eq!(ida.post(&page, &path("trigger.remove", &["shop", first]), &[]).await.status, 404);

    // A tag that is pushed deploys it, and the page has what became of it.
    let checkout = stage.checkout();
    let commit = checkout.write(&[("Procfile", "web: listen\n")], "Tagged");
    checkout.now(&["tag", "v0.3.1"]);
    let (pushed, screen) = checkout.run(&["push", &checkout.remote("shop"), "v0.3.1"]).await;
    assert!(pushed, "{screen}");
    let shown = eve.get(&page).await.body;
    assert!(shown.contains("v0.3.1") && shown.contains("succeeded") && shown.contains(&commit[..7]), "{shown}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_says_where_its_upstream_is() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let pipeline = stage.platform.create_pipeline(&stage.caller, "acorn").await.unwrap();
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let board = path("pipeline", &["acorn"]);
    let unknown = browser.get(&board).await.body;
    assert!(unknown.contains("shipway upstream set URL --pipeline acorn"), "{unknown}");
    stage.platform.set_upstream(&stage.caller, &pipeline, None, "main").await.unwrap();
    let silent = browser.get(&board).await.body;
    assert!(silent.contains("Upstream: main, not heard of yet."), "{silent}");
    let checkout = stage.checkout();
    let tip = checkout.write(&[("Procfile", "web: listen\n")], "Sell things");
    checkout.deploy("shop").await;
    let url = checkout.remote("shop").replace("https://", &format!("https://heroku:{}@", stage.token));
    stage.platform.set_upstream(&stage.caller, &pipeline, Some(&url), "main").await.unwrap();
    let rule = serde_json::json!({ "refuse_behind": ["production"] });
    let ruled = stage.call(&stage.token, "PATCH", "/shipway/v1/pipelines/acorn/upstream", &rule).await;
    assert_eq!(ruled.status, 200, "{}", ruled.body);
    let known = browser.get(&board).await.body;
    let at = format!("at <code title=\"{tip}\">{}</code>.", &tip[..7]);
    assert!(known.contains(&at) && known.contains("Production refuses what lacks"), "{known}");
    assert!(!known.contains(&stage.token), "an address is shown without its secret");
    stage.end().await;
}
