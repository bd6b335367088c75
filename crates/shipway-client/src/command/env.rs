//! `shipway env`.

use super::executable;
use super::install::{self, WRAPPER, wrapper_directory};
use crate::error::{Error, Result};
use crate::profile::{self, Apart, Files, SignIn};
use crate::server::{Account, Server};
use crate::shell::Shell;
use crate::{Context, trust};
use std::io::IsTerminal;
use std::path::PathBuf;

/// In our own directory: the programs that stand before the keychains', and the CLI's data.
const KEYCHAINS: &str = "login/bin";
const DATA: &str = "login/data";

/// The flags of `env`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell whose syntax is printed (default: by $SHELL)
    #[arg(long, value_enum)]
    shell: Option<Shell>,
    /// Leave the token out, so that `heroku login` and `heroku logout` work
    #[arg(long)]
    login: bool,
    /// Put a `heroku` command into ~/.shipway/bin that always goes to your server, and have git stop before the real Heroku
    #[arg(long)]
    install: bool,
    /// Take back what --install did
    #[arg(long, conflicts_with_all = ["install", "login", "shell"])]
    uninstall: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let shell = args.shell.unwrap_or_else(|| Shell::of_path(context.environment.get("SHELL").unwrap_or_default()));
    if args.uninstall {
        return install::undo(context);
    }
    if args.install {
        install::run(context, shell).await?;
    }
    let server = context.server()?;
    let program = context.program(&server);
    let refused = |what: String| {
        Error::new(format!("{what}: the Heroku CLI sends a token only to Heroku's own names and to this machine"))
            .hint(format!("use the bridge, per command: {program} heroku ps"))
            .hint(format!("or for good: {program} env --install, and put ~/.shipway/bin first in PATH"))
    };
    if let Server::Remote(url) = &server {
        if args.install {
            return context.terminal.say(&shell.render(&wrapper_on_path(context)));
        }
        return Err(refused(format!("variables cannot point the Heroku CLI at {url}")));
    }
    let account = server.account(&context.environment, &context.config).await?;
    if !account.url.is_loopback() {
        return Err(refused(format!("the server calls itself {}, which variables cannot point at", account.url)));
    }
    let sign_in = if args.login { SignIn::LoginCommands } else { SignIn::Token };
    let files = files(context, &account, sign_in)?;
    let changes = profile::exported(&context.environment, &account, &files, sign_in);
    if std::io::stdout().is_terminal() {
        eprintln!("# This only prints. To use it: {}", shell.eval(&format!("{program} env")));
    }
    context.terminal.say(&shell.render(&changes))
}

/// Makes the files that the profile names.
pub(super) fn files(context: &Context, account: &Account, sign_in: SignIn) -> Result<Files> {
    let environment = &context.environment;
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let (mut node, mut authority, mut git_ssl_cainfo) = (None, None, None);
    if let Some(pem) = &account.authority {
        let stem = account.url.file_stem();
        let before = environment.filled("NODE_EXTRA_CA_CERTS");
        node = Some(text(trust::bundle(&context.config, &format!("node-{stem}"), before, pem)?));
        authority = Some(text(trust::bundle(&context.config, &format!("server-{stem}"), None, pem)?));
        if let Some(before) = environment.filled("GIT_SSL_CAINFO") {
            git_ssl_cainfo = Some(text(trust::bundle(&context.config, &format!("git-{stem}"), Some(before), pem)?));
        }
    }
    let helper = match sign_in {
        SignIn::Token => Some(helper(account)?),
        // Then git must ask for whom the CLI logged in, by the helper that the CLI sets up itself.
        SignIn::LoginCommands => None,
    };
    let wrapper = wrapper_directory(context).filter(|d| d.join(WRAPPER).exists()).map(text);
    let apart = Apart { programs: text(context.config.join(KEYCHAINS)), data: text(context.config.join(DATA)) };
    if sign_in == SignIn::LoginCommands {
        without_keychain(context)?;
    }
    Ok(Files { node, authority, git_ssl_cainfo, helper, wrapper, apart })
}

/// Writes what stands before the keychains' own programs: the Heroku CLI finds nothing there, others find what is there.
fn without_keychain(context: &Context) -> Result<()> {
    // Not found is silence to the one, and this number from the other (errSecItemNotFound).
    for (program, not_found) in [("secret-tool", 1), ("security", 44)] {
        let script = format!(
            "#!/bin/sh\n\
             # The Heroku CLI keeps logins under an e-mail address alone: what it took away here would be the real Heroku's.\n\
             case \" $* \" in *' heroku-cli '*) exit {not_found} ;; esac\n\
             here=${{0%/*}} rest= IFS=:\n\
             for directory in $PATH; do [ \"$directory\" = \"$here\" ] || rest=$rest:$directory; done\n\
             PATH=${{rest#:}} exec {program} \"$@\"\n"
        );
        let path = context.config.write(&format!("{KEYCHAINS}/{program}"), &script)?;
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(|e| Error::new(format!("could not make {} a program: {e}", path.display())))?;
        #[cfg(not(unix))]
        drop(path);
    }
    Ok(())
}

/// The shell line with which git starts us: absolute, every word quoted.
fn helper(account: &Account) -> Result<String> {
    let quote = |word: &str| Shell::Sh.quote(word);
    let place = match &account.server {
        Server::Local(home) => format!("--home {}", quote(&home.to_string_lossy())),
        Server::Remote(url) => format!("--server {}", quote(&url.to_string())),
    };
    Ok(format!("!env -u SHIPWAY_SERVER {} {place} credential", quote(&executable()?)))
}

fn wrapper_on_path(context: &Context) -> Vec<crate::environment::Change> {
    let path = context.environment.get("PATH").unwrap_or_default();
    let directory = wrapper_directory(context).unwrap_or_default().to_string_lossy().into_owned();
    if path.split(':').any(|entry| entry == directory) {
        return Vec::new();
    }
    vec![crate::environment::Change::set("PATH", format!("{directory}:{path}"))]
}
