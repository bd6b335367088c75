//! A whole server in one process: the real engine, store, git and ports; dynos in memory, builds that read a Procfile.

use shipway_domain::Email;
use shipway_domain::admission::{Actor, Scope};
use shipway_engine::ports::Caller;
use shipway_engine::{NewApp, Parts, Platform, Settings};
use shipway_git::{GitConfig, GitHttp};
use shipway_net::{Ca, CertResolver, Lifecycle, Phase};
use shipway_repositories::GitRepositories;
use shipway_store::App;
pub use shipway_testkit::OWNER;
use shipway_testkit::{Ground, ProcfileBuilder, TextDatabases, settings};
use shipway_web::{BaseUrls, Listeners, Web, bind_socket, serve_api};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

pub struct Stage {
    pub home: Arc<tempfile::TempDir>,
    pub platform: Platform,
    pub caller: Caller,
    pub token: String,
    pub address: SocketAddr,
    pub web: Web,
    pub builder: Arc<ProcfileBuilder>,
    pub addons: Arc<TextDatabases>,
    pub lifecycle: Lifecycle,
    pub authority: String,
}

/// The machine's git, on a machine that trusts the authority of `home/ca.pem` and of nobody else.
fn trusting_git(home: &Path) -> PathBuf {
    let program = home.join("git");
    let script = format!("#!/bin/sh\nGIT_SSL_CAINFO='{}' exec git \"$@\"\n", home.join("ca.pem").display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

impl Stage {
    /// A server that may fetch from itself.
    pub async fn open() -> Self {
        Self::with(|settings| settings).await
    }

    /// The same with other settings.
    pub async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hook = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/push_hook");
        assert!(hook.exists(), "run `cargo test -p shipway-web`, which builds {hook:?}");
        let config = GitConfig {
            git: trusting_git(home.path()),
            private_hosts: vec!["127.0.0.1".into()],
            ..GitConfig::new(hook, home.path().join("run"))
        };
        let git = GitHttp::start(config).unwrap();
        let ground = Ground { home: Arc::new(home), ..Ground::new() };
        let (home, builder, addons) = (ground.home.clone(), ground.builder.clone(), ground.addons.clone());
        let repositories = Arc::new(GitRepositories::new(git.git().clone(), home.path().into()));
        let parts = Parts { repositories: repositories.clone(), histories: repositories, ..ground.parts() };
        let settings = change(Settings { drain_seconds: 1, ..settings(home.path()) });
        let platform = Platform::open(settings, parts).unwrap();
        let token = platform.first_admin(&Email::parse(OWNER).unwrap()).await.unwrap().unwrap();
        platform.start().await.unwrap();
        let (actor, _) = platform.authenticate(&token).unwrap();

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ca = Arc::new(Ca::load_or_create(&home.path().join("keys/ca")).unwrap());
        let authority = ca.ca_pem().to_string();
        let tls = Arc::new(CertResolver::new(ca, &[], Box::new(|_| false)).unwrap()).server_config();
        let base = BaseUrls {
            http: format!("http://{address}"),
            https: format!("https://{address}"),
            git_host: address.to_string(),
        };
        let web = Web::new(platform.clone(), base).with(git, Some(authority.clone()));
        let lifecycle = Lifecycle::new();
        let listeners = Listeners {
            tcp: vec![listener],
            tls: Some(tls),
            socket: Some(bind_socket(home.path()).unwrap()),
            trusted_uids: vec![],
        };
        tokio::spawn(serve_api(web.clone(), listeners, lifecycle.clone()));
        std::fs::write(home.path().join("ca.pem"), &authority).unwrap();
        let caller = Caller { actor, via: "api" };
        Self { home, platform, caller, token, address, web, builder, addons, lifecycle, authority }
    }

    pub async fn create(&self, name: &str) -> App {
        let new = NewApp { name: Some(name.into()), ..NewApp::default() };
        self.platform.create_app(&self.caller, new).await.unwrap()
    }

    /// A second person with a token.
    pub async fn person(&self, email: &str) -> (Caller, String) {
        let email = Email::parse(email).unwrap();
        let (account, _) = self.platform.add_account(&self.caller, &email, None, false).await.unwrap();
        let token = self.platform.session_for(account.id, "test").await.unwrap();
        let actor = Actor { account: account.id, email: email.to_string(), admin: false, scope: Scope::Global };
        (Caller { actor, via: "api" }, token)
    }

    /// `curl`'s answer: status, headers and body as text.
    pub async fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.curl(&[&["-sS", "-i"], &flags("-H", headers)[..], &[&self.url(path)]].concat()).await
    }

    pub async fn curl(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        command.arg("--max-time").arg("20").args(arguments);
        let output = run(command).await;
        Answer::parse(&output)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A checkout with git set up as `shipway env` does it, but with the token in the helper.
    pub fn checkout(&self) -> Checkout {
        let directory = tempfile::tempdir().unwrap();
        let checkout = Checkout {
            directory,
            authority: self.home.path().join("ca.pem"),
            host: self.address.to_string(),
            token: self.token.clone(),
        };
        checkout.now(&["init", "-q", "-b", "main"]);
        checkout
    }

    pub async fn end(self) {
        self.lifecycle.advance(Phase::Aborting);
        self.platform.stop().await;
    }
}

fn flags<'a>(flag: &'a str, values: &[&'a str]) -> Vec<&'a str> {
    values.iter().flat_map(|value| [flag, *value]).collect()
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn parse(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.into() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub struct Checkout {
    pub directory: tempfile::TempDir,
    authority: PathBuf,
    pub host: String,
    pub token: String,
}

impl Checkout {
    pub fn git(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        let helper = format!("!f() {{ echo username=heroku; echo password={}; }}; f", self.token);
        command
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSL_CAINFO", &self.authority)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "advice.pushUpdateRejected=false"])
            .args(["-c", "credential.helper=", "-c", &format!("credential.helper={helper}")])
            .args(arguments);
        command
    }

    /// Runs git and returns its words when it worked.
    pub fn now(&self, arguments: &[&str]) -> String {
        let output = self.git(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Commits a Procfile.
    pub fn commit(&self, procfile: &str) -> String {
        std::fs::write(self.directory.path().join("Procfile"), procfile).unwrap();
        self.now(&["add", "."]);
        self.now(&["commit", "-q", "--allow-empty", "-m", "A change"]);
        self.now(&["rev-parse", "HEAD"])
    }

    pub fn remote(&self, app: &str) -> String {
        format!("https://{}/{app}.git", self.host)
    }

    /// Runs git against the server; whether it worked, and what it printed.
    pub async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = run(self.git(arguments)).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        // Git pads lines so that they cover what stood there before.
        let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        (output.status.success(), text)
    }
}

/// Runs a program without keeping the server from answering it.
pub async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}
