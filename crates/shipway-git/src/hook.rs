//! The process that git runs for a push: `proc-receive`, between git's pipes and the server's socket.
//!
//! It knows nothing and decides nothing. Git's commands go to the server in one message, the server's output comes
//! back line by line and goes to stderr, which git forwards as `remote:` lines, and the results go to git.
//! Source: git, `Documentation/githooks`, "proc-receive".

use crate::pkt::{read_section, write_section};
use crate::push::{Answer, HookRequest, RefResult, RefUpdate};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// The subcommand of our binary that runs [`proc_receive_main`].
pub const HOOK_COMMAND: &str = "git-proc-receive";

/// Where the server listens, and what names the push there.
pub(crate) const SOCKET_VARIABLE: &str = "SHIPWAY_PUSH_SOCKET";
pub(crate) const TICKET_VARIABLE: &str = "SHIPWAY_PUSH_TICKET";
/// The program that the hook's one line runs.
pub(crate) const PROGRAM_VARIABLE: &str = "SHIPWAY_PUSH_PROGRAM";

/// The whole hook. Constant: what it runs comes in by the environment, so nothing is ever quoted.
pub(crate) const HOOK: &str = "#!/bin/sh\nexec \"$SHIPWAY_PUSH_PROGRAM\" git-proc-receive\n";

const GONE: &str = "the server stopped while it worked on this push; it goes on when it is back: see `shipway ops`";

/// Runs as git's `proc-receive` hook: speaks git's protocol on stdin and stdout and the server's on its socket.
pub fn proc_receive_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Git shows this to whoever pushes.
            let _ = writeln!(io::stderr(), "shipway: the push could not be handed to the server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = io::stdout().lock();
    let hello = read_section(&mut input)?;
    let offered = hello.first().map(Vec::as_slice).unwrap_or_default();
    let offered = String::from_utf8_lossy(offered);
    let with_options = offered.trim_end().split('\0').nth(1).is_some_and(|c| c.split(' ').any(|c| c == "push-options"));
    write_section(&mut output, [if with_options { "version=1\0push-options\n" } else { "version=1\n" }])?;

    let commands = read_section(&mut input)?.iter().map(|line| parse_command(line)).collect::<io::Result<Vec<_>>>()?;
    let options = if with_options { read_section(&mut input)? } else { Vec::new() };
    let options = options.iter().map(|option| text(option)).collect();
    let refnames: Vec<String> = commands.iter().map(|command| command.refname.clone()).collect();

    let results = ask_server(commands, options)?
        .unwrap_or_else(|| refnames.iter().map(|_| RefResult::Rejected { reason: GONE.into() }).collect());
    let report = refnames.iter().zip(results).map(|(refname, result)| match result {
        RefResult::Accepted => format!("ok {refname}\n"),
        RefResult::Rejected { reason } => format!("ng {refname} {}\n", crate::text::one_line(&reason, 500)),
    });
    write_section(&mut output, report)
}

/// Sends the push and prints what comes back until the results do; none when the server went away meanwhile.
fn ask_server(commands: Vec<RefUpdate>, options: Vec<String>) -> io::Result<Option<Vec<RefResult>>> {
    let variable = |name| std::env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let mut socket = UnixStream::connect(variable(SOCKET_VARIABLE)?)?;
    let request = HookRequest { ticket: variable(TICKET_VARIABLE)?, commands, options };
    write_message(&mut socket, &serde_json::to_vec(&request)?)?;
    let mut socket = BufReader::new(socket);
    loop {
        let Ok(message) = read_message(&mut socket) else { return Ok(None) };
        match serde_json::from_slice(&message)? {
            // Whoever pushed may be gone; the push goes on.
            Answer::Output(text) => {
                let _ = io::stderr().write_all(text.as_bytes());
            }
            Answer::Results(results) => return Ok(Some(results)),
        }
    }
}

fn parse_command(line: &[u8]) -> io::Result<RefUpdate> {
    let line = text(line);
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(old), Some(new), Some(refname)) => Ok(RefUpdate::from_wire(old, new, refname)?),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a push command")),
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).trim_end_matches('\n').to_string()
}

/// A message of the socket: its length in four bytes, then JSON.
fn write_message(socket: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::other("too many refs in one push"))?;
    socket.write_all(&length.to_be_bytes())?;
    socket.write_all(message)
}

fn read_message(socket: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut message)?;
    Ok(message)
}
