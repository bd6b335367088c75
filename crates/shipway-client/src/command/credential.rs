//! `shipway credential get`, git's way to ask for a password (gitcredentials(7)).

use crate::Context;
use crate::error::{Error, Result};
use crate::server;
use std::io::Read;

/// The arguments that git gives.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// get, store or erase; what else git may invent is ignored, as its documentation asks
    operation: String,
}

/// Answers only for our host and port, and only by https: git asks with what the address in a remote says, which anybody may have written.
pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let mut question = String::new();
    std::io::stdin()
        .take(64 << 10)
        .read_to_string(&mut question)
        .map_err(|e| Error::new(format!("git's question could not be read: {e}")))?;
    match args.operation.as_str() {
        "get" => {
            let account = context.account().await?;
            if asks_for(&question, &account.url.https_authority()) {
                context.terminal.say(&format!("username=heroku\npassword={}\n", account.token))?;
            }
            Ok(())
        }
        // Git says so when the server refused the token: the next question gets a new one.
        "erase" => server::forget(&context.server()?, &context.config),
        _ => Ok(()),
    }
}

fn asks_for(question: &str, authority: &str) -> bool {
    let field = |name: &str| question.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    field("protocol") == Some("https") && field("host").is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_host_and_port_by_https_are_answered() {
        let check = |question: &str, expected: bool| {
            assert_eq!(asks_for(question, "127.0.0.1:5000"), expected, "{question:?}");
        };
        check("protocol=https\nhost=127.0.0.1:5000\n\n", true);
        check("protocol=http\nhost=127.0.0.1:5000\n\n", false);
        check("protocol=https\nhost=127.0.0.1:5001\n\n", false);
        check("protocol=https\nhost=git.heroku.com\n\n", false);
        check("protocol=https\nhost=127.0.0.1:5000.evil.example\n\n", false);
        check("protocol=https\nusername=host=127.0.0.1:5000\n\n", false);
        check("", false);
    }
}
