//! Attack 13: every route by every person. The whole table is in `authorization.txt`, read in review; the rules that it
//! may never break are asserted.

use crate::support::{DATA, Person, World, body_for};
use shipway_domain::admission::Scope;
use shipway_engine::NewToken;
use shipway_web::routes::{Route, TABLE};
use std::path::PathBuf;

/// Routes that ask for no token: the CLI sends none there, or the secret is in the path.
const OPEN: [&str; 5] =
    ["meta::status", "buildpacks::search", "buildpacks::info", "buildpacks::readme", "buildpacks::revisions"];

/// All that a deploy token is good for.
const DEPLOYS: [&str; 14] = [
    "accounts::info",
    "meta::rate_limits",
    "authorizations::info",
    "apps::list",
    "apps::info",
    "sources::create",
    "sources::create_for_app",
    "builds::list",
    "builds::create",
    "builds::info",
    "builds::cancel",
    "builds::slug",
    "releases::list",
    "releases::info",
];

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_every_route_by_every_person() {
    let world = World::new().await;
    let owner = world.caller(Person::Owner);
    world.platform.add_key(&owner, crate::support::SSH_KEY).await.unwrap();
    world.database("shop").await;
    world.offer("shop").await;
    let mut lines = Vec::new();
    let mut fresh = 0;
    for route in TABLE {
        let mut cells = Vec::new();
        for person in Person::ALL {
            // What is allowed leaves traces: those get an app of their own. A deploy token has one app only.
            let data = DATA.iter().any(|p| route.path.contains(p));
            let own = data
                || ["{app}", "{pipeline}", "{coupling}", "{review_app}", "{setup}", "{app_transfer}"]
                    .iter()
                    .any(|p| route.path.contains(p));
            let changes = route.method != "GET" && own;
            let app = match person {
                Person::Collaborator | Person::Owner | Person::Admin if changes => {
                    fresh += 1;
                    let name = format!("shop-{fresh}");
                    world.deployed(&name).await;
                    if data {
                        world.database(&name).await;
                    }
                    if route.path.contains("{app_transfer}") {
                        world.offer(&name).await;
                    }
                    name
                }
                _ => "shop".to_string(),
            };
            if route.path.starts_with("/teams") {
                world.team().await;
            }
            if route.path.contains("{deployment}") {
                world.record().await;
            }
            if route.path.contains("{webhook}") {
                world.webhook(&app).await;
            }
            if route.handler == "authorizations::end_session" {
                world.platform.session_for(owner.actor.account, "spare").await.unwrap();
            } else if route.path.contains("{authorization}") {
                let spare = NewToken { description: "spare".into(), scope: Scope::Read, expires_in_seconds: None };
                world.platform.create_token(&owner, spare).await.unwrap();
            }
            let path = world.fill(route.path, &app);
            let body = body_for(route.method, route.path);
            let reply = world.call(person, route.method, &path, &body).await;
            let status = reply.status.as_u16();
            rules(route, person, status, &reply.text);
            cells.push(status.to_string());
        }
        lines.push(format!("{:6} {:62} {}", route.method, route.path, cells.join("  ")));
    }
    let head = format!("{:69} {}", "", "nobody stranger collaborator owner admin deploy-token");
    let text = format!("{head}\n{}\n", lines.join("\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/authorization.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    } else {
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(old, text, "who may do what has changed: UPDATE=1, and read the difference");
    }
}

/// Default is deny.
fn rules(route: &Route, person: Person, status: u16, text: &str) {
    let what = format!("{person:?} {} {}: {status} {text}", route.method, route.path);
    assert!(status < 500, "{what}");
    let open = OPEN.contains(&route.handler);
    match person {
        Person::Nobody if open => assert_eq!(status, 200, "{what}"),
        Person::Nobody if route.handler == "sources::upload" => assert_eq!(status, 404, "{what}"),
        Person::Nobody => assert_eq!(status, 401, "{what}"),
        Person::Stranger if route.path.contains("{app}") => assert_eq!(status, 404, "{what}"),
        Person::Stranger
            if ["{pipeline}", "{coupling}", "{promotion}", "{review_app}", "{setup}", "{team}", "{app_transfer}"]
                .iter()
                .any(|p| route.path.contains(p)) =>
        {
            assert_eq!(status, 404, "{what}");
        }
        Person::Stranger if ["{user}", "{key}", "{authorization}"].iter().any(|p| route.path.contains(p)) => {
            assert_eq!(status, 404, "{what}");
        }
        Person::DeployToken if open || route.handler == "sources::upload" => {}
        Person::DeployToken if !DEPLOYS.contains(&route.handler) => assert_eq!(status, 403, "{what}"),
        _ => {}
    }
}
