//! Who asks: credentials in the four spellings that the API's clients use.

use crate::{ApiError, Result, Web};
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shipway_engine::Holder;
use shipway_engine::ports::Caller;

/// What an `Authorization` header carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user of Basic, empty or not; nothing for Bearer.
    pub user: Option<String>,
    /// The token; or the password, where a door takes one.
    pub secret: String,
}

/// Reads `Bearer TOKEN`, `token TOKEN` (as GitHub's clients write it) and `Basic base64(user:secret)`, whatever the user;
/// `None` for anything else.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
        return Some(Credentials { user: None, secret: rest.to_string() });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    let (user, secret) = plain.split_once(':')?;
    Some(Credentials { user: Some(user.to_string()), secret: secret.to_string() })
}

/// Who shows a token, by the road `via`, and which it is. Errors: 401.
pub(crate) fn authenticate(web: &Web, headers: &HeaderMap, via: &'static str) -> Result<(Caller, Holder)> {
    let credentials = credentials(headers).ok_or_else(ApiError::unauthorized)?;
    let (actor, token) = web.platform().authenticate(&credentials.secret)?;
    Ok((Caller { actor, via }, Holder::of(token, &credentials.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header_value: &str, expected: Option<(Option<&str>, &str)>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, header_value.parse().unwrap());
        let got = credentials(&headers);
        assert_eq!(got.as_ref().map(|c| (c.user.as_deref(), c.secret.as_str())), expected, "{header_value}");
    }

    #[test]
    fn spellings() {
        let basic = |s: &str| format!("Basic {}", BASE64_STANDARD.encode(s));
        check("Bearer abc", Some((None, "abc")));
        check("bearer  abc ", Some((None, "abc")));
        check("token abc", Some((None, "abc")));
        check(&basic(":abc"), Some((Some(""), "abc")));
        check(&basic("heroku:abc"), Some((Some("heroku"), "abc")));
        check(&basic("me@example.org:a:b"), Some((Some("me@example.org"), "a:b")));
        check(&basic("abc"), None);
        check("Basic !!!", None);
        check("Digest abc", None);
        check("Bearer", None);
    }
}
