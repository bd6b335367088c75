//! Every route of every door with nonsense in its path, its query, its body, its headers: never an error of the server's
//! own, always a sentence, as its clients read one: in JSON with an id, as a page, as plain text for git.

use crate::support::{Person, Reply, World};
use crate::surface::fields;
use serde_json::{Value, json};
use shipway_web::routes::{Door, Route, every};
use std::path::Path;
use std::time::Duration;

/// What stands in a path where a name should.
const NAMES: [&str; 16] = [
    "%00",
    "%0a",
    "%20",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2F..",
    "$(id)",
    "`id`",
    "a;curl%20x%7Csh",
    "--upload-pack=x",
    "-h",
    "'%20OR%201=1--",
    "%FF%FE",
    "%F0%9F%92%A5",
    "00000000-0000-0000-0000-000000000000",
    "99999999999999999999999999",
    "%3Cscript%3E",
];

/// Bodies that are not what any route wants.
fn bodies() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = [
        "",
        "{",
        "[]",
        "null",
        "true",
        "\"text\"",
        "7",
        "{}",
        "{\"\":\"\"}",
        "\u{0}",
        "{\"name\":1e999}",
        "'single'",
        "a=b&c=d",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{\"updates\":{}}",
        "{\"updates\":[[]]}",
        "{\"updates\":[{}]}",
        "{\"updates\":[{\"type\":\"web\",\"quantity\":\"many\"}]}",
        "{\"updates\":[{\"type\":\"web\",\"quantity\":-1}]}",
        "{\"updates\":[{\"type\":\"web\",\"size\":\"huge\"}]}",
        "{\"updates\":[{\"buildpack\":\"--upload-pack=x\"}]}",
        "{\"source_blob\":{\"url\":\"file:///etc/passwd\"}}",
        "{\"source_blob\":{\"url\":\"http://169.254.169.254/\"}}",
        "{\"scope\":[\"everything\"]}",
        "{\"expires_in\":-5}",
        "{\"expires_in\":99999999999999999999}",
        "{\"lines\":99999999999999999999}",
        "{\"source\":\"\u{1b}[2J\"}",
        "{\"in\":{\"id\":[1,2]}}",
        "{\"in\":[]}",
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect();
    out.push(vec![0xff, 0xfe, 0x00]);
    out.push("[".repeat(100_000).into_bytes());
    out.push(format!("{{\"name\":\"{}\"}}", "x".repeat(100_000)).into_bytes());
    out.push(vec![b' '; 2 * 1024 * 1024]);
    // Every field that any route reads, as every other type.
    for value in
        [json!(null), json!(true), json!(-1.5), json!([]), json!({}), json!("\u{0}"), json!("x".repeat(10_000))]
    {
        let fields = [
            "app",
            "attach",
            "automatic_review_apps",
            "base_name",
            "branch",
            "build_stack",
            "client",
            "command",
            "deploy_target",
            "description",
            "display_name",
            "dyno",
            "dyno_size",
            "enabled",
            "env",
            "environment",
            "expires_in",
            "hostname",
            "in",
            "inherit",
            "lines",
            "maintenance",
            "name",
            "new_owner",
            "overrides",
            "owner",
            "parent_app",
            "pipeline",
            "pipeline_coupling",
            "pr_number",
            "public_key",
            "quantity",
            "quota",
            "region",
            "release",
            "repo",
            "scope",
            "size",
            "slug",
            "sni_endpoint",
            "source",
            "source_blob",
            "stack",
            "stage",
            "stale_days",
            "tail",
            "targets",
            "type",
            "updates",
            "user",
            "without_addons",
        ];
        let all: serde_json::Map<String, Value> = fields.iter().map(|f| ((*f).to_string(), value.clone())).collect();
        out.push(Value::from(all).to_string().into_bytes());
    }
    out
}

/// Headers that make no sense, each alone.
const HEADERS: [(&str, &str); 24] = [
    ("range", "id"),
    ("range", "id ..; max=0"),
    ("range", "id ..; max=99999999999999999999"),
    ("range", "id ..; order=sideways"),
    ("range", "version ]x..y[; max=2, order=desc"),
    ("range", ";;;;,,,,"),
    ("range", "bytes=0-18446744073709551615"),
    ("accept", "text/html"),
    ("accept", "application/vnd.heroku+json; version=99, */*;q="),
    ("content-type", "application/xml"),
    ("content-encoding", "gzip"),
    ("content-length", "99999999999999999999"),
    ("if-none-match", "\"\",,W/"),
    ("host", "a b"),
    ("host", "user@127.0.0.1:99999"),
    ("request-id", ",,,"),
    ("authorization", "Basic Og=="),
    ("authorization", "Bearer \u{fffd}"),
    ("cookie", "shipway=\u{fffd}; shipway-notice=.; shipway-visit=,"),
    ("cookie", "shipway-notice=AAAA.00"),
    ("last-event-id", "99999999999999999999-../../x-0"),
    ("sec-fetch-site", "cross-site"),
    ("origin", "https://elsewhere.example"),
    ("x-forwarded-host", "elsewhere.example, a b"),
];

/// Parameters of queries that any route reads.
const QUERIES: [&str; 25] = [
    "after",
    "all",
    "app",
    "base",
    "before",
    "dyno",
    "environment",
    "extended",
    "from",
    "head",
    "name",
    "next",
    "page",
    "per_page",
    "pipeline",
    "q",
    "quantity",
    "service",
    "sha",
    "size",
    "source",
    "task",
    "to",
    "type",
    "verbose",
];

/// What stands in a field of a form.
const FIELDS: [&[u8]; 11] = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"../../etc/passwd",
    b"-1",
    b"99999999999999999999",
    b"<script>alert(1)</script>",
    b"x\r\nSet-Cookie: shipway=x",
    b"$(id)",
    "\u{202e}\u{1f4a5}".as_bytes(),
    &[b'x'; 10_000],
];

/// What acts whatever is sent with it: it is sent for what is not there.
const UNREAD: [&str; 6] = [
    "apps::redeploy",
    "apps::rollback",
    "operations::cancel",
    "reservations::bring_back",
    "upstream::fetch",
    "review_apps::allow",
];

/// Worlds that are tried at once, each with its share of the routes: half of the time goes by waiting for deploys.
const WORLDS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_in_a_sentence() {
    let mut worlds = tokio::task::JoinSet::new();
    for n in 0..WORLDS {
        worlds.spawn(async move {
            let world = World::new().await;
            world.database("shop").await;
            world.deployed("spare").await;
            let bodies = bodies();
            for route in every().iter().skip(n).step_by(WORLDS) {
                nonsense(&world, route, &bodies).await;
            }
            names_are_no_paths(world.ground.home.path());
        });
    }
    while let Some(tried) = worlds.join_next().await {
        tried.unwrap();
    }
}

/// Tries everything on one route.
async fn nonsense(world: &World, route: &Route, bodies: &[Vec<u8>]) {
    let mut tried = 0;
    let spared = spared(world, route).await;
    world.prepare(route, &spared).await;
    let secret = world.secret(Person::Owner, route).await;
    let secret = secret.as_deref();
    let (good, good_body) = world.asked(secret, route, &spared);
    let plain = good.split('?').next().unwrap();
    // Names: each parameter by itself, with what the route wants otherwise.
    let parameters: Vec<&str> = route.path.split('/').filter(|part| part.starts_with('{')).collect();
    for (place, parameter) in parameters.iter().enumerate() {
        for name in NAMES {
            let path = with_name(route.path, &good, place, name);
            tried += 1;
            check(world, route, &path, &good_body, &[], Some(parameter)).await;
        }
    }
    // A DELETE without meaning in its body is a DELETE.
    let page = route.door == Door::Dashboard;
    let acts = route.method == "DELETE" || UNREAD.contains(&route.handler) || page && fields(route).is_empty();
    let harmless = if acts { with_name(route.path, plain, 0, "nobodys") } else { plain.to_string() };
    let (bodies, said): (&[_], _) = match (route.door, route.method) {
        // Nobody reads them.
        (_, "GET") => (&bodies[..14], Vec::new()),
        // Without the token of a form nothing is done; with it, below.
        (Door::Dashboard, _) => (&bodies[..26], b"name=7".to_vec()),
        _ => (bodies, b"{\"name\":7}".to_vec()),
    };
    for body in bodies {
        tried += 1;
        check(world, route, &harmless, body, &[], None).await;
    }
    for header in HEADERS {
        tried += 1;
        check(world, route, &harmless, &said, &[header], None).await;
    }
    if route.method == "GET" {
        for name in NAMES {
            let all: Vec<String> = QUERIES.iter().map(|query| format!("{query}={name}")).collect();
            tried += 1;
            check(world, route, &format!("{plain}?{}", all.join("&")), b"", &[], None).await;
        }
    } else if page {
        for field in fields(route) {
            for value in FIELDS {
                let form = world.form(secret, &[(field, value)]);
                tried += 1;
                check(world, route, plain, &[form, [b"&", &good_body[..]].concat()].concat(), &[], None).await;
            }
        }
    }
    assert!(tried >= 50, "only {tried} requests to {} {}", route.method, route.path);
    let other = Route { method: "BREW", ..*route };
    let reply = ask(world, &other, plain, b"", &[]).await.unwrap();
    assert_eq!(reply.status, 405, "{} {}: {}", route.method, route.path, reply.text);
    assert_eq!(reply.json()["id"], "method_not_allowed");
}

/// Nonsense that turns out to mean something must not take the app away from the next route. Our own doors destroy none.
async fn spared(world: &World, route: &Route) -> String {
    if route.door != Door::Api {
        return "spare".into();
    }
    if route.method == "GET" || !["{app}", "{pipeline}", "{coupling}"].iter().any(|p| route.path.contains(p)) {
        return "shop".into();
    }
    let name = format!("app-{}", uuid::Uuid::new_v4().simple().to_string().split_at(12).0);
    world.deployed(&name).await;
    name
}

/// `good` with the parameter at `place` of `route` replaced.
fn with_name(route: &str, good: &str, place: usize, name: &str) -> String {
    let mut seen = 0;
    let segment = |(pattern, value): (&str, &str)| {
        if !pattern.starts_with('{') {
            return value.to_string();
        }
        seen += 1;
        if seen - 1 == place { name.to_string() } else { value.to_string() }
    };
    route.split('/').zip(good.split('/')).map(segment).collect::<Vec<_>>().join("/")
}

async fn ask(world: &World, route: &Route, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Option<Reply> {
    let secret = world.token(Person::Owner);
    let reply = world.knock(secret, route, path, body.to_vec(), headers);
    let hangs = || format!("{} {path} {headers:?} is not answered", route.method);
    tokio::time::timeout(Duration::from_secs(120), reply).await.unwrap_or_else(|_| panic!("{}", hangs()))
}

/// `parameter` is the one that stands for nothing.
async fn check(
    world: &World,
    route: &Route,
    path: &str,
    body: &[u8],
    headers: &[(&str, &str)],
    parameter: Option<&str>,
) {
    let Some(reply) = ask(world, route, path, body, headers).await else { return };
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let what = format!("{} {path} {shown:?} {headers:?}: {} {}", route.method, reply.status, reply.text);
    assert!(reply.status.as_u16() < 500, "{what}");
    // Attack 14: no page of elsewhere reads an answer.
    assert_eq!(reply.header("access-control-allow-origin"), None, "{what}");
    if !reply.status.is_client_error() {
        return;
    }
    let kind = reply.header("content-type").unwrap_or_default();
    let message = match route.door {
        Door::Git if kind == "text/plain; charset=utf-8" => reply.text.clone(),
        Door::Dashboard if route.handler != "asset" => {
            assert_eq!(kind, "text/html; charset=utf-8", "{what}");
            let title = reply.text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
            title.unwrap_or_else(|| panic!("{what}")).0.to_string()
        }
        _ => {
            let error = reply.json();
            assert!(error["id"].as_str().is_some_and(|s| !s.is_empty()), "{what}");
            error["message"].as_str().unwrap_or_default().to_string()
        }
    };
    assert!(message.len() > 10 && message.len() < 2000, "{what}");
    assert!(!message.contains('\u{1b}') && !message.contains('\u{0}'), "{what}");
    let names_it = reply.status != 404 || parameter.is_none_or(|parameter| names(parameter, &message));
    assert!(names_it, "{parameter:?} is not named: {what}");
}

/// Whether a sentence names what a parameter stands for.
fn names(parameter: &str, message: &str) -> bool {
    let nouns: &[&str] = match parameter {
        "{addon}" | "{database}" => &["add on"],
        "{authorization}" => &["authorization", "session", "token"],
        "{kind}" | "{id}" | "{commit}" | "{expires_at}" | "{signature}" => {
            &["archive", "backup", "log session", "output", "source"]
        }
        "{name}" => &["buildpack"],
        "{number}" => &["pull request"],
        "{offer}" => &["app transfer"],
        "{owner}" | "{repository}" | "{commits}" | "{*reference}" => &["repository", "commit"],
        "{type}" => &["formation"],
        "{version}" => &["release"],
        _ => &[],
    };
    let own = parameter.trim_matches(['{', '}', '*']).replace('_', " ");
    let message = message.to_lowercase().replace(['_', '-'], " ");
    message.contains(&own) || nouns.iter().any(|noun| message.contains(noun))
}

/// Attack 9: no name of a request has become the name of a file. What is in the data directory is what `ARCHITECTURE.md`
/// lists, called by ids and plain words.
fn names_are_no_paths(home: &Path) {
    let ours = [
        "backups",
        "blobs",
        "buildpacks",
        "cache",
        "keys",
        "layers",
        "logs",
        "outputs",
        "postgres",
        "repos",
        "run",
        "sources",
        "toolchains",
        "upstreams",
        "work",
    ];
    for entry in std::fs::read_dir(home).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(
            ours.contains(&name.as_str()) || name.starts_with("shipway.db"),
            "{name} has no place in {}",
            home.display()
        );
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        for inner in std::fs::read_dir(entry.path()).unwrap() {
            let inner = inner.unwrap().file_name().into_string().unwrap();
            let plain = inner.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
            assert!(
                plain && !inner.starts_with('-') && !inner.contains("passwd"),
                "{name}/{inner} is a name of a request's"
            );
        }
    }
}
