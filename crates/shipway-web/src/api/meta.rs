//! What is about the API itself: rate limits, and answers where there is nothing.

use crate::call::{Call, Open};
use crate::{Answer, ApiError, Result};
use axum::http::{Method, StatusCode, Uri};
use serde_json::json;

/// GET /account/rate-limits
pub async fn rate_limits(call: Call) -> Result<Answer> {
    Ok(Answer::ok(json!({ "remaining": call.web.limits().remaining(call.caller.actor.account) })))
}

/// What people ask for by a command of the CLI and is not there, by what its path holds: they know commands, not paths.
const ABSENT: [(&str, &str); 16] = [
    ("/acm", "Certificates are not made for apps' own domains yet; the router serves the platform's domain by TLS."),
    ("/sni-endpoints", "Certificates for apps' own domains are not taken yet."),
    ("/log-drains", "Log drains are not there yet. `heroku logs --tail` follows an app's log."),
    ("/spaces", "There are no spaces here: there is one machine, and it is yours."),
    ("/enterprise-accounts", "There are no enterprise accounts here."),
    ("/test-runs", "There is no Heroku CI here. Let CI elsewhere report what it finds: docs/ci/ has files for it."),
    ("/oauth/clients", "OAuth clients are not there yet. `heroku authorizations:create` makes a token for a program."),
    ("/telemetry", "Telemetry is not sent anywhere."),
    (
        "/reports",
        "`pg:diagnose` is not there. `heroku pg:outliers`, `pg:locks` and their like ask the database itself.",
    ),
    (
        "/credentials_rotation",
        "A database's password cannot be changed yet. A new database (`heroku addons:create`, `pg:copy`, `pg:promote`) has a new one.",
    ),
    ("/credentials", "A database has one credential, the default one."),
    ("/links", "Data links are not there: there is one database server, and it is this machine's."),
    ("/metrics", "Metrics are not kept. The router's lines in `heroku logs` have the time that each request took."),
    ("/monitors", "Dynos are not scaled by themselves: `heroku ps:scale`."),
    ("/oci-images", "Images cannot be released yet. Deploy with git push instead."),
    ("/docker-login", "Images cannot be pushed yet. Deploy with git push instead."),
];

fn why_not(path: &str) -> Option<&'static str> {
    let of = |word: &str| path.split_once(word).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('/'));
    ABSENT.iter().find(|(word, _)| of(word)).map(|(_, why)| *why)
}

/// What somebody reads who asked for what is not there.
fn not_served(method: &Method, uri: &Uri, but: &str) -> String {
    let path: String = uri.path().chars().take(200).collect();
    match why_not(&path) {
        Some(why) => why.to_string(),
        None => format!("This platform does not serve {method} {path}{but}. docs/api-coverage.md lists what it does."),
    }
}

/// Every path that no door has.
pub async fn nothing_here(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", not_served(&method, &uri, ""))
}

/// A path that exists, with a method that it does not have.
pub async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let why = not_served(&method, &uri, ", only other methods");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}

/// GET /api/v4/current-status: what `heroku status` shows.
pub async fn status(_: Open) -> Result<Answer> {
    let green = |system: &str| json!({ "system": system, "status": "green" });
    Ok(Answer::ok(json!({ "status": [green("Apps"), green("Data"), green("Tools")], "incidents": [] })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said_in_the_words_of_commands() {
        let check = |path: &str, expected: Option<&str>| {
            let said = why_not(path).map(|why| why.split(['.', ':', ',']).next().unwrap_or_default());
            assert_eq!(said, expected, "{path}");
        };
        check(
            "/apps/shop/acm",
            Some("Certificates are not made for apps' own domains yet; the router serves the platform's domain by TLS"),
        );
        check("/apps/shop/log-drains", Some("Log drains are not there yet"));
        check("/spaces/foo", Some("There are no spaces here"));
        check("/pipelines/1/test-runs/last", Some("There is no Heroku CI here"));
        check("/apps/acm-shop", None);
        check("/apps/shop/linksy", None);
    }
}
