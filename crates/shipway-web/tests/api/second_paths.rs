//! Other ways to what was refused: somebody's code, data or place in a pipeline, from an app of one's own.

use crate::support::{Person, World};
use serde_json::{Value, json};
use shipway_domain::NameOrId;
use shipway_domain::admission::{Permission, Scope};
use shipway_engine::{NewToken, Within};

const NOTHING: Value = Value::Null;

#[tokio::test(flavor = "multi_thread")]
async fn attack_15_nobody_elses_code_or_data_comes_by_a_second_path() {
    let world = World::new().await;
    world.database("shop").await;
    let owner = world.caller(Person::Owner);
    let shop = world.platform.app(&owner, &NameOrId::parse("shop")).unwrap();
    let addon = world.platform.addons(&owner, Within::App(&shop)).unwrap().remove(0);
    let (release, slug, pipeline, url, backup) = world
        .platform
        .store()
        .read(|c| {
            let release = c.releases(shop.id)?.into_iter().find(|r| r.slug.is_some()).unwrap();
            let pipeline = c.coupling_of(shop.id)?.unwrap().pipeline;
            let url = c.addon_config(addon.id)?["URL"].clone();
            Ok((release.id, release.slug.unwrap(), pipeline, url, c.transfers(shop.id)?.remove(0)))
        })
        .unwrap();

    // The stranger knows every id and even the address of the database, and has an app with a database of their own.
    let stranger = async |method: &str, path: &str, body: Value| {
        let reply = world.call(Person::Stranger, method, path, &body).await;
        (reply.status.as_u16(), reply.text)
    };
    assert_eq!(stranger("POST", "/apps", json!({ "name": "mine" })).await.0, 201);
    let made = stranger("POST", "/apps/mine/addons", json!({ "plan": "heroku-postgresql" })).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let mine = serde_json::from_str::<Value>(&made.1).unwrap()["id"].as_str().unwrap().to_string();
    let own_url = stranger("GET", "/apps/mine/config-vars", NOTHING).await.1;
    let own_url = serde_json::from_str::<Value>(&own_url).unwrap()["DATABASE_URL"].as_str().unwrap().to_string();
    let own_line = stranger("POST", "/pipelines", json!({ "name": "mine" })).await.1;
    let own_line = serde_json::from_str::<Value>(&own_line).unwrap()["id"].as_str().unwrap().to_string();
    let backup = shipway_engine::Platform::backup_address(&backup);

    world.platform.create_product(&world.caller(Person::Owner), "line", &["shop".into()]).await.unwrap();
    world.platform.create_product(&world.caller(Person::Stranger), "own-line", &["mine".into()]).await.unwrap();
    let step = json!({ "name": "x", "command": "env", "undo": "true" });
    let promotion =
        |pipeline: &str| json!({ "pipeline": pipeline, "source": { "app": "shop" }, "targets": [{ "app": "mine" }] });
    let tries = [
        ("POST", "/apps/mine/releases".to_string(), json!({ "slug": slug })),
        ("POST", "/apps/mine/releases".into(), json!({ "release": release })),
        ("POST", "/pipeline-promotions".into(), promotion(&pipeline.to_string())),
        ("POST", "/pipeline-promotions".into(), promotion(&own_line)),
        ("POST", "/pipeline-couplings".into(), json!({ "app": "shop", "pipeline": own_line, "stage": "staging" })),
        ("POST", "/pipeline-couplings".into(), json!({ "app": "mine", "pipeline": pipeline, "stage": "production" })),
        ("POST", "/shipway/v1/promotions".into(), json!({ "from": "shop", "to": "mine" })),
        ("POST", "/shipway/v1/products".into(), json!({ "name": "grab", "pipelines": ["shop", "mine"] })),
        ("PUT", "/shipway/v1/products/own-line/pipelines/shop".into(), json!({})),
        ("PUT", "/shipway/v1/products/own-line/steps/shop".into(), step.clone()),
        ("PUT", "/shipway/v1/products/line/pipelines/mine".into(), json!({})),
        ("PUT", "/shipway/v1/products/line/steps/shop".into(), step),
        ("DELETE", "/shipway/v1/products/line/steps/shop".into(), json!({})),
        ("DELETE", "/shipway/v1/products/line/pipelines/shop".into(), json!({})),
        ("GET", "/shipway/v1/compare?base=mine&head=shop".into(), NOTHING),
        ("POST", "/addon-attachments".into(), json!({ "app": "mine", "addon": addon.id })),
        ("POST", format!("/client/v11/databases/{mine}/restores"), json!({ "backup_url": backup })),
        ("POST", format!("/client/v11/databases/{mine}/transfers"), json!({ "from_url": url, "to_url": own_url })),
        ("POST", format!("/client/v11/databases/{}/backups", addon.id), json!({})),
        ("PUT", format!("/client/v11/databases/{}/reset", addon.id), json!({})),
        ("POST", format!("/client/v11/databases/{}/connection_reset", addon.id), json!({})),
    ];
    for (method, path, body) in tries {
        let (status, text) = stranger(method, &path, body.clone()).await;
        assert!([403, 404, 422].contains(&status), "{method} {path} {body}: {status} {text}");
        assert!(!text.contains("internal"), "{method} {path}: {text}");
    }
    let app = world.platform.app(&world.caller(Person::Stranger), &NameOrId::parse("mine")).unwrap();
    let brought = world.platform.store().read(|c| Ok(c.releases(app.id)?.iter().any(|r| r.slug.is_some()))).unwrap();
    assert!(!brought, "no code came");
    assert!(world.ground.addons.read(addon.id).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_who_only_looks_at_an_app_reads_no_secrets_of_it() {
    let world = World::new().await;
    world.database("shop").await;
    let owner = world.caller(Person::Owner);
    let shop = world.platform.app(&owner, &NameOrId::parse("shop")).unwrap();
    let addon = world.platform.addons(&owner, Within::App(&shop)).unwrap().remove(0);
    let email = world.caller(Person::Stranger).actor.email;
    let secrets = [
        "/apps/shop/config-vars".to_string(),
        "/apps/shop/releases/1/config-vars".into(),
        format!("/postgres/v0/databases/{}/credentials", addon.id),
        format!("/postgres/v0/databases/{}/credentials/default", addon.id),
    ];
    for (permission, expected) in [(Permission::View, 403), (Permission::Deploy, 200)] {
        world.platform.give_access(&owner, &shop, &email, permission).await.unwrap();
        for path in &secrets {
            let reply = world.call(Person::Stranger, "GET", path, &NOTHING).await;
            assert_eq!(reply.status.as_u16(), expected, "{permission:?} {path}: {}", reply.text);
            assert_eq!(expected == 403, reply.text.contains("the permission to deploy"), "{path}: {}", reply.text);
        }
        assert_eq!(world.call(Person::Stranger, "GET", "/apps/shop", &NOTHING).await.status.as_u16(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_02_names_of_pipelines_and_products_are_plain_words() {
    let world = World::new().await;
    for bad in ["a;id", "$(id)", "`id`", "a b", "a\nb", "../x", "-h", "--all", "a'b", "a\"b", "a/b", "a&b", "É", ""] {
        for (path, body) in [
            ("/pipelines", json!({ "name": bad })),
            ("/shipway/v1/products", json!({ "name": bad, "pipelines": ["shop"] })),
        ] {
            let refused = world.call(Person::Owner, "POST", path, &body).await;
            assert_eq!(refused.status, 422, "{path} {bad:?}: {}", refused.text);
        }
        let renamed = world.call(Person::Owner, "PATCH", "/pipelines/shop", &json!({ "name": bad })).await;
        assert_eq!(renamed.status, 422, "{bad:?}: {}", renamed.text);
        let staged = json!({ "app": "shop", "pipeline": "shop", "stage": bad });
        assert_eq!(world.call(Person::Owner, "POST", "/pipeline-couplings", &staged).await.status, 422, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_18_a_rule_about_the_upstream_is_not_lifted_by_another_upstream() {
    let world = World::new().await;
    let upstream = "/shipway/v1/pipelines/shop/upstream";
    let call = async |person: Person, method: &str, body: Value| {
        let reply = world.call(person, method, upstream, &body).await;
        (reply.status.as_u16(), reply.text)
    };
    assert_eq!(call(Person::Collaborator, "POST", json!({ "branch": "main" })).await.0, 201);
    assert_eq!(call(Person::Owner, "PATCH", json!({ "refuse_behind": ["staging"] })).await.0, 200);
    for (method, body) in [("POST", json!({ "branch": "quiet" })), ("DELETE", NOTHING)] {
        let (status, text) = call(Person::Collaborator, method, body).await;
        assert!(status == 403 && text.contains("Ask owner@example.org, who owns it."), "{method}: {status} {text}");
    }
    assert_eq!(call(Person::Owner, "POST", json!({ "branch": "trunk" })).await.0, 201);
    assert_eq!(call(Person::Owner, "DELETE", NOTHING).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_an_administrators_lesser_token_sees_no_more_than_its_scope() {
    let world = World::new().await;
    let shop = world.platform.app(&world.caller(Person::Owner), &NameOrId::parse("shop")).unwrap().id;
    let other = world.deployed("other").await;
    let operation = world.platform.store().read(|c| c.operations(Some(other), 1)).unwrap().remove(0).id;
    let admin = world.caller(Person::Admin);
    let get = async |scope: Scope, path: &str| {
        let new = NewToken { description: "less".into(), scope, expires_in_seconds: None };
        let (_, token) = world.platform.create_token(&admin, new).await.unwrap();
        let bearer = format!("Bearer {token}");
        world.call_with(Person::Nobody, "GET", path, &NOTHING, &[("authorization", &bearer)]).await
    };
    let of_shop = get(Scope::Deploy { app: shop }, "/shipway/v1/operations?app=shop").await;
    assert!(of_shop.text.contains("\"shop\""), "{}", of_shop.text);
    let all = get(Scope::Deploy { app: shop }, "/shipway/v1/operations").await;
    assert!(all.status == 200 && !all.text.contains("\"other\""), "{}", all.text);
    let one = format!("/shipway/v1/operations/{operation}");
    assert_eq!(get(Scope::Deploy { app: shop }, &one).await.status, 404);
    assert_eq!(get(Scope::Identity, &one).await.status, 404);
    let users = get(Scope::Identity, "/shipway/v1/users").await.json();
    assert_eq!(users.as_array().unwrap().iter().map(|user| &user["email"]).collect::<Vec<_>>(), ["admin@example.org"]);
    for (scope, expected) in [(Scope::Identity, 404), (Scope::Read, 200)] {
        assert_eq!(get(scope, "/users/owner@example.org").await.status.as_u16(), expected);
    }
}
