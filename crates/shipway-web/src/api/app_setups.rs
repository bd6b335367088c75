//! Apps made from a source with an app.json.

use super::sources::source_blob;
use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::{AppSetupId, ConfigKey, NameOrId, Stage};
use shipway_engine::{NewApp, SetupOrder, SourceOrder};
use shipway_store::{AppSetup, ConfigVars};

/// POST /app-setups: returns at once; GET says how it goes.
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let blob = payload.object("source_blob")?.ok_or_else(|| {
        ApiError::invalid("`source_blob` is missing: give `source_blob.url`, the `get_url` of POST /sources.")
    })?;
    let url = blob.required("url")?;
    let source = source_blob(&call, &url)?;
    let app = payload.object("app")?.unwrap_or_default();
    if app.text("space")?.is_some() {
        return Err(ApiError::invalid("There are no spaces here: leave `app.space` out."));
    }
    let overrides = payload.object("overrides")?.unwrap_or_default();
    let buildpacks = match overrides.objects("buildpacks")? {
        Some(list) => {
            Some(list.iter().map(|b| Ok(shipway_domain::buildpack::name(&b.required("url")?))).collect::<Result<_>>()?)
        }
        None => None,
    };
    let coupling = match payload.object("pipeline_coupling")? {
        Some(wanted) => {
            let which = wanted.reference("pipeline")?;
            let which = which.ok_or_else(|| ApiError::invalid("`pipeline_coupling.pipeline` is missing."))?;
            let pipeline = call.platform().pipeline(&call.caller, &NameOrId::parse(&which))?;
            Some((pipeline, Stage::parse(&wanted.required("stage")?)?))
        }
        None => None,
    };
    let order = SetupOrder {
        app: NewApp {
            name: app.text("name")?,
            region: app.reference("region")?,
            stack: app.reference("stack")?,
            team: app.reference("organization")?.or(app.reference("team")?),
        },
        env: config_vars(overrides.object("env")?.unwrap_or_default())?,
        buildpacks,
        coupling,
        without_addons: payload.flag("without_addons")?.unwrap_or(false),
    };
    let version = blob.text("version")?;
    let blob = SourceOrder { url, version, checksum: blob.text("checksum")?, buildpacks: None };
    let setup = call.platform().create_app_setup(&call.caller, order, source, blob).await?;
    Ok(Answer::accepted(show(&call, &setup).await?))
}

/// GET /app-setups/{setup}
pub async fn info(call: Call) -> Result<Answer> {
    let id: AppSetupId = call.parameter("setup").parse().map_err(|_| ApiError::missing("app_setup"))?;
    let setup = call.platform().app_setup(&call.caller, id)?;
    Ok(Answer::ok(show(&call, &setup).await?))
}

/// Config vars that are all set. Errors: a name that is none, a value that no environment can carry.
pub(super) fn config_vars(payload: crate::payload::Payload) -> Result<ConfigVars> {
    let mut vars = ConfigVars::new();
    for (key, value) in payload.texts_or_null()? {
        let Some(value) = value else { continue };
        let key = ConfigKey::parse(&key)?;
        if value.contains('\0') {
            return Err(ApiError::invalid(format!("The value of {key} holds a NUL byte.")));
        }
        vars.insert(key, value);
    }
    Ok(vars)
}

async fn show(call: &Call, setup: &AppSetup) -> Result<serde_json::Value> {
    let output = call.platform().postdeploy_output(setup).await?;
    Ok(present::app_setup(&call.web, &call.origin, &call.holder, setup, output)?)
}
