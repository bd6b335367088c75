//! Every route of every door: how its clients ask, and with what it does what it is for.

use crate::support::{DATA, Person, Reply, World, body_for, email};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use shipway_dashboard::{CSRF_FIELD, ROUTES};
use shipway_domain::NameOrId;
use shipway_domain::admission::Scope;
use shipway_domain::forge::{ForgeCredentials, ForgeKind};
use shipway_domain::triggers::RefKind;
use shipway_engine::{NewCredentials, NewForge, NewToken};
use shipway_web::routes::{Door, Route};
use std::collections::BTreeMap;

/// Parameters that are an app's, or of a pipeline that has one: what changes them gets an app of its own.
const APPS: [&str; 9] = [
    "{app}",
    "{pipeline}",
    "{coupling}",
    "{review_app}",
    "{setup}",
    "{app_transfer}",
    "{product}",
    "{operation}",
    "{offer}",
];

/// Whether a route changes something of an app that its path names.
pub fn changes_an_app(route: &Route) -> bool {
    let reads = route.method == "GET" || route.handler == "door";
    !reads && APPS.iter().chain(&DATA).any(|p| route.path.contains(p))
}

/// The fields of a page's form, or of its query.
pub fn fields(route: &Route) -> Vec<&'static str> {
    let page = ROUTES.iter().find(|page| route.door == Door::Dashboard && page.name == route.handler);
    let name = |field: &&'static str| field.split(['?', '=']).next().unwrap_or_default();
    page.map_or_else(Vec::new, |page| page.fields.iter().map(name).collect())
}

/// What a page's field holds when it makes sense.
fn value(field: &str) -> String {
    match field {
        "all" | "hours" | "quantity" => "1".into(),
        "answer" => "leave".into(),
        "branch" | "pattern" => "main".into(),
        "commit" => "ab".repeat(20),
        "decision" => "deny".into(),
        "dyno" => "web.1".into(),
        "email" => "stranger@example.org".into(),
        "from" => "staging".into(),
        "kind" => "branch".into(),
        "name" => "COLOUR".into(),
        "next" => "/dashboard".into(),
        "party" => "qa".into(),
        "permission" => "view".into(),
        "reason" => "because".into(),
        "release" => uuid::Uuid::nil().to_string(),
        "size" => "basic".into(),
        "source" => "app".into(),
        "to" => "production".into(),
        "value" => "blue".into(),
        "after" | "app" | "before" | "password" | "q" | "seen" | "token" | "version" | "wait" => String::new(),
        other => panic!("say in tests/api/surface.rs what makes sense in the field {other}"),
    }
}

/// `text` as a value of a form or a query.
pub fn encoded(text: &[u8]) -> String {
    text.iter().map(|byte| format!("%{byte:02X}")).collect()
}

impl World {
    /// A form of a page with `fields`, as a browser sends it that was shown the page.
    pub fn form(&self, secret: Option<&str>, fields: &[(&str, &[u8])]) -> Vec<u8> {
        let ours = self.platform.store().keys().sign_url(&format!("form {}", secret.unwrap_or_default()));
        let fields = fields.iter().copied().chain([(CSRF_FIELD, ours.as_bytes())]);
        fields.map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&").into_bytes()
    }

    /// The path of a route and the body with which it does what it is for, for the app `app`.
    pub fn asked(&self, secret: Option<&str>, route: &Route, app: &str) -> (String, Vec<u8>) {
        let mut path = self.fill(route.path, app);
        let values: Vec<(&str, String)> = fields(route).into_iter().map(|field| (field, value(field))).collect();
        let body = match (route.door, route.method) {
            (Door::Dashboard, "GET") => {
                let query: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
                path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
                Vec::new()
            }
            (Door::Dashboard, _) => {
                let values: Vec<(&str, &[u8])> = values.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
                self.form(secret, &values)
            }
            // Git's "I want nothing".
            (Door::Git, "POST") => b"0000".to_vec(),
            (Door::Git, _) => {
                path.push_str("?service=git-receive-pack");
                Vec::new()
            }
            _ => match body_for(route.method, route.path) {
                Value::Null => Vec::new(),
                body => body.to_string().into_bytes(),
            },
        };
        if matches!(route.handler, "compare::compare" | "compare::parity") {
            path = format!("{path}?base={app}&head={app}");
        }
        (path, body)
    }

    /// What a person shows at a route: their token; where that ends, a session of its own, and where they end themselves, the
    /// token of somebody like them.
    pub async fn secret(&self, person: Person, route: &Route) -> Option<String> {
        let token = self.token(person)?;
        let (actor, _) = self.platform.authenticate(token).unwrap();
        match (route.handler, actor.scope) {
            ("sign_out", Scope::Global) => Some(self.platform.session_for(actor.account, "spare").await.unwrap()),
            ("accounts::destroy", Scope::Global) if !matches!(person, Person::Owner | Person::Admin) => {
                let spare = email(uuid::Uuid::new_v4().simple().to_string().split_at(12).0);
                let root = self.caller(Person::Admin);
                Some(self.platform.add_account(&root, &spare, None, false).await.unwrap().1)
            }
            _ => Some(token.to_string()),
        }
    }

    /// Asks a route as its door's clients do: by token, by git, or by a session's cookie; `headers` instead of those. None
    /// where there is no such request.
    pub async fn knock(
        &self,
        secret: Option<&str>,
        route: &Route,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let mut all = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            let (name, value) = (HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
            all.insert(name, value);
            Some(())
        };
        set("host", "127.0.0.1:5000");
        match route.door {
            Door::Dashboard => {
                set("content-type", "application/x-www-form-urlencoded");
                secret.and_then(|secret| set("cookie", &format!("shipway={secret}")));
            }
            Door::Git => {
                let service = route.path.rsplit('/').next().unwrap_or_default();
                set("content-type", &format!("application/x-{service}-request"));
                let basic = |secret: &str| format!("Basic {}", BASE64_STANDARD.encode(format!(":{secret}")));
                secret.and_then(|secret| set("authorization", &basic(secret)));
            }
            _ => {
                set("accept", "application/vnd.heroku+json; version=3.sdk");
                secret.and_then(|secret| set("authorization", &format!("Bearer {secret}")));
            }
        }
        for (name, value) in headers {
            set(name, value)?;
        }
        let mut request = Request::builder().method(route.method).uri(path).body(Body::from(body)).ok()?;
        *request.headers_mut() = all;
        Some(self.send(request).await)
    }

    /// Makes sure that what a route's path names is there, of the app `app`.
    pub async fn prepare(&self, route: &Route, app: &str) {
        let owner = self.caller(Person::Owner);
        if route.path.contains("{app_transfer}") || route.path.contains("{offer}") {
            self.offer(app).await;
        }
        if route.path.starts_with("/teams") {
            self.team().await;
        }
        if route.path.contains("{deployment}") {
            self.record().await;
        }
        if route.path.contains("{webhook}") {
            self.webhook(app).await;
        }
        if route.path.ends_with("/config/unset") {
            let app = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            let colour = BTreeMap::from([("COLOUR".to_string(), Some("blue".to_string()))]);
            self.platform.set_config_vars(&owner, &app, colour).await.unwrap();
        }
        if route.path.contains("{trigger}") {
            let app = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            if self.platform.triggers(&app).unwrap().is_empty() {
                self.platform.add_trigger(&owner, &app, RefKind::Branch, "release", false).await.unwrap();
            }
        }
        if route.path.contains("{product}") && self.platform.product(&owner, &NameOrId::parse(app)).is_err() {
            self.platform.create_product(&owner, app, &[app.to_string()]).await.unwrap();
        }
        if route.path.contains("/forge") {
            let pipeline = self.platform.pipeline(&owner, &NameOrId::parse(app)).ok();
            let Some(pipeline) = pipeline.filter(|pipeline| self.platform.forge_of(pipeline).is_err()) else { return };
            let new = NewForge {
                kind: ForgeKind::Gitlab,
                // Where nobody listens.
                url: Some("http://127.0.0.1:9".into()),
                repository: "acme/shop".into(),
                credentials: NewCredentials::Given(ForgeCredentials::None),
                home_url: "http://shipway.invalid".into(),
            };
            self.platform.connect_forge(&owner, &pipeline, new).await.unwrap();
        }
        if route.handler == "authorizations::end_session" {
            self.platform.session_for(owner.actor.account, "spare").await.unwrap();
        } else if route.path.contains("{authorization}") {
            let spare = NewToken { description: "spare".into(), scope: Scope::Read, expires_in_seconds: None };
            self.platform.create_token(&owner, spare).await.unwrap();
        }
    }

    /// What stands for the parameters of our own door, of pages, of git and of signed URLs.
    pub fn fill_own(&self, path: &str, app: &str) -> String {
        let owner = self.caller(Person::Owner);
        let (store, mut out) = (self.platform.store(), path.to_string());
        if path.contains("{operation}") || path.contains("{trigger}") {
            let row = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            let operation = store.read(|c| c.operations(Some(row.id), 1)).unwrap()[0].id;
            let trigger = store.read(|c| c.triggers(row.id)).unwrap().first().map(|t| t.id.0).unwrap_or_default();
            out = out.replace("{operation}", &operation.to_string()).replace("{trigger}", &trigger.to_string());
        }
        if path.contains("{request}") {
            out = out.replace("{request}", &self.platform.begin_login("a command line").request);
        }
        let nil = uuid::Uuid::nil().to_string();
        let git = ["/info/refs", "/git-upload-pack", "/git-receive-pack"].iter().any(|end| path.ends_with(end));
        if git {
            out = out.replace("{repository}", &format!("{app}.git"));
        }
        for (name, value) in [
            ("{product}", app),
            ("{stage}", "staging"),
            ("{number}", "1"),
            ("{commit}", &"ab".repeat(20)),
            ("{connection}", &nil),
            ("{delivery}", &nil),
            ("{review}", &nil),
            ("{offer}", app),
            ("{file}", "style.css"),
            ("{session}", "x"),
            ("{id}", &nil),
            ("{kind}", "app"),
            ("{expires_at}", "99999999999"),
            ("{*page}", "nothing"),
        ] {
            out = out.replace(name, value);
        }
        out
    }
}

/// A body with which a route of our own door does what it is for.
pub fn own_body_for(method: &str, path: &str) -> Value {
    let fresh = || uuid::Uuid::new_v4().simple().to_string().split_at(12).0.to_string();
    match (method, path) {
        ("POST", "/shipway/v1/users") => json!({ "email": format!("{}@example.org", fresh()) }),
        ("PATCH", "/shipway/v1/apps/{app}/settings") => json!({ "release_phase_last": true }),
        ("POST", "/shipway/v1/apps/{app}/triggers") => json!({ "branch": "main" }),
        ("PUT", "/shipway/v1/apps/{app}/reservation") => json!({ "seconds": 3600 }),
        ("PATCH", "/shipway/v1/pipelines/{pipeline}/upstream") => json!({ "refuse_behind": [] }),
        ("POST", "/shipway/v1/pipelines/{pipeline}/checks") => {
            json!({ "commit": "ab".repeat(20), "state": "succeeded" })
        }
        ("POST", "/shipway/v1/products") => json!({ "name": format!("p-{}", fresh()), "pipelines": ["shop"] }),
        ("PATCH", "/shipway/v1/products/{product}") => json!({ "steps": [] }),
        ("POST", "/shipway/v1/promotions") => json!({ "from": "shop", "to": "shop" }),
        ("PATCH", "/shipway/v1/pipelines/{pipeline}/settings") => json!({ "may_skip_stages": true }),
        ("PUT", "/shipway/v1/pipelines/{pipeline}/stages/{stage}/parties") => json!({ "parties": [] }),
        ("POST", "/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs") => {
            json!({ "commit": "ab".repeat(20), "party": "qa" })
        }
        ("PUT", "/shipway/v1/pipelines/{pipeline}/review-apps/password") => json!({ "password": null }),
        ("POST", "/shipway/v1/pipelines/{pipeline}/forge") => {
            json!({ "kind": "gitlab", "url": "http://127.0.0.1:9", "repository": "acme/shop" })
        }
        _ => Value::Null,
    }
}
