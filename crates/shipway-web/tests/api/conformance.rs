//! Every route that we serve and the schema knows is called, its answer held against the schema, and what was written
//! is read back.

use crate::coverage::REFUSING;
use crate::schema::{self, Link, Schema, shape};
use crate::support::{Person, SSH_KEY, World};
use regex::Regex;
use serde_json::{Value, json};
use shipway_web::routes::TABLE;
use std::collections::{BTreeSet, HashSet};

/// A client that holds every answer against the schema.
pub struct Client<'a> {
    pub world: &'a World,
    who: Person,
    schema: &'a Schema,
    links: Vec<Link>,
    called: HashSet<(String, String)>,
}

impl Client<'_> {
    /// Calls as the owner, or whoever it is by then; `route` names the route, `path` fills it in.
    pub async fn call(&mut self, status: u16, method: &str, route: &str, values: &[&str], body: Value) -> Value {
        let mut path = route.to_string();
        let place = Regex::new(r"\{[^}]*\}").unwrap();
        for value in values {
            path = place.replace(&path, regex::NoExpand(value)).into_owned();
        }
        let reply = self.world.call(self.who, method, &path, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path} {body}: {}", reply.text);
        assert!(reply.header("request-id").is_some());
        let answer = reply.json();
        let shape = shape(route);
        for link in self.links.iter().filter(|l| status < 300 && l.method == method && l.shape == shape) {
            let Some(target) = &link.target else { continue };
            let problems = self.schema.problems(target, &answer);
            assert!(problems.is_empty(), "{method} {path} as {} {}: {problems:#?}\n{answer:#}", link.noun, link.title);
        }
        self.called.insert((method.into(), shape));
        answer
    }

    pub async fn get(&mut self, route: &str, values: &[&str]) -> Value {
        self.call(200, "GET", route, values, Value::Null).await
    }

    /// Waits until something is in one of these states.
    async fn until(&mut self, route: &str, id: &str, states: &[&str]) -> Value {
        let mut events = self.world.platform.events();
        loop {
            let seen = self.get(route, &[id]).await;
            if states.iter().any(|state| seen["status"] == *state) {
                return seen;
            }
            // A missed event costs a tenth of a second.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), events.recv()).await;
        }
    }
}

async fn webhooks(client: &mut Client<'_>) {
    let (all, one) = ("/apps/{app}/webhooks", "/apps/{app}/webhooks/{webhook}");
    let order = json!({ "url": "https://hooks.invalid/x", "include": ["api:domain", "dyno"], "level": "notify" });
    let made = client.call(201, "POST", all, &["shop"], order).await;
    assert_eq!(made["include"], json!(["dyno", "api:domain"]));
    for wrong in [json!({}), json!({ "url": "http://127.0.0.1/", "include": ["api:app"], "level": "notify" })] {
        client.call(422, "POST", all, &["shop"], wrong).await;
    }
    let changed = json!({ "include": ["api:domain"], "authorization": "Bearer x" });
    client.call(200, "PATCH", one, &["shop", &id(&made)], changed).await;
    assert_eq!(client.get(one, &["shop", &id(&made)]).await["include"], json!(["api:domain"]));
    assert_eq!(client.get(all, &["shop"]).await.as_array().map(Vec::len), Some(1));

    client
        .call(
            201,
            "POST",
            "/apps/{app}/domains",
            &["shop"],
            json!({ "hostname": "hooked.example.org", "sni_endpoint": null }),
        )
        .await;
    let (deliveries, delivery) = ("/apps/{app}/webhook-deliveries", "/apps/{app}/webhook-deliveries/{delivery}");
    let mut events = client.world.platform.events();
    let found = loop {
        let seen = client.get(deliveries, &["shop"]).await;
        match seen.as_array().and_then(|all| all.first()) {
            Some(first) if first["status"] == "failed" => break first.clone(),
            _ => _ = tokio::time::timeout(std::time::Duration::from_millis(100), events.recv()).await,
        }
    };
    let shown = client.get(delivery, &["shop", &id(&found)]).await;
    assert_eq!((&shown["num_attempts"], &shown["event"]["include"]), (&json!(1), &json!("api:domain")));
    let event = client.get("/apps/{app}/webhook-events/{event}", &["shop", &id(&shown["event"])]).await;
    assert_eq!(event["payload"]["data"]["hostname"], "hooked.example.org");
    assert_eq!(client.get("/apps/{app}/webhook-events", &["shop"]).await[0]["id"], event["id"]);
    client.call(200, "DELETE", "/apps/{app}/domains/{domain}", &["shop", "hooked.example.org"], Value::Null).await;
    client.call(200, "DELETE", one, &["shop", &id(&made)], Value::Null).await;
    assert_eq!(client.get(deliveries, &["shop"]).await, json!([]));
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_served_route_answers_as_the_schema_says() {
    let Some(schema) = schema::load() else {
        eprintln!("skipped: SHIPWAY_TEST_SCHEMA names no schema");
        return;
    };
    let world = World::new().await;
    let mut client =
        Client { world: &world, who: Person::Owner, schema: &schema, links: schema.links(), called: HashSet::new() };
    accounts(&mut client).await;
    apps(&mut client).await;
    access(&mut client).await;
    webhooks(&mut client).await;
    code(&mut client).await;
    processes(&mut client).await;
    catalog(&mut client).await;
    review_apps(&mut client).await;
    promotions(&mut client).await;
    pipelines(&mut client).await;
    addons(&mut client).await;
    crate::teams::teams(&mut client).await;
    leaving(&mut client).await;

    let served: BTreeSet<(String, String)> = TABLE
        .iter()
        .filter(|r| !r.handler.starts_with("absent::") && !REFUSING.iter().any(|(handler, _)| *handler == r.handler))
        .map(|r| (r.method.to_string(), shape(r.path)))
        .collect();
    let known = client.links.iter().map(|l| (l.method.clone(), l.shape.clone()));
    let known: BTreeSet<_> = known.filter(|l| served.contains(l)).collect();
    let uncalled: Vec<_> = known.iter().filter(|l| !client.called.contains(*l)).collect();
    assert!(uncalled.is_empty(), "served, in the schema, and not called here: {uncalled:#?}");
}

async fn leaving(c: &mut Client<'_>) {
    let refused = c.call(422, "DELETE", "/account", &[], Value::Null).await;
    assert!(refused["message"].as_str().unwrap().contains("heroku apps:transfer EMAIL -a shop"), "{refused}");
    for (who, route) in [(Person::Viewer, "/account"), (Person::Deployer, "/users/{user}")] {
        c.who = who;
        let me = c.get("/account", &[]).await;
        assert_eq!(c.call(200, "DELETE", route, &["~"], Value::Null).await["id"], me["id"]);
        c.call(401, "GET", "/account", &[], Value::Null).await;
    }
}

async fn addons(c: &mut Client<'_>) {
    let service = c.get("/addon-services", &[]).await[0].clone();
    assert_eq!(service["name"], "heroku-postgresql");
    let plan = "heroku-postgresql:essential-0";
    for name in ["heroku-postgresql", &id(&service)] {
        assert_eq!(c.get("/addon-services/{service}", &[name]).await, service);
        let plans = c.get("/addon-services/{service}/plans", &[name]).await;
        let one = "/addon-services/{service}/plans/{plan}";
        assert_eq!(c.get(one, &[name, plan]).await, plans[0]);
        assert_eq!(c.get("/plans/{plan}", &[&id(&plans[0])]).await, plans[0]);
    }
    c.call(201, "POST", "/apps", &[], json!({ "name": "with-data" })).await;
    c.call(201, "POST", "/apps", &[], json!({ "name": "beside-it" })).await;
    let new = json!({ "plan": plan, "attachment": { "name": "MAIN" }, "name": "main-database" });
    let made = c.call(201, "POST", "/apps/{app}/addons", &["with-data"], new).await;
    assert_eq!((&made["state"], &made["config_vars"]), (&json!("provisioned"), &json!(["MAIN_URL"])));
    for name in ["main-database", &id(&made)] {
        assert_eq!(c.get("/addons/{addon}", &[name]).await, made);
        assert_eq!(c.get("/apps/{app}/addons/{addon}", &["with-data", name]).await, made);
        assert_eq!(c.get("/addons/{addon}/config", &[name]).await, json!([]));
    }
    for route in ["/addons", "/users/~/addons"] {
        assert_eq!(c.get(route, &[]).await, json!([made]));
    }
    c.get("/users/{user}/addons", &["owner@example.org"]).await;
    assert_eq!(c.get("/apps/{app}/addons", &["with-data"]).await, json!([made]));
    let rename = json!({ "name": "main-db", "plan": plan });
    let renamed = c.call(200, "PATCH", "/apps/{app}/addons/{addon}", &["with-data", "main-database"], rename).await;
    assert_eq!(renamed["name"], "main-db");
    let attach = json!({ "addon": "main-db", "app": "beside-it", "name": "SHARED" });
    let attached = c.call(201, "POST", "/addon-attachments", &[], attach).await;
    assert_eq!(c.get("/addon-attachments/{attachment}", &[&id(&attached)]).await, attached);
    assert_eq!(c.get("/apps/{app}/addon-attachments", &["beside-it"]).await, json!([attached]));
    for name in ["SHARED", &id(&attached)] {
        let route = "/apps/{app}/addon-attachments/{attachment}";
        assert_eq!(c.get(route, &["beside-it", name]).await, attached);
    }
    assert_eq!(c.get("/addon-attachments", &[]).await.as_array().unwrap().len(), 2);
    assert_eq!(c.get("/addons/{addon}/addon-attachments", &["main-db"]).await.as_array().unwrap().len(), 2);
    let wanted = json!({ "addon": "MAIN_URL", "app": "with-data", "addon_service": "heroku-postgresql" });
    assert_eq!(c.call(200, "POST", "/actions/addons/resolve", &[], wanted).await[0]["id"], made["id"]);
    let wanted = json!({ "addon_attachment": "SHARED_URL", "app": "beside-it" });
    assert_eq!(c.call(200, "POST", "/actions/addon-attachments/resolve", &[], wanted).await, json!([attached]));
    c.call(200, "DELETE", "/addon-attachments/{attachment}", &[&id(&attached)], Value::Null).await;
    let gone = c.call(200, "DELETE", "/apps/{app}/addons/{addon}", &["with-data", "main-db"], json!({})).await;
    assert_eq!(gone["state"], "deprovisioned");
    assert_eq!(c.get("/addons", &[]).await, json!([]));
}

async fn accounts(c: &mut Client<'_>) {
    let me = c.get("/account", &[]).await;
    assert_eq!(me["email"], "owner@example.org");
    for name in ["~", "owner@example.org", &id(&me)] {
        assert_eq!(c.get("/users/{user}", &[name]).await["id"], me["id"]);
        assert_eq!(c.get("/users/{user}/apps", &[name]).await[0]["name"], "shop");
    }
    assert_eq!(c.call(200, "PATCH", "/account", &[], json!({ "name": "Olive Owner" })).await["name"], "Olive Owner");
    let change = json!({ "name": "Olive", "beta": true, "allow_tracking": false });
    c.call(200, "PATCH", "/users/{user}", &["~"], change).await;
    assert_eq!(c.get("/account", &[]).await["name"], "Olive");
    assert!(c.get("/account/rate-limits", &[]).await["remaining"].as_u64().unwrap() > 1000);
    let features = c.get("/account/features", &[]).await;
    for name in [features[0]["name"].as_str().unwrap(), &id(&features[0])] {
        let route = "/account/features/{feature}";
        assert_eq!(c.call(200, "PATCH", route, &[name], json!({ "enabled": true })).await["enabled"], true);
        assert_eq!(c.get(route, &[name]).await, features[0]);
    }
    let key = c.call(201, "POST", "/account/keys", &[], json!({ "public_key": SSH_KEY })).await;
    assert_eq!(key["comment"], "dev@example.org");
    assert_eq!(c.get("/account/keys", &[]).await, json!([key]));
    for name in [id(&key), key["fingerprint"].as_str().unwrap().replace('/', "%2F")] {
        assert_eq!(c.get("/account/keys/{key}", &[&name]).await, key);
    }
    c.call(200, "DELETE", "/account/keys/{key}", &[&id(&key)], Value::Null).await;
    assert_eq!(c.get("/account/keys", &[]).await, json!([]));

    let new = json!({ "description": "laptop", "scope": ["read"], "expires_in": "3600" });
    let made = c.call(201, "POST", "/oauth/authorizations", &[], new).await;
    assert_eq!(made["scope"], json!(["read"]));
    let route = "/oauth/authorizations/{authorization}";
    let own = [id(&made)];
    let own = [own[0].as_str()];
    let renamed = c.call(200, "PATCH", route, &own, json!({ "description": "desk" })).await;
    assert_eq!(renamed["description"], "desk");
    assert_eq!(c.get(route, &own).await["description"], "desk");
    let listed = c.get("/oauth/authorizations", &[]).await;
    assert!(listed.as_array().unwrap().iter().any(|a| a["id"] == made["id"]));
    let rotate = "/oauth/authorizations/{authorization}/actions/regenerate-tokens";
    let rotated = c.call(200, "POST", rotate, &own, Value::Null).await;
    assert_ne!(rotated["access_token"]["token"], made["access_token"]["token"]);
    c.call(200, "DELETE", route, &own, Value::Null).await;
    c.call(404, "GET", route, &own, Value::Null).await;
    let second = c.call(201, "POST", "/oauth/authorizations", &[], json!({})).await;
    c.call(200, "DELETE", "/oauth/tokens/{token}", &[&id(&second["access_token"])], Value::Null).await;
    c.call(404, "GET", route, &[&id(&second)], Value::Null).await;
}

async fn apps(c: &mut Client<'_>) {
    let app =
        c.call(201, "POST", "/apps", &[], json!({ "name": "conform", "region": "eu", "stack": "heroku-22" })).await;
    assert_eq!((&app["name"], &app["region"]["name"]), (&json!("conform"), &json!("eu")));
    let change = json!({ "maintenance": true, "name": "conformed", "build_stack": "heroku-20" });
    c.call(200, "PATCH", "/apps/{app}", &["conform"], change).await;
    for name in ["conformed", &id(&app)] {
        let read = c.get("/apps/{app}", &[name]).await;
        assert_eq!((&read["maintenance"], &read["name"]), (&json!(true), &json!("conformed")));
        // Older stacks are names of the one that there is.
        assert_eq!(read["build_stack"]["name"], "heroku-24");
    }
    assert_eq!(c.get("/apps", &[]).await.as_array().unwrap().len(), 2);
    let wanted = json!({ "in": { "id": [id(&app), "nobodys"] } });
    assert_eq!(c.call(200, "POST", "/filters/apps", &[], wanted).await[0]["id"], app["id"]);

    let one = "/apps/{app}/features/{feature}";
    assert_eq!(c.get("/apps/{app}/features", &["conformed"]).await[0]["enabled"], true);
    c.call(200, "PATCH", one, &["conformed", "preboot"], json!({ "enabled": false })).await;
    assert_eq!(c.get(one, &["conformed", "preboot"]).await["enabled"], false);

    c.get("/apps/{app}/available-stacks", &["conformed"]).await;
    c.get("/apps/{app}/available-dyno-sizes", &["conformed"]).await;
    c.call(200, "DELETE", "/apps/{app}", &["conformed"], Value::Null).await;
    c.call(404, "GET", "/apps/{app}", &["conformed"], Value::Null).await;
}

async fn access(c: &mut Client<'_>) {
    let all = "/apps/{app}/collaborators";
    let one = "/apps/{app}/collaborators/{collaborator}";
    assert_eq!(c.get(all, &["shop"]).await.as_array().unwrap().len(), 4);
    let mut added = c.call(201, "POST", all, &["shop"], json!({ "user": "new@example.org", "silent": false })).await;
    assert_eq!(added["user"]["email"], "new@example.org");
    let invitation = added.as_object_mut().and_then(|fields| fields.remove("invitation"));
    assert!(invitation.is_some(), "it is there once");
    for name in ["new@example.org", &id(&added)] {
        assert_eq!(c.get(one, &["shop", name]).await, added);
    }
    c.call(200, "DELETE", one, &["shop", "new@example.org"], Value::Null).await;
    c.call(404, "GET", one, &["shop", "new@example.org"], Value::Null).await;

    let all = "/apps/{app}/domains";
    let one = "/apps/{app}/domains/{domain}";
    let added =
        c.call(201, "POST", all, &["shop"], json!({ "hostname": "www.example.net", "sni_endpoint": null })).await;
    assert_eq!(added["cname"], "shop.localhost");
    for name in ["www.example.net", &id(&added)] {
        assert_eq!(c.get(one, &["shop", name]).await, added);
        c.call(200, "PATCH", one, &["shop", name], json!({ "sni_endpoint": null })).await;
    }
    let listed = c.get(all, &["shop"]).await;
    let kinds: BTreeSet<&str> = listed.as_array().unwrap().iter().filter_map(|d| d["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["custom", "heroku"]));
    c.call(200, "DELETE", one, &["shop", "www.example.net"], Value::Null).await;
    c.call(404, "GET", one, &["shop", "www.example.net"], Value::Null).await;
}

async fn code(c: &mut Client<'_>) {
    let vars = "/apps/{app}/config-vars";
    c.call(200, "PATCH", vars, &["shop"], json!({ "COLOUR": "blue", "SIZE": 7 })).await;
    assert_eq!(c.get(vars, &["shop"]).await, json!({ "COLOUR": "blue", "SIZE": "7" }));
    let releases = c.get("/apps/{app}/releases", &["shop"]).await;
    let newest = releases.as_array().unwrap().last().unwrap();
    let version = newest["version"].to_string();
    assert_eq!(newest["description"], "Set COLOUR, SIZE config vars");
    for name in [version.as_str(), &format!("v{version}"), &id(newest)] {
        assert_eq!(c.get("/apps/{app}/releases/{release}", &["shop", name]).await["id"], newest["id"]);
        let then = c.get("/apps/{app}/releases/{release}/config-vars", &["shop", name]).await;
        assert_eq!(then["COLOUR"], "blue");
    }
    c.call(200, "PATCH", vars, &["shop"], json!({ "SIZE": null })).await;
    assert_eq!(c.get(vars, &["shop"]).await, json!({ "COLOUR": "blue" }));

    let deployed = releases.as_array().unwrap().iter().find(|r| r["slug"].is_object()).unwrap();
    let slug = c.get("/apps/{app}/slugs/{slug}", &["shop", &id(&deployed["slug"])]).await;
    assert_eq!(slug["process_types"]["web"], "listen");
    let back = c.call(201, "POST", "/apps/{app}/releases", &["shop"], json!({ "release": deployed["id"] })).await;
    assert_eq!(back["description"], format!("Rollback to v{}", deployed["version"]));
    let again = json!({ "slug": slug["id"], "description": "Once more" });
    let again = c.call(201, "POST", "/apps/{app}/releases", &["shop"], again).await;
    assert_eq!(again["description"], "Once more");

    let packs = "/apps/{app}/buildpack-installations";
    c.call(200, "PUT", packs, &["shop"], json!({ "updates": [{ "buildpack": "heroku/nodejs" }] })).await;
    assert_eq!(c.get(packs, &["shop"]).await[0]["buildpack"]["name"], "heroku/nodejs");

    c.call(201, "POST", "/apps/{app}/sources", &["shop"], Value::Null).await;
    let source = c.call(201, "POST", "/sources", &[], Value::Null).await;
    let put = source["source_blob"]["put_url"].as_str().unwrap();
    let path = put.strip_prefix("http://127.0.0.1:5000").expect("by the road that the client came");
    assert_eq!(c.world.call(Person::Nobody, "PUT", path, &json!("a tar archive")).await.status, 200);
    let order = json!({ "source_blob": { "url": source["source_blob"]["get_url"], "version": "v9" } });
    let build = c.call(201, "POST", "/apps/{app}/builds", &["shop"], order).await;
    assert_eq!(build["source_blob"]["version"], "v9");
    assert_eq!(c.get("/apps/{app}/builds/{build}", &["shop", &id(&build)]).await["id"], build["id"]);
    assert_eq!(c.get("/apps/{app}/builds", &["shop"]).await.as_array().unwrap().len(), 2);
    c.call(202, "DELETE", "/apps/{app}/build-cache", &["shop"], Value::Null).await;
    let cancel = "/apps/{app}/builds/{build}";
    let first = c.get("/apps/{app}/builds", &["shop"]).await[0].take();
    c.call(409, "DELETE", cancel, &["shop", &id(&first)], Value::Null).await;
}

async fn processes(c: &mut Client<'_>) {
    let all = "/apps/{app}/formation";
    let updates = json!({ "updates": [{ "type": "web", "quantity": "+1" }, { "type": "worker", "quantity": 1 }] });
    c.call(200, "PATCH", all, &["shop"], updates).await;
    let listed = c.get(all, &["shop"]).await;
    let counts: Vec<_> = listed.as_array().unwrap().iter().map(|f| (&f["type"], &f["quantity"])).collect();
    // `releases:retry` looks for the release phase here.
    assert_eq!(counts, [(&json!("web"), &json!(2)), (&json!("worker"), &json!(1)), (&json!("release"), &json!(0))]);
    let one = "/apps/{app}/formation/{formation}";
    for name in ["web", &id(&listed[0])] {
        c.call(200, "PATCH", one, &["shop", name], json!({ "quantity": 1 })).await;
        assert_eq!(c.get(one, &["shop", name]).await["quantity"], 1);
    }

    let order =
        json!({ "command": "sleep", "attach": true, "env": { "COLUMNS": 101, "TERM": "xterm" }, "size": "basic" });
    let run = c.call(201, "POST", "/apps/{app}/dynos", &["shop"], order).await;
    assert!(run["attach_url"].as_str().unwrap().starts_with("rendezvous://127.0.0.1:5000/"));
    let one = "/apps/{app}/dynos/{dyno}";
    for name in [run["name"].as_str().unwrap(), &id(&run)] {
        assert_eq!(c.get(one, &["shop", name]).await["id"], run["id"]);
    }
    assert!(c.get("/apps/{app}/dynos", &["shop"]).await.as_array().unwrap().iter().any(|d| d["id"] == run["id"]));
    let stop = "/apps/{app}/dynos/{dyno}/actions/stop";
    c.call(202, "POST", stop, &["shop", run["name"].as_str().unwrap()], Value::Null).await;
    c.call(202, "POST", "/apps/{app}/formations/{type}/actions/stop", &["shop", "web"], Value::Null).await;
    c.call(202, "DELETE", "/apps/{app}/formations/{type}", &["shop", "web"], Value::Null).await;
    c.world.up("shop", "web.1").await;
    c.call(202, "DELETE", one, &["shop", "web.1"], Value::Null).await;
    c.call(202, "DELETE", "/apps/{app}/dynos", &["shop"], Value::Null).await;

    let order = json!({ "lines": 100, "tail": true, "dyno": "web.1", "source": "app" });
    let session = c.call(201, "POST", "/apps/{app}/log-sessions", &["shop"], order).await;
    assert!(session["logplex_url"].as_str().unwrap().starts_with("http://127.0.0.1:5000/streams/logs/"));
}

async fn catalog(c: &mut Client<'_>) {
    for (all, one) in
        [("/stacks", "/stacks/{stack}"), ("/regions", "/regions/{region}"), ("/dyno-sizes", "/dyno-sizes/{size}")]
    {
        let listed = c.get(all, &[]).await;
        for item in listed.as_array().unwrap() {
            assert_eq!(&c.get(one, &[item["name"].as_str().unwrap()]).await, item);
            assert_eq!(&c.get(one, &[&id(item)]).await, item);
        }
    }
}

async fn review_apps(c: &mut Client<'_>) {
    let config = "/pipelines/{pipeline}/review-app-config";
    c.call(404, "GET", config, &["shop"], Value::Null).await;
    c.call(422, "POST", config, &["shop"], json!({ "repo": "https://example.org/" })).await;
    let wanted = json!({
        "repo": "shop", "automatic_review_apps": true, "stale_days": 3, "base_name": "till",
        "deploy_target": { "id": "eu", "type": "region" }, "parent_app": "shop",
        "inherit": { "deny": ["COLOUR"] }, "quota": 2,
    });
    let enabled = c.call(201, "POST", config, &["shop"], wanted).await;
    c.call(200, "PATCH", config, &["shop"], json!({ "wait_for_ci": true, "stale_days": 4 })).await;
    let read = c.get(config, &["shop"]).await;
    assert_eq!((&read["base_name"], &read["stale_days"]), (&enabled["base_name"], &json!(4)));
    c.call(422, "PATCH", config, &["shop"], json!({ "stale_days": 0 })).await;
    assert_eq!(c.get("/pipelines/{pipeline}/repo", &["shop"]).await["full_name"], "shop");

    // A branch of the parent's repository becomes a review app.
    let shop = c.get("/apps/{app}", &["shop"]).await;
    let app = shipway_domain::AppId(id(&shop).parse().unwrap());
    let commit = c.world.ground.repositories.commit_of(&[("Procfile", "web: listen"), ("app.json", "{}")]);
    c.world.ground.repositories.set_head(app, "login", Some(&commit));
    c.get("/pipelines/{pipeline}/repo/branches/{branch}", &["shop", "login"]).await;
    c.call(404, "GET", "/pipelines/{pipeline}/repo/branches/{branch}", &["shop", "nope"], Value::Null).await;
    let resolve = json!({ "url": "resolve", "version": null });
    let new = json!({ "branch": "login", "pipeline": "shop", "source_blob": resolve });
    let made = c.call(202, "POST", "/review-apps", &[], new.clone()).await;
    c.call(409, "POST", "/review-apps", &[], new).await;
    let one = "/review-apps/{review_app}";
    let created = c.until(one, &id(&made), &["created", "errored"]).await;
    assert_eq!(&created["status"], &json!("created"));
    assert_eq!(c.get("/apps/{app}/review-app", &["till-login"]).await["id"], made["id"]);
    assert_eq!(c.get("/pipelines/{pipeline}/review-apps", &["shop"]).await.as_array().unwrap().len(), 1);
    let setup = c.get("/app-setups/{setup}", &[created["app_setup"]["id"].as_str().unwrap()]).await;
    assert_eq!((&setup["status"], &setup["build"]["status"]), (&json!("succeeded"), &json!("succeeded")));
    c.call(202, "DELETE", one, &[&id(&made)], Value::Null).await;
    c.until(one, &id(&made), &["deleted"]).await;

    // An uploaded source becomes an app.
    let source = c.call(201, "POST", "/sources", &[], json!({})).await["source_blob"].clone();
    let put = source["put_url"].as_str().unwrap().split("5000").nth(1).unwrap().to_string();
    let request = axum::http::Request::put(put).header("host", "127.0.0.1:5000").body("web: listen".into()).unwrap();
    assert_eq!(c.world.send(request).await.status, 200);
    let wanted = json!({
        "source_blob": { "url": source["get_url"] }, "app": { "name": "made", "region": "us" },
        "overrides": { "env": { "COLOUR": "red" }, "buildpacks": [{ "url": "heroku/python" }] },
        "pipeline_coupling": { "pipeline": "shop", "stage": "production" },
    });
    let setup = c.call(202, "POST", "/app-setups", &[], wanted).await;
    let done = c.until("/app-setups/{setup}", &id(&setup), &["succeeded", "failed"]).await;
    assert_eq!((&done["status"], &done["app"]["name"]), (&json!("succeeded"), &json!("made")));
    assert_eq!(c.get("/apps/{app}/pipeline-couplings", &["made"]).await["stage"], "production");
    assert_eq!(c.get("/apps/{app}/config-vars", &["made"]).await["COLOUR"], "red");
    c.call(404, "GET", "/apps/{app}/review-app", &["made"], Value::Null).await;
    c.call(200, "DELETE", "/apps/{app}", &["made"], Value::Null).await;
    c.call(200, "DELETE", config, &["shop"], Value::Null).await;
}

async fn pipelines(c: &mut Client<'_>) {
    let me = id(&c.get("/account", &[]).await);
    let new = json!({ "name": "checkout", "owner": { "id": me, "type": "user" }, "generation": { "name": "cedar" } });
    let made = c.call(201, "POST", "/pipelines", &[], new.clone()).await;
    c.call(422, "POST", "/pipelines", &[], new).await;
    let team = json!({ "name": "theirs", "owner": { "id": me, "type": "team" } });
    c.call(404, "POST", "/pipelines", &[], team).await;
    let one = "/pipelines/{pipeline}";
    c.call(200, "PATCH", one, &["checkout"], json!({ "name": "payments" })).await;
    for name in ["payments", &id(&made)] {
        assert_eq!(c.get(one, &[name]).await["name"], "payments");
    }
    let listed = c.get("/pipelines", &[]).await;
    assert_eq!(listed.as_array().unwrap().iter().map(|p| &p["name"]).collect::<Vec<_>>(), ["payments", "shop"]);
    let found = c.world.call(Person::Owner, "GET", "/pipelines?eq%5Bname%5D=payments", &Value::Null).await.json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    c.get("/pipelines/{pipeline}/pipeline-stack", &["payments"]).await;

    let spare = c.call(201, "POST", "/apps", &[], json!({ "name": "till" })).await;
    let place = json!({ "app": "till", "pipeline": id(&made), "stage": "production" });
    c.call(422, "POST", "/pipeline-couplings", &[], json!({ "app": "till", "pipeline": "payments", "stage": "x" }))
        .await;
    let coupling = c.call(201, "POST", "/pipeline-couplings", &[], place.clone()).await;
    // Asked again by a client that lost the answer.
    assert_eq!(c.call(201, "POST", "/pipeline-couplings", &[], place).await, coupling);
    let other = json!({ "app": "till", "pipeline": "shop", "stage": "production" });
    let taken = c.call(422, "POST", "/pipeline-couplings", &[], other).await;
    assert!(taken["message"].as_str().unwrap().starts_with("till is in the pipeline payments already, in production."));
    let one = "/pipeline-couplings/{coupling}";
    let moved = json!({ "stage": "staging", "display_name": "Till (QA)" });
    c.call(200, "PATCH", one, &[&id(&coupling)], moved).await;
    let read = c.get(one, &[&id(&coupling)]).await;
    assert_eq!((&read["stage"], &read["display_name"]), (&json!("staging"), &json!("Till (QA)")));
    assert_eq!(c.get("/apps/{app}/pipeline-couplings", &["till"]).await, read);
    assert_eq!(c.get("/pipelines/{pipeline}/pipeline-couplings", &["payments"]).await, json!([read]));
    assert_eq!(c.get("/pipeline-couplings", &[]).await.as_array().unwrap().len(), 2);
    assert_eq!(c.get("/users/~/pipeline-couplings", &[]).await.as_array().unwrap().len(), 2);

    for latest in ["builds", "releases", "deployments"] {
        let path = format!("/pipelines/{{pipeline}}/latest-{latest}");
        assert_eq!(c.get(&path, &["shop"]).await.as_array().unwrap().len(), 1, "{latest}");
    }
    let vars = "/pipelines/{pipeline}/stage/{stage}/config-vars";
    c.call(200, "PATCH", vars, &["payments", "review"], json!({ "COLOUR": "blue", "SIZE": 7 })).await;
    c.call(200, "PATCH", vars, &["payments", "review"], json!({ "SIZE": null })).await;
    assert_eq!(c.get(vars, &["payments", "review"]).await, json!({ "COLOUR": "blue" }));
    assert_eq!(c.get(vars, &["payments", "test"]).await, json!({}));

    let to = c.get("/users/{user}", &["collaborator@example.org"]).await;
    let transfer = json!({ "pipeline": { "id": id(&made) }, "new_owner": { "id": id(&to), "type": "user" } });
    let transferred = c.call(201, "POST", "/pipeline-transfers", &[], transfer).await;
    assert_eq!(transferred["previous_owner"]["id"], json!(me));
    // Seen still, by an app; renamed no more.
    c.call(403, "PATCH", "/pipelines/{pipeline}", &["payments"], json!({ "name": "mine-again" })).await;
    c.call(200, "DELETE", one, &[&id(&coupling)], Value::Null).await;
    c.call(404, "GET", one, &[&id(&coupling)], Value::Null).await;
    c.call(404, "GET", "/apps/{app}/pipeline-couplings", &["till"], Value::Null).await;
    c.call(404, "GET", "/pipelines/{pipeline}", &["payments"], Value::Null).await;
    c.call(200, "DELETE", "/pipelines/{pipeline}", &["shop"], Value::Null).await;
    c.call(200, "GET", "/apps/{app}", &["shop"], Value::Null).await;
    // It went with the pipeline.
    c.call(403, "DELETE", "/apps/{app}", &[&id(&spare)], Value::Null).await;
    assert_eq!(c.world.call(Person::Collaborator, "DELETE", "/apps/till", &Value::Null).await.status, 200);
}

async fn promotions(c: &mut Client<'_>) {
    c.call(201, "POST", "/apps", &[], json!({ "name": "counter" })).await;
    let live = json!({ "app": "counter", "pipeline": "shop", "stage": "production" });
    c.call(201, "POST", "/pipeline-couplings", &[], live).await;
    let pipeline = id(&c.get("/pipelines/{pipeline}", &["shop"]).await);
    let app = |value: &Value| json!({ "app": { "id": id(value) } });
    let (shop, counter) = (c.get("/apps/{app}", &["shop"]).await, c.get("/apps/{app}", &["counter"]).await);
    // Word for word what the CLI sends.
    let order = json!({ "pipeline": { "id": pipeline }, "source": app(&shop), "targets": [app(&counter)] });
    let made = c.call(201, "POST", "/pipeline-promotions", &[], order.clone()).await;
    let own = [id(&made)];
    let own = [own[0].as_str()];
    let mut events = c.world.platform.events();
    let targets = loop {
        let targets = c.get("/pipeline-promotions/{promotion}/promotion-targets", &own).await;
        assert!(targets[0].as_object().unwrap().contains_key("release"), "null until it exists, never missing");
        if targets[0]["status"] != "pending" {
            break targets;
        }
        let _ = events.recv().await;
    };
    assert_eq!(targets[0]["status"], "succeeded", "{targets}");
    assert_eq!(c.get("/pipeline-promotions/{promotion}", &own).await["status"], "completed");
    let release = id(&targets[0]["release"]);
    let released = c.get("/apps/{app}/releases/{release}", &["counter", &release]).await;
    assert!(released["description"].as_str().unwrap().starts_with("Promote shop v"), "{released}");
    let slug = |release: &Value| id(&release["slug"]);
    let mine = c.get("/apps/{app}/slugs/{slug}", &["counter", &slug(&released)]).await;
    let source = c.get("/apps/{app}/releases/{release}", &["shop", "current"]).await;
    let theirs = c.get("/apps/{app}/slugs/{slug}", &["shop", &slug(&source)]).await;
    assert_eq!((&mine["checksum"], &mine["commit"]), (&theirs["checksum"], &theirs["commit"]));
    let again = c.call(422, "POST", "/pipeline-promotions", &[], order).await;
    let expected = format!(
        "No changes to promote: production already runs v2, {} (counter).",
        &mine["commit"].as_str().unwrap()[..7]
    );
    assert_eq!(again["message"], expected);
    let path = format!("/pipeline-promotions/{}", own[0]);
    assert_eq!(c.world.call(Person::Stranger, "GET", &path, &Value::Null).await.status, 404);
    c.call(200, "DELETE", "/apps/{app}", &["counter"], Value::Null).await;
}
