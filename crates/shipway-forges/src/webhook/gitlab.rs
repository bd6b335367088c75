//! GitLab. Source: "Webhook events" and "Webhooks" of GitLab's documentation; its signatures are those of Standard Webhooks.

use super::{CLOCK_SECONDS, Signed, digest_of, from_base64, key, push, repository};
use crate::json::{at, maybe, number, parsed, text, time};
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;
use shipway_domain::review::Checks;
use shipway_engine::ports::{CheckNews, News, PullRequestNews, Received, WebhookRefused, WebhookRequest};

/// A signature where there is one, else the plain token that all versions send.
pub(super) fn signed<'a>(
    secret: &str,
    request: WebhookRequest<'a>,
    now: Timestamp,
) -> Result<Signed<'a>, WebhookRefused> {
    let event = request.header("x-gitlab-event");
    let header = |name: &str| request.header(name);
    if let Some(signatures) = header("webhook-signature") {
        let (Some(id), Some(at)) = (header("webhook-id"), header("webhook-timestamp")) else {
            return Err(WebhookRefused::Unauthorized);
        };
        if !is_signed(secret, id, at, request.body, signatures) || !is_of_now(at, now) {
            return Err(WebhookRefused::Unauthorized);
        }
        return Ok(Signed { given: Some(id), digest: digest_of(&[id.as_bytes()]), event });
    }
    let token = request.header("x-gitlab-token").unwrap_or_default();
    // Both sides hashed with a key: what is compared says nothing of how much of the token was right.
    let key = key(secret.as_bytes());
    if hmac::verify(&key, token.as_bytes(), hmac::sign(&key, secret.as_bytes()).as_ref()).is_err() {
        return Err(WebhookRefused::Unauthorized);
    }
    let given = header("idempotency-key").or_else(|| header("x-gitlab-event-uuid"));
    // The token covers nothing: whoever has it can say anything, so only the forge's own repetitions are told apart.
    let digest = given.map_or_else(|| digest_of(&[request.body]), |id| digest_of(&[id.as_bytes()]));
    Ok(Signed { given, digest, event })
}

fn is_signed(secret: &str, id: &str, at: &str, body: &[u8], signatures: &str) -> bool {
    let Some(secret) = secret.strip_prefix("whsec_").and_then(from_base64) else { return false };
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    let key = key(&secret);
    let mut tags = signatures.split(' ').filter_map(|one| from_base64(one.strip_prefix("v1,")?));
    tags.any(|tag| hmac::verify(&key, &signed, &tag).is_ok())
}

fn is_of_now(at: &str, now: Timestamp) -> bool {
    at.parse::<i64>().is_ok_and(|at| now.as_second().abs_diff(at) <= CLOCK_SECONDS)
}

pub(super) fn read(_: &str, value: &Value) -> Result<Received, String> {
    // System hooks have another event header; what the payload is, it says itself.
    let news = match maybe(value, "object_kind").unwrap_or_default() {
        "push" | "tag_push" => {
            let by = maybe(value, "user_username").or_else(|| maybe(value, "user_name")).unwrap_or("somebody");
            push(value, by, maybe(value, "user_email"), maybe(value, "project.default_branch"))?
                .map_or(News::Other, News::Push)
        }
        "merge_request" => News::PullRequest(merge_request(at(value, "object_attributes"))?),
        "pipeline" => News::Check(pipeline(at(value, "object_attributes"))?),
        _ => News::Other,
    };
    Ok(Received { repository: repository(value, "project.path_with_namespace")?, news })
}

fn merge_request(value: &Value) -> Result<PullRequestNews, String> {
    let forked = at(value, "source_project_id") != at(value, "target_project_id");
    let from = maybe(value, "source.path_with_namespace").unwrap_or("a hidden fork");
    Ok(PullRequestNews {
        number: number(value, "iid")?,
        title: text(value, "title")?.to_owned(),
        branch: parsed(value, "source_branch")?,
        commit: parsed(value, "last_commit.id")?,
        fork: forked.then(|| from.to_owned()),
        open: text(value, "state")? == "opened",
        changed_at: time(value, "updated_at")?,
    })
}

fn pipeline(value: &Value) -> Result<CheckNews, String> {
    let state = match text(value, "status")? {
        "success" | "skipped" => Checks::Succeeded,
        "failed" | "canceled" => Checks::Failed,
        _ => Checks::Pending,
    };
    // A pipeline is told of with the same creation until it has finished: what ran is older than what is over.
    let at = time(value, "finished_at").or_else(|_| time(value, "created_at"))?;
    Ok(CheckNews { commit: parsed(value, "sha")?, context: "pipeline".into(), state, at })
}
