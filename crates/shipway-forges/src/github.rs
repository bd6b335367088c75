//! What GitHub is asked and told. Source: "REST API endpoints" of GitHub's documentation.

use crate::api::Api;
use crate::json;
use crate::webhook::github_pull_request;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use shipway_domain::forge::{DeploymentState, Message, Verdict};
use shipway_engine::ports::PullRequestNews;

pub(crate) async fn open_pull_requests(api: &Api<'_>) -> Result<Vec<PullRequestNews>, String> {
    let open = api.list(&format!("{}/pulls?state=open", api.repository())).await?;
    open.iter().map(github_pull_request).collect()
}

pub(crate) async fn tell(
    api: &Api<'_>,
    message: &Message,
    remote: Option<&Value>,
    again: bool,
) -> Result<Option<Value>, String> {
    match message {
        Message::Comment { number, body } => comment(api, *number, body, remote).await,
        Message::Status { .. } => status(api, message, again).await,
        Message::Deployment { commit, state, .. } => {
            let same = remote.filter(|r| r["commit"] == commit.as_str()).and_then(|r| r["id"].as_u64());
            // One that failed was never active.
            let replaces = remote.filter(|_| *state != DeploymentState::Failure);
            let before = replaces.and_then(|r| r["id"].as_u64()).filter(|id| Some(*id) != same);
            if let Some(before) = before {
                deployment_status(api, before, DeploymentState::Inactive, message, again).await?;
            }
            let id = match same {
                Some(id) => id,
                None => deployment(api, message).await?,
            };
            deployment_status(api, id, *state, message, again).await?;
            Ok(Some(json!({ "id": id, "commit": commit })))
        }
    }
}

/// The one comment on a pull request. Gitea has the same.
pub(crate) async fn comment(
    api: &Api<'_>,
    number: u64,
    body: &str,
    remote: Option<&Value>,
) -> Result<Option<Value>, String> {
    let repository = api.repository();
    let comments = format!("{repository}/issues/{number}/comments");
    let one = |id: u64| format!("{repository}/issues/comments/{id}");
    api.comment(&comments, one, Method::PATCH, body, remote).await
}

/// A commit status; Gitea takes the same.
pub(crate) async fn status(api: &Api<'_>, message: &Message, again: bool) -> Result<Option<Value>, String> {
    let Message::Status { commit, context, verdict, url, description, .. } = message else { return Ok(None) };
    let mut body = json!({ "state": word(*verdict), "context": context, "description": description });
    if let Some(url) = url {
        body["target_url"] = url.as_str().into();
    }
    let repository = api.repository();
    if again {
        let said = api.list(&format!("{repository}/commits/{commit}/statuses")).await?;
        let of_ours = said.iter().filter(|said| said["context"] == context.as_str());
        // Gitea says `status` for what GitHub calls `state`.
        let same = |said: &Value| {
            let word = if said["state"].is_null() { &said["status"] } else { &said["state"] };
            *word == body["state"] && said["description"] == body["description"]
        };
        if of_ours.max_by_key(|said| said["id"].as_u64()).is_some_and(same) {
            return Ok(None);
        }
    }
    api.post(&format!("{repository}/statuses/{commit}"), &body).await?;
    Ok(None)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pending => "pending",
        Verdict::Success => "success",
        Verdict::Failure => "failure",
    }
}

/// The record of a commit in an environment: one that is there already, else a new one.
async fn deployment(api: &Api<'_>, message: &Message) -> Result<u64, String> {
    let Message::Deployment { environment, commit, transient, production, payload, .. } = message else {
        return Err("no deployment".into());
    };
    let path = format!("{}/deployments", api.repository());
    let there = format!("{path}?sha={commit}&environment={}&task=deploy", crate::api::encoded(environment));
    if let Some(known) = api.list(&there).await?.first() {
        return json::number(known, "id");
    }
    let made = api
        .post(
            &path,
            &json!({
                "ref": commit, "task": "deploy", "auto_merge": false, "required_contexts": [],
                "environment": environment, "transient_environment": transient, "production_environment": production,
                "payload": payload, "description": "Deployed by Shipway",
            }),
        )
        .await?;
    json::number(&made, "id")
}

async fn deployment_status(
    api: &Api<'_>,
    id: u64,
    state: DeploymentState,
    message: &Message,
    again: bool,
) -> Result<(), String> {
    let Message::Deployment { environment, url, log_url, .. } = message else { return Ok(()) };
    let mut body = json!({ "state": state.as_str(), "environment": environment, "auto_inactive": false });
    if state != DeploymentState::Inactive {
        body["environment_url"] = url.as_str().into();
    }
    if let Some(log_url) = log_url {
        body["log_url"] = log_url.as_str().into();
    }
    let path = format!("{}/deployments/{id}/statuses", api.repository());
    if again {
        let said = api.send(Method::GET, &path, None, &[StatusCode::NOT_FOUND]).await?.body;
        let newest = said.as_array().and_then(|all| all.iter().max_by_key(|said| said["id"].as_u64()));
        if newest.is_some_and(|said| said["state"] == state.as_str()) {
            return Ok(());
        }
    }
    // Somebody has deleted the record: there is nothing left to be wrong.
    api.send(Method::POST, &path, Some(&body), &[StatusCode::NOT_FOUND]).await?;
    Ok(())
}
