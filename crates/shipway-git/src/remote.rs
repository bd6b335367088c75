//! Fetches from other people's servers, over https from public hosts, and nothing else.
//!
//! Addresses come from strangers (`.gitmodules`) or from users (an upstream), and a server that fetches what it is told
//! to is a door into its own network (attacks 3, 23, 26). Only `https` is spoken; the host is resolved by us, refused
//! when it is not on the public internet, unless the operator named it, and git is pinned to the address that was checked;
//! redirects are not followed.

use crate::git::{GitError, stderr_text};
use crate::repo::Repo;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shipway_domain::address::RemoteAddress;
use shipway_net::outward;
use std::time::Duration;

/// What one fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(300);

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Done,
    /// The other side, or our guard, said no; in words, without the address.
    Refused(String),
}

impl Repo {
    /// Fetches `refspec` from a server elsewhere. `authorization`: the value of the header of that name; without it, the
    /// credentials of the address are shown. Git gets either by its environment, where other users of the machine do not
    /// see it, as they see its arguments (attack 41). `flags`: more of `git fetch`.
    pub async fn fetch_remote(
        &self,
        from: &RemoteAddress,
        authorization: Option<&str>,
        flags: &[&str],
        refspec: &str,
    ) -> Result<Fetched, GitError> {
        let pin = match outward::resolve(from.host(), from.port(), &self.git.config.private_hosts).await {
            Ok(pin) => pin.ip(),
            Err(problem) => return Ok(Fetched::Refused(problem)),
        };
        let resolve = format!("http.curloptResolve={}:{}:{pin}", from.host(), from.port());
        let scheme = if from.is_secure() { "https" } else { "http" };
        let allow = format!("protocol.{scheme}.allow=always");
        let mut arguments = vec![
            "-c",
            &allow,
            "-c",
            "http.followRedirects=false",
            "-c",
            "http.lowSpeedLimit=1000",
            "-c",
            "http.lowSpeedTime=30",
            "-c",
            &resolve,
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ];
        arguments.extend(flags);
        arguments.extend(["--end-of-options", from.shown(), refspec]);
        let own = from.credentials().map(basic);
        let git = self.git.authorized(authorization.or(own.as_deref()));
        match tokio::time::timeout(FETCH_TIME, git.output(&self.path, &arguments, b"")).await {
            Err(_) => {
                Ok(Fetched::Refused(format!("{} did not send it within {} s", from.host(), FETCH_TIME.as_secs())))
            }
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(Fetched::Done);
                }
                let said = stderr_text(&output.stderr).replace(from.shown(), from.host());
                Ok(Fetched::Refused(said))
            }
        }
    }
}

/// `USER:PASSWORD` as the value of `Authorization`. A name alone is one with an empty password, as tokens are given.
fn basic(credentials: &str) -> String {
    let colon = if credentials.contains(':') { "" } else { ":" };
    format!("Basic {}", BASE64_STANDARD.encode(format!("{credentials}{colon}")))
}
