//! GitHub. Source: "Webhook events and payloads" and "Validating webhook deliveries" of GitHub's documentation.

use super::{Signed, digest_of, is_signed_in_hex, push, repository};
use crate::json::{at, maybe, number, parsed, text, time};
use serde_json::Value;
use shipway_domain::review::Checks;
use shipway_engine::ports::{CheckNews, News, PullRequestNews, Received, WebhookRefused, WebhookRequest};

pub(super) fn signed<'a>(secret: &str, request: WebhookRequest<'a>) -> Result<Signed<'a>, WebhookRefused> {
    let signature = request.header("x-hub-signature-256").and_then(|s| s.strip_prefix("sha256=")).unwrap_or_default();
    if !is_signed_in_hex(secret, request.body, signature) {
        return Err(WebhookRefused::Unauthorized);
    }
    Ok(Signed {
        given: request.header("x-github-delivery"),
        digest: digest_of(&[request.body]),
        event: request.header("x-github-event"),
    })
}

pub(super) fn read(event: &str, value: &Value) -> Result<Received, String> {
    let news = match event {
        "push" => {
            let by = maybe(value, "pusher.name").unwrap_or("somebody");
            push(value, by, maybe(value, "pusher.email"), maybe(value, "repository.default_branch"))?
                .map_or(News::Other, News::Push)
        }
        "pull_request" => News::PullRequest(pull_request(at(value, "pull_request"))?),
        "status" => News::Check(status(value)?),
        "check_run" => News::Check(check_run(at(value, "check_run"))?),
        // One that is not complete says nothing that its runs do not say.
        "check_suite" if at(value, "action") == "completed" => News::Check(check_suite(at(value, "check_suite"))?),
        "ping" => News::Ping,
        _ => News::Other,
    };
    Ok(Received { repository: repository(value, "repository.full_name")?, news })
}

/// A pull request as the webhook and the API have it.
pub(crate) fn pull_request(value: &Value) -> Result<PullRequestNews, String> {
    let (head, base) = (maybe(value, "head.repo.full_name"), maybe(value, "base.repo.full_name"));
    Ok(PullRequestNews {
        number: number(value, "number")?,
        title: text(value, "title")?.to_owned(),
        branch: parsed(value, "head.ref")?,
        commit: parsed(value, "head.sha")?,
        // A fork that was deleted is nobody's, and still no branch of ours.
        fork: (head != base).then(|| head.unwrap_or("a deleted fork").to_owned()),
        open: text(value, "state")? == "open",
        changed_at: time(value, "updated_at")?,
    })
}

/// A commit status.
pub(super) fn status(value: &Value) -> Result<CheckNews, String> {
    let at = time(value, "updated_at").or_else(|_| time(value, "created_at"))?;
    let state = match text(value, "state")? {
        "success" => Checks::Succeeded,
        "pending" => Checks::Pending,
        _ => Checks::Failed,
    };
    Ok(CheckNews { commit: parsed(value, "sha")?, context: text(value, "context")?.to_owned(), state, at })
}

fn check_run(value: &Value) -> Result<CheckNews, String> {
    let at = time(value, "completed_at").or_else(|_| time(value, "started_at"))?;
    let context = format!("{}/{}", maybe(value, "app.slug").unwrap_or("check"), text(value, "name")?);
    Ok(CheckNews { commit: parsed(value, "head_sha")?, context, state: conclusion(value), at })
}

fn check_suite(value: &Value) -> Result<CheckNews, String> {
    let context = format!("{} (suite)", maybe(value, "app.slug").unwrap_or("check"));
    let at = time(value, "updated_at")?;
    Ok(CheckNews { commit: parsed(value, "head_sha")?, context, state: conclusion(value), at })
}

fn conclusion(value: &Value) -> Checks {
    match maybe(value, "conclusion") {
        None => Checks::Pending,
        Some("success" | "neutral" | "skipped") => Checks::Succeeded,
        Some(_) => Checks::Failed,
    }
}
