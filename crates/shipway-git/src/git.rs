//! How git is started.

use shipway_domain::address::RemoteAddress;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;

/// What a git that went wrong has said: at most this many bytes are kept for the operator.
const STDERR_KEPT: usize = 4096;

/// Where things are and how much a pusher may send.
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// The git program.
    pub git: PathBuf,
    /// What git finds its own helpers and `sh` by.
    pub path: OsString,
    /// The program that `<program> git-proc-receive` runs [`crate::proc_receive_main`] of.
    pub hook_program: PathBuf,
    /// A directory of ours for the socket and the hook; made when it is missing.
    pub run_dir: PathBuf,
    /// The largest pack that is taken, in bytes.
    pub max_push_bytes: u64,
    /// The largest pack that another server may send, in bytes; never more than half of what the disk has left.
    pub max_fetch_bytes: u64,
    /// Hosts, in lower case, that may be fetched from though they are not on the public internet.
    pub private_hosts: Vec<String>,
}

impl GitConfig {
    /// 2 GiB a push, 8 GiB a fetch, the machine's git, no private host.
    pub fn new(hook_program: PathBuf, run_dir: PathBuf) -> Self {
        let path = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let (max_push_bytes, max_fetch_bytes) = (2 << 30, 8 << 30);
        Self {
            git: "git".into(),
            path,
            hook_program,
            run_dir,
            max_push_bytes,
            max_fetch_bytes,
            private_hosts: Vec::new(),
        }
    }
}

/// A git that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be started or talked to.
    #[error("git {what}: {source}")]
    Io {
        /// The subcommand.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("git {what} failed: {message}")]
    Failed {
        /// The subcommand.
        what: String,
        /// What it said on stderr, safe for a terminal.
        message: String,
    },
    /// A ref was not where the caller thought it was.
    #[error("{refname} has moved meanwhile")]
    Moved {
        /// Which ref, or the first of several.
        refname: String,
    },
    /// A name that is no ref name, or no one's to write.
    #[error("{given:?} is not a branch or tag name")]
    BadRef {
        /// The name, cut to 80 characters.
        given: String,
    },
    /// The commit is not in the repository.
    #[error("commit {commit} is not in this repository")]
    NoCommit {
        /// Which commit.
        commit: String,
    },
}

impl GitError {
    pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Io { what, source }
    }
}

/// Starts git: which program, in which environment, with which settings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    pub(crate) config: std::sync::Arc<GitConfig>,
    /// Directories of objects of other repositories that are seen too, as git's environment has them; empty for none.
    alternates: OsString,
    /// The value of the header `Authorization`, where the other side wants one. Secret.
    authorization: Option<Authorization>,
    /// A directory in which ssh finds what it shows and whom it believes.
    ssh: Option<PathBuf>,
}

/// A secret that is not printed.
#[derive(Clone)]
struct Authorization(String);

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// Settings that hold for every git that we start. They are given by environment, which git trusts like its command
/// line; so they also reach the processes that git starts, and no repository's own configuration file precedes them.
const SETTINGS: &[(&str, &str)] = &[
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.askPass", ""),
    ("core.fsyncMethod", "batch"),
    ("core.fsync", "committed,reference"),
    // Larger blobs are streamed, never held whole or tried as deltas.
    ("core.bigFileThreshold", "16m"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("pack.threads", "1"),
    ("pack.windowMemory", "64m"),
    ("pack.writeReverseIndex", "true"),
    ("protocol.allow", "never"),
    ("protocol.version", "2"),
    ("init.defaultBranch", "main"),
    ("transfer.fsckObjects", "true"),
    // Old mistakes of other tools that sit in the history of many good repositories and harm nobody.
    ("receive.fsck.zeroPaddedFilemode", "ignore"),
    ("receive.fsck.missingSpaceBeforeDate", "ignore"),
    ("receive.fsck.missingSpaceBeforeEmail", "ignore"),
    ("receive.fsck.missingNameBeforeEmail", "ignore"),
    ("receive.fsck.badTimezone", "ignore"),
    ("receive.fsck.badDate", "ignore"),
    ("receive.fsck.badEmail", "ignore"),
    ("receive.fsck.missingEmail", "ignore"),
    ("transfer.hideRefs", "refs/"),
    ("transfer.hideRefs", "!refs/heads/"),
    ("transfer.hideRefs", "!refs/tags/"),
    ("transfer.hideRefs", "!refs/shipway/releases/"),
    // A pusher may ask for any ref; what is ours is refused by git, what is nobody's by us, in a sentence.
    ("receive.hideRefs", "!refs/"),
    ("receive.hideRefs", "refs/shipway/"),
    ("receive.procReceiveRefs", "refs"),
    ("receive.advertisePushOptions", "true"),
    // With `proc-receive` git (2.47) aborts on a push that brings new shallow commits; `http` says what to do before.
    ("receive.shallowUpdate", "false"),
    ("receive.autogc", "false"),
    ("receive.keepAlive", "5"),
    ("uploadpack.allowFilter", "true"),
    ("uploadpack.keepAlive", "5"),
];

/// The largest piece of memory that git may ask for at once, so that a delta bomb ends git with a message and not the
/// machine. Read by git's own allocator.
const ALLOCATION_LIMIT: &str = "1g";

impl Git {
    /// Keeps the configuration; starts nothing.
    pub fn new(config: GitConfig) -> Self {
        Self { config: std::sync::Arc::new(config), alternates: OsString::new(), authorization: None, ssh: None }
    }

    /// The same git, which shows this to the servers that it asks.
    pub(crate) fn authorized(&self, authorization: Option<&str>) -> Self {
        Self { authorization: authorization.map(|value| Authorization(value.to_owned())), ..self.clone() }
    }

    /// The same git, whose ssh works in `directory`, by the file `config` there.
    pub(crate) fn with_ssh(&self, directory: &Path) -> Self {
        Self { ssh: Some(directory.to_owned()), ..self.clone() }
    }

    /// Reads an address to fetch from: https, or http of a host that the operator named. Errors: the end of a sentence.
    pub fn address(&self, text: &str) -> Result<RemoteAddress, String> {
        RemoteAddress::parse_within(text, &self.config.private_hosts)
    }

    /// The same git, which sees the objects of these repositories too and writes nothing to them.
    pub(crate) fn seeing(&self, repositories: &[&Path]) -> Self {
        let mut alternates = OsString::new();
        for repository in repositories {
            if !alternates.is_empty() {
                alternates.push(":");
            }
            alternates.push(repository.join("objects"));
        }
        Self { alternates, ..self.clone() }
    }

    /// A git command on `repository`, with nothing of our own environment.
    pub(crate) fn command(&self, repository: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(&self.config.git);
        command.env_clear();
        command.envs([
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_ADVICE", "0"),
            ("GIT_ALLOC_LIMIT", ALLOCATION_LIMIT),
        ]);
        command.env("PATH", &self.config.path);
        if let Some(directory) = &self.ssh {
            // The only text of ours that a shell reads. Git hands the rest over as arguments.
            command.env("GIT_SSH_COMMAND", "ssh -F config").env("GIT_SSH_VARIANT", "ssh").current_dir(directory);
        }
        if !self.alternates.is_empty() {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.alternates);
        }
        // Which repository is ours is decided here, once: git asks because its files may belong to another uid.
        let own = [
            ("safe.directory", repository.as_os_str().to_owned()),
            ("core.hooksPath", self.hooks_dir().into_os_string()),
            ("receive.maxInputSize", self.config.max_push_bytes.to_string().into()),
        ];
        let settings = SETTINGS.iter().map(|(key, value)| (*key, OsString::from(value))).chain(own);
        let header = self.authorization.as_ref().map(|Authorization(value)| format!("Authorization: {value}"));
        let settings = settings.chain(header.map(|header| ("http.extraHeader", header.into())));
        let mut count = 0;
        for (key, value) in settings {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command.arg("--git-dir").arg(repository);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Where private keys are while they are used.
    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.config.run_dir.join("keys")
    }

    pub(crate) fn hooks_dir(&self) -> PathBuf {
        self.config.run_dir.join("git-hooks")
    }

    /// Runs git with `input` on its stdin and gives what it says; an error unless it ends well.
    pub(crate) async fn run(&self, repository: &Path, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
        let output = self.output(repository, arguments, input).await?;
        if !output.status.success() {
            return Err(GitError::Failed { what: arguments[0].into(), message: stderr_text(&output.stderr) });
        }
        Ok(output.stdout)
    }

    /// Runs git with `input` on its stdin, however it ends.
    pub(crate) async fn output(&self, repository: &Path, arguments: &[&str], input: &[u8]) -> Result<Output, GitError> {
        self.output_within(repository, arguments, input, None).await
    }

    /// The same; git, and what it starts, writes no file that is larger than `most`.
    pub(crate) async fn output_within(
        &self,
        repository: &Path,
        arguments: &[&str],
        input: &[u8],
        most: Option<u64>,
    ) -> Result<Output, GitError> {
        let failed = || GitError::io(arguments[0]);
        let mut command = tokio::process::Command::from(self.command(repository));
        command.args(arguments).kill_on_drop(true);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(failed())?;
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let (Some(_), Some(pid)) = (most, pid) {
            let limit = rustix::process::Rlimit { current: most, maximum: most };
            rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limit)
                .map_err(|e| failed()(e.into()))?;
        }
        let stdin = child.stdin.take();
        let write = async {
            match stdin {
                // It may end, with its reason on stderr, before it has read everything.
                Some(mut stdin) => match stdin.write_all(input).await {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                    result => result,
                },
                None => Ok(()),
            }
        };
        let (written, output) = tokio::join!(write, child.wait_with_output());
        written.map_err(failed())?;
        output.map_err(failed())
    }
}

/// The last lines of what git said, as text for people.
pub(crate) fn stderr_text(stderr: &[u8]) -> String {
    let kept = &stderr[stderr.len().saturating_sub(STDERR_KEPT)..];
    crate::text::terminal_safe(String::from_utf8_lossy(kept).trim())
}
