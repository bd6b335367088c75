//! What Gitea and Forgejo are asked and told. They keep no records of deployments. Source: their API's description
//! (`/swagger.v1.json`).

use crate::api::Api;
use crate::github;
use crate::webhook::github_pull_request;
use http::Method;
use serde_json::Value;
use shipway_domain::forge::Message;
use shipway_engine::PullRequestNews;

pub(crate) async fn open_pull_requests(api: &Api<'_>) -> Result<Vec<PullRequestNews>, String> {
    let open = api.list(&format!("{}/pulls?state=open", api.repository())).await?;
    open.iter().map(github_pull_request).collect()
}

pub(crate) async fn tell(api: &Api<'_>, message: &Message, remote: Option<&Value>) -> Result<Option<Value>, String> {
    let repository = api.repository();
    match message {
        Message::Comment { number, body } => {
            let comments = format!("{repository}/issues/{number}/comments");
            let one = |id: u64| format!("{repository}/issues/comments/{id}");
            api.comment(&comments, one, Method::PATCH, body, remote).await
        }
        Message::Status { .. } => github::status(api, message).await,
        Message::Deployment { .. } => Ok(None),
    }
}
