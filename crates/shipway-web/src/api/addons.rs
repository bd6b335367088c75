//! Add-ons, and the services and plans that they are made of.

use crate::present::Expansion;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};
use shipway_domain::addon::{self, PlanName, SERVICES};
use shipway_domain::admission::Trigger;
use shipway_domain::{ConfigKey, NameOrId};
use shipway_engine::{NewAddon, Within};
use shipway_store::{Addon, App};

const FIELDS: &Fields<Addon> = &[("id", |a| Key::text(a.id)), ("name", |a| Key::text(&a.name))];

/// GET /addons
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().addons(&call.caller, Within::Everything)?;
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /apps/{app}/addons: its own, and those of other apps that are attached to it.
pub async fn list_of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().addons(&call.caller, Within::App(&app))?;
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /users/{user}/addons
pub async fn list_of_user(call: Call) -> Result<Answer> {
    let user = call.parameter("user");
    let actor = &call.caller.actor;
    if !["~", actor.email.as_str(), &actor.account.to_string()].contains(&user) {
        return Err(ApiError::missing("user"));
    }
    list(call).await
}

/// GET /teams/{team}/addons
pub async fn list_of_team(call: Call) -> Result<Answer> {
    let owned = call.platform().team_apps(&call.caller, &super::teams::named(&call)?.0)?;
    let mut all = call.platform().addons(&call.caller, Within::Everything)?;
    all.retain(|addon| owned.iter().any(|app| app.id == addon.app));
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /addons/{addon}
pub async fn info(call: Call) -> Result<Answer> {
    let found = call.platform().addon(&call.caller, call.parameter("addon"), Within::Everything)?;
    Ok(Answer::ok(show(&call, &found)?))
}

/// GET /apps/{app}/addons/{addon}
pub async fn info_of_app(call: Call) -> Result<Answer> {
    let found = named(&call, &call.app()?)?;
    Ok(Answer::ok(show(&call, &found)?))
}

/// POST /apps/{app}/addons
pub async fn create(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let attachment = match payload.object("attachment")? {
        Some(attachment) => attachment.text("name")?,
        None => None,
    };
    let config = payload.object("config")?;
    let new = NewAddon {
        plan: payload
            .reference("plan")?
            .ok_or_else(|| ApiError::invalid("`plan` is missing: name a service and plan."))?,
        name: payload.text("name")?,
        attachment,
        confirm: payload.text("confirm")?,
        options: config.iter().flat_map(|c| c.names()).map(str::to_owned).collect(),
    };
    let made = call.platform().create_addon(&call.caller, &app, new).await?;
    Ok(Answer::created(show(&call, &made)?))
}

/// PATCH /apps/{app}/addons/{addon}: another name, or another plan of its service.
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let mut found = named(&call, &app)?;
    // Also where nothing is to change: who may not hears so.
    call.platform().admit(&call.caller, Trigger::Addon, &app).await?;
    let payload = call.payload()?;
    if let Some(plan) = payload.reference("plan")? {
        let plan: PlanName = plan.parse().map_err(|e: addon::PlanError| ApiError::invalid(e.to_string()))?;
        if plan != found.plan {
            return Err(ApiError::invalid(format!("{} is {}, which cannot become {plan}.", found.name, found.plan)));
        }
    }
    if let Some(name) = payload.text("name")? {
        found = call.platform().rename_addon(&call.caller, &found, &name).await?;
    }
    Ok(Answer::ok(show(&call, &found)?))
}

/// DELETE /apps/{app}/addons/{addon}
pub async fn destroy(call: Call) -> Result<Answer> {
    let found = named(&call, &call.app()?)?;
    let force = call.payload()?.flag("force")?.unwrap_or(false);
    // Shown as it was: afterwards there are no config vars of it any more.
    let mut shown = show(&call, &found)?;
    let gone = call.platform().destroy_addon(&call.caller, &found, force).await?;
    shown["state"] = gone.state.as_str().into();
    Ok(Answer::ok(shown))
}

/// POST /actions/addons/resolve
pub async fn resolve(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let which =
        payload.reference("addon")?.ok_or_else(|| ApiError::invalid("`addon` is missing: give a name or id."))?;
    let app = payload.reference("app")?.map(|app| call.platform().app(&call.caller, &NameOrId::parse(&app)));
    let app = app.transpose()?;
    let within = app.as_ref().map_or(Within::Everything, Within::App);
    let mut found = call.platform().resolve_addons(&call.caller, &which, within)?;
    if let Some(service) = payload.reference("addon_service")? {
        found.retain(|a| a.plan.service.name == service);
        if found.is_empty() {
            return Err(ApiError::missing("add_on"));
        }
    }
    let shown = found.iter().map(|a| show(&call, a)).collect::<Result<Vec<_>>>()?;
    Ok(Answer::ok(shown.into()))
}

/// GET /addons/{addon}/config: settings that the provider takes, of which there are none.
pub async fn config(call: Call) -> Result<Answer> {
    call.platform().addon(&call.caller, call.parameter("addon"), Within::Everything)?;
    Ok(Answer::ok(json!([])))
}

/// GET /addon-services
pub async fn services(_: Call) -> Result<Answer> {
    Ok(Answer::ok(SERVICES.iter().map(present::addon_service).collect()))
}

/// GET /addon-services/{service}
pub async fn service(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::addon_service(named_service(&call)?)))
}

/// GET /addon-services/{service}/plans
pub async fn plans(call: Call) -> Result<Answer> {
    let service = named_service(&call)?;
    let plans = PlanName::all().filter(|p| p.service == service);
    Ok(Answer::ok(plans.map(present::addon_plan).collect()))
}

/// GET /addon-services/{service}/plans/{plan}
pub async fn plan_of_service(call: Call) -> Result<Answer> {
    named_service(&call)?;
    plan(call).await
}

/// GET /plans/{plan}: its name with its service, or its id.
pub async fn plan(call: Call) -> Result<Answer> {
    let wanted = call.parameter("plan");
    let is = |p: &PlanName| p.to_string() == wanted || p.plan.name == wanted || present::addon_plan(*p)["id"] == wanted;
    let found = PlanName::all().find(is).ok_or_else(|| ApiError::missing("plan"))?;
    Ok(Answer::ok(present::addon_plan(found)))
}

fn named_service(call: &Call) -> Result<&'static addon::Service> {
    let wanted = call.parameter("service");
    let is = |s: &&addon::Service| s.name == wanted || present::addon_service(s)["id"] == wanted;
    SERVICES.iter().find(is).ok_or_else(|| ApiError::missing("add_on_service"))
}

fn named(call: &Call, app: &App) -> Result<Addon> {
    Ok(call.platform().addon(&call.caller, call.parameter("addon"), Within::App(app))?)
}

/// An add-on with the config vars that it sets on its own app.
fn show(call: &Call, addon: &Addon) -> Result<Value> {
    let (owner, keys) = call.platform().store().read(|c| {
        let mut keys: Vec<ConfigKey> = Vec::new();
        for attachment in c.attachments_of(addon.id)?.iter().filter(|a| a.app == addon.app) {
            keys.extend(c.attachment_vars(attachment)?.into_keys());
        }
        Ok((c.app_by_id(addon.app)?, keys))
    })?;
    let page = present::addons_page(&call.origin, &owner);
    Ok(present::addon(&owner, addon, &keys, Expansion::of(&call.headers), &page))
}
