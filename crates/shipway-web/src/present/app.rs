//! Apps, and what hangs on them by name.

use super::{app_reference, id_of, named, optional_time, time};
use crate::Web;
use serde_json::{Value, json};
use shipway_domain::admission::Permission;
use shipway_store::{App, Collaborator, Domain};

/// An app. `create_status` is not in the public schema; `heroku info --shell` reads it.
pub fn app(web: &Web, app: &App) -> Value {
    json!({
        "acm": false,
        "archived_at": null,
        "base_image_name": null,
        "build_stack": named("stack", &app.build_stack),
        "buildpack_provided_description": description(web, app),
        "buildpacks": null,
        "create_status": "complete",
        "created_at": time(app.created_at),
        "current_build_architecture": [],
        "generation": "cedar",
        "git_url": git_url(web, app),
        "id": app.id,
        "internal_routing": null,
        "locked": app.settings.locked,
        "maintenance": app.maintenance,
        "name": app.name,
        "organization": app.owner_email.team().map(|name| json!({ "name": name })),
        "owner": { "email": app.owner_email, "id": app.owner },
        "region": named("region", &app.region),
        "released_at": optional_time(app.released_at),
        "repo_size": app.repo_size,
        "slug_size": app.slug_size,
        "space": null,
        "stack": named("stack", &app.stack),
        "team": app.owner_email.team().map(|name| json!({ "id": app.owner, "name": name })),
        "updated_at": time(app.updated_at),
        "web_url": web.platform().web_url(app.name.as_str()),
    })
}

/// An app as `/filters/apps` and `/teams` answer it.
pub fn team_app(web: &Web, one: &App) -> Value {
    let mut value = app(web, one);
    value["joined"] = true.into();
    value
}

/// What the buildpack that made the running slug says it found: `Python`.
fn description(web: &Web, app: &App) -> Option<String> {
    let store = web.platform().store();
    let release = app.current_release?;
    let slug = store.read(|c| match c.release(release)?.and_then(|r| r.slug) {
        Some(slug) => c.slug(slug),
        None => Ok(None),
    });
    slug.ok()??.language
}

/// The address that `git remote` gets.
pub(super) fn git_url(web: &Web, app: &App) -> String {
    format!("https://{}/{}.git", web.base().git_host, app.name)
}

/// The domain that every app has.
pub fn default_domain(web: &Web, app: &App) -> Value {
    let hostname = default_hostname(web, app);
    json!({
        "acm_status": null,
        "acm_status_reason": null,
        "app": app_reference(app),
        "cname": null,
        "created_at": time(app.created_at),
        "hostname": hostname,
        "id": id_of("default domain", &app.id.to_string()),
        "kind": "heroku",
        "sni_endpoint": null,
        "status": "none",
        "updated_at": time(app.updated_at),
    })
}

/// A custom domain. Its `cname` is the default one: where its owner's DNS should point. It is routed when this answers,
/// so there is no `status` to wait for.
pub fn domain(web: &Web, app: &App, domain: &Domain) -> Value {
    json!({
        "acm_status": null,
        "acm_status_reason": null,
        "app": app_reference(app),
        "cname": default_hostname(web, app),
        "created_at": time(domain.created_at),
        "hostname": domain.hostname,
        "id": domain.id,
        "kind": "custom",
        "sni_endpoint": null,
        "status": "none",
        "updated_at": time(domain.updated_at),
    })
}

fn default_hostname(web: &Web, app: &App) -> String {
    format!("{}.{}", app.name, web.platform().settings().domain)
}

/// A collaborator.
pub fn collaborator(app: &App, one: &Collaborator) -> Value {
    json!({
        "app": app_reference(app),
        "created_at": time(one.created_at),
        "id": one.id,
        "permissions": permission_names(one.permission),
        "role": "collaborator",
        "updated_at": time(one.updated_at),
        "user": { "email": one.email, "federated": false, "id": one.account },
    })
}

/// The owner, who is the first of the collaborators.
pub fn owner(app: &App) -> Value {
    json!({
        "app": app_reference(app),
        "created_at": time(app.created_at),
        "id": id_of("owner", &app.id.to_string()),
        "permissions": permission_names(Permission::Manage),
        "role": "owner",
        "updated_at": time(app.updated_at),
        "user": { "email": app.owner_email, "federated": false, "id": app.owner },
    })
}

/// The permissions that include each other up to this one, as the CLI names them.
pub fn permission_names(up_to: Permission) -> Value {
    let all = [
        (Permission::Deploy, "deploy", "Can change the app's code"),
        (Permission::Manage, "manage", "Can change who has access, or end the app"),
        (Permission::Operate, "operate", "Can change the app's config, formation and dynos"),
        (Permission::View, "view", "Can see the app"),
    ];
    let granted = all.iter().filter(|(p, _, _)| *p <= up_to);
    granted.map(|(_, name, description)| json!({ "name": name, "description": description })).collect()
}

/// One of an app's buildpacks. Built-in ones are named by a URN, which the CLI shows as the name.
pub fn buildpack_installation(ordinal: usize, buildpack: &str) -> Value {
    let url = if buildpack.contains("://") { buildpack.to_string() } else { format!("urn:buildpack:{buildpack}") };
    json!({ "ordinal": ordinal, "buildpack": { "name": buildpack, "url": url } })
}
