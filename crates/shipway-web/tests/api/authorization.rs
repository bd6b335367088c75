//! Attack 13: every route of every door by every person. The whole table is in `authorization.txt`, read in review; the
//! rules that it may never break are asserted.

use crate::support::{DATA, Person, World};
use crate::surface::changes_an_app;
use shipway_web::routes::{Door, Route, every};
use std::path::PathBuf;

/// Routes that ask for no token: the CLI sends none there, or the secret is in the path.
const OPEN: [&str; 5] =
    ["meta::status", "buildpacks::search", "buildpacks::info", "buildpacks::readme", "buildpacks::revisions"];

/// Routes with a secret of their own, which a token is not.
const SECRETS: [&str; 2] = ["forges::receive", "login::wait"];

/// All that a deploy token is good for.
const DEPLOYS: [&str; 19] = [
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
    "operations::list",
    "operations::info",
    "operations::cancel",
    "apps::redeploy",
    "triggers::checks",
];

/// What changes nothing, whatever its method.
const LOOKS: [&str; 7] = [
    "apps::filter",
    "addons::resolve",
    "attachments::resolve",
    "log_sessions::create",
    "github::update",
    "login::begin",
    // One's own token, or none that is there.
    "sources::upload",
];

/// What somebody may do who only looks at an app: with what is their own, and ask for more.
const OWN: [&str; 17] = [
    "accounts::update",
    "accounts::destroy",
    "features::set_of_account",
    "keys::add",
    "authorizations::create",
    "apps::create",
    "teams::create",
    "pipelines::create",
    "promotions::create_product",
    "sources::create",
    "sources::create_for_app",
    "reservations::read",
    "notices.read",
    "access.ask",
    "sign_out",
    "cli_login.post",
    "app_setups::create",
];

/// What changes something and needs no more than to bring code to an app, or to a stage of a pipeline.
const CODE: [&str; 8] = [
    "door",
    "releases::create",
    "apps::redeploy",
    "reservations::reserve",
    "rollback",
    "reserve",
    // Code that prints them would as well.
    "config.reveal",
    "builds::create",
];

/// Parameters that name what a stranger cannot see.
const OTHERS: [&str; 13] = [
    "{app}",
    "{pipeline}",
    "{coupling}",
    "{promotion}",
    "{review_app}",
    "{setup}",
    "{team}",
    "{app_transfer}",
    "{product}",
    "{operation}",
    "{offer}",
    "{key}",
    "{authorization}",
];

/// Worlds that are walked at once, each with its share of the routes: a deploy looks at all apps that there are.
const WORLDS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn attack_13_every_route_by_every_person() {
    let mut worlds = tokio::task::JoinSet::new();
    for n in 0..WORLDS {
        worlds.spawn(async move {
            let world = World::new().await;
            let owner = world.caller(Person::Owner);
            world.platform.add_key(&owner, crate::support::SSH_KEY).await.unwrap();
            world.database("shop").await;
            world.offer("shop").await;
            let (mut rows, mut broken, mut spare) = (Vec::new(), Vec::new(), None);
            for (at, route) in every().iter().enumerate().skip(n).step_by(WORLDS) {
                rows.push((at, row(&world, route, &mut spare, &mut broken).await));
            }
            (rows, broken)
        });
    }
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    while let Some(walked) = worlds.join_next().await {
        let (some, wrong) = walked.unwrap();
        rows.extend(some);
        broken.extend(wrong);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    rows.sort();
    let lines: Vec<String> = rows.into_iter().map(|(_, line)| line).collect();
    let head =
        format!("{:69} {}", "", "nobody stranger viewer deployer collaborator owner admin deploy-token read-token");
    let text = format!("{head}\n{}\n", lines.join("\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/authorization.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    } else {
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(old, text, "who may do what has changed: UPDATE=1, and read the difference");
    }
}

/// Who may change apps in some way.
const CHANGE_APPS: [Person; 4] = [Person::Deployer, Person::Collaborator, Person::Owner, Person::Admin];

/// An app that nothing has changed, and whether it has a database.
type Spare = Option<(String, bool)>;

fn has_data(route: &Route) -> bool {
    DATA.iter().any(|p| route.path.contains(p))
}

/// An app that nobody has changed: the spare one, or a new one.
async fn fresh(world: &World, route: &Route, spare: &mut Spare) -> String {
    if let Some((name, _)) = spare.take().filter(|(_, data)| *data == has_data(route)) {
        return name;
    }
    let name = format!("shop-{}", uuid::Uuid::new_v4().simple().to_string().split_at(12).0);
    world.deployed(&name).await;
    if has_data(route) {
        world.database(&name).await;
    }
    name
}

/// What a route answers each person. What may not be goes to `broken`.
async fn row(world: &World, route: &Route, spare: &mut Spare, broken: &mut Vec<String>) -> String {
    let mut cells = Vec::new();
    for person in Person::ALL {
        // What is allowed leaves traces: those get an app of their own. Who may change nothing, or one app only, has none.
        let own = changes_an_app(route) && CHANGE_APPS.contains(&person);
        let app = if own { fresh(world, route, spare).await } else { "shop".to_string() };
        world.prepare(route, &app).await;
        let secret = world.secret(person, route).await;
        let (path, body) = world.asked(secret.as_deref(), route, &app);
        let reply = world.knock(secret.as_deref(), route, &path, body, &[]).await.unwrap();
        let status = reply.status.as_u16();
        // Git shows no status: a refusal is a sentence in an answer that came.
        let sentence = reply.text.contains("ERR ") || reply.text.get(4..5) == Some("\u{3}");
        let refused = route.door == Door::Git && status == 200 && sentence;
        // What was refused has left nothing: the next one finds the app as it was.
        *spare = Some((app, has_data(route))).filter(|_| own && status >= 400);
        let status = if refused { 404 } else { status };
        if !may_be(route, person, status) {
            broken.push(format!("{person:?} {} {}: {status} {}", route.method, route.path, reply.text));
        }
        cells.push(if refused { "ERR".to_string() } else { status.to_string() });
    }
    format!("{:6} {:62} {}", route.method, route.path, cells.join("  "))
}

/// Default is deny. Whether an answer keeps to that.
fn may_be(route: &Route, person: Person, status: u16) -> bool {
    let of_others = OTHERS.iter().any(|p| route.path.contains(p));
    // A token that may do less than its account signs nobody in.
    let no_session = route.door == Door::Dashboard && matches!(person, Person::DeployToken | Person::ReadToken);
    let looks = route.method == "GET" || LOOKS.contains(&route.handler) || route.path.ends_with("/git-upload-pack");
    match person {
        _ if status >= 500 => false,
        _ if no_session || person == Person::Nobody => status == of_nobody(route),
        Person::Stranger if route.handler == "access.ask" => status == 303,
        Person::Stranger if of_others || route.door == Door::Git || route.path.starts_with("/users/{") => status == 404,
        Person::DeployToken if route.door == Door::Git || of_nobody(route) != 401 => true,
        Person::DeployToken if SECRETS.contains(&route.handler) => status == 401,
        Person::DeployToken if !DEPLOYS.contains(&route.handler) => status == 403,
        Person::ReadToken if !looks => status >= 400,
        Person::Viewer if !looks => status >= 400 || OWN.contains(&route.handler),
        Person::Deployer if !looks => status >= 400 || [&OWN[..], &CODE].concat().contains(&route.handler),
        _ => true,
    }
}

/// What a route answers somebody who shows no token.
fn of_nobody(route: &Route) -> u16 {
    match (route.door, route.handler) {
        (Door::Api, "sources::upload") | (Door::Streams, _) => 404,
        (Door::Api, handler) if OPEN.contains(&handler) => 200,
        (Door::Own, "login::begin") => 201,
        // By the port there is nobody whom the kernel vouches for.
        (Door::Own, "session::create") => 403,
        (Door::Dashboard, "sign_in") => 200,
        (Door::Dashboard, "asset") => 404,
        // Without the mark of a visitor whom the form was shown to.
        (Door::Dashboard, "sign_in.post") => 403,
        (Door::Dashboard, _) if route.method == "GET" => 303,
        _ => 401,
    }
}
