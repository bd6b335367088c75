//! What is asked of another server by ssh, with a key that it knows.
//!
//! The same guard as for https: the host is resolved by us, and ssh connects to the address that was checked. It reads one
//! file of ours and nothing of the machine's or of a user's; nothing of a stranger's is in that file, and no shell sees
//! anything but a fixed text (attacks 3, 11). The key is a file of a private directory for the time of the asking.

use crate::git::{Git, GitError, stderr_text};
use crate::remote::{Fetch, Fetched};
use crate::repo::Repo;
use shipway_domain::BranchName;
use shipway_domain::forge::{DeployKey, RepositoryName};
use shipway_domain::ssh::{HostKey, SshServer, scanned_keys};
use shipway_net::outward;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As which a server is in our `known_hosts`, whatever its address is.
const ALIAS: &str = "forge";
/// The one protocol that is spoken here.
const ALLOWED: &str = "protocol.ssh.allow=always";
/// What asking a server for its keys may take.
const SCAN_TIME: Duration = Duration::from_secs(20);
/// What asking it for branches may take.
const LIST_TIME: Duration = Duration::from_secs(60);

impl Git {
    /// Asks a server which keys it shows. Errors: inside, in words.
    pub async fn host_keys(&self, of: &SshServer) -> Result<Result<Vec<HostKey>, String>, GitError> {
        let address = match outward::resolve(of.host(), of.port(), &self.config.private_hosts).await {
            Ok(address) => address.ip(),
            Err(problem) => return Ok(Err(problem)),
        };
        let mut command = tokio::process::Command::new("ssh-keyscan");
        command.env_clear().env("PATH", &self.config.path).env("LC_ALL", "C").kill_on_drop(true);
        command.args(["-T", "10", "-t", "ed25519,ecdsa,rsa", "-p"]).arg(of.port().to_string());
        command.arg(address.to_string()).stdin(std::process::Stdio::null());
        match tokio::time::timeout(SCAN_TIME, command.output()).await {
            Err(_) => Ok(Err(format!("{} did not answer within {} s", of.host(), SCAN_TIME.as_secs()))),
            Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(Err(missing())),
            Ok(Err(e)) => Err(GitError::io("ssh-keyscan")(e)),
            Ok(Ok(output)) => Ok(Ok(scanned_keys(&String::from_utf8_lossy(&output.stdout)))),
        }
    }

    /// Which of these branches a repository has that a deploy key opens. Errors: inside, in words.
    pub async fn branches_with_key(
        &self,
        key: &DeployKey,
        repository: &RepositoryName,
        branches: &[BranchName],
    ) -> Result<Result<Vec<BranchName>, String>, GitError> {
        let reached = match Reached::new(self, key, repository).await? {
            Ok(reached) => reached,
            Err(problem) => return Ok(Err(problem)),
        };
        let references: Vec<String> = branches.iter().map(|branch| format!("refs/heads/{branch}")).collect();
        let mut arguments = vec!["-c", ALLOWED, "ls-remote", "--heads", "--end-of-options", &reached.address];
        arguments.extend(references.iter().map(String::as_str));
        // No repository of ours takes part, nor what git would take for one: here lies a `config` that is ssh's.
        let nowhere = reached.directory.0.join("none");
        let answer = tokio::time::timeout(LIST_TIME, reached.git.output(&nowhere, &arguments, b"")).await;
        let Ok(answer) = answer else {
            return Ok(Err(format!("{} did not answer within {} s", key.server.host(), LIST_TIME.as_secs())));
        };
        let answer = answer?;
        if !answer.status.success() {
            let said = stderr_text(&answer.stderr).replace(&reached.address, key.server.host());
            return Ok(Err(explained(said, key)));
        }
        // A reference that only ends like one of these is listed too.
        let listed = String::from_utf8_lossy(&answer.stdout);
        let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        let there = branches.iter().zip(&references).filter(|(_, reference)| listed.contains(reference.as_str()));
        Ok(Ok(there.map(|(branch, _)| branch.clone()).collect()))
    }

    /// Removes what a server that was killed has left of private keys.
    pub(crate) fn forget_keys(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.keys_dir()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Repo {
    /// Fetches `refspec` from a repository that a deploy key opens. `flags`: more of `git fetch`.
    pub async fn fetch_with_key(
        &self,
        key: &DeployKey,
        repository: &RepositoryName,
        flags: &[&str],
        refspec: &str,
    ) -> Result<Fetched, GitError> {
        let Reached { git, address, directory: _directory } = match Reached::new(&self.git, key, repository).await? {
            Ok(reached) => reached,
            Err(problem) => return Ok(Fetched::Refused(problem)),
        };
        // Git is started elsewhere than we are.
        let here = std::path::absolute(&self.path).map_err(GitError::io("fetch"))?;
        let (settings, host) = ([ALLOWED], key.server.host());
        let fetched = Fetch { git, settings: &settings, address: &address, host, flags, refspec }.run(&here).await?;
        Ok(match fetched {
            Fetched::Refused(said) => Fetched::Refused(explained(said, key)),
            Fetched::Done => Fetched::Done,
        })
    }
}

/// A repository whose server was checked, and what opens it as long as this is there.
struct Reached {
    git: Git,
    address: String,
    directory: PrivateDirectory,
}

impl Reached {
    /// Errors: inside, in words.
    async fn new(git: &Git, key: &DeployKey, repository: &RepositoryName) -> Result<Result<Self, String>, GitError> {
        let server = &key.server;
        let pin = match outward::resolve(server.host(), server.port(), &git.config.private_hosts).await {
            Ok(address) => address.ip(),
            Err(problem) => return Ok(Err(problem)),
        };
        let directory = PrivateDirectory::new(&git.keys_dir(), key, pin).map_err(GitError::io("a deploy key"))?;
        let address = format!("ssh://{}@{}:{}/{repository}.git", server.user(), server.host(), server.port());
        Ok(Ok(Self { git: git.with_ssh(&directory.0), address, directory }))
    }
}

/// A directory with a key, gone when this is dropped.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new(within: &Path, key: &DeployKey, pin: IpAddr) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(within)?;
        let path = std::path::absolute(within.join(uuid::Uuid::new_v4().to_string()))?;
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self(path);
        let hosts = key.host_keys.iter().map(|key| format!("{ALIAS} {} {}\n", key.kind, key.body));
        directory.write("key", &key.private)?;
        directory.write("known_hosts", &hosts.collect::<String>())?;
        directory.write("config", &config(pin))?;
        Ok(directory)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.0.join(name));
        file?.write_all(text.as_bytes())
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::error!(%error, "a private key was not removed");
        }
    }
}

/// What ssh is told. Its files are named as they lie in the directory that it works in.
fn config(pin: IpAddr) -> String {
    format!(
        "Host *\n\
         HostName {pin}\n\
         HostKeyAlias {ALIAS}\n\
         UserKnownHostsFile known_hosts\n\
         GlobalKnownHostsFile none\n\
         StrictHostKeyChecking yes\n\
         CheckHostIP no\n\
         UpdateHostKeys no\n\
         VerifyHostKeyDNS no\n\
         IdentityFile key\n\
         IdentitiesOnly yes\n\
         IdentityAgent none\n\
         PreferredAuthentications publickey\n\
         BatchMode yes\n\
         ClearAllForwardings yes\n\
         PermitLocalCommand no\n\
         ControlMaster no\n\
         ControlPath none\n\
         ConnectTimeout 10\n\
         ServerAliveInterval 10\n\
         ServerAliveCountMax 3\n\
         LogLevel ERROR\n"
    )
}

/// What ssh said, for users who see neither its files nor our directory.
fn explained(said: String, key: &DeployKey) -> String {
    let host = key.server.host();
    if said.contains("Host key verification failed") || said.contains("host key is known") {
        return format!(
            "{host} shows another host key than the one that it is known by. If it has a new one, connect again, with \
             --known-hosts; if nobody knows of a new one, somebody else answers in its place"
        );
    }
    if said.contains("Permission denied") {
        return format!("{host} does not take the deploy key. Add it to the repository there: {}", key.public.trim());
    }
    if said.contains("cannot run ssh") || said.contains("ssh: not found") {
        return missing();
    }
    said
}

fn missing() -> String {
    "ssh is not installed here: apt-get install openssh-client".to_owned()
}
