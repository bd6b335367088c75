//! Every route with nonsense in its path, its body, its headers: never an error of the server's own, always JSON with
//! an id and a sentence.

use crate::support::{Person, World, body_for};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use shipway_web::routes::{Door, Route, TABLE};

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
const HEADERS: [(&str, &str); 14] = [
    ("range", "id"),
    ("range", "id ..; max=0"),
    ("range", "id ..; max=99999999999999999999"),
    ("range", "id ..; order=sideways"),
    ("range", "version ]x..y[; max=2, order=desc"),
    ("range", ";;;;,,,,"),
    ("range", "bytes=0-18446744073709551615"),
    ("accept", "text/html"),
    ("content-type", "application/xml"),
    ("if-none-match", "\"\",,W/"),
    ("host", "a b"),
    ("host", "user@127.0.0.1:99999"),
    ("request-id", ",,,"),
    ("authorization", "Basic Og=="),
];

/// The routes of our own door, held to the same.
const OWN: [(&str, &str); 9] = [
    ("GET", "/shipway/v1/status"),
    ("GET", "/shipway/v1/users"),
    ("POST", "/shipway/v1/users"),
    ("POST", "/shipway/v1/users/{user}/tokens"),
    ("GET", "/shipway/v1/operations"),
    ("GET", "/shipway/v1/operations/{operation}"),
    ("POST", "/shipway/v1/operations/{operation}/actions/cancel"),
    ("GET", "/shipway/v1/apps/{app}/builds"),
    ("PATCH", "/shipway/v1/apps/{app}/settings"),
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
            let own = OWN.map(|(method, path)| Route { door: Door::Own, method, path, handler: "own" });
            let bodies = bodies();
            for route in TABLE.iter().chain(&own).skip(n).step_by(WORLDS) {
                nonsense(&world, route, &bodies).await;
            }
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
    let good = world.fill(route.path, &spared);
    // Names: each parameter by itself, with what the route wants otherwise.
    let places = route.path.matches('{').count();
    for place in 0..places {
        for name in NAMES {
            let path = with_name(route.path, &good, place, name);
            tried += 1;
            check(world, route, &path, body_for(route.method, route.path).to_string().as_bytes(), &[]).await;
        }
    }
    // A DELETE without meaning in its body is a DELETE.
    let harmless = if route.method == "DELETE" { with_name(route.path, &good, 0, "nobodys") } else { good.clone() };
    for body in bodies {
        tried += 1;
        check(world, route, &harmless, body, &[]).await;
    }
    for header in HEADERS {
        tried += 1;
        let body: &[u8] = if route.method == "GET" { b"" } else { b"{\"name\":7}" };
        check(world, route, &harmless, body, &[header]).await;
    }
    assert!(tried >= 50, "only {tried} requests to {} {}", route.method, route.path);
}

/// Nonsense that turns out to mean something must not take the app away from the next route.
async fn spared(world: &World, route: &Route) -> String {
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

async fn check(world: &World, route: &Route, path: &str, body: &[u8], headers: &[(&str, &str)]) {
    let token = world.token(Person::Owner).unwrap();
    let mut request =
        Request::builder().method(route.method).uri(path).header("authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let reply = world.send(request).await;
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let what = format!("{} {path} {shown:?} {headers:?}: {} {}", route.method, reply.status, reply.text);
    assert!(reply.status.as_u16() < 500, "{what}");
    if reply.status.is_client_error() {
        let error = reply.json();
        assert!(error["id"].as_str().is_some_and(|s| !s.is_empty()), "{what}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.len() > 10 && message.len() < 2000, "{what}");
        assert!(!message.contains('\u{1b}') && !message.contains('\u{0}'), "{what}");
    }
}
