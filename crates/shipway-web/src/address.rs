//! Where the doors are, as the one who asks sees them.

use axum::http::header;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use shipway_net::ConnInfo;

/// The server's own addresses, for requests that do not say how they came (the unix socket) and for git remotes.
#[derive(Debug, Clone)]
pub struct BaseUrls {
    /// `http://127.0.0.1:5000`, without a slash at the end.
    pub http: String,
    /// `https://127.0.0.1:5000`, without a slash at the end.
    pub https: String,
    /// `127.0.0.1:5000`: what `HEROKU_GIT_HOST` is set to.
    pub git_host: String,
}

/// Where a request of the Heroku CLI says by which address its user reaches us. It comes through `shipway heroku`'s bridge,
/// where its `Host` is one of Heroku's; what it opens by itself, such as a stream of logs, does not go through there.
const REACHED_BY: &str = "shipway-server";

/// The scheme, host and port by which one request came. URLs in its answer lead back the same way.
#[derive(Debug, Clone)]
pub struct Origin {
    tls: bool,
    authority: String,
}

impl Origin {
    /// Reads it off a request. A missing or unreadable `Host` gives the configured address.
    pub fn of(parts: &Parts, base: &BaseUrls) -> Self {
        let tls = parts.extensions.get::<ConnInfo>().map_or(base.http.starts_with("https:"), |c| c.tls);
        let named = |name| parts.headers.get(name).and_then(|h| h.to_str().ok());
        let host = parts.uri.authority().map(Authority::as_str).or(named(header::HOST.as_str()));
        let authority = named(REACHED_BY).or(host);
        let authority = authority
            .filter(|a| !a.contains('@'))
            .and_then(|a| a.parse::<Authority>().ok())
            .map_or_else(|| base.git_host.clone(), |a| a.to_string());
        Self { tls, authority }
    }

    /// The configured address, for what is shown to nobody in particular.
    pub fn configured(base: &BaseUrls) -> Self {
        Self { tls: base.http.starts_with("https:"), authority: base.git_host.clone() }
    }

    /// `path` (with its slash) as a URL.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// Whether it came by TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it came to this machine by a name that only this machine has.
    pub fn is_loopback(&self) -> bool {
        let host = self.authority.parse::<Authority>().map(|a| a.host().to_ascii_lowercase()).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// The same place by TLS: the port speaks both.
    pub fn secure_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority)
    }

    /// `HOST:PORT`. The port is always there: rendezvous clients have no default.
    pub fn host_and_port(&self) -> String {
        match self.authority.parse::<Authority>() {
            Ok(a) if a.port().is_none() => format!("{}:{}", self.authority, if self.tls { 443 } else { 80 }),
            _ => self.authority.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lead_back_by_the_address_that_the_client_can_reach() {
        let base = BaseUrls {
            http: "http://127.0.0.1:5000".into(),
            https: "https://127.0.0.1:5000".into(),
            git_host: "127.0.0.1:5000".into(),
        };
        let check = |headers: &[(&str, &str)], expected: &str| {
            let mut request = axum::http::Request::get("/apps");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(Origin::of(&parts, &base).url("/x"), expected, "{headers:?}");
        };
        let bridged = ("host", "api.paas.herokudev.com");
        check(&[], "http://127.0.0.1:5000/x");
        check(&[("host", "paas.example.org:5000")], "http://paas.example.org:5000/x");
        check(&[bridged, (REACHED_BY, "paas.example.org")], "http://paas.example.org/x");
        check(&[bridged, (REACHED_BY, "user@elsewhere")], "http://127.0.0.1:5000/x");
    }
}
