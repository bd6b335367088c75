//! Domains: the default one of each app, and custom names.

use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::Value;
use shipway_domain::admission::Trigger;
use shipway_store::App;

const FIELDS: &Fields<Value> = &[
    ("id", |d| Key::text(d["id"].as_str().unwrap_or_default())),
    ("hostname", |d| Key::text(d["hostname"].as_str().unwrap_or_default())),
];

/// GET /apps/{app}/domains
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    call.page(all(&call, &app)?, FIELDS, Value::clone)
}

/// GET /apps/{app}/domains/{domain}: a host name or an id.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    find(&call, &app).map(Answer::ok)
}

/// POST /apps/{app}/domains
pub async fn add(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    refuse_endpoint(&payload)?;
    let added = call.platform().add_domain(&call.caller, &app, &payload.required("hostname")?).await?;
    Ok(Answer::created(present::domain(&call.web, &app, &added)))
}

/// PATCH /apps/{app}/domains/{domain}: its endpoint, of which there is only none.
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let domain = find(&call, &app)?;
    call.platform().admit(&call.caller, Trigger::Domain, &app).await?;
    refuse_endpoint(&call.payload()?)?;
    Ok(Answer::ok(domain))
}

/// DELETE /apps/{app}/domains/{domain}
pub async fn remove(call: Call) -> Result<Answer> {
    let app = call.app()?;
    if find(&call, &app).is_ok_and(|d| d["kind"] == "heroku") {
        return Err(ApiError::invalid(format!(
            "The default domain of {} goes with its name; `heroku apps:rename` changes both.",
            app.name
        )));
    }
    let gone = call.platform().remove_domain(&call.caller, &app, call.parameter("domain")).await?;
    Ok(Answer::ok(present::domain(&call.web, &app, &gone)))
}

fn refuse_endpoint(payload: &crate::payload::Payload) -> Result<()> {
    match payload.reference("sni_endpoint")? {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(80).collect();
            Err(ApiError::invalid(format!(
                "Couldn't find the SNI endpoint {name:?}: leave `sni_endpoint` out or null."
            )))
        }
    }
}

fn all(call: &Call, app: &App) -> Result<Vec<Value>> {
    let custom = call.platform().store().read(|c| c.domains(app.id))?;
    let custom = custom.iter().map(|d| present::domain(&call.web, app, d));
    Ok(std::iter::once(present::default_domain(&call.web, app)).chain(custom).collect())
}

fn find(call: &Call, app: &App) -> Result<Value> {
    let wanted = call.parameter("domain").to_lowercase();
    let found = all(call, app)?.into_iter().find(|d| d["id"] == wanted || d["hostname"] == wanted);
    found.ok_or_else(|| ApiError::missing("domain"))
}
