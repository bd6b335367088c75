//! A platform with people and an app on it. Processes are in memory; everything else is real.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use shipway_domain::admission::{Permission, Scope};
use shipway_domain::team::Role;
use shipway_domain::{AppId, Email, NameOrId, Stage};
use shipway_engine::ports::Caller;
use shipway_engine::{NewAddon, NewApp, NewToken, Outcome, Platform, Settings, WebhookOrder};
use shipway_git::{GitConfig, GitHttp};
use shipway_net::outward::Outward;
use shipway_store::DeploymentFilter;
use shipway_testkit::{Ground, settings};
use shipway_web::{BaseUrls, Web, WebReceivers};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// The code of the apps.
pub const PROCFILE: &str = "web: listen\nworker: sleep\nrelease: echo migrated";

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Person {
    Nobody,
    Stranger,
    /// Who may look at the app `shop`.
    Viewer,
    /// Who may bring code to the apps, and no more.
    Deployer,
    /// Who operates the apps.
    Collaborator,
    Owner,
    Admin,
    /// A token of the owner's that may deploy the app `shop`.
    DeployToken,
    /// A token of the owner's with the scope `read`.
    ReadToken,
}

impl Person {
    pub const ALL: [Self; 9] = [
        Self::Nobody,
        Self::Stranger,
        Self::Viewer,
        Self::Deployer,
        Self::Collaborator,
        Self::Owner,
        Self::Admin,
        Self::DeployToken,
        Self::ReadToken,
    ];
}

/// What came back.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {} {:?}", self.status, self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

pub struct World {
    pub platform: Platform,
    pub router: Router,
    tokens: HashMap<Person, String>,
    pub ground: Ground,
}

impl World {
    /// An admin, an owner with the app `shop` deployed, a collaborator of it, a stranger, a deploy token.
    pub async fn new() -> Self {
        let ground = Ground::new();
        let settings = Settings { boot_seconds: 10, drain_seconds: 1, ..settings(ground.home.path()) };
        let platform = Platform::open(settings, ground.parts()).unwrap();
        platform.start().await.unwrap();
        let base = BaseUrls {
            http: "http://127.0.0.1:5000".into(),
            https: "https://127.0.0.1:5000".into(),
            git_host: "127.0.0.1:5000".into(),
        };
        let hook = ground.home.path().join("no-hook");
        let git = GitHttp::start(GitConfig::new(hook, ground.home.path().join("run"))).unwrap();
        let web = Web::new(platform.clone(), base).with(git, None);
        platform.keep_webhooks(Arc::new(WebReceivers::new(&web, Outward::default())));
        let router = web.router();
        let admin = platform.first_admin(&email("admin")).await.unwrap().unwrap();
        let mut world = Self { platform, router, tokens: HashMap::from([(Person::Admin, admin)]), ground };
        let root = world.caller(Person::Admin);
        for (person, name) in [
            (Person::Owner, "owner"),
            (Person::Collaborator, "collaborator"),
            (Person::Deployer, "deployer"),
            (Person::Viewer, "viewer"),
            (Person::Stranger, "stranger"),
        ] {
            let (_, token) = world.platform.add_account(&root, &email(name), None, false).await.unwrap();
            world.tokens.insert(person, token);
        }
        let shop = world.deployed("shop").await;
        let owner = world.caller(Person::Owner);
        let app = world.platform.app(&owner, &NameOrId::Id(shop.0)).unwrap();
        world.platform.give_access(&owner, &app, "viewer@example.org", Permission::View).await.unwrap();
        for (person, scope) in [(Person::DeployToken, Scope::Deploy { app: shop }), (Person::ReadToken, Scope::Read)] {
            let new = NewToken { description: "CI".into(), scope, expires_in_seconds: None };
            let (_, token) = world.platform.create_token(&owner, new).await.unwrap();
            world.tokens.insert(person, token);
        }
        world
    }

    /// A webhook of an app that has none.
    pub async fn webhook(&self, app: &str) {
        let owner = self.caller(Person::Owner);
        let app = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
        if self.platform.webhooks(&owner, &app).await.unwrap().is_empty() {
            let order = WebhookOrder {
                url: Some("https://hooks.invalid/x".into()),
                include: Some(vec!["api:app".into()]),
                level: Some("notify".into()),
                ..WebhookOrder::default()
            };
            self.platform.create_webhook(&owner, &app, order).await.unwrap();
        }
    }

    /// An app of the owner's with the collaborator on it, a config var, a domain, code that runs, and a place in the
    /// pipeline of the same name.
    pub async fn deployed(&self, name: &str) -> AppId {
        let owner = self.caller(Person::Owner);
        let new = NewApp { name: Some(name.into()), ..NewApp::default() };
        let app = self.platform.create_app(&owner, new).await.unwrap();
        let commit = self.ground.repositories.commit(PROCFILE);
        let (_, operation) = self.platform.deploy(&owner, &app, commit).await.unwrap();
        match self.platform.live(operation).await.unwrap() {
            Outcome::Live { .. } => {}
            Outcome::Failed { message } => panic!("the deploy failed: {message}"),
        }
        for (who, permission) in [("collaborator", Permission::Operate), ("deployer", Permission::Deploy)] {
            self.platform.give_access(&owner, &app, email(who).as_str(), permission).await.unwrap();
        }
        self.platform.add_domain(&owner, &app, &format!("{name}.example.com")).await.unwrap();
        let pipeline = self.platform.create_pipeline(&owner, name).await.unwrap();
        self.platform.couple(&owner, &pipeline, &app, Stage::Staging).await.unwrap();
        app.id
    }

    /// Waits until a dyno is up.
    pub async fn up(&self, app: &str, dyno: &str) {
        let mut events = self.platform.events();
        let path = format!("/apps/{app}/dynos/{dyno}");
        let up = async {
            while self.call(Person::Owner, "GET", &path, &Value::Null).await.json()["state"] != "up" {
                let _ = tokio::time::timeout(Duration::from_millis(100), events.recv()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), up).await.unwrap_or_else(|_| panic!("{dyno} is not up"));
    }

    pub fn token(&self, person: Person) -> Option<&str> {
        self.tokens.get(&person).map(String::as_str)
    }

    pub fn caller(&self, person: Person) -> Caller {
        let (actor, _) = self.platform.authenticate(&self.tokens[&person]).unwrap();
        Caller { actor, via: "test" }
    }

    /// Sends a request as it is. Of a stream of events, which has no end, nothing but the head is read.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            return Reply { status: parts.status, headers: parts.headers, text: String::new() };
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// Sends JSON (nothing for `null`) as a person, as the CLI does.
    pub async fn call(&self, person: Person, method: &str, path: &str, body: &Value) -> Reply {
        self.call_with(person, method, path, body, &[]).await
    }

    pub async fn call_with(
        &self,
        person: Person,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:5000")
            .header("accept", "application/vnd.heroku+json; version=3.sdk");
        if let Some(token) = self.token(person) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    /// Makes sure that there is a record of a deployment of `shipway/shop`, with a status.
    pub async fn record(&self) {
        if self.newest_record().is_none() {
            let records = "/repos/shipway/shop/deployments";
            let new = json!({ "ref": "ab".repeat(20), "environment": "staging" });
            let made = self.call(Person::Owner, "POST", records, &new).await;
            let statuses = format!("{records}/{}/statuses", made.json()["id"]);
            let status = self.call(Person::Owner, "POST", &statuses, &json!({ "state": "pending" })).await;
            assert_eq!(status.status, StatusCode::CREATED, "{}", status.text);
        }
    }

    /// The ids of the newest record of the pipeline `shop` that has a status, and of that.
    fn newest_record(&self) -> Option<(i64, i64)> {
        let found = self.platform.store().read(|c| {
            let Some(pipeline) = c.pipeline(&NameOrId::Name("shop".into()))? else { return Ok(None) };
            for deployment in c.deployments(&[pipeline.id], &DeploymentFilter::default(), 0, 100)?.0 {
                if let Some(status) = c.deployment_statuses(deployment.id)?.first() {
                    return Ok(Some((deployment.id, status.id)));
                }
            }
            Ok(None)
        });
        found.unwrap()
    }

    /// Gives an app a database with a backup.
    pub async fn database(&self, app: &str) {
        let owner = self.caller(Person::Owner);
        let app = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
        let new = NewAddon { plan: "heroku-postgresql".into(), ..NewAddon::default() };
        let addon = self.platform.create_addon(&owner, &app, new).await.unwrap();
        let backup = self.platform.capture(&owner, &addon).await.unwrap();
        self.platform.live(backup.operation).await.unwrap();
    }

    /// Makes sure that there is a team, with the owner as its admin and the collaborator as a member.
    pub async fn team(&self) {
        let owner = self.caller(Person::Owner);
        let which = NameOrId::Name("acme".into());
        let team = match self.platform.team(&owner, &which) {
            Ok((team, _)) => team,
            Err(_) => self.platform.create_team(&owner, "acme").await.unwrap(),
        };
        self.platform.put_team_member(&owner, &team, "collaborator@example.org", Role::Member).await.unwrap();
    }

    /// Offers an app to the collaborator.
    pub async fn offer(&self, app: &str) {
        let (owner, collaborator) = (self.caller(Person::Owner), NameOrId::Name("collaborator@example.org".into()));
        let app = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
        let to = self.platform.acquaintance(&owner, &collaborator).unwrap();
        self.platform.offer_app(&owner, &app, &to).await.unwrap();
    }

    /// What stands for a route's parameters: things that are really there, of the app `app`.
    pub fn fill(&self, path: &str, app: &str) -> String {
        let owner = self.caller(Person::Owner);
        let store = self.platform.store();
        let mut out = path.to_string();
        if path.contains("{app}") {
            let row = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            let newest = store.read(|c| c.releases(row.id)).unwrap();
            let slug = newest.iter().find_map(|r| r.slug).unwrap();
            let build = store.read(|c| c.builds(row.id)).unwrap()[0].id;
            let webhook = store.read(|c| c.webhooks(row.id)).unwrap().first().map(|w| w.id.0).unwrap_or_default();
            for (name, value) in [
                ("{app}", app.to_string()),
                ("{feature}", "preboot".into()),
                ("{collaborator}", "collaborator@example.org".into()),
                ("{domain}", format!("{}.example.com", row.name)),
                ("{build}", build.to_string()),
                ("{slug}", slug.to_string()),
                ("{release}", newest[0].version.to_string()),
                ("{formation}", "web".into()),
                ("{dyno}", "web.1".into()),
                ("{type}", "web".into()),
                ("{webhook}", webhook.to_string()),
                ("{event}", uuid::Uuid::nil().to_string()),
                ("{delivery}", uuid::Uuid::nil().to_string()),
                ("{version}", format!("v{}", newest[0].version)),
                ("{offer}", app.to_string()),
            ] {
                out = out.replace(name, &value);
            }
        }
        if path.contains("{pipeline}") || path.contains("{coupling}") {
            let row = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            let coupling = self.platform.coupling_of(&row).unwrap();
            out = out.replace("{coupling}", &coupling.id.to_string());
            out = out.replace("{pipeline}", &coupling.pipeline.to_string()).replace("{stage}", "review");
        }
        if path.contains("/deployments") {
            let (deployment, status) = self.newest_record().unwrap_or_default();
            out = out.replace("{owner}", "shipway").replace("{deployment}", &deployment.to_string());
            out = out.replace("{status}", &status.to_string());
        }
        if DATA.iter().any(|p| path.contains(p)) {
            let row = self.platform.app(&owner, &NameOrId::parse(app)).unwrap();
            let (addons, attachments, transfers) =
                store.read(|c| Ok((c.addons(row.id)?, c.attachments(row.id)?, c.transfers(row.id)?))).unwrap();
            let addon = addons.first().map_or("none".into(), |a| a.name.to_string());
            let attachment = attachments.first().map_or("none".into(), |a| a.id.to_string());
            let transfer = transfers.first().map_or("none".into(), |t| t.id.to_string());
            out = out.replace("{addon}", &addon).replace("{database}", &addon);
            out = out.replace("{attachment}", &attachment).replace("{transfer}", &transfer);
        }
        out = out.replace("{branch}", "main").replace("{app_transfer}", app);
        if path.contains("{team}") {
            out = out.replace("{team}", "acme").replace("{feature}", "org-access-controls");
        }
        out = self.fill_own(&out, app);
        out = out.replace("{setup}", &uuid::Uuid::nil().to_string());
        out = out.replace("{review_app}", &uuid::Uuid::nil().to_string());
        let tokens = self.platform.tokens(&owner).unwrap();
        let key = store.read(|c| c.keys_of(owner.actor.account)).unwrap();
        for (name, value) in [
            ("{user}", "owner@example.org".to_string()),
            ("{feature}", "dashboard-repositories-api".into()),
            ("{key}", key.first().map_or("none".into(), |k| k.id.to_string())),
            ("{authorization}", tokens.last().unwrap().id.to_string()),
            ("{stack}", "heroku-24".into()),
            ("{region}", "us".into()),
            ("{dyno_size}", "basic".into()),
            ("{source}", uuid::Uuid::nil().to_string()),
            ("{promotion}", uuid::Uuid::nil().to_string()),
            ("{owner}", "acme".into()),
            ("{repository}", "shop".into()),
            ("{*reference}", "main".into()),
            ("{member}", "collaborator@example.org".into()),
            ("{commits}", format!("{}...{}", "ab".repeat(20), "cd".repeat(20))),
            ("{signature}", "00".repeat(32)),
            ("{name}", "heroku%2Fpython".into()),
            ("{service}", "heroku-postgresql".into()),
            ("{plan}", "heroku-postgresql:essential-0".into()),
            ("{credential}", "default".into()),
        ] {
            out = out.replace(name, &value);
        }
        out
    }
}

pub fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.org")).unwrap()
}

/// Parameters for which an app needs a database.
pub const DATA: [&str; 4] = ["{addon}", "{attachment}", "{database}", "{transfer}"];

/// A public key that `ssh-keygen` made; nobody has its other half.
pub const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl dev@example.org";

/// A body with which a route does what it is for.
pub fn body_for(method: &str, path: &str) -> Value {
    match (method, path) {
        ("PATCH", "/account" | "/users/{user}") => json!({ "name": "A. Person" }),
        ("POST", "/apps") => json!({}),
        ("PATCH", "/apps/{app}") => json!({ "maintenance": true }),
        ("POST", "/filters/apps") => json!({ "in": { "id": ["shop"] } }),
        ("POST", "/account/keys") => json!({ "public_key": SSH_KEY }),
        ("PATCH", "/account/features/{feature}" | "/apps/{app}/features/{feature}") => json!({ "enabled": true }),
        ("POST", "/oauth/authorizations") => json!({ "description": "mine", "scope": ["read"] }),
        ("PATCH", "/oauth/authorizations/{authorization}") => json!({ "description": "renamed" }),
        ("POST", "/pipelines") | ("PATCH", "/pipelines/{pipeline}") => {
            json!({ "name": format!("p-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]) })
        }
        ("POST", "/pipeline-promotions") => {
            json!({ "pipeline": "shop", "source": { "app": "shop" }, "targets": [{ "app": "shop" }] })
        }
        ("POST", "/pipelines/{pipeline}/repository") => json!({ "repository": 1 }),
        ("POST", "/repos/{owner}/{repository}/deployments") => json!({ "ref": "ab".repeat(20) }),
        ("POST", "/repos/{owner}/{repository}/deployments/{deployment}/statuses") => json!({ "state": "pending" }),
        ("PATCH", "/apps/{app}/github") => json!({ "pull_requests": { "enabled": true } }),
        ("POST", "/pipeline-transfers") => {
            json!({ "pipeline": "shop", "new_owner": { "id": "owner@example.org" } })
        }
        ("PATCH", "/pipelines/{pipeline}/stage/{stage}/config-vars") => json!({ "COLOUR": "blue" }),
        ("POST" | "PATCH", "/pipelines/{pipeline}/review-app-config") => json!({ "repo": "acme/shop" }),
        ("POST", "/app-setups") => json!({ "source_blob": { "url": "http://example.org/x.tgz" } }),
        ("POST", "/review-apps") => {
            json!({ "branch": "main", "pipeline": "shop", "source_blob": { "url": "resolve" } })
        }
        ("POST", "/pipeline-couplings") => json!({ "app": "shop", "pipeline": "shop", "stage": "staging" }),
        ("PATCH", "/pipeline-couplings/{coupling}") => json!({ "stage": "production" }),
        ("POST", "/apps/{app}/collaborators") => json!({ "user": "stranger@example.org" }),
        ("POST", "/teams") => json!({ "name": format!("t-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]) }),
        ("PATCH", "/teams/{team}") => json!({ "name": "acme" }),
        ("PUT" | "POST" | "PATCH", "/teams/{team}/members") => {
            json!({ "email": "collaborator@example.org", "role": "member" })
        }
        ("POST", "/teams/apps") => json!({ "team": "acme" }),
        ("PATCH", "/teams/apps/{app}") => json!({ "owner": "acme" }),
        ("POST", "/teams/apps/{app}/collaborators") => {
            json!({ "user": "stranger@example.org", "permissions": ["view"] })
        }
        ("PATCH", "/teams/apps/{app}/collaborators/{collaborator}") => json!({ "permissions": ["view", "deploy"] }),
        ("POST", "/account/app-transfers") => json!({ "app": "shop", "recipient": "collaborator@example.org" }),
        ("PATCH", "/account/app-transfers/{app_transfer}") => json!({ "state": "accepted" }),
        ("POST", "/apps/{app}/domains") => json!({ "hostname": "www.example.net", "sni_endpoint": null }),
        ("PATCH", "/apps/{app}/domains/{domain}") => json!({ "sni_endpoint": null }),
        ("POST", "/apps/{app}/builds") => json!({ "source_blob": { "url": "http://example.org/x.tgz" } }),
        ("PUT", "/apps/{app}/buildpack-installations") => json!({ "updates": [{ "buildpack": "heroku/python" }] }),
        ("PATCH", "/apps/{app}/config-vars") => json!({ "COLOUR": "blue" }),
        ("POST", "/apps/{app}/releases") => json!({ "release": "2" }),
        ("PATCH", "/apps/{app}/formation") => json!({ "updates": [{ "type": "web", "quantity": "1" }] }),
        ("PATCH", "/apps/{app}/formation/{formation}") => json!({ "quantity": 1 }),
        ("POST", "/apps/{app}/dynos") => json!({ "command": "echo hi", "attach": false }),
        ("POST", "/apps/{app}/log-sessions") => json!({ "lines": 10, "tail": false }),
        ("POST", "/apps/{app}/webhooks") => {
            json!({ "url": "https://hooks.invalid/x", "include": ["api:release"], "level": "notify" })
        }
        ("PATCH", "/apps/{app}/webhooks/{webhook}") => json!({ "level": "sync" }),
        ("POST", "/apps/{app}/addons") => json!({ "plan": "heroku-postgresql" }),
        ("PATCH", "/apps/{app}/addons/{addon}") => json!({ "plan": "heroku-postgresql:essential-0" }),
        ("POST", "/addon-attachments") => json!({ "app": "shop", "addon": "DATABASE" }),
        ("POST", "/client/v11/databases/{database}/restores") => json!({ "backup_url": "https://example.org/a.dump" }),
        ("POST", "/client/v11/databases/{database}/transfers") => json!({ "from_url": "postgres://a", "to_url": "b" }),
        ("POST", "/actions/addons/resolve") => json!({ "addon": "DATABASE", "app": "shop" }),
        ("POST", "/actions/addon-attachments/resolve") => json!({ "addon_attachment": "DATABASE_URL", "app": "shop" }),
        _ => crate::surface::own_body_for(method, path),
    }
}
