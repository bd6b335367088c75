//! What boards and their dialogs say of the way on, by a browser that only knows HTTP.

use crate::pages::Browser;
use crate::stage::Stage;
use shipway_dashboard::path;
use shipway_domain::{NameOrId, Stage as Place};
use shipway_testkit::until;
use std::collections::BTreeMap;

async fn configure(stage: &Stage, app: &str, vars: &[(&str, &str)]) {
    let app = stage.platform.app(&stage.caller, &NameOrId::parse(app)).unwrap();
    let vars: BTreeMap<_, _> = vars.iter().map(|(k, v)| ((*k).to_string(), Some((*v).to_string()))).collect();
    stage.platform.set_config_vars(&stage.caller, &app, vars).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_backwards_is_not_offered_as_the_next_step() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    let product = stage.platform.create_product(&stage.caller, "store", &["shop".to_string()]).await.unwrap();
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let checkout = stage.checkout();
    let older = checkout.commit("web: listen\n");
    checkout.deploy("shop-staging").await;
    checkout.commit("web: listen; echo 2\n");
    checkout.deploy("shop").await;
    let behind = format!("shop-staging ({}) is behind production.", &older[..7]);
    for page in [path("pipelines", &[]), path("pipeline", &["shop"]), path("product", &["store"])] {
        let page = browser.get(&page).await.body;
        assert!(page.contains(&behind) && !page.contains("waits for production"), "{page}");
        assert!(!page.contains("class=\"button primary\""), "{page}");
    }
    let together = browser.get(&path("product", &["store"])).await.body;
    assert!(together.contains(&format!("shop-staging ({}) is behind shop.", &older[..7])), "{together}");
    checkout.commit("web: listen; echo 3\n");
    checkout.deploy("shop-staging").await;
    let board = browser.get(&path("pipeline", &["shop"])).await.body;
    assert!(board.contains("waits for production.") && board.contains("class=\"button primary\""), "{board}");

    // Of two apps in staging one has to be named, by a command that does it.
    let (ask, second) = (path("together.ask", &["store"]), stage.create("shop-blue").await);
    let ask = format!("{ask}?from=staging&to=production");
    let pipeline = stage.platform.pipeline(&stage.caller, &NameOrId::parse("shop")).unwrap();
    stage.platform.couple(&stage.caller, &pipeline, &second, Place::Staging).await.unwrap();
    let asked = browser.get(&ask).await.body;
    let several = "The pipeline shop has several apps in staging: shop-staging, shop-blue. Name the one to promote from: \
                   shipway promote shop-staging production";
    assert!(asked.contains(&format!("{several} --product store")), "{asked}");
    assert!(asked.contains("Not now.") && !asked.contains("Nothing would change"), "{asked}");
    let other = stage.platform.create_pipeline(&stage.caller, "sso").await.unwrap();
    let other = NameOrId::Id(other.id.0);
    stage.platform.put_product_pipeline(&stage.caller, &product, &other, None).await.unwrap();
    let asked = browser.get(&ask).await.body;
    assert!(asked.contains(&format!("{several} --pipeline shop")), "{asked}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_shows_what_stays_apart_from_what_changes() {
    let stage = Stage::open().await;
    stage.pipeline().await;
    configure(&stage, "shop-staging", &[("SECRET_KEY", "one"), ("MODE", "test")]).await;
    configure(&stage, "shop", &[("REPLICA_URL", "two"), ("MODE", "live")]).await;
    let checkout = stage.checkout();
    checkout.commit("web: listen\n");
    checkout.deploy("shop").await;
    let commit = checkout.commit("web: listen; echo 2\n");
    checkout.deploy("shop-staging").await;
    let browser = Browser::sign_in(&stage, &stage.token).await;
    let ask = path("promote.ask", &["shop", "shop-staging"]);
    let asked = browser.get(&ask).await.body;
    for line in [
        "Config, which stays as it is there",
        "<li class=\"stays\"><span>only in shop-staging: SECRET_KEY</span>",
        "<li class=\"stays\"><span>only in shop: REPLICA_URL</span>",
        "<li class=\"stays\"><span>another value in each: MODE</span>",
    ] {
        assert!(asked.contains(line), "{line}: {asked}");
    }
    let wrong = browser.get(&format!("{ask}?to=nowhere")).await;
    assert!(wrong.status == 422 && wrong.body.contains("There is no stage &quot;nowhere&quot;."), "{}", wrong.body);

    // A release of config runs the code of an earlier one, which every page says alike.
    configure(&stage, "shop-staging", &[("SECRET_KEY", "three")]).await;
    until("the config serves", async || {
        browser.get("/dashboard/apps/shop-staging").await.body.contains("v4 serves from").then_some(())
    })
    .await;
    let short = format!(">{}</code>", &commit[..7]);
    for page in [path("apps", &[]), path("app", &["shop-staging"]), path("deploys", &["shop-staging"])] {
        let page = browser.get(&page).await.body;
        assert!(page.contains("(code of ") && page.contains(&short), "{page}");
    }
    let operations = browser.get(&path("operations", &[])).await.body;
    assert!(!operations.contains("branch"), "nothing is said of the steps of what succeeded: {operations}");
    stage.end().await;
}
