//! One binary, several roles.
//!
//! ```text
//! up  --starts, keeps-->  spawner (root)  --starts-->  shim (one per dyno)
//!  \___ holds sockets __  router
//!                     \_  server          --git runs-->  git-proc-receive
//! ```
//!
//! [`up`] and [`down`] are what an operator types; [`roles`] are what runs; [`adapters`] join the engine to the parts that
//! do its work; everything else a user types is `shipway-client`'s.

mod adapters;
mod allocator;
mod doctor;
mod down;
mod home;
mod machine;
mod options;
mod ports;
mod preflight;
mod problem;
mod process;
mod roles;
mod stack;
mod up;

use clap::{Parser, Subcommand};
use problem::Problem;
use shipway_client::Place;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::ByRole = allocator::ByRole;

/// A Heroku that your team owns: push, build once, run, route
#[derive(Parser)]
#[command(version, name = "shipway")]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the platform on this machine, or find the one that runs
    Up(up::Arguments),
    /// Stop the platform and every app; the data stays
    Down(down::Arguments),
    /// Run the control plane (`up` starts this)
    Server(roles::server::Arguments),
    /// Run the data plane (`up` starts this)
    Router(roles::router::Arguments),
    /// Start dynos' sandboxes (`up` starts this)
    #[command(hide = true)]
    Spawner(roles::spawner::Arguments),
    /// Keep the router running while there is no `up` (`up` leaves this behind)
    #[command(hide = true)]
    Keeper(up::keeper::Arguments),
    #[command(flatten)]
    Client(shipway_client::Command),
}

fn main() -> ExitCode {
    // The name in process lists: children are started from `/proc/self/exe`, and would be called that.
    let _ = rustix::thread::set_name(c"shipway");
    // Roles that others start, which must be small and quick: no argument parser, no runtime, no logging.
    match std::env::args_os().nth(1).and_then(|role| role.into_string().ok()).as_deref() {
        Some("shim") => return ExitCode::from(u8::from(shipway_sandbox::shim::main() != 0)),
        Some("static") => return roles::static_site::main(),
        Some(shipway_git::HOOK_COMMAND) => return shipway_git::proc_receive_main(),
        _ => {}
    }
    let Cli { place, command } = Cli::parse();
    let done = match command {
        Command::Up(arguments) => up::run(&place, arguments),
        Command::Down(arguments) => down::run(&place, &arguments),
        Command::Server(arguments) => roles::server::run(&place, arguments).map_err(Vec::from),
        Command::Router(arguments) => roles::router::run(&place, &arguments).map_err(Vec::from),
        Command::Spawner(arguments) => roles::spawner::run(&place, arguments).map_err(Vec::from),
        Command::Keeper(arguments) => up::keeper::run(&place, arguments).map_err(Vec::from),
        Command::Client(command) => {
            let findings = match command {
                shipway_client::Command::Doctor => doctor::findings(&place),
                _ => Vec::new(),
            };
            return shipway_client::run(command, place, findings);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            problems.iter().for_each(Problem::show);
            ExitCode::FAILURE
        }
    }
}
