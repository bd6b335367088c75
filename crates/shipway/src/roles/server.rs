//! `shipway server`: the control plane. Puts the parts together and serves the doors.

use crate::adapters::{SlugBuilder, SocketRouter};
use crate::options::{self, Options};
use crate::problem::{Doing, Problem};
use crate::roles::spawner::databases_address;
use crate::stack;
use crate::{home, machine};
use shipway_blobs::{Blobs, Layers};
use shipway_build::{Builder, BuilderConfig};
use shipway_client::Place;
use shipway_domain::Email;
use shipway_engine::ports::{PortError, RealWorld};
use shipway_engine::{Parts, Platform, Settings};
use shipway_forges::HttpForges;
use shipway_git::{Git, GitConfig, GitHttp};
use shipway_net::outward::Outward;
use shipway_net::{Ca, CertResolver, Lifecycle, Phase, handover};
use shipway_postgres::Provider;
use shipway_repositories::GitRepositories;
use shipway_router::RouterClient;
use shipway_runtime::Runtime;
use shipway_sandbox::Embedded;
use shipway_store::{Keys, sha256};
use shipway_web::{BaseUrls, Listeners, Web, WebReceivers, bind_socket, serve_api};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The stack's name: what Heroku calls the one that ours is nearest to.
const STACK: &str = "heroku-24";
/// How long connections without a request get to make one when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long requests get to finish when the server ends; pushes that take longer go on with the next server.
const FAREWELL: Duration = Duration::from_secs(5);

/// What `up` tells it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// A user of this machine who is the administrator on the server's socket; may be repeated
    #[arg(long, value_name = "UID")]
    trusted_uid: Vec<u32>,
}

/// Serves until it is told to end. What is under way then goes on with the next server; dynos do not notice.
///
/// Errors: what is missing of the data directory, the spawner, or the certificates.
pub fn run(place: &Place, arguments: Arguments) -> Result<(), Problem> {
    super::log();
    let home = options::home(place)?;
    // The modes of an app's files are part of its slug: they must not depend on who started the server. Who may look at
    // all is decided by the directories above.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    super::in_runtime(serve(home.clone(), arguments)).map_err(|problem| of_the_database(&home, problem))
}

async fn serve(home: PathBuf, Arguments { options, trusted_uid }: Arguments) -> Result<(), Problem> {
    // The programs of three languages are asked, which takes as long as all the rest.
    let stack_fingerprint = tokio::task::spawn_blocking(stack::fingerprint);
    let mut tcp = Vec::new();
    for (_, socket) in super::listeners("api", options.listen, "--listen")? {
        tcp.push(handover::into_tokio(socket).doing("listening")?);
    }
    // A lost key stops us before anything is made in its place.
    let keys = Keys::of_home(&home).doing("finding our keys")?;
    let ca = Arc::new(Ca::load_or_create(&home.join("keys")).doing("finding our certificate authority")?);
    let tls = Some(certificates(ca.clone(), &options)?.server_config());
    // By our own process and not by a path: the file there may be replaced while we run.
    let ourselves = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let config =
        GitConfig { private_hosts: options.private_host.clone(), ..GitConfig::new(ourselves, home.join("run/git")) };
    let git = GitHttp::start(config).doing("making git's directory")?;
    let stack_fingerprint = stack_fingerprint.await.doing("asking for the versions of languages")?;
    let platform = open(&home, &options, git.git().clone(), keys, ca.clone(), stack_fingerprint).await?;
    first_admin(&platform, &home, &options).await?;
    let (of, ends) = (home.clone(), certificate_ends(&options));
    platform.look_at_machine_by(Box::new(move || machine::findings(&of, ends.as_ref(), SystemTime::now())));
    platform.start().await.map_err(for_the_operator).doing("going on with what was under way")?;

    let authority = options.certificate.cert.is_none().then(|| ca.ca_pem().to_owned());
    let web = Web::new(platform.clone(), base_urls(options.listen)).with(git, authority);
    platform.keep_webhooks(Arc::new(WebReceivers::new(&web, Outward::new(&options.private_host))));
    // Last of all: whoever waits for this socket finds a platform behind it.
    let socket = Some(bind_socket(&home).doing("listening for this machine's users")?);
    let lifecycle = Lifecycle::new();
    let serving =
        tokio::spawn(serve_api(web, Listeners { tcp, tls, socket, trusted_uids: trusted_uid }, lifecycle.clone()));
    tracing::info!(listen = %options.listen, "the server serves");
    super::asked_to_end().await?;
    lifecycle.advance(Phase::Retiring);
    // Who has just connected has not asked yet, and would be cut off: what comes from now on waits for the next server.
    let _ = tokio::time::timeout(LAST_WORDS, lifecycle.empty()).await;
    lifecycle.advance(Phase::Closing);
    if tokio::time::timeout(FAREWELL, serving).await.is_err() {
        lifecycle.advance(Phase::Aborting);
    }
    platform.stop().await;
    Ok(())
}

async fn open(
    home: &Path,
    options: &Options,
    git: Git,
    keys: Keys,
    ca: Arc<Ca>,
    stack_fingerprint: String,
) -> Result<Platform, Problem> {
    let opening = format!("opening {}", home.display());
    let blobs = Blobs::open(home).doing(&opening)?;
    let layers = Layers::open(home, blobs.clone()).doing(&opening)?;
    let embedded = Embedded::connect(home).await.doing("finding what runs dynos")?;
    let databases_address = databases_address(home, embedded.tier())?;
    let runtime: Arc<dyn Runtime> = Arc::new(embedded);
    let config = builder_config(options, &keys, stack_fingerprint.clone());
    let buildpacks = Builder::new(home, blobs.clone(), runtime.clone(), config).doing(&opening)?;
    forget_builds(&*runtime, &buildpacks).await?;

    let build_time = Duration::from_secs(options.build_limits.build_seconds);
    let repositories = Arc::new(GitRepositories::new(git, home.to_path_buf()));
    let certificates = move |address: &str| ca.issue_pem(&[address.to_owned()]).map_err(|e| e.to_string());
    let restore_bytes = options.restore_size << 20;
    let databases =
        Provider::new(home, runtime.clone(), keys, databases_address, Box::new(certificates), restore_bytes);
    let parts = Parts {
        runtime,
        router: Arc::new(SocketRouter(RouterClient::new(home))),
        histories: repositories.clone(),
        repositories,
        builder: Arc::new(SlugBuilder::new(buildpacks, blobs, layers, build_time)),
        forges: Arc::new(HttpForges::new(&options.private_host)),
        addons: Arc::new(databases),
        world: Arc::new(RealWorld),
        faults: super::faults::faults(home),
    };
    Platform::open(settings(home, options, stack_fingerprint), parts).map_err(for_the_operator).doing(&opening)
}

/// Says of a problem that the database's file is damaged, and what to do, where SQLite says so
/// (`SQLITE_CORRUPT`, `SQLITE_NOTADB`: their words are part of its interface, sqlite3_errstr).
fn of_the_database(home: &Path, problem: Problem) -> Problem {
    let words = ["database disk image is malformed", "file is not a database", "malformed database schema"];
    let Some(word) = words.into_iter().find(|word| problem.what().contains(word)) else { return problem };
    Problem::new(format!("the database {} is damaged: {word}", home.join("shipway.db").display()))
        .hint("put the last backup in its place: docs/operating.md, \"Restore\"")
        .hint("move the data directory aside for that, and keep it until the restored one is up")
}

/// What an error of the engine keeps from users, who are elsewhere: here is the operator.
fn for_the_operator(error: shipway_engine::Error) -> PortError {
    PortError(error.cause.unwrap_or(error.message))
}

/// Ends build steps that an earlier server left running, and removes what they wrote: a build is begun anew.
async fn forget_builds(runtime: &dyn Runtime, buildpacks: &Builder) -> Result<(), Problem> {
    let dynos = runtime.list().await.doing("listing dynos")?;
    for dyno in dynos.iter().filter(|dyno| dyno.name.starts_with("build.")) {
        runtime.remove(dyno.dyno).await.doing("ending a build step that was left")?;
    }
    buildpacks.sweep().doing("removing what was left of builds")
}

fn settings(home: &Path, options: &Options, stack_fingerprint: String) -> Settings {
    let router_scheme = if options.certificate.cert.is_some() { "https" } else { "http" };
    let usual = if router_scheme == "https" { 443 } else { 80 };
    Settings {
        home: home.to_path_buf(),
        domain: options.domain.clone(),
        api_hosts: options.api_hosts(),
        router_port: Some(options.router_listen.port()).filter(|port| *port != usual),
        router_scheme,
        sizes: options.sizes(),
        stack: STACK.into(),
        stack_fingerprint,
        build_size: options.build_limits.size(),
        builds_at_once: options.build_limits.at_once(),
        boot_seconds: 60,
        drain_seconds: 30,
        grace_seconds: 30,
        attach_seconds: 60,
        memory_seconds: 20,
        script_seconds: 600,
        keep_releases: 30,
    }
}

fn builder_config(options: &Options, keys: &Keys, stack_fingerprint: String) -> BuilderConfig {
    let key = sha256(keys.keyed_hash(b"build inputs").as_bytes());
    let mut inputs_key = [0; 32];
    inputs_key.copy_from_slice(&key);
    BuilderConfig {
        stack: STACK.into(),
        stack_fingerprint,
        buildpack_roots: options.buildpack_directory.clone(),
        client_settings: BuilderConfig::client_settings(std::env::vars()),
        static_server: "/proc/self/exe".into(),
        host_bin: "/usr/bin".into(),
        inputs_key,
        output_limit_bytes: options.build_limits.build_output << 20,
    }
}

/// When the operator's certificate ends, as it was read for this server.
fn certificate_ends(options: &Options) -> Option<machine::Ends> {
    let path = options.certificate.cert.as_ref()?;
    let ends = shipway_net::ca::certificate_ends(path);
    let told = ends.inspect_err(|error| tracing::warn!(%error, "when the certificate ends is not known"));
    Some((path.clone(), told.ok()?))
}

fn certificates(ca: Arc<Ca>, options: &Options) -> Result<Arc<CertResolver>, Problem> {
    let mut names = vec![options.domain.clone(), options.listen.ip().to_string()];
    names.extend(options.api_hosts());
    let resolver = CertResolver::new(ca, &names, Box::new(|_| false));
    let resolver = resolver.doing("making the server's certificate")?;
    let resolver = match (&options.certificate.cert, &options.certificate.key) {
        (Some(cert), Some(key)) => resolver.with_operator(cert, key).map_err(|e| {
            Problem::new(format!("the certificate {} cannot be used: {e}", cert.display()))
                .hint("it must be a PEM chain with its key, and the user shipway must be able to read both")
        })?,
        _ => resolver,
    };
    Ok(Arc::new(resolver))
}

/// Makes the administrator when there is no account yet, and leaves the token where only its reader finds it.
async fn first_admin(platform: &Platform, home: &Path, options: &Options) -> Result<(), Problem> {
    let making = "making the first administrator";
    let email = match &options.admin_email {
        Some(email) => email.clone(),
        None => Email::parse(&format!("admin@{}", options.domain)).doing(making)?,
    };
    let Some(token) = platform.first_admin(&email).await.map_err(for_the_operator).doing(making)? else {
        return Ok(());
    };
    let path = home::first_token_file(home);
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path).doing(making)?;
    writeln!(file, "{token}").doing(making)
}

fn base_urls(listen: SocketAddr) -> BaseUrls {
    // Whoever listens everywhere is reached here at the loopback.
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let git_host = SocketAddr::new(ip, listen.port()).to_string();
    BaseUrls { http: format!("http://{git_host}"), https: format!("https://{git_host}"), git_host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_at_the_loopback() {
        let check = |listen: &str, expected: &str| assert_eq!(base_urls(listen.parse().unwrap()).http, expected);
        check("0.0.0.0:5000", "http://127.0.0.1:5000");
        check("[::]:80", "http://[::1]:80");
        check("192.0.2.7:5000", "http://192.0.2.7:5000");
    }
}
