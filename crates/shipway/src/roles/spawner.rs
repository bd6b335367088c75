//! `shipway spawner`: starts dynos' sandboxes; the one role that is root.

use crate::options;
use crate::problem::{Doing, Problem};
use shipway_client::Place;
use shipway_postgres::Keeper;
use shipway_sandbox::{Config, Embedded, Tier};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// What `up` tells it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Whose orders are taken
    #[arg(long)]
    uid: u32,
    /// That user's group
    #[arg(long)]
    gid: u32,
    /// Which sandbox is made
    #[arg(long, value_parser = tier)]
    tier: Tier,
    /// A port of the services address that dynos may reach; may be repeated
    #[arg(long)]
    service_port: Vec<u16>,
    /// A directory outside /usr that dynos see at the same path; may be repeated
    #[arg(long)]
    toolchain: Vec<PathBuf>,
}

/// Serves until it is killed; dynos do not mind.
pub fn run(place: &Place, arguments: Arguments) -> Result<(), Problem> {
    super::log();
    let Arguments { uid, gid, tier, service_port, toolchain } = arguments;
    let mut config = Config::new(options::home(place)?, tier, uid, gid);
    config.services = service_port;
    config.toolchains = toolchain;
    let keeper = Keeper::new(&config.home, databases_address(&config.home, tier)?, (uid, gid));
    keeper.begin().doing("listening for orders of databases")?;
    shipway_sandbox::spawner::main(config).doing("dynos cannot be started on this machine")
}

/// Where databases listen: at the one address that dynos with a network of their own can reach.
pub fn databases_address(home: &Path, tier: Tier) -> Result<IpAddr, Problem> {
    Ok(match tier {
        Tier::Root => Embedded::services_of(home).doing("choosing addresses for dynos")?.into(),
        Tier::Bwrap => Ipv4Addr::LOCALHOST.into(),
    })
}

/// The flags that say the same as `config`.
pub fn flags(config: &Config) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![
        "--uid".into(),
        config.uid.to_string().into(),
        "--gid".into(),
        config.gid.to_string().into(),
        "--tier".into(),
        name(config.tier).into(),
    ];
    for port in &config.services {
        all.extend(["--service-port".into(), port.to_string().into()]);
    }
    for directory in &config.toolchains {
        all.extend(["--toolchain".into(), directory.into()]);
    }
    all
}

/// A tier's name on the command line and on screen.
pub fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Root => "root",
        Tier::Bwrap => "bwrap",
    }
}

/// Reads a tier's name.
pub fn tier(given: &str) -> Result<Tier, String> {
    match given {
        "root" => Ok(Tier::Root),
        "bwrap" => Ok(Tier::Bwrap),
        _ => Err("the tiers are root and bwrap".to_owned()),
    }
}
