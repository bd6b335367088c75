//! The client half: `env`, `heroku`, `doctor`, the credential helper, and the commands that ask a server for what the Heroku CLI
//! has no word for. No Linux-only part: it builds wherever the Heroku CLI runs; only the socket of a server on the same machine is Unix's.
//!
//! The binary flattens [`Place`] into its own flags and [`Command`] into its subcommands, and calls [`run`].
//! Everything below takes the environment as a value, so the same question gets the same answer in a test.

mod address;
mod bridge;
mod command;
mod config;
mod environment;
mod error;
mod finding;
mod git;
mod http;
mod loopback;
mod profile;
mod rewrite;
mod server;
mod shell;
mod terminal;
mod trust;
mod tunnel;

pub use address::ServerUrl;
pub use command::Command;
pub use error::{Error, Result};
pub use finding::{Finding, Level};
pub use server::{Place, SYSTEM_HOME, Server};

use config::ConfigDir;
use environment::Environment;
use server::Account;
use std::process::ExitCode;
use terminal::Terminal;

/// What every command is given.
struct Context {
    place: Place,
    environment: Environment,
    config: ConfigDir,
    terminal: Terminal,
}

impl Context {
    fn server(&self) -> Result<Server> {
        Server::choose(&self.place, &self.environment, &self.config)
    }

    /// `shipway` as it is typed to get to a server from here, for hints.
    fn program(&self, server: &Server) -> String {
        server.program(&self.environment, &self.config)
    }

    async fn account(&self) -> Result<Account> {
        self.server()?.account(&self.environment, &self.config).await
    }
}

/// The file of certificate authorities that a variable of this process named before `shipway env` put ours in its place:
/// what is for the CLI and git of one person is not for a server that is started from the same shell.
pub fn authorities_before(path: &str) -> Option<String> {
    match ConfigDir::of(&Environment::of_process()) {
        Ok(config) => trust::before_us(&config, path),
        Err(_) => Some(path.to_owned()),
    }
}

/// Runs a command to its end. `findings` are what the binary knows of this machine, for `doctor` to show beside its own.
///
/// Errors are printed on standard error as `error: ...` and `hint: ...`. Exit codes: 0; 1 for what went wrong here; 2 for a refusal
/// by the server; `heroku` has the exit code of the Heroku CLI.
pub fn run(command: Command, place: Place, findings: Vec<Finding>) -> ExitCode {
    match start(command, place, findings) {
        Ok(code) => code,
        Err(error) => {
            error.show();
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(command: Command, place: Place, findings: Vec<Finding>) -> Result<ExitCode> {
    let environment = Environment::of_process();
    let config = ConfigDir::of(&environment)?;
    let terminal = Terminal::detect(&environment);
    let context = Context { place, environment, config, terminal };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(format!("could not start: {e}")))?;
    let code = runtime.block_on(command.run(&context, findings))?;
    // A read of standard input that never ends must not keep us.
    runtime.shutdown_background();
    Ok(code)
}
