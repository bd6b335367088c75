//! Which headers pass, which change, and what is refused.
//!
//! Sources: RFC 9110 §7.6 (hop-by-hop), RFC 9112 §6 (framing), Heroku Dev Center "HTTP Routing" and "HTTP Request IDs".

use crate::text;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use shipway_net::ConnInfo;
use std::net::IpAddr;

/// Bytes of a header line, name and value.
pub const MAX_LINE: usize = 8192;
/// Bytes of a header's name.
const MAX_NAME: usize = 1000;
/// Bytes of a request target.
const MAX_TARGET: usize = 8192;
/// Bytes of a method.
const MAX_METHOD: usize = 127;
/// Header lines of a request.
const MAX_LINES: usize = 1000;

/// Bytes of the longest address.
const LONGEST_IP: usize = 45;
/// Header lines that a request gets on its way.
const ADDED: usize = 9;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

const VIA_US: HeaderValue = HeaderValue::from_static("1.1 shipway");

/// Names that apps trust because the router sets them. A client's `X_Forwarded_For` would arrive in CGI-like
/// interfaces under the same name.
const TRUSTED: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-request-id", "x-request-start"];

/// Why a request is not passed on: the status, what is wrong, what to do.
pub type Refusal = (StatusCode, &'static str, &'static str);

/// Checks a request against the limits; the host it asks for, and what is special about it.
///
/// The host is that of the target, if it has one, which then must be the Host header's as well.
pub fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(HeaderValue, Special), Refusal> {
    if method == Method::CONNECT {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported.", "Send the request itself."));
    }
    if method.as_str().len() > MAX_METHOD {
        return Err((StatusCode::BAD_REQUEST, "The method is longer than 127 bytes.", "Use a shorter one."));
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        let next = "Send long values in the request's body.";
        return Err((StatusCode::URI_TOO_LONG, "The address is longer than 8192 bytes.", next));
    }
    let too_large =
        |what| Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, what, "Clear this site's cookies and try again."));
    if headers.len() > MAX_LINES {
        return too_large("The request has more than 1000 header lines.");
    }
    let (mut special, mut host, mut hosts) = (Special::default(), None, 0);
    for (name, value) in headers {
        if name.as_str().len() > MAX_NAME {
            return too_large("The name of a header is longer than 1000 bytes.");
        }
        if name.as_str().len() + value.len() + 2 > MAX_LINE {
            return too_large("A header line is longer than 8192 bytes.");
        }
        special.note(name);
        if name == HOST {
            host = Some(value);
            hosts += 1;
        }
    }
    if let Some(encoding) = headers.get(TRANSFER_ENCODING).filter(|_| special.transfer_encoding) {
        let several = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some();
        if several || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            let next = "Compress the content and say so in Content-Encoding.";
            return Err((StatusCode::NOT_IMPLEMENTED, "The only transfer encoding here is chunked.", next));
        }
    }
    let next = "Send one Host header with the app's host name.";
    if hosts > 1 {
        return Err((StatusCode::BAD_REQUEST, "The request names several hosts.", next));
    }
    let host = match (uri.authority(), host) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            return Err((StatusCode::BAD_REQUEST, "The request's address and its Host header differ.", next));
        }
        (Some(authority), None) => HeaderValue::from_str(authority.as_str())
            .map_err(|_| (StatusCode::BAD_REQUEST, "The request's host is not a host name.", next))?,
        (_, Some(host)) => host.clone(),
        (None, None) if version == Version::HTTP_10 => HeaderValue::from_static(""),
        (None, None) => return Err((StatusCode::BAD_REQUEST, "The request names no host.", next)),
    };
    Ok((host, special))
}

/// Which of the headers that a proxy must do something about a message has. One walk along the names finds them all; to
/// ask the map for each costs a hash, and most messages have hardly any of them.
#[derive(Default)]
pub struct Special {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
    trailer: bool,
    transfer_encoding: bool,
    upgrade: bool,
    expect: bool,
    /// A name that may be mistaken for one of those that we set.
    look_alike: bool,
}

impl Special {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        headers.keys().for_each(|name| found.note(name));
        found
    }

    fn note(&mut self, name: &HeaderName) {
        match name.as_str() {
            "connection" => self.connection = true,
            "keep-alive" => self.keep_alive = true,
            "proxy-connection" => self.proxy_connection = true,
            "te" => self.te = true,
            "trailer" => self.trailer = true,
            "transfer-encoding" => self.transfer_encoding = true,
            "upgrade" => self.upgrade = true,
            "expect" => self.expect = true,
            // What we set begins so, and looking for a byte in every name is dear.
            other => self.look_alike |= other.starts_with('x') && other.contains('_'),
        }
    }
}

/// What the client wants of its connection.
pub struct Wanted {
    /// The other protocol that it wants to change to.
    pub upgrade: Option<HeaderValue>,
    /// Whether it waits for a 100.
    pub expects_continue: bool,
}

/// What tells a request from others, in the log and at the dyno.
pub struct Marks {
    /// The client's id, where it is fit, or a new one.
    pub request_id: HeaderValue,
    /// Every address that the request came through, as the dyno gets it.
    pub forwarded_for: HeaderValue,
}

/// Takes out of a [checked](check) request what is not for the dyno; what that said.
pub fn clean(parts: &mut Parts, special: &Special) -> Wanted {
    let headers = &mut parts.headers;
    let upgrade = if special.upgrade { wanted_upgrade(parts.version, headers) } else { None };
    drop_hop_by_hop(headers, special);
    if special.look_alike {
        drop_look_alikes(headers);
    }
    join_cookies(parts.version, headers);
    Wanted { upgrade, expects_continue: special.expect }
}

/// The marks of a [clean](clean) request from `peer`.
pub fn marks(headers: &HeaderMap, peer: IpAddr) -> Marks {
    let request_id = headers.get(&X_REQUEST_ID).filter(|id| is_fit_id(id)).cloned().unwrap_or_else(new_request_id);
    Marks { request_id, forwarded_for: forwarded_for(headers, peer) }
}

/// Completes the head of a [clean](clean) request for the dyno. `now_us` is the time, in microseconds since 1970.
pub fn to_dyno(parts: &mut Parts, host: HeaderValue, wanted: &Wanted, marks: Marks, conn: &ConnInfo, now_us: u64) {
    let headers = &mut parts.headers;
    // One growth for all that follows.
    headers.reserve(ADDED);
    if let Some(protocol) = &wanted.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    headers.insert(HOST, host);
    headers.insert(X_REQUEST_ID, marks.request_id);
    headers.insert(X_FORWARDED_FOR, marks.forwarded_for);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if conn.tls { "https" } else { "http" }));
    headers.insert(X_FORWARDED_PORT, HeaderValue::from(conn.local.port()));
    headers.insert(X_REQUEST_START, HeaderValue::from(now_us / 1000));
    headers.append(VIA, VIA_US);

    if parts.uri.authority().is_some() {
        let target = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        parts.uri = Uri::from(target);
    }
    parts.version = Version::HTTP_11;
}

/// Rewrites the head of a dyno's answer for the client.
pub fn from_dyno(headers: &mut HeaderMap) {
    let special = Special::of(headers);
    if special.transfer_encoding {
        // Chunked wins (RFC 9112 §6.3); a length beside it is a lie that the next hop might believe.
        headers.remove(CONTENT_LENGTH);
    }
    drop_hop_by_hop(headers, &special);
    headers.append(VIA, VIA_US);
}

fn wanted_upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE).filter(|_| version == Version::HTTP_11)?;
    let says_upgrade = |value: &HeaderValue| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade"));
    // HTTP/2 without TLS would be a tunnel past this router's eyes, for any number of requests.
    let is_h2c = tokens(protocol).any(|token| token.eq_ignore_ascii_case("h2c"));
    (!is_h2c && headers.get_all(CONNECTION).iter().any(says_upgrade)).then(|| protocol.clone())
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

fn drop_hop_by_hop(headers: &mut HeaderMap, special: &Special) {
    if special.connection {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            // What nearly all of them say.
            .filter(|value| *value != "keep-alive" && *value != "close")
            .flat_map(tokens)
            .filter(|token| !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close"))
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Framing is not the sender's to take away.
            .filter(|name| *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for (name, there) in [
        (KEEP_ALIVE, special.keep_alive),
        (PROXY_CONNECTION, special.proxy_connection),
        (TE, special.te),
        (TRAILER, special.trailer),
        (TRANSFER_ENCODING, special.transfer_encoding),
        (UPGRADE, special.upgrade),
    ] {
        if there {
            headers.remove(name);
        }
    }
}

fn drop_look_alikes(headers: &mut HeaderMap) {
    let alike =
        |name: &HeaderName| name.as_str().contains('_') && TRUSTED.contains(&name.as_str().replace('_', "-").as_str());
    let alike: Vec<HeaderName> = headers.keys().filter(|name| alike(name)).cloned().collect();
    for name in alike {
        headers.remove(name);
    }
}

/// HTTP/2 clients may send a cookie header in pieces (RFC 9113 §8.2.3), HTTP/1.1 servers expect one.
fn join_cookies(version: Version, headers: &mut HeaderMap) {
    if version != Version::HTTP_2 || headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(pieces.join(&b"; "[..]))) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether a client's id has 20 to 200 characters of `A-Za-z0-9+/=-`.
fn is_fit_id(id: &HeaderValue) -> bool {
    (20..=200).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-'))
}

fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    header_value(id.hyphenated().encode_lower(&mut text).as_bytes())
}

/// What the client claims, then the address that it really came from: only the last one is to be trusted.
fn forwarded_for(headers: &HeaderMap, peer: IpAddr) -> HeaderValue {
    let mut chain = Vec::with_capacity(LONGEST_IP);
    for claimed in headers.get_all(&X_FORWARDED_FOR) {
        if let Ok(claimed) = claimed.to_str()
            && !claimed.trim().is_empty()
        {
            chain.extend_from_slice(claimed.as_bytes());
            chain.extend_from_slice(b", ");
        }
    }
    if chain.len() > MAX_LINE {
        chain.clear();
    }
    text::ip(&mut chain, peer);
    header_value(&chain)
}

/// Text made of checked header values and our own ASCII.
fn header_value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static(""))
}
