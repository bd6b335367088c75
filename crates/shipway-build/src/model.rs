//! What goes into a build and what comes out.

use serde::{Deserialize, Serialize};
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, BuildId, CommitId, Digest, ProcessType};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a build is told.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Chosen by the caller; also names the working directory.
    pub build: BuildId,
    /// Whose build. Cache and uids are the app's.
    pub app: AppId,
    /// For messages with commands that can be copied (`heroku config:set … -a <name>`).
    pub app_name: String,
    /// The app's block of uids, as in a dyno's plan.
    pub uid_block: u32,
    /// The commit that was checked out; it becomes `SOURCE_VERSION`. None for an uploaded tarball.
    pub commit: Option<CommitId>,
    /// Buildpacks in order: built-in names (`heroku/python`), https git URLs with an optional `#ref`, or directories that
    /// the operator allows. Empty: detected.
    pub buildpacks: Vec<String>,
    /// The app's config vars.
    pub env: BTreeMap<String, String>,
    /// What one build may use.
    pub size: DynoSize,
    /// Wall-clock limit of the whole build.
    pub time_limit: Duration,
    /// What the app's last successful build chose. None for the first.
    pub previous: Option<Pins>,
    /// Whether the app's cache is emptied first, and nothing of the last build is reused.
    pub clear_cache: bool,
}

/// What a build chose, for the next build of the same app. Keep it with the slug.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pins {
    /// Language versions by tool: `python` -> `3.11.2`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Dependency layers by the hex digest of their inputs.
    #[serde(default)]
    pub dependencies: BTreeMap<String, LayerRef>,
    /// What each buildpack that was fetched turned out to be: what was asked for -> hex digest of its files.
    #[serde(default)]
    pub buildpacks: BTreeMap<String, String>,
    /// Keyed digest of everything that went in, when it is worth comparing (a commit was named).
    #[serde(default)]
    pub inputs: Option<String>,
    /// What came out then.
    #[serde(default)]
    pub slug: Option<SlugManifest>,
}

/// One layer of a slug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The tar's digest.
    pub digest: Digest,
    /// The tar's size in bytes.
    pub size_bytes: u64,
    /// What it holds.
    pub kind: LayerKind,
    /// Hex digest of what it was made from; none for the app's own tree.
    pub inputs: Option<String>,
}

/// What a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// A language's own program.
    Toolchain,
    /// What a lock file or a list of requirements asks for.
    Dependencies,
    /// The app's own tree with what its build steps made.
    App,
}

/// A slug: what dynos are started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlugManifest {
    /// Lowest first; together they are `/app`.
    pub layers: Vec<LayerRef>,
    /// From the Procfile, else the buildpacks' defaults.
    pub process_types: BTreeMap<ProcessType, String>,
    /// Defaults of the environment; config vars win.
    pub env: BTreeMap<String, String>,
    /// What was detected, for people: `Python`, `Node.js`.
    pub language: String,
    /// The buildpacks' names in order.
    pub buildpacks: Vec<String>,
    /// The stack it was built on.
    pub stack: String,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The slug.
    pub slug: SlugManifest,
    /// The OCI manifest that names the layers; its config blob holds [`SlugManifest`] without the layers.
    pub manifest_digest: Digest,
    /// The digest of that config blob, for reference counting.
    pub config_digest: Digest,
    /// Bytes of all layers.
    pub size_bytes: u64,
    /// Give this to the next build.
    pub pins: Pins,
    /// Each was also written to the output.
    pub warnings: Vec<String>,
    /// Whether nothing was built because the last build had the same inputs.
    pub reused: bool,
}

/// Why there is no slug.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something about the app; the text says what, to which thing, and what to do next. May have several lines.
    #[error("{0}")]
    User(String),
    /// The build broke a limit and was killed.
    #[error("the build was stopped: it {broke}. {next}")]
    Limit {
        /// Which limit.
        which: Limit,
        /// What it did that it may not, with the limit and its unit.
        broke: String,
        /// What to do.
        next: &'static str,
    },
    /// It was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// The platform's fault: for the operator's log.
    #[error("the platform could not build: {0}")]
    Platform(String),
}

impl BuildError {
    /// A fault of ours with what was being done and the error.
    pub(crate) fn platform(doing: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.to_string();
        move |e| Self::Platform(format!("{doing}: {e}"))
    }
}

impl From<shipway_blobs::BlobError> for BuildError {
    fn from(e: shipway_blobs::BlobError) -> Self {
        Self::Platform(e.to_string())
    }
}

impl From<shipway_runtime::RuntimeError> for BuildError {
    fn from(e: shipway_runtime::RuntimeError) -> Self {
        Self::Platform(e.to_string())
    }
}

impl From<shipway_blobs::archive::ArchiveError> for BuildError {
    fn from(e: shipway_blobs::archive::ArchiveError) -> Self {
        Self::Platform(e.to_string())
    }
}

impl From<shipway_blobs::PackError> for BuildError {
    fn from(e: shipway_blobs::PackError) -> Self {
        match e {
            shipway_blobs::PackError::Blob(e) => e.into(),
            shipway_blobs::PackError::TooLarge { .. } => {
                Self::User(format!("{e}. List what is not needed at run time in a .slugignore file."))
            }
            shipway_blobs::PackError::Read { .. } => Self::Platform(e.to_string()),
        }
    }
}

/// The limits of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Memory.
    Memory,
    /// Processes and threads at the same time.
    Processes,
    /// Wall-clock time.
    Time,
    /// Bytes of output.
    Output,
    /// Bytes in its directories.
    Disk,
}

/// How the operator wants builds.
#[derive(Debug, Clone)]
pub struct BuilderConfig {
    /// The stack's name as apps see it in `STACK`.
    pub stack: String,
    /// What the stack really is (distribution, its version): dependency layers of another one are not reused.
    pub stack_fingerprint: String,
    /// Directories whose buildpacks may be used by path or `file://` URL.
    pub buildpack_roots: Vec<PathBuf>,
    /// Proxy, CA and package-client settings that builds get; see [`BuilderConfig::client_settings`].
    pub client_settings: BTreeMap<String, String>,
    /// The executable that static sites are served by, called as `<it> static`; the running one, as a rule.
    pub static_server: PathBuf,
    /// Where the host's languages are found; `/usr/bin`, but for tests.
    pub host_bin: PathBuf,
    /// Keys the digest of a build's inputs, which config vars are part of.
    pub inputs_key: [u8; 32],
    /// Bytes of output after which a build is killed.
    pub output_limit_bytes: u64,
}

impl BuilderConfig {
    /// Picks from the operator's environment what package clients need to reach their registries.
    pub fn client_settings(environment: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
        const NAMES: &[&str] = &[
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
            "PIP_CERT",
            "PIP_INDEX_URL",
            "PIP_EXTRA_INDEX_URL",
            "PIP_TRUSTED_HOST",
            "PIP_DEFAULT_TIMEOUT",
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "UV_PYTHON_INSTALL_MIRROR",
            "NPM_CONFIG_REGISTRY",
            "npm_config_registry",
            "NPM_CONFIG_CAFILE",
            "YARN_REGISTRY",
            "YARN_NPM_REGISTRY_SERVER",
        ];
        environment.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())).collect()
    }
}
