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

/// PATCH /pipelines/{pipeline}/review-app-config: what is not named stays. `base_name: ""` goes back to the pipeline's name,
/// `parent_app: ""` to the first app of staging, `inherit.allow: null` to all. The CLI sends it also to enable review apps.
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
    let number =
        |name: &str, value: u64| u32::try_from(value).map_err(|_| ApiError::invalid(format!("`{name}` is too large.")));
    let repo = payload.text("repo")?;
    if let Some(repo) = &repo {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if repo.is_empty() || repo.len() > 200 || repo.starts_with(['-', '/']) || !repo.chars().all(plain) {
            return Err(ApiError::invalid("`repo` must be a repository's full name, like acme/shop."));
        }
    }
    let [by_itself, stale, wait_for_ci, keep_fork_permission, without_addons] =
        ["automatic_review_apps", "destroy_stale_apps", "wait_for_ci", "keep_fork_permission", "without_addons"]
            .map(|name| payload.flag(name));
    let (by_itself, stale, wait_for_ci) = (by_itself?, stale?, wait_for_ci?);
    let (keep_fork_permission, without_addons) = (keep_fork_permission?, without_addons?);
    let days = payload.number("stale_days")?.map(|days| number("stale_days", days)).transpose()?;
    let quota = payload.number("quota")?.map(|quota| number("quota", quota)).transpose()?;
    let base_name = payload.text("base_name")?;
    let region = match payload.object("deploy_target")? {
        Some(target) if target.text("type")?.is_some_and(|kind| kind != "region") => {
            return Err(ApiError::invalid("There are no spaces here: `deploy_target.type` must be `region`."));
        }
        Some(target) => Some(target.required("id")?),
        None => None,
    };
    let parent = match payload.reference("parent_app")? {
        Some(none) if none.is_empty() => Some(None),
        Some(parent) => Some(Some(call.platform().app(&call.caller, &NameOrId::parse(&parent))?.id)),
        None => None,
    };
    let (mut allow, mut deny) = (None, None);
    if let Some(inherit) = payload.object("inherit")? {
        let keys = |name: &str| -> Result<Option<BTreeSet<ConfigKey>>> {
            let names = inherit.texts(name)?;
            names.map(|names| names.iter().map(|n| Ok(ConfigKey::parse(n)?)).collect()).transpose()
        };
        let named = |name: &str| inherit.names().any(|other| other == name);
        allow = named("allow").then(|| keys("allow")).transpose()?;
        deny = named("deny").then(|| keys("deny")).transpose()?.map(Option::unwrap_or_default);
    }
    let change = move |settings: &mut ReviewAppSettings| {
        set_to(&mut settings.repo, repo);
        set_to(&mut settings.automatic_review_apps, by_itself);
        set_to(&mut settings.destroy_stale_apps, stale);
        set_to(&mut settings.wait_for_ci, wait_for_ci);
        set_to(&mut settings.keep_fork_permission, keep_fork_permission);
        set_to(&mut settings.without_addons, without_addons);
        set_to(&mut settings.stale_days, days);
        set_to(&mut settings.quota, quota);
        set_to(&mut settings.base_name, base_name.map(|name| Some(name).filter(|name| !name.is_empty())));
        set_to(&mut settings.region, region);
        set_to(&mut settings.parent, parent);
        set_to(&mut settings.allow, allow);
        set_to(&mut settings.deny, deny);
    };
    let config = call.platform().set_review_app_config(&call.caller, pipeline, change).await?;
    present::review_app_config(&call.web, &config).map_err(ApiError::from)
}

fn set_to<T>(setting: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *setting = wanted;
    }
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
