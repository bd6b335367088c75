//! Review apps, what a pipeline decided about them, and the repository that their branches are in.

use super::app_setups::config_vars;
use super::pipelines::named;
use super::sources::source_blob;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::review::BranchName;
use shipway_domain::{ConfigKey, NameOrId, ReviewAppId};
use shipway_engine::{NewReviewApp, ReviewSource, SourceOrder};
use shipway_store::{Pipeline, ReviewApp, ReviewAppSettings};
use std::collections::BTreeSet;

const FIELDS: &Fields<ReviewApp> = &[("created_at", |r| Key::text(r.created_at)), ("id", |r| Key::text(r.id))];

/// GET /pipelines/{pipeline}/review-app-config
pub async fn config(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let config = call.platform().review_app_config(&pipeline)?;
    Ok(Answer::ok(present::review_app_config(&call.web, &config)?))
}

/// POST /pipelines/{pipeline}/review-app-config: enables review apps.
pub async fn enable(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    call.payload()?.required("repo")?;
    set(&call, &pipeline).await.map(Answer::created)
}

/// PATCH /pipelines/{pipeline}/review-app-config: what is not named stays. The CLI sends it also to enable review apps.
pub async fn update(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    set(&call, &pipeline).await.map(Answer::ok)
}

/// DELETE /pipelines/{pipeline}/review-app-config: the review apps that are there stay.
pub async fn disable(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let config = call.platform().disable_review_apps(&call.caller, &pipeline).await?;
    Ok(Answer::ok(present::review_app_config(&call.web, &config)?))
}

async fn set(call: &Call, pipeline: &Pipeline) -> Result<serde_json::Value> {
    let payload = call.payload()?;
    let mut settings = match call.platform().review_app_config(pipeline) {
        Ok(config) => config.settings,
        Err(_) => ReviewAppSettings::default(),
    };
    let number =
        |name: &str, value: u64| u32::try_from(value).map_err(|_| ApiError::invalid(format!("`{name}` is too large.")));
    if let Some(repo) = payload.text("repo")? {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if repo.is_empty() || repo.len() > 200 || repo.starts_with(['-', '/']) || !repo.chars().all(plain) {
            return Err(ApiError::invalid("`repo` must be a repository's full name, like acme/shop."));
        }
        settings.repo = repo;
    }
    settings.automatic_review_apps = payload.flag("automatic_review_apps")?.unwrap_or(settings.automatic_review_apps);
    settings.destroy_stale_apps = payload.flag("destroy_stale_apps")?.unwrap_or(settings.destroy_stale_apps);
    settings.wait_for_ci = payload.flag("wait_for_ci")?.unwrap_or(settings.wait_for_ci);
    settings.keep_fork_permission = payload.flag("keep_fork_permission")?.unwrap_or(settings.keep_fork_permission);
    settings.without_addons = payload.flag("without_addons")?.unwrap_or(settings.without_addons);
    if let Some(days) = payload.number("stale_days")? {
        settings.stale_days = number("stale_days", days)?;
    }
    if let Some(quota) = payload.number("quota")? {
        settings.quota = number("quota", quota)?;
    }
    settings.base_name = payload.text("base_name")?.or(settings.base_name);
    if let Some(target) = payload.object("deploy_target")? {
        if target.text("type")?.is_some_and(|kind| kind != "region") {
            return Err(ApiError::invalid("There are no spaces here: `deploy_target.type` must be `region`."));
        }
        settings.region = target.required("id")?;
    }
    if let Some(parent) = payload.reference("parent_app")? {
        settings.parent = Some(call.platform().app(&call.caller, &NameOrId::parse(&parent))?.id);
    }
    if let Some(inherit) = payload.object("inherit")? {
        let keys = |names: Vec<String>| {
            names.iter().map(|n| Ok(ConfigKey::parse(n)?)).collect::<Result<BTreeSet<ConfigKey>>>()
        };
        settings.allow = inherit.texts("allow")?.map(keys).transpose()?;
        settings.deny = inherit.texts("deny")?.map(keys).transpose()?.unwrap_or_default();
    }
    let config = call.platform().set_review_app_config(&call.caller, pipeline, settings).await?;
    present::review_app_config(&call.web, &config).map_err(ApiError::from)
}

/// GET /pipelines/{pipeline}/repo: where the branches of its review apps are.
pub async fn repo(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let name = call.platform().review_repository(&pipeline)?;
    Ok(Answer::ok(present::repository(&pipeline, &name)))
}

/// GET /pipelines/{pipeline}/repo/branches/{branch}
pub async fn branch(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    let (branch, commit) = call.platform().review_branch(&pipeline, call.parameter("branch")).await?;
    Ok(Answer::ok(present::branch(&branch, &commit)))
}

/// GET /pipelines/{pipeline}/review-apps
pub async fn list(call: Call) -> Result<Answer> {
    let pipeline = named(&call)?;
    call.page(call.platform().review_apps(&pipeline)?, FIELDS, present::review_app)
}

/// POST /review-apps
pub async fn create(call: Call) -> Result<Answer> {
    let payload = call.payload()?;
    let which = payload.reference("pipeline")?.ok_or_else(|| ApiError::invalid("`pipeline` is missing."))?;
    let pipeline = call.platform().pipeline(&call.caller, &NameOrId::parse(&which))?;
    let branch = BranchName::parse(&payload.required("branch")?)?;
    let blob = payload.object("source_blob")?.ok_or_else(|| {
        ApiError::invalid(
            "`source_blob` is missing: its `url` is \"resolve\" for the branch's head, or an uploaded source.",
        )
    })?;
    let url = blob.required("url")?;
    let source = match url.as_str() {
        "resolve" => ReviewSource::Branch,
        _ => {
            let source = source_blob(&call, &url)?;
            ReviewSource::Upload(
                source,
                SourceOrder { url, version: blob.text("version")?, checksum: blob.text("checksum")?, buildpacks: None },
            )
        }
    };
    let new = NewReviewApp {
        branch,
        pr_number: payload.number("pr_number")?,
        source,
        environment: config_vars(payload.object("environment")?.unwrap_or_default())?,
    };
    let made = call.platform().create_review_app(&call.caller, &pipeline, new).await?;
    Ok(Answer::accepted(present::review_app(&made)))
}

fn found(call: &Call) -> Result<ReviewApp> {
    let id: ReviewAppId = call.parameter("review_app").parse().map_err(|_| ApiError::missing("review_app"))?;
    Ok(call.platform().review_app(&call.caller, id)?)
}

/// GET /review-apps/{review_app}
pub async fn info(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::review_app(&found(&call)?)))
}

/// DELETE /review-apps/{review_app}
pub async fn delete(call: Call) -> Result<Answer> {
    let review = found(&call)?;
    let review = call.platform().delete_review_app(&call.caller, &review).await?;
    Ok(Answer::accepted(present::review_app(&review)))
}

/// GET /apps/{app}/review-app
pub async fn of_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    Ok(Answer::ok(present::review_app(&call.platform().review_app_of(&app)?)))
}
