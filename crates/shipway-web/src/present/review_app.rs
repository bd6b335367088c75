//! Review apps, what is decided about them, and the making of apps.

use super::time;
use crate::Web;
use crate::address::Origin;
use serde_json::{Value, json};
use shipway_domain::review::{AppSetupStatus, BranchName, ReviewAppStatus};
use shipway_domain::{CommitId, app_json};
use shipway_engine::{Holder, Result};
use shipway_store::{AppSetup, Pipeline, ReviewApp, ReviewAppConfig};

/// The making of an app. `build` is there from the beginning: its stream tells of the whole.
pub fn app_setup(
    web: &Web,
    origin: &Origin,
    reader: &Holder,
    setup: &AppSetup,
    output: Option<String>,
) -> Result<Value> {
    let build = web.platform().store().read(|c| c.build(setup.build))?;
    let web_url = web.platform().web_url(setup.app_name.as_str());
    let success_url = setup.success_url.as_ref().map(|url| app_json::resolved(url, &web_url));
    let postdeploy =
        setup.postdeploy_status.map(|status| json!({ "exit_code": status, "output": output.unwrap_or_default() }));
    Ok(json!({
        "app": { "id": setup.app, "name": setup.app_name },
        "build": {
            "id": setup.build,
            // The build's row goes with the app; what there is to read of it stays.
            "status": build.map_or("failed", |b| b.status.as_str()),
            "output_stream_url": super::output(web, origin, reader, setup.app, setup.build.0),
        },
        "created_at": time(setup.created_at),
        "failure_message": setup.failure,
        "id": setup.id,
        "manifest_errors": setup.manifest_errors,
        "postdeploy": postdeploy,
        "resolved_success_url": success_url.filter(|_| setup.status == AppSetupStatus::Succeeded),
        "status": setup.status,
        "updated_at": time(setup.updated_at),
    }))
}

/// A review app.
pub fn review_app(review: &ReviewApp) -> Value {
    json!({
        "app": review.app.map(|id| json!({ "id": id })),
        "app_setup": review.setup.map(|id| json!({ "id": id })),
        "branch": review.branch,
        "created_at": time(review.created_at),
        "creator": { "id": review.creator },
        "error_status": review.message.as_ref().filter(|_| review.status == ReviewAppStatus::Errored),
        "fork_repo": null,
        "id": review.id,
        "message": review.message,
        "pipeline": { "id": review.pipeline },
        "pr_number": review.pr_number,
        "status": review.status,
        "updated_at": time(review.updated_at),
        "wait_for_ci": review.status == ReviewAppStatus::Pending,
    })
}

/// The same with what the public schema has no room for: name, address, title, commit, fork.
pub fn whole_review_app(web: &Web, review: &ReviewApp) -> Value {
    let store = web.platform().store();
    let request = review.pr_number.and_then(|n| store.read(|c| c.pull_request(review.pipeline, n)).ok().flatten());
    let running = review.app_name.as_ref().filter(|_| review.app.is_some());
    let mut value = review_app(review);
    value["app_name"] = json!(review.app_name);
    value["commit"] = json!(review.commit);
    value["fork"] = json!(review.fork);
    value["title"] = json!(request.map(|r| r.title));
    value["web_url"] = json!(running.map(|name| web.platform().web_url(name.as_str())));
    value
}

/// What is decided about review apps. `parent_app`, `inherit`, `quota`, `keep_fork_permission`, `without_addons` and
/// `password` are ours.
pub fn review_app_config(web: &Web, config: &ReviewAppConfig) -> Result<Value> {
    let s = &config.settings;
    let (password, parent) = web.platform().store().read(|c| {
        let parent = s.parent.map(|id| c.app(&id.into())).transpose()?.flatten();
        Ok((c.review_password(config.pipeline)?.is_some(), parent))
    })?;
    Ok(json!({
        "automatic_review_apps": s.automatic_review_apps,
        "base_name": s.base_name,
        "deploy_target": { "id": s.region, "type": "region" },
        "destroy_stale_apps": s.destroy_stale_apps,
        "inherit": { "allow": s.allow, "deny": s.deny },
        "keep_fork_permission": s.keep_fork_permission,
        "parent_app": parent.map(|app| super::app_reference(&app)),
        "password": password,
        "pipeline_id": config.pipeline,
        "quota": s.quota,
        "repo": { "id": repository_id(&s.repo) },
        "stale_days": s.stale_days,
        "wait_for_ci": s.wait_for_ci,
        "without_addons": s.without_addons,
    }))
}

/// The number of a repository, which has none of its own here: the same for the same name.
fn repository_id(name: &str) -> u32 {
    super::id_of("repository", name).as_fields().0 >> 1
}

/// The repository that a pipeline's branches are in.
pub fn repository(pipeline: &Pipeline, full_name: &str) -> Value {
    let name = full_name.rsplit('/').next().unwrap_or(full_name);
    json!({
        "full_name": full_name, "id": repository_id(full_name), "name": name,
        "pipeline": { "id": pipeline.id, "name": pipeline.name },
    })
}

/// A branch of it.
pub fn branch(branch: &BranchName, commit: &CommitId) -> Value {
    json!({ "commit": { "sha": commit }, "name": branch })
}
