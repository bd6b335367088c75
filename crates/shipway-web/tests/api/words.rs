//! What people are told: what it is about, by its name, and what to do next.

use crate::support::{Person, World};
use serde_json::{Value, json};

const NOTHING: Value = Value::Null;

/// Asks for something that is refused, and returns what is said.
async fn refusal(world: &World, person: Person, method: &str, path: &str, body: Value) -> String {
    let refused = world.call(person, method, path, &body).await;
    assert!(refused.status.is_client_error(), "{method} {path}: {} {}", refused.status, refused.text);
    refused.json()["message"].as_str().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_said_with_a_way_on() {
    let world = World::new().await;
    world.deployed("till").await;
    world.team().await;
    world.database("shop").await;
    world.database("till").await;
    let database = |addons: Value| addons[0]["name"].as_str().unwrap().to_string();
    let of_till = database(world.call(Person::Owner, "GET", "/apps/till/addons", &NOTHING).await.json());
    let body = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    let key = json!({ "public_key": format!("ssh-ed25519 {body} ada") });
    let product = json!({ "name": "all", "pipelines": ["shop"] });
    for (path, body) in [("/account/keys", &key), ("/shipway/v1/products", &product)] {
        let made = world.call(Person::Owner, "POST", path, body).await;
        assert!(made.status.is_success(), "{path}: {}", made.text);
    }
    let owner = world.caller(Person::Owner);
    let print = world.platform.store().read(|c| c.keys_of(owner.actor.account)).unwrap().remove(0).fingerprint;
    let check = async |person: Person, method: &str, path: &str, body: Value, expected: &str| {
        assert_eq!(refusal(&world, person, method, path, body).await, expected, "{method} {path}");
    };
    let name = |name: &str| json!({ "name": name });
    let me = world.call(Person::Owner, "GET", "/account", &NOTHING).await.json()["id"].clone();
    let pipeline = json!({ "name": "shop", "owner": { "id": me, "type": "user" } });
    let taken = "Name shop is already taken by another pipeline. Choose another name.";
    check(Person::Owner, "POST", "/pipelines", pipeline, taken).await;
    check(Person::Owner, "PATCH", "/pipelines/till", name("shop"), taken).await;
    let taken = "Name all is already taken by another product. Choose another name.";
    check(Person::Owner, "POST", "/shipway/v1/products", product, taken).await;
    let taken = "Name acme is already taken by another team. Choose another name.";
    check(Person::Owner, "POST", "/teams", name("acme"), taken).await;
    let addon = json!({ "plan": "heroku-postgresql", "name": of_till });
    let taken = format!(
        "Name {of_till} is already taken by another add-on. Choose another name, or give none and have one made."
    );
    check(Person::Owner, "POST", "/apps/shop/addons", addon, &taken).await;
    let hostname = |hostname: &str| json!({ "hostname": hostname });
    let there = "till.example.com is already added to till. Choose another name, or take it from there first: heroku \
                 domains:remove till.example.com -a till";
    check(Person::Owner, "POST", "/apps/shop/domains", hostname("till.example.com"), there).await;
    let there = "shop.example.com is already added to shop: heroku domains -a shop";
    check(Person::Owner, "POST", "/apps/shop/domains", hostname("shop.example.com"), there).await;
    let own = format!("You have the key {print} already. Yours are listed by: heroku keys");
    check(Person::Owner, "POST", "/account/keys", key.clone(), &own).await;
    let others =
        format!("Another account here has the key {print}. Make one of your own, and add that: ssh-keygen -t ed25519");
    check(Person::Stranger, "POST", "/account/keys", key, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_var_that_no_dyno_sees_is_set_with_a_warning() {
    let world = World::new().await;
    let set = async |vars: Value| {
        let set = world.call(Person::Owner, "PATCH", "/apps/shop/config-vars", &vars).await;
        assert_eq!(set.status, 200, "{}", set.text);
        set.header("x-heroku-warning").map(String::from)
    };
    let port = "PORT has no effect as a config var: the platform sets it in every dyno. To take it back: heroku \
                config:unset PORT -a shop";
    assert_eq!(set(json!({ "PORT": "3000", "COLOUR": "red" })).await.as_deref(), Some(port));
    let both = "DYNO, HEROKU_SLUG_COMMIT have no effect as config vars: the platform sets them in every dyno. To take them \
                back: heroku config:unset DYNO HEROKU_SLUG_COMMIT -a shop";
    assert_eq!(set(json!({ "HEROKU_SLUG_COMMIT": "x", "DYNO": "x" })).await.as_deref(), Some(both));
    assert_eq!(set(json!({ "PORT": null, "COLOUR": "blue", "PORTS": "1" })).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_ci_is_told_what_it_is_for_and_who_can_help() {
    let world = World::new().await;
    world.deployed("till").await;
    let check = async |method: &str, path: &str, body: Value, expected: &str| {
        assert_eq!(refusal(&world, Person::DeployToken, method, path, body).await, expected, "{method} {path}");
    };
    let wider = "Ask owner@example.org, who owns shop, for one of a wider scope.";
    let only = format!(
        "The token that was used may not do this: it brings code to shop, says whether that worked, and does nothing else. \
         {wider}"
    );
    check("POST", "/apps", json!({}), &only).await;
    check("GET", "/apps/shop/dynos", NOTHING, &only).await;
    // There is one of that name, and there is none.
    for pipeline in ["till", "nowhere"] {
        let path = format!("/shipway/v1/pipelines/{pipeline}/checks");
        let body = json!({ "commit": "3f".repeat(20), "state": "succeeded" });
        let other = format!(
            "Couldn't find that pipeline: {pipeline}. The token that was used is for shop, which is in the pipeline shop."
        );
        check("POST", &path, body, &other).await;
    }
    // Whoever made it finds the app's name in the list of tokens.
    let tokens = world.call(Person::Owner, "GET", "/oauth/authorizations", &NOTHING).await.json();
    let scopes: Vec<&Value> = tokens.as_array().unwrap().iter().map(|token| &token["scope"][0]).collect();
    assert!(scopes.contains(&&json!("deploy:shop")), "{scopes:?}");
}
