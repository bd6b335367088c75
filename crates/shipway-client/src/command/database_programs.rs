//! The programs of PostgreSQL's that the Heroku CLI starts: `psql` and, for `pg:push` and `pg:pull`, `pg_dump` and `pg_restore`.
//!
//! The CLI gives them the database's own address (`PGHOST`, or `-h`), which only the server's machine reaches. So
//! `shipway heroku`, when the server is elsewhere, puts scripts of their names before `PATH` that lead back to us, and we start
//! the real ones with a port of this machine in its place. The connection goes by the bridge: the token stays with the
//! `shipway heroku` that opened it.

use super::executable;
use super::heroku::{find_program, wait};
use crate::environment::{Change, Environment};
use crate::error::{Error, Result};
use crate::http::Proxy;
use crate::shell::Shell;
use crate::tunnel::{self, Way};
use crate::{Context, bridge};
use std::path::PathBuf;
use std::process::ExitCode;
use tempfile::TempDir;
use tokio::process::Command;

const PROGRAMS: [&str; 3] = ["psql", "pg_dump", "pg_restore"];
/// The variable that holds the address of the bridge for the scripts.
const BRIDGE: &str = "SHIPWAY_BRIDGE";

/// What a script gives.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The real program
    program: PathBuf,
    /// Its arguments
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Writes a script for each of the programs that is on `PATH`, and returns what the CLI's environment needs for them. They are
/// gone with the directory. Nothing where none is, or where the CLI does not start scripts (Windows).
pub(super) fn write(environment: &Environment, bridge: &bridge::Bridge) -> Result<Option<(TempDir, Vec<Change>)>> {
    let found: Vec<_> = PROGRAMS.iter().filter_map(|name| Some((name, find_program(environment, name)?))).collect();
    if found.is_empty() || cfg!(windows) {
        return Ok(None);
    }
    let failed = |e: std::io::Error| Error::new(format!("could not write a temporary file: {e}"));
    let directory = tempfile::Builder::new().prefix("shipway-programs-").tempdir().map_err(failed)?;
    let ours = Shell::Sh.quote(&executable()?);
    for (name, program) in found {
        let program = Shell::Sh.quote(&program.to_string_lossy());
        let script = format!("#!/bin/sh\nexec {ours} database-program {program} -- \"$@\"\n");
        let path = directory.path().join(name);
        std::fs::write(&path, script).map_err(failed)?;
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
    }
    let path = environment.get("PATH").unwrap_or_default();
    let path = format!("{}:{path}", directory.path().display());
    let changes = vec![Change::set("PATH", path), Change::set(BRIDGE, &bridge.proxy)];
    Ok(Some((directory, changes)))
}

/// Starts the real program: by a port of ours where it is to speak to an add-on's database, else as it is.
pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let mut command = Command::new(&args.program);
    let mut arguments = args.arguments;
    let mut tunnel = None;
    let bridge = context.environment.filled(BRIDGE).map(Proxy::at);
    if let (Some(bridge), Some(addon)) = (bridge, addon(&arguments, &context.environment)) {
        let open = tunnel::open(0, Way::Bridge(bridge, bridge::database_host(&addon))).await?;
        // The host stays as it is, for the certificate's name and the password file.
        command.env("PGHOSTADDR", "127.0.0.1").env("PGPORT", open.port.to_string());
        if let Some(port) = value_of(&arguments, "-p") {
            arguments[port] = open.port.to_string();
        }
        tunnel = Some(open);
    }
    command.args(arguments);
    let code = wait(command, &args.program).await;
    drop(tunnel);
    code
}

/// Where the value of a flag stands, as the CLI writes it: apart.
fn value_of(arguments: &[String], flag: &str) -> Option<usize> {
    let at = arguments.iter().position(|argument| argument == flag)? + 1;
    (at < arguments.len()).then_some(at)
}

/// The id of the add-on whose database a program is to speak to; none for any other database.
///
/// An add-on's role is called after it: `u`, and the digits of its id. What stands in the arguments counts before the environment.
fn addon(arguments: &[String], environment: &Environment) -> Option<String> {
    let role = match (value_of(arguments, "-U"), value_of(arguments, "-h")) {
        (Some(at), _) => arguments[at].as_str(),
        (None, Some(_)) => return None,
        (None, None) => environment.filled("PGUSER")?,
    };
    let digits = role.strip_prefix('u')?;
    if digits.len() != 32 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let [a, b, c, d, e] = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Some(format!("{a}-{b}-{c}-{d}-{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_speak_to_an_addon_go_by_the_bridge() {
        let role = "u0123456789abcdef0123456789abcdef";
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        let check = |line: &str, user: &str, expected: Option<&str>| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let environment = Environment::from_iter([("PGUSER", user)]);
            assert_eq!(addon(&arguments, &environment).as_deref(), expected, "{line} {user}");
        };
        check("-c x --set sslmode=require", role, Some(id));
        check(
            "--verbose -F c -Z 0 -N _heroku -U u0123456789abcdef0123456789abcdef -h 10.1.2.3 -p 5432 d01",
            "",
            Some(id),
        );
        // A database of the user's own, to pull into or push from.
        check("-c x", "", None);
        check("-c x", "ada", None);
        check("-U ada -h localhost -p 5432 -d mine", role, None);
        check("--verbose -h localhost -d mine", role, None);
        check("-c x", "u0123456789ABCDEF0123456789ABCDEF", None);
        check("-c x", "u../../account", None);
        check("-U", "", None);
    }
}
