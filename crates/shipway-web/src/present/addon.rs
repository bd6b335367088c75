//! Add-ons, attachments, services and plans.

use super::catalog::SINCE;
use super::{app_reference, id_of, named, time};
use crate::address::Origin;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use shipway_domain::ConfigKey;
use shipway_domain::addon::{PlanName, Service};
use shipway_store::{Addon, App, Attachment};

/// What a client wants in full, by `Accept-Expansion`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expansion {
    service: bool,
    plan: bool,
}

/// What a client wants besides, by `Accept-Inclusion`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inclusion {
    plan: bool,
    config_vars: bool,
}

impl Expansion {
    /// Reads it off a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let asks = |what: &str| asks_for(headers, "accept-expansion", what);
        Self { service: asks("addon_service"), plan: asks("plan") }
    }
}

impl Inclusion {
    /// Reads it off a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let asks = |what: &str| asks_for(headers, "accept-inclusion", what);
        Self { plan: asks("addon:plan"), config_vars: asks("config_vars") }
    }
}

fn asks_for(headers: &HeaderMap, header: &str, what: &str) -> bool {
    let lines = headers.get_all(header).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim() == what)
}

/// Where an app's add-ons are shown.
pub fn addons_page(origin: &Origin, owner: &App) -> String {
    origin.url(&shipway_dashboard::path("app", &[owner.name.as_str()]))
}

/// An add-on. Nothing is billed here. `web_url`: the page where it is shown.
pub fn addon(owner: &App, addon: &Addon, keys: &[ConfigKey], expansion: Expansion, web_url: &str) -> Value {
    let service = addon.plan.service;
    let plan_name = addon.plan.to_string();
    json!({
        "actions": [],
        "addon_service":
            if expansion.service { addon_service(service) } else { named("add-on service", service.name) },
        "app": app_reference(owner),
        "billed_price": price(),
        "billing_entity": { "id": owner.id, "name": owner.name, "type": "app" },
        "config_vars": keys,
        "created_at": time(addon.created_at),
        "id": addon.id,
        "name": addon.name,
        "plan": if expansion.plan { addon_plan(addon.plan) } else { named("plan", &plan_name) },
        "provider_id": addon.id.to_string(),
        "provision_message": "",
        "state": addon.state.as_str(),
        "updated_at": time(addon.updated_at),
        "web_url": web_url,
    })
}

/// An attachment with its add-on and that one's owner. `web_url`: the page where the add-on is shown.
pub fn attachment(
    app: &App,
    one: &Attachment,
    (addon, owner): (&Addon, &App),
    keys: &[ConfigKey],
    inclusion: Inclusion,
    web_url: &str,
) -> Value {
    let mut shown = json!({
        "addon": { "app": app_reference(owner), "id": addon.id, "name": addon.name },
        "app": app_reference(app),
        "created_at": time(one.created_at),
        "id": one.id,
        "log_input_url": null,
        "name": one.name,
        "namespace": null,
        "updated_at": time(one.updated_at),
        "web_url": web_url,
    });
    if inclusion.plan {
        shown["addon"]["plan"] = named("plan", &addon.plan.to_string());
    }
    if inclusion.config_vars {
        shown["config_vars"] = json!(keys);
    }
    shown
}

/// A service.
pub fn addon_service(service: &Service) -> Value {
    json!({
        "cli_plugin_name": null,
        "created_at": SINCE,
        "human_name": service.human_name,
        "id": id_of("add-on service", service.name),
        "name": service.name,
        "state": "ga",
        "supported_generations": [{ "id": id_of("generation", "cedar"), "name": "cedar" }],
        "supports_multiple_installations": true,
        "supports_sharing": true,
        "updated_at": SINCE,
    })
}

/// A plan.
pub fn addon_plan(plan: PlanName) -> Value {
    let name = plan.to_string();
    json!({
        "addon_service": named("add-on service", plan.service.name),
        "compliance": null,
        "created_at": SINCE,
        "default": plan.plan == &plan.service.plans[0],
        "description": plan.plan.description,
        "human_name": plan.plan.human_name,
        "id": id_of("plan", &name),
        "installable_inside_private_network": false,
        "installable_outside_private_network": true,
        "name": name,
        "price": price(),
        "space_default": false,
        "state": "ga",
        "updated_at": SINCE,
        "visible": true,
    })
}

fn price() -> Value {
    json!({ "cents": 0, "contract": false, "metered": false, "unit": "month" })
}
