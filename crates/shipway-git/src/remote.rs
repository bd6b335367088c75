//! Fetches from other people's servers, over https from public hosts, and nothing else. (With a key of ours: `ssh`.)
//!
//! Addresses come from strangers (`.gitmodules`) or from users (an upstream), and a server that fetches what it is told
//! to is a door into its own network (attacks 3, 23, 26). Only `https` is spoken; the host is resolved by us, refused
//! when it is not on the public internet, unless the operator named it, and git is pinned to the address that was checked;
//! redirects are not followed.

use crate::explain::is_over_limit;
use crate::git::{Git, GitError, stderr_text};
use crate::repo::Repo;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shipway_domain::address::RemoteAddress;
use shipway_net::outward;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
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
        let settings =
            [&allow, "http.followRedirects=false", "http.lowSpeedLimit=1000", "http.lowSpeedTime=30", &resolve];
        let own = from.credentials().map(basic);
        let git = self.git.authorized(authorization.or(own.as_deref()));
        Fetch { git, settings: &settings, address: from.shown(), host: from.host(), flags, refspec }
            .run(&self.path)
            .await
    }
}

/// A fetch whose other side was checked.
pub(crate) struct Fetch<'a> {
    /// Git, with what it shows.
    pub(crate) git: Git,
    /// Settings for this fetch.
    pub(crate) settings: &'a [&'a str],
    /// Where from; without credentials.
    pub(crate) address: &'a str,
    /// Whose name users read.
    pub(crate) host: &'a str,
    /// More of `git fetch`.
    pub(crate) flags: &'a [&'a str],
    /// What, and what it is called here.
    pub(crate) refspec: &'a str,
}

impl Fetch<'_> {
    /// Fetches into `repository`.
    pub(crate) async fn run(self, repository: &Path) -> Result<Fetched, GitError> {
        let Self { git, settings, address, host, flags, refspec } = self;
        let most = most_bytes(repository, git.config.max_fetch_bytes);
        let mut arguments: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
        // What comes is one file, whose size can be bounded: git itself takes a pack without end.
        arguments.extend([
            "-c",
            "fetch.unpackLimit=1",
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ]);
        arguments.extend(flags);
        arguments.extend(["--end-of-options", address, refspec]);
        match tokio::time::timeout(FETCH_TIME, git.output_within(repository, &arguments, b"", Some(most))).await {
            Err(_) => Ok(Fetched::Refused(format!("{host} did not send it within {} s", FETCH_TIME.as_secs()))),
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(Fetched::Done);
                }
                if remove_what_is_cut_off(repository, most) {
                    let most = most >> 20;
                    return Ok(Fetched::Refused(format!(
                        "{host} sent more than {most} MiB, the most that is taken at once"
                    )));
                }
                if is_over_limit(&output.stderr) {
                    return Ok(Fetched::Refused(format!("{host} sent an object that unpacks to more than 1 GiB")));
                }
                Ok(Fetched::Refused(stderr_text(&output.stderr).replace(address, host)))
            }
        }
    }
}

/// What one fetch may bring.
fn most_bytes(repository: &Path, most: u64) -> u64 {
    let left = rustix::fs::statvfs(repository).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    most.min(left / 2)
}

/// Removes the packs that a fetch has left at the size where it was ended. Whether there was one.
fn remove_what_is_cut_off(repository: &Path, most: u64) -> bool {
    let packs = std::fs::read_dir(repository.join("objects/pack")).into_iter().flatten().flatten();
    let cut = packs.filter(|file| {
        let is_unfinished = file.file_name().as_bytes().starts_with(b"tmp_pack_");
        is_unfinished && file.metadata().is_ok_and(|found| found.len() >= most)
    });
    cut.filter(|file| std::fs::remove_file(file.path()).is_ok()).count() > 0
}

/// `USER:PASSWORD` as the value of `Authorization`. A name alone is one with an empty password, as tokens are given.
fn basic(credentials: &str) -> String {
    let colon = if credentials.contains(':') { "" } else { ":" };
    format!("Basic {}", BASE64_STANDARD.encode(format!("{credentials}{colon}")))
}
