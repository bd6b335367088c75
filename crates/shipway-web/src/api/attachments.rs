//! Attachments: which app sees which add-on, and under what name.

use crate::present::Inclusion;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_domain::NameOrId;
use shipway_engine::Within;
use shipway_store::{App, Attachment};

const FIELDS: &Fields<Attachment> = &[("id", |a| Key::text(a.id)), ("name", |a| Key::text(&a.name))];

/// GET /addon-attachments
pub async fn list(call: Call) -> Result<Answer> {
    let all = call.platform().attachments(&call.caller, Within::Everything)?;
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /apps/{app}/addon-attachments
pub async fn list_of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let all = call.platform().attachments(&call.caller, Within::App(&app))?;
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /addons/{addon}/addon-attachments
pub async fn list_of_addon(call: Call) -> Result<Answer> {
    let addon = call.platform().addon(&call.caller, call.parameter("addon"), Within::Everything)?;
    let all = call.platform().attachments_of(&call.caller, &addon)?;
    call.try_page(all, FIELDS, |a| show(&call, a))
}

/// GET /addon-attachments/{attachment}: an id.
pub async fn info(call: Call) -> Result<Answer> {
    let found = by_id(&call)?;
    Ok(Answer::ok(show(&call, &found)?))
}

/// GET /apps/{app}/addon-attachments/{attachment}: an id or a name.
pub async fn info_of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let wanted = call.parameter("attachment");
    let all = call.platform().attachments(&call.caller, Within::App(&app))?;
    let found = all.iter().find(|a| a.name.as_str() == wanted || a.id.to_string() == wanted);
    let found = found.ok_or_else(|| ApiError::missing("add_on attachment"))?;
    Ok(Answer::ok(show(&call, found)?))
}

/// POST /addon-attachments
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let missing = |what: &str| ApiError::invalid(format!("`{what}` is missing: give its name or id."));
    let app = payload.reference("app")?.ok_or_else(|| missing("app"))?;
    let addon = payload.reference("addon")?.ok_or_else(|| missing("addon"))?;
    if let Some(namespace) = payload.text("namespace")? {
        return Err(ApiError::invalid(format!(
            "There is no {namespace:?} of {addon}: every add-on here has its default credential alone."
        )));
    }
    let platform = call.platform();
    let app = platform.app(&call.caller, &NameOrId::parse(&app))?;
    let addon = platform.addon(&call.caller, &addon, Within::App(&app))?;
    let (name, confirm) = (payload.text("name")?, payload.text("confirm")?);
    let made = platform.attach_addon(&call.caller, &app, &addon, name.as_deref(), confirm.as_deref()).await?;
    Ok(Answer::created(show(&call, &made)?))
}

/// DELETE /addon-attachments/{attachment}
pub async fn remove(call: Call) -> Result<Answer> {
    let found = by_id(&call)?;
    let shown = show(&call, &found)?;
    call.platform().detach_addon(&call.caller, &found).await?;
    Ok(Answer::ok(shown))
}

/// POST /actions/addon-attachments/resolve. The CLI falls back to config vars where this finds nothing.
pub async fn resolve(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let which = payload.reference("addon_attachment")?;
    let which = which.ok_or_else(|| ApiError::invalid("`addon_attachment` is missing: give a name or id."))?;
    let app: Option<App> = match payload.reference("app")? {
        Some(app) => Some(call.platform().app(&call.caller, &NameOrId::parse(&app))?),
        None => None,
    };
    let within = app.as_ref().map_or(Within::Everything, Within::App);
    let mut found = call.platform().resolve_attachments(&call.caller, &which, within)?;
    if let Some(service) = payload.reference("addon_service")? {
        let of_service = |a: &Attachment| {
            let addon = call.platform().store().read(|c| c.addon_by_id(a.addon));
            addon.is_ok_and(|addon| addon.plan.service.name == service)
        };
        found.retain(of_service);
        if found.is_empty() {
            return Err(ApiError::missing("add_on attachment"));
        }
    }
    let shown = found.iter().map(|a| show(&call, a)).collect::<Result<Vec<_>>>()?;
    Ok(Answer::ok(shown.into()))
}

fn by_id(call: &Call) -> Result<Attachment> {
    let wanted = call.parameter("attachment");
    let all = call.platform().attachments(&call.caller, Within::Everything)?;
    all.into_iter().find(|a| a.id.to_string() == wanted).ok_or_else(|| ApiError::missing("add_on attachment"))
}

fn show(call: &Call, attachment: &Attachment) -> Result<Value> {
    let (app, addon, owner, keys) = call.platform().store().read(|c| {
        let addon = c.addon_by_id(attachment.addon)?;
        let owner = c.app_by_id(addon.app)?;
        let keys = c.attachment_vars(attachment)?.into_keys().collect::<Vec<_>>();
        Ok((c.app_by_id(attachment.app)?, addon, owner, keys))
    })?;
    let (inclusion, page) = (Inclusion::of(&call.headers), present::addons_page(&call.origin, &owner));
    Ok(present::attachment(&app, attachment, (&addon, &owner), &keys, inclusion, &page))
}
