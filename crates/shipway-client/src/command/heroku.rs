//! `shipway heroku ...`: the real Heroku CLI, on a lead.

use super::database_programs;
use super::env::files;
use super::install::wrapper_directory;
use crate::environment::{Change, Environment};
use crate::error::{Error, Result};
use crate::profile::{self, SignIn};
use crate::server::{Account, Server};
use crate::{Context, bridge, git, rewrite, trust};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};

/// What is handed on to the Heroku CLI.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// A Heroku command and its flags, as you would type them after `heroku`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    args: Vec<String>,
}

pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut args = args.args;
    let mut account = context.account().await?;
    if let Some(pipeline) = rewrite::opened_pipeline(&args) {
        super::board::open(pipeline, &account, context.terminal).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let cli = find_cli(&context.environment, wrapper_directory(context).as_deref())?;
    let is_local = matches!(account.server, Server::Local(_)) && account.url.is_loopback();
    let signs_in = rewrite::signs_in(&args);
    if signs_in {
        // Not with the user that this machine knows us as.
        eprintln!("shipway: {}", account.url);
    } else if is_local
        && !rewrite::stays_outside(&args)
        && let Some(token) = netrc_token(&context.environment, &account.url.https_authority())
    {
        // Whoever logged in with the CLI's own commands means to be that user.
        account = account.logged_in(token).await?;
    }
    restore_latest(&mut args, context, &account);
    if !signs_in && !rewrite::only_reads(&args) {
        eprintln!("shipway: {} ({})", account.url, crate::terminal::printable(&account.email));
    }

    let mut command = Command::new(&cli);
    command.args(&args);
    if signs_in {
        if !is_local {
            return Err(Error::new(format!("the Heroku CLI cannot log in to {}", account.url))
                .hint(format!("shipway login --server {}", account.url)));
        }
        // By its own address, so that the CLI keeps the login under that name and not under one that every server shares.
        let files = files(context, &account, SignIn::LoginCommands)?;
        apply(&mut command, &profile::exported(&context.environment, &account, &files, SignIn::LoginCommands));
        return wait(command, &cli).await;
    }
    if rewrite::stays_outside(&args) {
        return wait(command, &cli).await;
    }
    say_what_is_passed_over(&args, context, &account);
    let files = files(context, &account, SignIn::Token)?;
    let open = bridge::open(account.network(&context.environment)?, account.token.clone()).await?;
    let authorities = Authorities::write(&context.environment, &account, &open.authority)?;
    let path = |file: &NamedTempFile| file.path().to_string_lossy().into_owned();
    let through = profile::Bridge {
        proxy: open.proxy.clone(),
        authorities: path(&authorities.all),
        extra_authorities: path(&authorities.extra),
    };
    apply(&mut command, &profile::bridged(&context.environment, &account, &files, &through));
    // On the server's own machine databases are reached as they are.
    let programs = match &account.server {
        Server::Remote(_) => database_programs::write(&context.environment, &open)?,
        Server::Local(_) => None,
    };
    if let Some((_, changes)) = &programs {
        apply(&mut command, changes);
    }
    wait(command, &cli).await
}

/// Takes Heroku's documented `pg:backups:restore DATABASE_URL` for what it means, and says so.
fn restore_latest(args: &mut Vec<String>, context: &Context, account: &Account) {
    let Some(target) = rewrite::lone_restore_target(args) else { return };
    let app = git::app(
        rewrite::flag(args, "app", 'a'),
        rewrite::flag(args, "remote", 'r'),
        &context.environment,
        &account.url,
        &git::remotes(),
    );
    // Without an app the CLI says so itself.
    if let Ok(app) = app {
        let database = crate::terminal::printable(&args[target]);
        eprintln!("shipway: restoring the latest backup of {} into {database}", crate::terminal::printable(&app));
        args.insert(target, format!("{app}::"));
    }
}

/// Says which git remotes the CLI leaves out, where it looks for the app of a command among them: it says nothing of it.
fn say_what_is_passed_over(args: &[String], context: &Context, account: &Account) {
    let remote = rewrite::flag(args, "remote", 'r');
    let named =
        rewrite::flag(args, "app", 'a').or(context.environment.filled("HEROKU_APP").filter(|_| remote.is_none()));
    if named.is_some() || !rewrite::is_about_an_app(args) {
        return;
    }
    let remotes = git::remotes();
    let Some(words) = git::passed_over(remote, &account.url, &remotes) else { return };
    let mut candidates = remotes.iter().filter(|r| remote.is_none_or(|wanted| wanted == r.name));
    let about = match git::app(None, remote, &context.environment, &account.url, &remotes) {
        Ok(app) => format!("; this is about {app}"),
        // Which of several is meant, the CLI asks itself.
        Err(_) if candidates.any(|r| matches!(git::leads(&r.url, &account.url), git::Leads::Here(_))) => return,
        Err(_) => "; to have one lead here: shipway heroku git:remote -a NAME".to_owned(),
    };
    eprintln!("shipway: {}", crate::terminal::printable(&format!("{words}{about}")));
}

/// The first `heroku` on PATH that is not our wrapper.
pub(super) fn find_cli(environment: &Environment, wrapper: Option<&Path>) -> Result<PathBuf> {
    let names: &[&str] = if cfg!(windows) { &["heroku.cmd", "heroku.exe"] } else { &["heroku"] };
    let same = |a: &Path, b: &Path| a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let mut wrapped = false;
    for directory in std::env::split_paths(environment.get("PATH").unwrap_or_default()) {
        if directory.as_os_str().is_empty() || directory.is_relative() {
            // A checkout must not be able to bring its own.
            continue;
        }
        let Some(found) = names.iter().map(|name| directory.join(name)).find(|path| is_executable(path)) else {
            continue;
        };
        if wrapper.is_some_and(|w| same(w, &directory)) {
            wrapped = true;
            continue;
        }
        return Ok(found);
    }
    let what = if wrapped {
        "only Shipway's own wrapper is on PATH; the Heroku CLI itself is not"
    } else {
        "the Heroku CLI is not on PATH"
    };
    Err(Error::new(what)
        .hint("install it: npm install --global heroku (with Node.js 20 or newer)")
        .hint("or with a Node.js of its own: curl https://cli-assets.heroku.com/install.sh | sh"))
}

/// The first program of this name on PATH.
pub(super) fn find_program(environment: &Environment, name: &str) -> Option<PathBuf> {
    let directories = std::env::split_paths(environment.get("PATH").unwrap_or_default());
    let mut candidates = directories.filter(|directory| directory.is_absolute()).map(|directory| directory.join(name));
    candidates.find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// The token that the CLI's own login left for this host.
fn netrc_token(environment: &Environment, host: &str) -> Option<String> {
    let text = std::fs::read_to_string(environment.home()?.join(".netrc")).ok()?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "machine");
    let mut ours = false;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            "machine" => ours = value == host,
            "password" if ours => return Some(value.to_owned()),
            _ => {}
        }
    }
    None
}

/// Files of what the CLI may believe during this run; gone with this value.
struct Authorities {
    /// Beside what Node has built in: the bridge, the server, and what the user added.
    extra: NamedTempFile,
    /// By itself.
    all: NamedTempFile,
}

impl Authorities {
    /// The roots of the system are left out where nothing needs them: everything goes to the bridge or to a server with an authority
    /// of its own, and the CLI would read them anew for each connection (0.1 s).
    fn write(environment: &Environment, account: &Account, bridge: &str) -> Result<Self> {
        let read = |name: &str| environment.filled(name).and_then(|path| std::fs::read_to_string(path).ok());
        let added = read("NODE_EXTRA_CA_CERTS").unwrap_or_default();
        let extra = trust::joined(&[bridge, account.authority.as_deref().unwrap_or_default(), &added]);
        let all = match account.authority {
            Some(_) => extra.clone(),
            None => trust::joined(&[&extra, &read("SSL_CERT_FILE").unwrap_or_else(trust::system_roots)]),
        };
        let write = |text: &str| {
            let file = tempfile::Builder::new().prefix("shipway-authorities-").suffix(".pem").tempfile();
            file.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file))
                .map_err(|e| Error::new(format!("could not write a temporary file: {e}")))
        };
        Ok(Self { extra: write(&extra)?, all: write(&all)? })
    }
}

fn apply(command: &mut Command, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Set(name, value) => command.env(name, value),
            Change::Unset(name) => command.env_remove(name),
        };
    }
}

/// Runs a program to its end, with the signals that are sent to us. Gives its exit code.
pub(super) async fn wait(mut command: Command, program: &Path) -> Result<ExitCode> {
    let mut signals = signals::listen()?;
    let mut child = command.spawn().map_err(|e| Error::new(format!("could not start {}: {e}", program.display())))?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|e| Error::new(format!("lost sight of {}: {e}", program.display())))?;
                return Ok(exit_code(status));
            }
            signal = signals.next() => signals::pass(&child, signal),
        }
    }
}

/// The child's own code, or 128 and the signal's number as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(255));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(unix)]
mod signals {
    //! Signals for us are meant for the program. A terminal's Ctrl-C reaches both of us; it is not passed on a second time.

    use super::{Child, Error, Result};
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::IsTerminal;
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    pub struct Signals {
        interrupt: Stream,
        quit: Stream,
        terminate: Stream,
        hangup: Stream,
        terminal: bool,
    }

    pub fn listen() -> Result<Signals> {
        let stream = |kind| signal(kind).map_err(|e| Error::new(format!("signals cannot be received: {e}")));
        Ok(Signals {
            interrupt: stream(SignalKind::interrupt())?,
            quit: stream(SignalKind::quit())?,
            terminate: stream(SignalKind::terminate())?,
            hangup: stream(SignalKind::hangup())?,
            terminal: std::io::stdin().is_terminal(),
        })
    }

    impl Signals {
        pub async fn next(&mut self) -> Option<Signal> {
            tokio::select! {
                _ = self.interrupt.recv() => (!self.terminal).then_some(Signal::INT),
                _ = self.quit.recv() => (!self.terminal).then_some(Signal::QUIT),
                _ = self.terminate.recv() => Some(Signal::TERM),
                _ = self.hangup.recv() => Some(Signal::HUP),
            }
        }
    }

    pub fn pass(child: &Child, signal: Option<Signal>) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let (Some(pid), Some(signal)) = (pid, signal) {
            // It may have ended in this moment; then there is nothing to tell it.
            let _ = kill_process(pid, signal);
        }
    }
}

#[cfg(not(unix))]
mod signals {
    //! Ctrl-C reaches the program by the console; we only must not die before it.

    use super::{Child, Result};

    pub struct Signals;

    pub fn listen() -> Result<Signals> {
        Ok(Signals)
    }

    impl Signals {
        pub async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub fn pass(_: &Child, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_of_the_cli_is_found_by_host_and_port() {
        let home = tempfile::tempdir().unwrap();
        let text = "machine api.heroku.com\n  login me\n  password real\nmachine 127.0.0.1:5000\n  login me\n  password ours\n";
        std::fs::write(home.path().join(".netrc"), text).unwrap();
        let environment = Environment::from_iter([("HOME", home.path().to_str().unwrap())]);
        assert_eq!(netrc_token(&environment, "127.0.0.1:5000").as_deref(), Some("ours"));
        assert_eq!(netrc_token(&environment, "127.0.0.1:5001"), None);
    }
}
