//! Records of deployments, as a script keeps them at GitHub.

use crate::support::{Person, World};
use serde_json::{Value, json};
use shipway_domain::admission::Permission;
use shipway_domain::{CommitId, NameOrId, Stage};
use shipway_engine::{NewApp, PromotionOrder};
use shipway_store::{App, Pipeline};

const RECORDS: &str = "/repos/shipway/shop/deployments";

/// The ids that a list has.
fn ids(list: &Value) -> Vec<i64> {
    list.as_array().unwrap_or_else(|| panic!("{list}")).iter().map(|d| d["id"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_keeps_its_records_here() {
    let world = World::new().await;
    let owner = async |method: &str, path: &str, body: Value| world.call(Person::Owner, method, path, &body).await;
    let commit = "3f9c".repeat(10);
    let images = json!({ "docker_image_shas": { "web": "sha256:1111", "worker": "sha256:2222" } });
    let new = json!({
        "ref": commit, "environment": "dev", "task": "deploy:obscalc", "payload": images, "auto_merge": false,
        "required_contexts": [], "description": "CI run 7",
    });
    let made = owner("POST", RECORDS, new).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let base = "http://127.0.0.1:5000/repos/shipway/shop";
    for (field, expected) in [
        ("sha", json!(commit)),
        ("ref", json!(commit)),
        ("task", json!("deploy:obscalc")),
        ("environment", json!("dev")),
        ("payload", images.clone()),
        ("description", json!("CI run 7")),
        ("production_environment", json!(false)),
        ("transient_environment", json!(false)),
        ("url", json!(format!("{base}/deployments/1"))),
        ("statuses_url", json!(format!("{base}/deployments/1/statuses"))),
        ("repository_url", json!(base)),
    ] {
        assert_eq!(made[field], expected, "{field}");
    }
    assert_eq!(made["creator"]["login"], "owner@example.org");
    let path = format!("{RECORDS}/1");
    assert_eq!(owner("GET", &path, Value::Null).await.json(), made);

    // What became of it, newest first.
    let statuses = format!("{path}/statuses");
    let running = json!({ "state": "in_progress", "target_url": "https://ci.example.org/7" });
    assert_eq!(owner("POST", &statuses, running).await.status, 201);
    let done = owner("POST", &statuses, json!({ "state": "success", "environment_url": "http://dev.invalid" })).await;
    assert_eq!(done.json()["deployment_url"], json!(format!("{base}/deployments/1")));
    let list = owner("GET", &statuses, Value::Null).await.json();
    let line = |s: &Value| format!("{} {}", s["state"].as_str().unwrap(), s["log_url"].as_str().unwrap());
    let lines: Vec<String> = list.as_array().unwrap().iter().map(line).collect();
    assert_eq!(lines, ["success ", "in_progress https://ci.example.org/7"]);
    assert_eq!(owner("GET", &format!("{statuses}/2"), Value::Null).await.json(), list[0]);
    assert_eq!(owner("GET", &format!("{statuses}/3"), Value::Null).await.status, 404);

    // Filters and pages.
    for n in 2..=4 {
        let new =
            json!({ "ref": format!("{n:02}").repeat(20), "environment": "production", "payload": format!("p{n}") });
        assert_eq!(owner("POST", RECORDS, new).await.status, 201);
    }
    let second = "02".repeat(20);
    for (query, expected) in [
        (String::new(), vec![4, 3, 2, 1]),
        ("environment=dev".into(), vec![1]),
        ("environment=development".into(), vec![1]),
        ("environment=production&task=deploy".into(), vec![4, 3, 2]),
        ("task=deploy%3Aobscalc".into(), vec![1]),
        (format!("sha={second}"), vec![2]),
        (format!("ref={second}&environment=dev"), vec![]),
        ("per_page=2&page=2".into(), vec![2, 1]),
        ("per_page=1000".into(), vec![4, 3, 2, 1]),
        ("page=9".into(), vec![]),
    ] {
        let list = owner("GET", &format!("{RECORDS}?{query}"), Value::Null).await.json();
        assert_eq!(ids(&list), expected, "{query}");
    }
    let page = owner("GET", &format!("{RECORDS}?environment=production&per_page=1&page=2"), Value::Null).await;
    let link =
        |n: u32, rel: &str| format!("<{base}/deployments?environment=production&per_page=1&page={n}>; rel=\"{rel}\"");
    let links = [link(1, "prev"), link(1, "first"), link(3, "next"), link(3, "last")].join(", ");
    assert_eq!(page.header("link"), Some(links.as_str()));
    assert_eq!(owner("GET", RECORDS, Value::Null).await.header("link"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_records_are_for_those_who_see_the_pipeline() {
    let world = World::new().await;
    let new = json!({ "ref": "ab".repeat(20) });
    let status = json!({ "state": "success" });
    let statuses = format!("{RECORDS}/1/statuses");
    assert_eq!(world.call(Person::Owner, "POST", RECORDS, &new).await.status, 201);
    let wanted = [
        (RECORDS, "GET", &Value::Null),
        (RECORDS, "POST", &new),
        (&statuses, "GET", &Value::Null),
        (&statuses, "POST", &status),
    ];
    let ask = async |person| {
        let mut got = Vec::new();
        for (path, method, body) in wanted {
            got.push(world.call(person, method, path, body).await.status.as_u16());
        }
        got
    };
    assert_eq!(ask(Person::Nobody).await, [401; 4]);
    assert_eq!(ask(Person::Stranger).await, [404; 4]);
    assert_eq!(ask(Person::DeployToken).await, [403; 4]);
    let (owner, which) = (world.caller(Person::Owner), NameOrId::Name("shop".into()));
    let shop = world.platform.app(&owner, &which).unwrap();
    world.platform.give_access(&owner, &shop, "stranger@example.org", Permission::View).await.unwrap();
    assert_eq!(ask(Person::Stranger).await, [200, 403, 200, 403]);
    assert_eq!(ask(Person::Collaborator).await, [200, 201, 200, 201]);

    // Who connects a pipeline of his own to the same repository sees his own records, and writes no others.
    let stranger = world.caller(Person::Stranger);
    let own = world.platform.create_pipeline(&stranger, "aaa").await.unwrap();
    let mut settings = own.settings.clone();
    settings.repository = Some("acme/shop".into());
    world.platform.change_pipeline_settings(&stranger, &own, move |s| *s = settings).await.unwrap();
    for path in ["/repos/acme/shop/deployments/1", "/repos/acme/shop/deployments/1/statuses"] {
        assert_eq!(world.call(Person::Stranger, "GET", path, &Value::Null).await.status, 404, "{path}");
    }
    let list = world.call(Person::Stranger, "GET", "/repos/acme/shop/deployments", &Value::Null).await;
    assert_eq!(list.json(), json!([]));
    for path in ["/repos/acme/other/deployments", "/repos/acme/../deployments", "/repos/shipway/shop/deployments/x"] {
        assert_eq!(world.call(Person::Owner, "GET", path, &Value::Null).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_refused_in_words() {
    let world = World::new().await;
    let commit = "ab".repeat(20);
    let refused = async |path: &str, body: Value, words: &str| {
        let reply = world.call(Person::Owner, "POST", path, &body).await;
        assert_eq!(reply.status, 422, "{body}");
        let message = reply.json()["message"].as_str().unwrap().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(RECORDS, json!({}), "`ref` is missing").await;
    refused(RECORDS, json!({ "ref": "no-such" }), "No ref found for: no-such").await;
    refused(RECORDS, json!({ "ref": commit, "payload": [1] }), "`payload` must be an object or a string").await;
    let large = "x".repeat(64 * 1024);
    refused(RECORDS, json!({ "ref": commit, "payload": large }), "and may have 65536").await;
    refused(RECORDS, json!({ "ref": commit, "task": "a\nb" }), "`task` must be").await;
    refused(RECORDS, json!({ "ref": commit, "environment": "" }), "`environment` must be").await;
    world.record().await;
    let statuses = format!("{RECORDS}/1/statuses");
    refused(&statuses, json!({ "state": "done" }), "`state` must be error, failure").await;
    refused(&statuses, json!({ "state": "success", "log_url": "javascript:x" }), "`log_url` must begin with").await;
    refused(&statuses, json!({ "state": "success", "description": "x".repeat(141) }), "1 to 140").await;
    let page = world.call(Person::Owner, "GET", &format!("{RECORDS}?page=x"), &Value::Null).await;
    assert_eq!(page.status, 422);
}

/// An app in production, behind `shop`.
async fn live(world: &World) -> (Pipeline, App) {
    let owner = world.caller(Person::Owner);
    let pipeline = world.platform.pipeline(&owner, &NameOrId::Name("shop".into())).unwrap();
    let live = NewApp { name: Some("shop-live".into()), ..NewApp::default() };
    let live = world.platform.create_app(&owner, live).await.unwrap();
    world.platform.couple(&owner, &pipeline, &live, Stage::Production).await.unwrap();
    (pipeline, live)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_by_the_api_stops_where_a_record_names_other_code() {
    let world = World::new().await;
    live(&world).await;
    let call = async |path: &str, body: Value| world.call(Person::Owner, "POST", path, &body).await;
    let other = json!({ "shop": { "web": { "digest": "sha256:0000" } } });
    let new = json!({ "ref": "ab".repeat(20), "environment": "staging", "payload": other });
    let record = call(RECORDS, new).await.json();
    call(&format!("{RECORDS}/{}/statuses", record["id"]), json!({ "state": "success" })).await;
    let mut order = json!({ "pipeline": "shop", "source": { "app": "shop" }, "targets": [{ "app": "shop-live" }] });
    let stopped = call("/pipeline-promotions", order.clone()).await;
    assert_eq!((stopped.status.as_u16(), &stopped.json()["id"]), (409, &json!("conflict")), "{}", stopped.text);
    let message = stopped.json()["message"].as_str().unwrap().to_string();
    assert!(message.ends_with("say why: shipway promote shop shop-live --reason \"…\""), "{message}");
    order["reason"] = json!("The record is of another machine");
    assert_eq!(call("/pipeline-promotions", order).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_written_down() {
    let world = World::new().await;
    let owner = world.caller(Person::Owner);
    let shop = world.platform.app(&owner, &NameOrId::Name("shop".into())).unwrap();
    let (pipeline, live) = live(&world).await;
    let targets = vec![live.clone()];
    let order = PromotionOrder { pipeline, source: shop, release: None, targets, reason: None };
    let begun = world.platform.promote(&owner, order).await.unwrap();
    world.platform.promoted(begun.promotion.id).await.unwrap();

    let path = format!("{RECORDS}?environment=production&task=deploy%3Ashop");
    let found = world.call(Person::Owner, "GET", &path, &Value::Null).await.json();
    let [record] = found.as_array().unwrap().as_slice() else { panic!("{found}") };
    let slug = world.platform.store().read(|c| c.latest_slug(live.id)).unwrap().unwrap();
    assert_eq!(record["sha"], json!(slug.commit.as_ref().map(CommitId::as_str)));
    let web = &record["payload"]["shop-live"]["web"];
    assert_eq!((&web["digest"], &web["image_id"]), (&json!(slug.digest), &json!(slug.id)));
    assert_eq!(record["description"], "shop-live v2");
    let statuses = format!("{RECORDS}/{}/statuses", record["id"]);
    let statuses = world.call(Person::Owner, "GET", &statuses, &Value::Null).await.json();
    assert_eq!((statuses[0]["state"].as_str(), statuses.as_array().unwrap().len()), (Some("success"), 1));

    // Config vars alone are no deployment.
    let vars = [("COLOUR".to_string(), Some("blue".to_string()))].into();
    world.platform.set_config_vars(&owner, &live, vars).await.unwrap();
    let again = world.call(Person::Owner, "GET", &path, &Value::Null).await.json();
    assert_eq!(ids(&again), ids(&found));
}
