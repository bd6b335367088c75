//! An app's buildpacks, and the registry in which the CLI looks up their names.

use crate::call::Open;
use crate::payload::Payload;
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};
use shipway_domain::buildpack::{BUILT_IN, name};

/// GET /apps/{app}/buildpack-installations
pub async fn list(call: Call) -> Result<Answer> {
    Ok(installations(&call.app()?.buildpacks))
}

/// PUT /apps/{app}/buildpack-installations
pub async fn update(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let updates = call.payload()?.objects("updates")?;
    let updates =
        updates.ok_or_else(|| ApiError::invalid("`updates` is missing: a list of `{\"buildpack\": NAME}`."))?;
    // The CLI looks names up first, and sends what it did not find without one.
    let one = |update: &Payload| match update.text("buildpack")? {
        Some(given) => Ok(name(&given)),
        None => Err(ApiError::invalid(
            "That buildpack is not in the registry. `heroku buildpacks:search` lists what is; any other is named by its git URL.",
        )),
    };
    let wanted = updates.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(installations(&call.platform().set_buildpacks(&call.caller, &app, wanted).await?))
}

fn installations(buildpacks: &[String]) -> Answer {
    Answer::ok(buildpacks.iter().enumerate().map(|(i, b)| present::buildpack_installation(i, b)).collect())
}

/// GET /buildpacks: the registry's search. No token: the CLI sends none.
pub async fn search(open: Open) -> Result<Answer> {
    let any = |field: &str, value: &str| open.query(field).is_none_or(|wanted| value.contains(&wanted.to_lowercase()));
    let found = BUILT_IN.iter().filter(|(name, description)| {
        let (namespace, short) = name.split_once('/').unwrap_or(("", name));
        any("in[namespace][]", namespace)
            && any("in[name][]", short)
            && any("like[description]", &description.to_lowercase())
    });
    Ok(Answer::ok(found.map(|(name, description)| present::buildpack(name, description)).collect()))
}

/// GET /buildpacks/{name}, where the name holds an encoded slash.
pub async fn info(open: Open) -> Result<Answer> {
    let (name, description) = find(&open)?;
    Ok(Answer::ok(present::buildpack(name, description)))
}

/// GET /buildpacks/{name}/readme
pub async fn readme(open: Open) -> Result<Answer> {
    let (_, description) = find(&open)?;
    Ok(Answer::ok(json!({ "content": description, "name": "README.md" })))
}

/// GET /buildpacks/{name}/revisions: a built-in buildpack has the one that is in the binary.
pub async fn revisions(open: Open) -> Result<Answer> {
    let (name, description) = find(&open)?;
    let mut revision: Value = present::buildpack(name, description);
    revision["release"] = 1.into();
    revision["status"] = "published".into();
    revision["license"] = "Apache-2.0".into();
    Ok(Answer::ok(json!([revision])))
}

fn find(open: &Open) -> Result<(&'static str, &'static str)> {
    let wanted = name(open.parameter("name"));
    BUILT_IN.iter().find(|(name, _)| *name == wanted).copied().ok_or_else(|| ApiError::missing("buildpack"))
}
