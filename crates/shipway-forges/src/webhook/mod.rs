//! Webhooks: whose a request is, and what it says. Pure: a request in, news out.

mod gitea;
mod github;
mod gitlab;

pub(crate) use github::pull_request as github_pull_request;

use crate::json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::{digest, hmac};
use serde_json::Value;
use shipway_domain::forge::{ForgeKind, RepositoryName};
use shipway_domain::triggers::RefName;
use shipway_domain::{BranchName, Email};
use shipway_engine::ports::{Envelope, PushNews, Received, WebhookRefused, WebhookRequest};
use shipway_store::hex;

/// How far a forge's clock may be from ours, where its signature covers the time. Source: Standard Webhooks.
const CLOCK_SECONDS: u64 = 5 * 60;
/// An id or event name that is longer is not a forge's.
const NAME: usize = 100;

/// Whether a request comes from who knows `secret`, and what is in it.
pub(crate) fn open(
    kind: ForgeKind,
    secret: &str,
    request: WebhookRequest<'_>,
    now: Timestamp,
) -> Result<Envelope, WebhookRefused> {
    let signed = match kind {
        ForgeKind::Github => github::signed(secret, request)?,
        ForgeKind::Gitlab => gitlab::signed(secret, request, now)?,
        ForgeKind::Gitea => gitea::signed(secret, request)?,
    };
    let payload = payload(kind, request)?;
    json::read(&payload).map_err(|e| WebhookRefused::Malformed(format!("The payload cannot be read: {e}.")))?;
    let given = signed.given.filter(|id| id.len() <= NAME && id.bytes().all(|b| b.is_ascii_graphic()));
    let event = json::printable(signed.event.unwrap_or_default(), NAME);
    Ok(Envelope { given: given.unwrap_or(&signed.digest).to_owned(), digest: signed.digest, event, payload })
}

/// What the news are, for the event that [`open`] found.
pub(crate) fn read(kind: ForgeKind, event: &str, payload: &[u8]) -> Result<Received, String> {
    let value = json::read(payload)?;
    match kind {
        ForgeKind::Github => github::read(event, &value),
        ForgeKind::Gitlab => gitlab::read(event, &value),
        ForgeKind::Gitea => gitea::read(event, &value),
    }
}

/// What a good signature covers.
struct Signed<'a> {
    given: Option<&'a str>,
    digest: String,
    event: Option<&'a str>,
}

/// The JSON of a request: its body, or GitHub's form with the field `payload`.
fn payload(kind: ForgeKind, request: WebhookRequest<'_>) -> Result<Vec<u8>, WebhookRefused> {
    let media = request.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match (media.as_str(), kind) {
        ("application/json", _) => Ok(request.body.to_vec()),
        ("application/x-www-form-urlencoded", ForgeKind::Github) => {
            let field = request.body.split(|b| *b == b'&').find_map(|field| field.strip_prefix(b"payload="));
            let field = field.ok_or_else(|| WebhookRefused::Malformed("The form has no field `payload`.".into()))?;
            Ok(form_decoded(field))
        }
        _ => Err(WebhookRefused::MediaType),
    }
}

fn form_decoded(bytes: &[u8]) -> Vec<u8> {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16)).map(|d| d as u8);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (other, _, _) => out.push(*other),
        }
        at += 1;
    }
    out
}

/// Whether `signature` is the HMAC-SHA256 of a body in hex, in constant time.
fn is_signed_in_hex(secret: &str, body: &[u8], signature: &str) -> bool {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    let tag: Option<Vec<u8>> = signature.as_bytes().chunks(2).map(pair).collect();
    tag.is_some_and(|tag| hmac::verify(&key(secret.as_bytes()), body, &tag).is_ok())
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn digest_of(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    hex(context.finish().as_ref())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A push, which all forges tell with the same words.
///
/// `email`: of who pushed. Forges mask it where its owner wants that, so what is no address is none.
fn push(
    value: &Value,
    by: &str,
    email: Option<&str>,
    default_branch: Option<&str>,
) -> Result<Option<PushNews>, String> {
    let Some(reference) = RefName::from_full(json::text(value, "ref")?) else { return Ok(None) };
    Ok(Some(PushNews {
        reference: reference.map_err(|e| e.to_string())?,
        before: json::commit(value, "before")?,
        after: json::commit(value, "after")?,
        by: json::printable(by, 200),
        email: email.and_then(|email| Email::parse(email).ok()),
        default_branch: default_branch.and_then(|branch| BranchName::parse(branch).ok()),
    }))
}

/// The repository that a payload names.
fn repository(value: &Value, path: &str) -> Result<Option<RepositoryName>, String> {
    json::maybe(value, path).map(|name| RepositoryName::parse(name).map_err(|e| e.to_string())).transpose()
}
