//! What GitLab is asked and told. Source: "REST API resources" of GitLab's documentation.

use crate::api::Api;
use crate::json::{maybe, number, parsed, text, time};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use shipway_domain::forge::{DeploymentState, Message, Verdict};
use shipway_engine::ports::PullRequestNews;
use std::collections::HashMap;

pub(crate) async fn open_pull_requests(api: &Api<'_>) -> Result<Vec<PullRequestNews>, String> {
    let open = api.list(&format!("{}/merge_requests?state=opened&order_by=created_at", api.repository())).await?;
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut all = Vec::new();
    for request in &open {
        let (source, target) = (request["source_project_id"].as_u64(), request["target_project_id"].as_u64());
        let fork = match source {
            same if same == target => None,
            Some(id) => Some(project_name(api, id, &mut names).await?),
            None => Some("a deleted fork".to_owned()),
        };
        all.push(PullRequestNews {
            number: number(request, "iid")?,
            title: text(request, "title")?.to_owned(),
            branch: parsed(request, "source_branch")?,
            commit: parsed(request, "sha")?,
            fork,
            open: true,
            changed_at: time(request, "updated_at")?,
        });
    }
    Ok(all)
}

/// The name of a fork, which may be hidden from us.
async fn project_name(api: &Api<'_>, id: u64, known: &mut HashMap<u64, String>) -> Result<String, String> {
    if let Some(name) = known.get(&id) {
        return Ok(name.clone());
    }
    let hidden = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN];
    let project = api.send(Method::GET, &format!("/projects/{id}"), None, &hidden).await?.body;
    let name = maybe(&project, "path_with_namespace").unwrap_or("a hidden fork").to_owned();
    known.insert(id, name.clone());
    Ok(name)
}

pub(crate) async fn tell(
    api: &Api<'_>,
    message: &Message,
    remote: Option<&Value>,
    again: bool,
) -> Result<Option<Value>, String> {
    let repository = api.repository();
    match message {
        Message::Comment { number, body } => {
            let notes = format!("{repository}/merge_requests/{number}/notes");
            let one = |id: u64| format!("{notes}/{id}");
            api.comment(&notes, one, Method::PUT, body, remote).await
        }
        Message::Status { commit, branch, context, verdict, url, description } => {
            let mut body = json!({
                "state": word(*verdict), "ref": branch, "name": context, "description": description,
            });
            if let Some(url) = url {
                body["target_url"] = url.as_str().into();
            }
            let path = format!("{repository}/statuses/{commit}");
            let said = api.send(Method::POST, &path, Some(&body), &[StatusCode::BAD_REQUEST]).await?;
            // It refuses to be told the state that it has.
            let again = maybe(&said.body, "message").is_some_and(|m| m.contains("Cannot transition status"));
            match said.status {
                StatusCode::BAD_REQUEST if !again => Err(format!("the status of {} was refused", commit.short())),
                _ => Ok(None),
            }
        }
        Message::Deployment { .. } => deployment(api, message, remote, again).await,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pending => "pending",
        Verdict::Success => "success",
        Verdict::Failure => "failed",
    }
}

/// The environment of a deployment that is there already, if it is the newest of that environment.
async fn made_before(api: &Api<'_>, environment: &str, sha: &str, status: &str) -> Result<Option<u64>, String> {
    let environment = crate::api::encoded(environment);
    let newest = format!("deployments?environment={environment}&order_by=id&sort=desc&per_page=1");
    let newest = api.get(&format!("{}/{newest}", api.repository())).await?;
    let same = newest.get(0).filter(|newest| newest["sha"] == sha && newest["status"] == status);
    same.map(|newest| number(newest, "environment.id")).transpose()
}

async fn deployment(
    api: &Api<'_>,
    message: &Message,
    remote: Option<&Value>,
    again: bool,
) -> Result<Option<Value>, String> {
    let Message::Deployment { environment, commit, branch, state, url, transient, production, .. } = message else {
        return Ok(None);
    };
    let repository = api.repository();
    let known = remote.and_then(|r| r["environment"].as_u64());
    if *state == DeploymentState::Inactive {
        if let Some(id) = known {
            let stop = format!("{repository}/environments/{id}/stop");
            api.send(Method::POST, &stop, Some(&json!({ "force": true })), &[StatusCode::NOT_FOUND]).await?;
        }
        return Ok(remote.cloned());
    }
    let status = match state {
        DeploymentState::Pending | DeploymentState::Queued | DeploymentState::InProgress => "running",
        DeploymentState::Failure | DeploymentState::Error => "failed",
        DeploymentState::Success | DeploymentState::Inactive => "success",
    };
    let same = remote.is_some_and(|r| r["commit"] == commit.as_str() && r["status"] == status);
    // A commit may fail more than once.
    let told = same && *state != DeploymentState::Failure;
    let there = match known.filter(|_| told) {
        None if again => made_before(api, environment, commit.as_str(), status).await?,
        known => known,
    };
    let environment_id = match there {
        Some(id) => id,
        None => {
            let reference = branch.as_ref().map_or(commit.as_str(), |branch| branch.as_str());
            let body = json!({
                "environment": environment, "sha": commit, "ref": reference, "tag": false, "status": status,
            });
            let made = api.post(&format!("{repository}/deployments"), &body).await?;
            number(&made, "environment.id")?
        }
    };
    let tier = match (production, transient) {
        (true, _) => "production",
        (false, true) => "development",
        (false, false) => "staging",
    };
    let path = format!("{repository}/environments/{environment_id}");
    api.send(Method::PUT, &path, Some(&json!({ "external_url": url, "tier": tier })), &[]).await?;
    Ok(Some(json!({ "environment": environment_id, "commit": commit, "status": status })))
}
