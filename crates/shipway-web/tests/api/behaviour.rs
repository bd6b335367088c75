//! What the API's clients rely on beside the JSON: headers, spellings of credentials, pages of lists, warnings.

use crate::support::{PROCFILE, Person, World};
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use shipway_domain::admission::Scope;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const NOTHING: Value = Value::Null;

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_every_spelling() {
    let world = World::new().await;
    let token = world.token(Person::Owner).unwrap();
    let basic = |s: String| format!("Basic {}", BASE64_STANDARD.encode(s));
    for (value, status) in [
        (format!("Bearer {token}"), 200),
        (basic(format!(":{token}")), 200),
        (basic(format!("heroku:{token}")), 200),
        (basic(format!("owner@example.org:{token}")), 200),
        (format!("Bearer {token}x"), 401),
        ("Bearer".into(), 401),
        (basic("owner@example.org:correct horse battery".into()), 401),
    ] {
        let reply = world.call_with(Person::Nobody, "GET", "/account", &NOTHING, &[("authorization", &value)]).await;
        assert_eq!(reply.status.as_u16(), status, "{value}");
        if status == 401 {
            assert_eq!(reply.json()["id"], "unauthorized");
            assert!(reply.header("www-authenticate").is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_with_a_password_and_logout() {
    let world = World::new().await;
    let change = async |body: Value| world.call(Person::Owner, "PATCH", "/account", &body).await;
    let set = change(json!({ "new_password": "correct horse battery" })).await;
    assert_eq!(set.status, 200, "{}", set.text);
    // From now on nobody who finds an open session takes the account over.
    for (body, expected) in [
        (json!({ "new_password": "another password" }), "`password` must be the password that you have now"),
        (json!({ "new_password": "another password", "password": "guessed" }), "`password` must be"),
        (json!({ "new_password": "short", "password": "correct horse battery" }), "`new_password` has 5 characters"),
        (json!({ "email": "other@example.org" }), "`email` cannot be changed"),
        (json!({ "name": "x".repeat(201) }), "`name` may have 200 characters"),
    ] {
        let refused = change(body).await;
        assert_eq!(refused.status, 422);
        assert!(refused.json()["message"].as_str().unwrap().starts_with(expected), "{}", refused.text);
    }
    let others = world.call(Person::Admin, "PATCH", "/users/owner@example.org", &json!({ "name": "x" })).await;
    assert_eq!(others.status, 403, "not even an administrator");
    let body = json!({ "description": "Heroku CLI login", "expires_in": 2_592_000, "scope": ["global"] });
    let login = async |password: &str| {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("owner@example.org:{password}")));
        let headers = [("authorization", value.as_str())];
        world.call_with(Person::Nobody, "POST", "/oauth/authorizations", &body, &headers).await
    };
    assert_eq!(login("wrong horse battery").await.status, 401);
    let reply = login("correct horse battery").await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let made = reply.json();
    assert_eq!(made["user"]["email"], "owner@example.org");
    let token = format!("Bearer {}", made["access_token"]["token"].as_str().unwrap());
    let as_new = [("authorization", token.as_str())];
    // What `heroku logout` does: no session and no key that is to be kept, so the authorization whose hint fits the token.
    let session = world.call_with(Person::Nobody, "DELETE", "/oauth/sessions/~", &NOTHING, &as_new).await;
    assert_eq!((session.status.as_u16(), &session.json()["resource"]), (404, &json!("session")));
    let key = world.call_with(Person::Nobody, "GET", "/oauth/authorizations/~", &NOTHING, &as_new).await;
    assert_eq!((key.status.as_u16(), &key.json()["resource"]), (404, &json!("authorization")));
    assert_eq!(world.call(Person::Owner, "GET", "/oauth/authorizations/~", &NOTHING).await.status, 200);
    let all = world.call_with(Person::Nobody, "GET", "/oauth/authorizations", &NOTHING, &as_new).await.json();
    let own = all.as_array().unwrap().iter().find(|one| one["id"] == made["id"]).unwrap();
    let hint = own["access_token"]["token"].as_str().unwrap().to_string();
    let (head, tail) = hint.split_once("**********").unwrap();
    assert!(token[7..].starts_with(head) && token.ends_with(tail));
    let path = format!("/oauth/authorizations/{}", own["id"].as_str().unwrap());
    assert_eq!(world.call_with(Person::Nobody, "DELETE", &path, &NOTHING, &as_new).await.status, 200);
    assert_eq!(world.call_with(Person::Nobody, "GET", "/account", &NOTHING, &as_new).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_no_wider_one() {
    let world = World::new().await;
    let make = async |headers: &[(&str, &str)], scope: &str| {
        let body = json!({ "scope": [scope] });
        let person = if headers.is_empty() { Person::Owner } else { Person::Nobody };
        world.call_with(person, "POST", "/oauth/authorizations", &body, headers).await
    };
    for (own, wanted, status) in [
        ("write-protected", "global", 403),
        ("write-protected", "read", 201),
        ("read", "read", 403),
        ("global", "deploy:shop", 201),
        ("global", "deploy:nobodys", 404),
        ("global", "everything", 422),
    ] {
        let made = make(&[], own).await.json();
        let bearer = format!("Bearer {}", made["access_token"]["token"].as_str().unwrap());
        let reply = make(&[("authorization", &bearer)], wanted).await;
        assert_eq!(reply.status.as_u16(), status, "{own} gives {wanted}: {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_every_answer_has() {
    let world = World::new().await;
    let first = world.call(Person::Owner, "GET", "/apps/shop", &NOTHING).await;
    let tag = first.header("etag").unwrap().to_string();
    assert_ne!(first.header("request-id"), None);
    assert!(first.header("content-type").unwrap().starts_with("application/json"));
    let same = world.call_with(Person::Owner, "GET", "/apps/shop", &NOTHING, &[("if-none-match", &tag)]).await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    let head = world.call(Person::Owner, "HEAD", "/apps/shop", &NOTHING).await;
    assert_eq!((head.status.as_u16(), head.text.as_str(), head.header("etag")), (200, "", Some(tag.as_str())));
    let remaining =
        |reply: &crate::support::Reply| reply.header("ratelimit-remaining").unwrap().parse::<u64>().unwrap();
    assert!(remaining(&head) < remaining(&first));

    for (method, path, status, id) in [
        ("GET", "/apps/nobodys", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/spaces/x/nat", 404, "not_found"),
        ("PUT", "/apps/shop", 405, "method_not_allowed"),
        ("GET", "/apps/shop/releases/99", 404, "not_found"),
    ] {
        let reply = world.call(Person::Owner, method, path, &NOTHING).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["id"]), (status, &json!(id)), "{method} {path}");
        assert!(reply.header("request-id").is_some());
    }
    let missing = world.call(Person::Owner, "GET", "/apps/nobodys", &NOTHING).await;
    assert_eq!(missing.json()["resource"], "app");
    let put = world.call(Person::Owner, "PUT", "/apps/shop", &NOTHING).await;
    assert!(put.header("allow").unwrap().contains("PATCH"));
    let made = world.call(Person::Owner, "POST", "/apps", &json!({ "name": "moved-here" })).await;
    assert!(made.header("x-heroku-warning").unwrap().contains("heroku git:remote -a moved-here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_in_pages() {
    let world = World::new().await;
    for n in 0..7 {
        let body = json!({ "STEP": n.to_string() });
        assert_eq!(world.call(Person::Owner, "PATCH", "/apps/shop/config-vars", &body).await.status, 200);
    }
    let mut range = "version ..; order=desc,max=3".to_string();
    let (mut seen, mut pages) = (HashSet::new(), 0);
    loop {
        let reply = world.call_with(Person::Owner, "GET", "/apps/shop/releases", &NOTHING, &[("range", &range)]).await;
        pages += 1;
        for release in reply.json().as_array().unwrap() {
            assert!(seen.insert(release["version"].as_u64().unwrap()), "twice: {release}");
        }
        match reply.header("next-range") {
            Some(next) => {
                assert_eq!(reply.status, 206);
                range = next.to_string();
            }
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (9, 3));
    let newest = [("range", "version ..; max=1, order=desc")];
    let reply = world.call_with(Person::Owner, "GET", "/apps/shop/releases", &NOTHING, &newest).await;
    // A client that asks for one and is offered more would fetch them all.
    assert_eq!((reply.status.as_u16(), reply.header("next-range")), (206, None));
    assert_eq!(reply.json()[0]["description"], "Set STEP config var");
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_lead_back_the_way_the_client_came() {
    let world = World::new().await;
    let body = json!({ "lines": 5 });
    for (host, expected) in [
        ("paas.example.org:5000", "http://paas.example.org:5000/streams/logs/"),
        ("evil@example.org", "http://127.0.0.1:5000/streams/logs/"),
        ("a b", "http://127.0.0.1:5000/streams/logs/"),
    ] {
        let token = format!("Bearer {}", world.token(Person::Owner).unwrap());
        let request = Request::post("/apps/shop/log-sessions")
            .header("host", host)
            .header("authorization", token)
            .body(Body::from(body.to_string()))
            .unwrap();
        let made = world.send(request).await.json();
        assert!(made["logplex_url"].as_str().unwrap().starts_with(expected), "{host}: {made}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_collaborator_is_invited() {
    let world = World::new().await;
    let body = json!({ "user": "new@example.org" });
    let reply = world.call(Person::Owner, "POST", "/apps/shop/collaborators", &body).await;
    let warning = reply.header("x-heroku-warning").unwrap();
    let token = format!("Bearer {}", warning.rsplit(' ').next().unwrap());
    let apps = world.call_with(Person::Nobody, "GET", "/apps", &NOTHING, &[("authorization", &token)]).await;
    assert_eq!(apps.json()[0]["name"], "shop");
    // The same for clients that drop headers.
    let invitation = &reply.json()["invitation"];
    assert_eq!(format!("Bearer {}", invitation["token"].as_str().unwrap()), token);
    assert_eq!(invitation["sign_in_url"], "http://127.0.0.1:5000/dashboard/sign-in");
    let known = world.call(Person::Owner, "POST", "/apps/shop/collaborators", &body).await;
    assert_eq!((known.header("x-heroku-warning"), &known.json()["invitation"]), (None, &NOTHING));

    world.team().await;
    let member = json!({ "email": "newer@example.org", "role": "member" });
    let reply = world.call(Person::Owner, "PUT", "/teams/acme/members", &member).await;
    let token = format!("Bearer {}", reply.json()["invitation"]["token"].as_str().unwrap());
    let account = world.call_with(Person::Nobody, "GET", "/account", &NOTHING, &[("authorization", &token)]).await;
    assert_eq!(account.json()["email"], "newer@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_the_api_other_than_3_are_not_there() {
    let world = World::new().await;
    let get = async |path: &str, accept: Option<&str>| {
        let token = format!("Bearer {}", world.token(Person::Owner).unwrap());
        let mut request = Request::get(path).header("host", "127.0.0.1:5000").header("authorization", token);
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let heroku = "application/vnd.heroku+json";
    assert_eq!(get("/apps/shop", None).await.status, 200);
    for served in [
        "*/*",
        "application/json",
        "text/html",
        heroku,
        "",
        &format!("{heroku}; version=3"),
        &format!("{heroku};version=\"3\""),
        &format!("{heroku}; version=3.sdk"),
        &format!("{heroku}; version=3.webhooks; q=0.5"),
        &format!("{heroku}; version=2, */*; q=0.1"),
    ] {
        assert_eq!(get("/apps/shop", Some(served)).await.status, 200, "{served:?}");
    }
    for version in ["2", "4", "33", "30.sdk", "", "newest"] {
        let accept = format!("{heroku}; version={version}");
        let reply = get("/apps/shop", Some(&accept)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["id"].as_str()), (404, Some("not_found")), "{accept}");
        let message = reply.json()["message"].to_string();
        assert!(message.contains("Ask for version 3 in the Accept header"), "{message}");
        // What is our own has no versions of Heroku's.
        assert_eq!(get("/shipway/v1/operations", Some(&accept)).await.status, 200, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_cannot_be_had_comes_with_one_that_can() {
    let world = World::new().await;
    let create = async |name: &str| world.call(Person::Owner, "POST", "/apps", &json!({ "name": name })).await;
    for (name, expected) in [
        ("shop", "Name shop is already taken. This one is free: "),
        ("www", "is reserved for the platform. This one is free: "),
    ] {
        let refused = create(name).await;
        assert_eq!(refused.status, 422, "{name}");
        let message = refused.json()["message"].as_str().unwrap().to_string();
        let (_, free) = message.split_once(expected).unwrap_or_else(|| panic!("{name}: {message}"));
        let made = create(free).await;
        assert_eq!((made.status.as_u16(), made.json()["name"].as_str()), (201, Some(free)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_20_a_deploy_token_builds_an_upload_and_sees_what_came_of_it() {
    let world = World::new().await;
    let call = async |method: &str, path: &str, body: Value| world.call(Person::DeployToken, method, path, &body).await;
    let source = call("POST", "/sources", NOTHING).await.json();
    let put = source["source_blob"]["put_url"].as_str().unwrap().strip_prefix("http://127.0.0.1:5000").unwrap();
    let upload = Request::put(put).body(Body::from(PROCFILE)).unwrap();
    assert_eq!(world.send(upload).await.status, 200);
    let order = json!({ "source_blob": { "url": source["source_blob"]["get_url"], "version": "v9" } });
    let build = call("POST", "/apps/shop/builds", order.clone()).await;
    assert_eq!(build.status, 201, "{}", build.text);
    let path = format!("/apps/shop/builds/{}", build.json()["id"].as_str().unwrap());
    let mut events = world.platform.events();
    let built = async {
        loop {
            let build = call("GET", &path, NOTHING).await.json();
            if build["status"] == "failed" || build["release"].is_object() {
                return build;
            }
            // Looked at again at every change, and for one that came between.
            let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
        }
    };
    let built = tokio::time::timeout(Duration::from_secs(30), built).await.expect("the build ends");
    assert_eq!(built["status"], "succeeded");
    let release =
        call("GET", &format!("/apps/shop/releases/{}", built["release"]["id"].as_str().unwrap()), NOTHING).await;
    assert_eq!(release.json()["slug"]["id"], built["slug"]["id"]);

    // What is our own is guarded against repetitions like the rest.
    let again = [("request-id", "r1")];
    let path = "/shipway/v1/apps/shop/redeploy";
    let one = world.call_with(Person::DeployToken, "POST", path, &json!({}), &again).await;
    let two = world.call_with(Person::DeployToken, "POST", path, &json!({}), &again).await;
    assert_eq!((one.status.as_u16(), &one.text), (201, &two.text));

    // Another app, other buildpacks, other tokens: no.
    world.deployed("other").await;
    let packs = json!({ "source_blob": order["source_blob"], "buildpacks": [{ "url": "heroku/nodejs" }] });
    for (method, path, body, status) in [
        ("POST", "/apps/other/builds", order, 404),
        ("POST", "/apps/shop/builds", packs, 403),
        ("GET", "/apps/shop/dynos", NOTHING, 403),
        ("GET", "/apps/shop/config-vars", NOTHING, 403),
        ("POST", "/apps/shop/log-sessions", NOTHING, 403),
        ("GET", "/shipway/v1/users", NOTHING, 403),
        ("GET", "/shipway/v1/status", NOTHING, 403),
    ] {
        let refused = call(method, path, body).await;
        assert_eq!(refused.status.as_u16(), status, "{method} {path}: {}", refused.text);
    }
    // A token that got into wrong hands is ended by whoever has it, and no other one is.
    let tokens = world.platform.tokens(&world.caller(Person::Owner)).unwrap();
    for token in tokens.iter().filter(|token| !matches!(token.scope, Scope::Deploy { .. })) {
        assert_eq!(call("DELETE", &format!("/oauth/authorizations/{}", token.id), NOTHING).await.status, 403);
    }
    assert_eq!(call("DELETE", "/oauth/authorizations/~", NOTHING).await.status, 200);
    assert_eq!(call("GET", "/apps/shop", NOTHING).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_after_a_broken_connection_is_done_once() {
    let world = World::new().await;
    let apps = async || world.call(Person::Owner, "GET", "/apps", &NOTHING).await.json().as_array().unwrap().len();
    let create = async |person: Person, id: &str, body: Value| {
        world.call_with(person, "POST", "/apps", &body, &[("request-id", id)]).await
    };
    let before = apps().await;
    let first = create(Person::Owner, "a,b", json!({})).await;
    let again = create(Person::Owner, "a,b", json!({})).await;
    assert_eq!((first.status.as_u16(), &first.text), (201, &again.text));
    assert_eq!(first.header("x-heroku-warning"), again.header("x-heroku-warning"));
    assert_eq!(apps().await, before + 1);

    // Both at once: the second waits for the first.
    let (one, two) = tokio::join!(create(Person::Owner, "c,a,b", json!({})), create(Person::Owner, "c,a,b", json!({})));
    assert_eq!(one.text, two.text);
    assert_eq!(apps().await, before + 2);

    // A client that hung up before the answer: what it asked for goes on, and its next try gets the answer.
    let mut cut = Box::pin(create(Person::Owner, "d,a,b", json!({ "name": "cut-off" })));
    let _ = futures::poll!(&mut cut);
    drop(cut);
    let answer = create(Person::Owner, "d,a,b", json!({ "name": "cut-off" })).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["name"]), (201, &json!("cut-off")));

    // Another request, person, path or no id at all is another request.
    let taken = create(Person::Owner, "e,d,a,b", json!({ "name": "cut-off" })).await;
    assert_eq!(taken.status, 422, "{}", taken.text);
    let other = create(Person::Collaborator, "a,b", json!({})).await;
    assert_ne!(other.json()["id"], first.json()["id"]);
    let named = create(Person::Owner, "a,b", json!({ "name": "not-the-first" })).await;
    assert_eq!(named.json()["name"], "not-the-first");
    let total = apps().await;
    world.call(Person::Owner, "POST", "/apps", &json!({})).await;
    world.call(Person::Owner, "POST", "/apps", &json!({})).await;
    assert_eq!(apps().await, total + 2);
    assert_eq!(create(Person::Nobody, "a,b", json!({})).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_has_ended_is_freed() {
    let world = World::new().await;
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.unwrap().path().read_link().ok());
        files.filter(|file| file.to_string_lossy().contains("shipway.db")).count()
    };
    assert!(open() > 0);
    world.platform.stop().await;
    drop(world);
    // What was told to stop lets go when it is next looked at by the runtime, not by the time `stop` has returned.
    let end = Instant::now() + Duration::from_secs(30);
    while open() > 0 {
        assert!(Instant::now() < end, "the receivers of webhooks keep their platform");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_changed_at_once_are_all_kept() {
    let world = World::new().await;
    let set = async |path: &str, body: Value| {
        let answer = world.call(Person::Owner, "PATCH", path, &body).await;
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
        answer.json()
    };
    let app = "/shipway/v1/apps/shop/settings";
    let (_, _) = tokio::join!(
        set(app, json!({ "health_check_path": "/up" })),
        set(app, json!({ "overlap": { "worker": true } }))
    );
    let settings = set(app, json!({})).await;
    assert_eq!((&settings["health_check_path"], &settings["overlap"]["worker"]), (&json!("/up"), &json!(true)));

    let config = "/pipelines/shop/review-app-config";
    set(config, json!({ "repo": "acme/shop", "base_name": "ours", "parent_app": "shop" })).await;
    let (_, _, _) = tokio::join!(
        set(config, json!({ "stale_days": 9 })),
        set(config, json!({ "inherit": { "deny": ["A"] } })),
        set(config, json!({ "inherit": { "allow": ["B"] } })),
    );
    let settings = set(config, json!({ "quota": 4 })).await;
    assert_eq!((&settings["stale_days"], &settings["base_name"]), (&json!(9), &json!("ours")));
    assert_eq!(settings["inherit"], json!({ "allow": ["B"], "deny": ["A"] }));
    assert_eq!(settings["parent_app"]["name"], "shop");
    let settings = set(config, json!({ "base_name": "", "parent_app": "", "inherit": { "allow": null } })).await;
    let cleared = (&settings["base_name"], &settings["parent_app"], &settings["inherit"]["allow"]);
    assert_eq!(cleared, (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&settings["quota"], &settings["inherit"]["deny"]), (&json!(4), &json!(["A"])));
}
