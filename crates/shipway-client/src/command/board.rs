//! `heroku pipelines:open`: the CLI has the address of Heroku's own dashboard in its code, so we open the board here.

use crate::error::Result;
use crate::server::Account;
use crate::terminal::{Terminal, printable, text};
use std::process::{Command, Stdio};

/// Prints the address of a pipeline's board and has the browser open it. Errors: there is no such pipeline.
pub async fn open(pipeline: &str, account: &Account, terminal: Terminal) -> Result<()> {
    let found = account.client().get(&format!("/pipelines/{}", super::segment("pipeline", pipeline)?)).await?;
    let url = format!("{}/dashboard/pipelines/{}", account.url, text(&found, &["name"]));
    terminal.say(&format!("Opening {}...\n", printable(&url)))?;
    browse(&url);
    Ok(())
}

/// Whoever has no browser here has the address on the screen.
fn browse(url: &str) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let _ = Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
