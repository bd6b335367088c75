//! The dashboard, by a browser that only knows HTTP. A real one: `browser`.

use crate::stage::{Answer, OWNER, Stage};
use serde_json::json;
use shipway_dashboard::path;
use shipway_domain::Stage as Place;
use shipway_domain::admission::Permission;
use shipway_testkit::until;
use std::process::Command;

/// A browser without scripts: it keeps cookies and sends forms.
pub struct Browser<'a> {
    stage: &'a Stage,
    jar: std::path::PathBuf,
}

impl<'a> Browser<'a> {
    fn new(stage: &'a Stage) -> Self {
        Self { stage, jar: stage.home.path().join(format!("jar-{}", uuid::Uuid::new_v4())) }
    }

    async fn go(&self, arguments: &[&str], path: &str) -> Answer {
        let (jar, url) = (self.jar.to_str().unwrap(), self.stage.url(path));
        self.stage.curl(&[&["-sS", "-i", "-b", jar, "-c", jar], arguments, &[&url]].concat()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.go(&[], path).await
    }

    /// Sends a form with the token that the page `from` carries.
    pub async fn post(&self, from: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = token_of(&self.get(from).await.body);
        let mut fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        fields.push(format!("csrf={csrf}"));
        let arguments: Vec<&str> = fields.iter().flat_map(|field| ["--data-urlencode", field]).collect();
        self.go(&arguments, path).await
    }

    pub async fn sign_in(stage: &'a Stage, token: &str) -> Self {
        let browser = Self::new(stage);
        let answer = browser.post("/dashboard/sign-in", "/dashboard/sign-in", &[("token", token)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/dashboard")), "{}", answer.body);
        browser
    }
}

fn token_of(page: &str) -> String {
    let rest = page.split_once("name=\"csrf\" value=\"").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once('"')).map(|(token, _)| token.to_string()).unwrap_or_default()
}

async fn deploy(stage: &Stage, procfile: &str) -> bool {
    let checkout = stage.checkout();
    checkout.commit(procfile);
    checkout.run(&["push", "-f", &checkout.remote("shop"), "main"]).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_and_out() {
    let stage = Stage::open().await;
    let stranger = Browser::new(&stage);
    let away = stranger.get("/dashboard/operations?app=shop").await;
    let to = "/dashboard/sign-in?next=/dashboard/operations%3Fapp%3Dshop";
    assert_eq!((away.status, away.header("location")), (303, Some(to.to_lowercase().as_str())));
    let wrong = stranger.post("/dashboard/sign-in", "/dashboard/sign-in", &[("token", "nonsense")]).await;
    assert!(wrong.status == 401 && wrong.body.contains("That token is not known here"), "{}", wrong.body);
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let home = browser.get("/dashboard").await;
    assert!(home.status == 200 && home.body.contains("No apps yet") && home.body.contains(OWNER), "{}", home.body);
    assert_eq!(home.header("cache-control"), Some("no-store"));
    assert_eq!(browser.get("/").await.header("location"), Some("/dashboard"));
    let mistyped = browser.get("/dashboard/aps").await;
    assert!(mistyped.status == 404 && mistyped.body.contains("find that page."), "{}", mistyped.body);
    assert_eq!(mistyped.body.matches(">All apps<").count(), 1, "{}", mistyped.body);
    let mistyped = browser.get("/dashboard/apps/acron").await.body;
    assert!(mistyped.contains("find that app: acron.</h1>") && !mistyped.contains("heroku apps"), "{mistyped}");
    assert!(home.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let out = browser.post("/dashboard", "/dashboard/sign-out", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("/dashboard/sign-in")));
    assert_eq!(browser.get("/dashboard").await.status, 303);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_of_an_app_is_there() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let fresh = browser.get("/dashboard/apps/shop").await;
    assert!(fresh.status == 200 && fresh.body.contains("Nothing is deployed yet."), "{}", fresh.body);
    assert!(deploy(&stage, "web: listen\nworker: sleep\n").await);
    let set = browser.post(
        "/dashboard/apps/shop/config",
        "/dashboard/apps/shop/config",
        &[("name", "KEY"), ("value", "v<1>\n2")],
    );
    assert_eq!(set.await.status, 303);
    assert!(!deploy(&stage, "web: broken-build\n").await);
    let (build, operation, version) = stage
        .platform
        .store()
        .read(|c| {
            let build = c.builds(app.id)?.pop().unwrap();
            let current = c.app_by_id(app.id)?.current_release.unwrap();
            Ok((build.id.to_string(), build.operation.to_string(), c.release_by_id(current)?.version))
        })
        .unwrap();
    let version = format!("v{version}");
    let check = async |path: String, expected: &str| {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(expected), "{path} lacks {expected:?}: {}", answer.body);
        assert!(answer.body.len() < 60 * 1024, "{path} is {} bytes", answer.body.len());
    };
    check(path("apps", &[]), "shop.localhost").await;
    check(path("app", &["shop"]), "The build is broken on purpose.").await;
    check(path("releases", &["shop"]), "Set KEY config var").await;
    check(path("release", &["shop", &version]), "current").await;
    check(path("rollback.ask", &["shop", "v2"]), "Roll shop back to v2?").await;
    check(path("dynos", &["shop"]), "worker").await;
    check(format!("{}?quantity=3&size=basic", path("scale.ask", &["shop", "web"])), "1 → 3").await;
    check(path("restart.ask", &["shop"]), "Restart all dynos").await;
    check(path("config", &["shop"]), "KEY").await;
    check(format!("{}?name=KEY", path("config.unset.ask", &["shop"])), "Remove KEY?").await;
    check(path("logs", &["shop"]), "Build started by user").await;
    check(path("build", &["shop", &build]), "broken on purpose").await;
    check(path("app.activity", &["shop"]), "set KEY").await;
    check(path("activity", &[]), "failed to deploy").await;
    check(path("operations", &[]), "Deploy").await;
    check(path("operation", &[&operation]), "The build is broken on purpose.").await;
    check(path("cancel.ask", &[&operation]), "Not now.").await;
    let output = browser.get(&path("build.output", &["shop", &build])).await;
    assert!(output.body.contains("Procfile app detected"), "{}", output.body);
    let missing = browser.get("/dashboard/apps/shpo").await;
    assert!(missing.status == 404 && missing.body.contains("find that app: shpo."), "{}", missing.body);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_without_code_says_how_it_gets_some_and_what_became_of_the_first_try() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let page = browser.get("/dashboard/apps/shop").await.body;
    assert!(
        page.contains("Nothing is deployed yet. Push something.") && page.contains("git push heroku main"),
        "{page}"
    );
    assert!(!page.contains("ps:scale") && !page.contains("Current release"), "{page}");

    assert!(!deploy(&stage, "web: exit 3").await);
    // What a real dyno had written stands at the end of the transcript.
    let build = stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop().unwrap();
    let transcript = stage.home.path().join("outputs").join(build.id.to_string());
    let said = std::fs::read_to_string(&transcript).unwrap();
    let (before, reason) = said.trim_end().rsplit_once('\n').unwrap();
    let words = format!("{before}\n !     Its last lines:\n !         no such module\n{reason}\n");
    std::fs::write(&transcript, words).unwrap();
    let list = browser.get("/dashboard").await.body;
    assert!(list.contains(" failed. Nothing serves yet.") && !list.contains("Nothing is deployed yet"), "{list}");
    let page = browser.get("/dashboard/apps/shop").await.body;
    assert!(page.contains("nothing serves yet") && page.contains("<pre>no such module\n</pre>"), "{page}");
    let operations = stage.platform.store().read(|c| c.operations(Some(app.id), 1)).unwrap();
    let page = browser.get(&path("operation", &[&operations[0].id.to_string()])).await.body;
    assert!(page.contains("<pre>no such module\n</pre>"), "{page}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_to_an_app_that_is_gone_still_names_it_and_leads_nowhere() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let renamed = stage.call(&stage.token, "PATCH", "/apps/shop", &json!({ "name": "store" })).await;
    assert_eq!(renamed.status, 200, "{}", renamed.body);
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let page = browser.get("/dashboard/activity").await.body;
    assert!(page.contains("renamed <a href=\"/dashboard/apps/store\">shop</a> to store"), "{page}");
    let gone = stage.call(&stage.token, "DELETE", "/apps/store", &json!({})).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    let page = browser.get("/dashboard/activity").await.body;
    assert!(page.contains("destroyed store") && !page.contains("/dashboard/apps/store"), "{page}");
    let page = browser.get("/dashboard/operations").await.body;
    assert!(page.contains("store <span class=\"quiet\">(gone)</span>"), "{page}");
    let listed = stage.call(&stage.token, "GET", "/shipway/v1/operations", &json!({})).await.json();
    assert_eq!((&listed[0]["kind"], &listed[0]["app"]["name"]), (&json!("destroy"), &json!("store")));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_is_hidden_until_somebody_asks_and_that_is_written_down() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let config = "/dashboard/apps/shop/config";
    browser.post(config, config, &[("name", "KEY"), ("value", "correct-horse\r\nbattery")]).await;
    let hidden = browser.get(config).await;
    assert!(hidden.body.contains("KEY") && !hidden.body.contains("correct-horse"));
    let shown = browser.post(config, "/dashboard/apps/shop/config/reveal", &[("name", "KEY")]).await;
    assert!(shown.body.contains("correct-horse\nbattery"), "{}", shown.body);
    // A reload of what a form answered leads to the page of the form.
    let again = browser.get("/dashboard/apps/shop/config/reveal").await;
    assert_eq!((again.status, again.header("location")), (303, Some(config)), "{}", again.body);
    assert!(browser.get("/dashboard/apps/shop/activity").await.body.contains("looked at the value of KEY"));
    let refused = browser.post(config, config, &[("name", "1KEY"), ("value", "typed")]).await;
    assert!(
        refused.status == 200 && refused.body.contains("1KEY") && refused.body.contains("typed"),
        "{}",
        refused.body
    );
    let unset = browser.post(config, "/dashboard/apps/shop/config/unset", &[("name", "KEY")]).await;
    assert_eq!(unset.status, 303);
    let after = browser.get(config).await.body;
    assert!(after.contains("KEY is removed."), "the act is told once: {after}");
    assert!(!browser.get(config).await.body.contains("KEY is removed."), "and only once");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_offer_who_may_deploy_what_that_allows_and_no_more() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    assert!(deploy(&stage, "web: listen\n").await);
    assert!(deploy(&stage, "web: listen; echo 2\n").await);
    let owner = Browser::sign_in(&stage, &stage.token).await;
    let config = "/dashboard/apps/shop/config";
    owner.post(config, config, &[("name", "KEY"), ("value", "correct-horse")]).await;
    let (_, token) = stage.person("dora@example.org").await;
    stage.platform.give_access(&stage.caller, &app, "dora@example.org", Permission::Deploy).await.unwrap();
    let dora = Browser::sign_in(&stage, &token).await;

    let hidden = dora.get(config).await.body;
    assert!(hidden.contains("<button>Reveal") && !hidden.contains("correct-horse"), "{hidden}");
    let asks = "You may read the config of shop, not change it.";
    assert!(hidden.contains(asks) && !hidden.contains("Remove") && !hidden.contains("Set "), "{hidden}");
    for fields in [&[("name", "KEY")][..], &[]] {
        let shown = dora.post(config, &format!("{config}/reveal"), fields).await.body;
        assert!(shown.contains("correct-horse") && !shown.contains("Set and release"), "{shown}");
    }
    let refused = dora.post(config, &format!("{config}/unset"), &[("name", "KEY")]).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    for page in ["", "/releases", "/releases/v2"] {
        let page = dora.get(&format!("/dashboard/apps/shop{page}")).await.body;
        assert!(page.contains("Roll back"), "{page}");
    }
    let dynos = dora.get("/dashboard/apps/shop/dynos").await.body;
    assert!(!dynos.contains("Restart") && dynos.contains("not change its formation"), "{dynos}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_and_rolling_back_from_a_page() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    assert!(deploy(&stage, "web: listen\n").await);
    assert!(deploy(&stage, "web: listen; echo 2\n").await);
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let scale = path("scale", &["shop", "web"]);
    let ask = format!("{scale}?quantity=2&size=basic");
    assert_eq!(browser.post(&ask, &scale, &[("quantity", "2"), ("size", "basic")]).await.status, 303);
    until("two are up", async || {
        let dynos = stage.platform.store().read(|c| c.dynos(app.id)).unwrap();
        let up = dynos.iter().filter(|d| d.state == shipway_domain::lifecycle::DynoState::Up && d.size == "basic");
        (up.count() == 2).then_some(())
    })
    .await;
    let rollback = path("rollback", &["shop", "v2"]);
    let back = browser.post(&rollback, &rollback, &[]).await;
    assert_eq!(back.status, 303, "{}", back.body);
    assert!(back.header("location").unwrap().starts_with("/dashboard/operations/"), "{}", back.head);
    until("v4 is current", async || {
        let app = stage.platform.store().read(|c| c.app_by_id(app.id)).unwrap();
        let release = stage.platform.store().read(|c| c.release_by_id(app.current_release.unwrap())).unwrap();
        (release.version == 4 && release.description == "Rollback to v2").then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promoting_from_the_board() {
    let stage = Stage::open().await;
    let (staging, production) = (stage.create("shop").await, stage.create("shop-live").await);
    let caller = &stage.caller;
    let pipeline = stage.platform.create_pipeline(caller, "acorn").await.unwrap();
    let board = path("pipeline", &["acorn"]);
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let empty = browser.get(&board).await;
    assert!(empty.status == 200 && empty.body.contains("heroku pipelines:add acorn"), "{}", empty.body);
    stage.platform.couple(caller, &pipeline, &staging, Place::Staging).await.unwrap();
    stage.platform.couple(caller, &pipeline, &production, Place::Production).await.unwrap();
    assert!(deploy(&stage, "web: listen\n").await);
    let ready = browser.get(&board).await.body;
    assert!(ready.contains("waits for production.") && ready.contains("Promote to production…"), "{ready}");
    assert!(browser.get(&path("pipelines", &[])).await.body.contains("1 staging, 1 production"));

    // The difference stands before the button; the release that was looked at is what is promoted.
    let promote = path("promote", &["acorn", "shop"]);
    let asked = browser.get(&promote).await.body;
    assert!(asked.contains("Promote shop v2 to production?") && asked.contains("value=\"v2\""), "{asked}");
    let without = browser.post(&promote, &promote, &[]).await;
    assert!(without.status == 422 && without.body.contains("the release that you looked at"), "{}", without.body);
    let sent = browser.post(&promote, &promote, &[("release", "v2")]).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    let operation = sent.header("location").unwrap().to_string();
    assert!(operation.starts_with("/dashboard/operations/"), "{operation}");
    until("production runs it", async || {
        browser.get(&board).await.body.contains("Nothing of shop waits for production.").then_some(())
    })
    .await;
    let after = browser.get(&board).await.body;
    assert!(after.contains("No changes to promote: production already runs v2"), "{after}");
    assert!(!after.contains("Promote to production…"), "{after}");

    // Who has no access sees neither the pipeline nor that it exists.
    let (_, token) = stage.person("stranger@example.org").await;
    let stranger = Browser::sign_in(&stage, &token).await;
    assert_eq!(stranger.get(&board).await.status, 404);
    assert_eq!(stranger.get(&promote).await.status, 404);
    assert_eq!(browser.get(&path("product", &["none"])).await.status, 404);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_hears_of_changes_and_of_a_builds_output() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let screen = |name: &str| stage.home.path().join(name);
    let listen = |path: &str, name: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sSN", "--max-time", "20", "-b"])
            .arg(&browser.jar)
            .arg(stage.url(path))
            .arg("-o")
            .arg(screen(name));
        command.spawn().unwrap()
    };
    let mut changes = listen("/dashboard/apps/shop/events", "changes");
    let pushing = tokio::spawn({
        let checkout = stage.checkout();
        checkout.commit("web: listen; echo slow-build\n");
        async move { checkout.run(&["push", &checkout.remote("shop"), "main"]).await }
    });
    let build =
        until("the build runs", async || stage.platform.store().read(|c| c.builds(app.id)).unwrap().pop()).await;
    let mut output = listen(&path("build.events", &["shop", &build.id.to_string()]), "output");
    let says = async |name: &str, expected: &str| {
        until(expected, async || {
            std::fs::read_to_string(screen(name)).is_ok_and(|text| text.contains(expected)).then_some(())
        })
        .await;
    };
    says("output", "waiting").await;
    stage.builder.go.notify_one();
    says("changes", "event: changed\n").await;
    says("output", "event: end\n").await;
    assert!(pushing.await.unwrap().0);
    let ended = tokio::task::spawn_blocking(move || output.wait().unwrap()).await.unwrap();
    assert!(ended.success(), "the stream ends by itself");
    changes.kill().unwrap();
    changes.wait().unwrap();
    // Who comes back gets the rest, from a byte of the output.
    let text = std::fs::read_to_string(screen("output")).unwrap();
    let first = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let again = format!("{}?after={first}", path("build.events", &["shop", &build.id.to_string()]));
    let rest = browser.get(&again).await.body;
    assert!(!rest.contains("Procfile app detected") && rest.contains("Released v"), "{rest}");
    stage.end().await;
}

/// A promotion may be over by the time the page that shows it has opened its stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_hears_of_what_happened_while_it_was_opened() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let page = browser.get("/dashboard/apps/shop").await.body;
    let seen = page.split_once("data-seen=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    let set = [("KEY".to_string(), Some("value".to_string()))].into();
    stage.platform.set_config_vars(&stage.caller, &app, set).await.unwrap();
    let heard = stage.home.path().join("heard");
    let mut stream = Command::new("curl")
        .args(["-sSN", "--max-time", "20", "-b"])
        .arg(&browser.jar)
        .arg(stage.url(&format!("/dashboard/apps/shop/events?after={seen}")))
        .arg("-o")
        .arg(&heard)
        .spawn()
        .unwrap();
    until("it is told", async || {
        std::fs::read_to_string(&heard).is_ok_and(|text| text.starts_with("event: changed\n")).then_some(())
    })
    .await;
    stream.kill().unwrap();
    stream.wait().unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cli_is_let_in_by_a_page() {
    let stage = Stage::open().await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let check = async |decision: &str, expected: &str| {
        let asked = stage.call("", "POST", "/auth", &json!({ "description": "Heroku CLI login" })).await.json();
        let [page, poll, secret] =
            ["browser_url", "cli_url", "token"].map(|key| asked[key].as_str().unwrap().to_string());
        let form = browser.get(&page).await.body;
        assert!(form.contains("Heroku CLI login") && form.contains("127.0.0.1"), "{form}");
        let waiting = async { stage.call(&secret, "GET", &poll, &json!({})).await };
        let deciding = async { browser.post(&page, &page, &[("decision", decision)]).await };
        let (answer, decided) = tokio::join!(waiting, deciding);
        assert_eq!(decided.status, 200, "{}", decided.body);
        assert!(answer.status == 200 && answer.json()[expected].is_string(), "{}", answer.body);
        let again = browser.post("/dashboard", &page, &[("decision", decision)]).await;
        assert!(again.body.contains("This request is over."), "{}", again.body);
        answer.json()
    };
    let approved = check("approve", "access_token").await;
    let account = stage.call(approved["access_token"].as_str().unwrap(), "GET", "/account", &json!({})).await;
    assert_eq!(account.json()["email"], OWNER);
    check("deny", "error").await;
    assert_eq!(stage.call("nonsense", "GET", "/auth/wait", &json!({})).await.status, 401);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_43_forms_of_others_and_names_that_bite_do_nothing() {
    let stage = Stage::open().await;
    let app = stage.create("shop").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let config = "/dashboard/apps/shop/config";
    let (name, value) = ("name=A", "value=<script>alert(1)</script>");
    let forged: &[&[&str]] = &[&["-d", name, "-d", value], &["-d", name, "-d", value, "-d", "csrf=0123"]];
    for arguments in forged {
        let answer = browser.go(arguments, config).await;
        assert!(answer.status == 403 && answer.body.contains("nothing was done"), "{}", answer.body);
    }
    let own = format!("csrf={}", token_of(&browser.get(config).await.body));
    let cross = browser.go(&["-H", "Sec-Fetch-Site: cross-site", "-d", name, "-d", value, "-d", &own], config).await;
    assert_eq!(cross.status, 403);
    assert!(stage.platform.config_vars(&stage.caller, &app).unwrap().is_empty());
    assert_eq!(browser.go(&["-d", name, "-d", value, "-d", &own], config).await.status, 303);
    let shown = browser.post(config, "/dashboard/apps/shop/config/reveal", &[]).await.body;
    assert!(!shown.contains("<script>alert") && shown.contains("&lt;script&gt;alert"), "{shown}");
    // Another session's token is no token here, and a redirect leads nowhere else.
    let (_, token) = stage.person("eve@example.org").await;
    let eve = Browser::sign_in(&stage, &token).await;
    assert_eq!(eve.go(&["-d", name, "-d", value, "-d", &own], config).await.status, 403);
    assert_eq!(eve.get("/dashboard/apps/shop").await.status, 404);
    let visitor = Browser::new(&stage);
    for next in ["https://evil.example", "//evil.example", "/dashboardx", "/dashboard\\evil"] {
        let fields = [("token", token.as_str()), ("next", next)];
        let answer = visitor.post("/dashboard/sign-in", "/dashboard/sign-in", &fields).await;
        let to = answer.header("location").unwrap_or_default().to_string();
        assert!(answer.status == 303 && to == "/dashboard", "{next} led to {to}");
        visitor.post("/dashboard", "/dashboard/sign-out", &[]).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_22_cookies_are_bound_to_the_host_where_there_is_tls() {
    let stage = Stage::open().await;
    let url = format!("https://{}/dashboard/sign-in", stage.address);
    let ca = stage.home.path().join("ca.pem");
    let page = stage.curl(&["-sS", "-i", "--http1.1", "--cacert", ca.to_str().unwrap(), &url]).await;
    let cookie = page.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__host-shipway-visit=") && cookie.contains("; secure"), "{cookie}");
    let far = stage.get("/dashboard", &["Host: paas.example.org:5000"]).await;
    assert_eq!(far.header("location"), Some("https://paas.example.org:5000/dashboard"), "no session in the clear");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lacks_access_asks_there_and_is_let_in() {
    let stage = Stage::open().await;
    stage.create("shop").await;
    let (_, token) = stage.person("bob@example.org").await;
    let (bob, ida) = (Browser::sign_in(&stage, &token).await, Browser::sign_in(&stage, &stage.token).await);
    // What one may not see does not exist; asking says no more than that.
    for name in ["shop", "nothing"] {
        let page = format!("/dashboard/apps/{name}");
        let hidden = bob.get(&page).await;
        assert!(hidden.status == 404 && hidden.body.contains("Ask for access"), "{}", hidden.body);
        let asked = bob.post(&page, &format!("{page}/access/ask"), &[]).await;
        assert_eq!((asked.status, asked.header("location")), (303, Some("/dashboard")));
        assert!(bob.get("/dashboard").await.body.contains("If there is such an app"));
    }
    let access = "/dashboard/apps/shop/access";
    assert!(ida.get(access).await.body.contains("Asking for access"));
    let by_himself = bob.post("/dashboard", access, &[("email", "bob@example.org")]).await;
    assert_eq!(by_himself.status, 404);
    ida.post(access, access, &[("email", "bob@example.org"), ("permission", "view")]).await;
    let looks = bob.get(access).await;
    assert!(looks.status == 200 && looks.body.contains("You may look, not change"), "{}", looks.body);
    bob.post(access, &format!("{access}/ask"), &[]).await;
    assert!(bob.get(access).await.body.contains("You have asked"));
    ida.post(access, &format!("{access}/decline"), &[("email", "bob@example.org")]).await;
    assert!(!ida.get(access).await.body.contains("Asking for access"));
    ida.post(access, &format!("{access}/remove"), &[("email", "bob@example.org")]).await;
    assert_eq!(bob.get(access).await.status, 404);
    assert!(ida.get("/dashboard/apps/shop/resources").await.body.contains("shop.localhost"));

    // A deploy that failed is tried again by a button, an app is given and taken.
    assert!(!deploy(&stage, "web: broken-build\n").await);
    let failed = stage.ask("/shipway/v1/operations?app=shop").await;
    let failed = format!("/dashboard/operations/{}", failed[0]["id"].as_str().unwrap());
    assert!(ida.get(&failed).await.body.contains("<button>Retry<"));
    let again = ida.post(&failed, &format!("{failed}/retry"), &[]).await;
    let to = again.header("location").unwrap();
    assert!(again.status == 303 && to.starts_with("/dashboard/operations/") && to != failed, "{}", again.head);
    let offer = json!({ "app": "shop", "recipient": "bob@example.org" });
    let offered = stage.call(&stage.token, "POST", "/account/app-transfers", &offer).await.json();
    assert!(bob.get("/dashboard").await.body.contains("gives you the app"));
    let take = format!("/dashboard/offers/{}", offered["id"].as_str().unwrap());
    bob.post("/dashboard", &take, &[("answer", "take")]).await;
    assert!(bob.get("/dashboard").await.body.contains("shop is yours."));
    stage.end().await;
}
