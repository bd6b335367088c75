//! The client half alone, for a machine that runs no server.

use clap::Parser;
use shipway_client::{Command, Place};
use std::process::ExitCode;

/// Talks to a Shipway server: yours, not Heroku
#[derive(Parser)]
#[command(version, name = "shipway")]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    shipway_client::run(cli.command, cli.place, Vec::new())
}
