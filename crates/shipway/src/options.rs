//! Flags that several roles share, and what they mean when they are not given.

use crate::problem::{Doing, Problem};
use clap::value_parser;
use nix::unistd::{SysconfVar, sysconf};
use shipway_client::{Place, SYSTEM_HOME};
use shipway_domain::size::{DynoSize, DynoSizes, SizeDefinition};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// A push does not wait for the build of a review app, however small the machine is.
const LEAST_BUILDS: usize = 2;

/// What the operator decides about the platform. `up` takes these and passes them on to the roles.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Where the API, git and the dashboard listen: HTTP and TLS on one port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000", value_parser = address)]
    pub listen: SocketAddr,
    /// Where the apps are served: HTTP and TLS on one port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    pub router_listen: SocketAddr,
    /// Apps are at <app>.<NAME>
    #[arg(long, value_name = "NAME", default_value = "localhost", value_parser = domain)]
    pub domain: String,
    #[command(flatten)]
    pub certificate: Certificate,
    /// Who the first administrator is, on the first start
    #[arg(long, value_name = "ADDRESS", value_parser = email)]
    pub admin_email: Option<shipway_domain::Email>,
    /// A directory whose buildpacks apps may name by path or file:// URL; may be repeated
    #[arg(long, value_name = "DIR")]
    pub buildpack_directory: Vec<PathBuf>,
    /// A host of your own network that submodules and upstreams may be fetched from by https; may be repeated
    #[arg(long, value_name = "NAME", value_parser = domain)]
    pub private_host: Vec<String>,
    /// A name by which the API and the dashboard are reached, which no app gets; may be repeated. Without one it is the machine's own
    #[arg(long, value_name = "NAME", value_parser = domain)]
    pub api_host: Vec<String>,
    /// A size that dynos may have, or what one of the usual ones is to be; may be repeated
    #[arg(long, value_name = "NAME=MEMORY_MIB[,cpu=WEIGHT][,pids=NUMBER][,disk=MIB]")]
    pub dyno_size: Vec<SizeDefinition>,
    #[command(flatten)]
    pub build_limits: BuildLimits,
    /// The most that a dump from elsewhere may have, and the database that a dump becomes
    #[arg(long, value_name = "MIB", default_value_t = 20_480, value_parser = value_parser!(u64).range(1..=1 << 24))]
    pub restore_size: u64,
}

impl Options {
    /// The flags that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![
            "--listen".into(),
            self.listen.to_string().into(),
            "--router-listen".into(),
            self.router_listen.to_string().into(),
            "--domain".into(),
            self.domain.clone().into(),
        ];
        all.extend(self.certificate.arguments());
        if let Some(email) = &self.admin_email {
            all.extend(["--admin-email".into(), email.to_string().into()]);
        }
        for directory in &self.buildpack_directory {
            all.extend(["--buildpack-directory".into(), directory.into()]);
        }
        for host in &self.private_host {
            all.extend(["--private-host".into(), host.into()]);
        }
        for host in &self.api_host {
            all.extend(["--api-host".into(), host.into()]);
        }
        for size in &self.dyno_size {
            all.extend(["--dyno-size".into(), size.to_string().into()]);
        }
        all.extend(self.build_limits.arguments());
        all.extend(["--restore-size".into(), self.restore_size.to_string().into()]);
        all
    }

    /// The names of the API and the dashboard: those that were named, else the machine's.
    pub fn api_hosts(&self) -> Vec<String> {
        if !self.api_host.is_empty() {
            return self.api_host.clone();
        }
        let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        machine.and_then(|name| domain(&name).ok()).into_iter().collect()
    }

    /// The usual sizes of dynos, with what was said of them and beside them; of one that was named twice, the last counts.
    pub fn sizes(&self) -> DynoSizes {
        let mut sizes = DynoSizes::default();
        self.dyno_size.iter().for_each(|size| sizes.define(size));
        sizes
    }

    /// Makes every path absolute: roles start in another directory.
    pub fn absolute(mut self) -> Result<Self, Problem> {
        for path in
            self.buildpack_directory.iter_mut().chain(&mut self.certificate.cert).chain(&mut self.certificate.key)
        {
            *path = path.canonicalize().map_err(|e| {
                Problem::new(format!("{}: {e}", path.display())).hint("name a file or directory that is there")
            })?;
        }
        Ok(self)
    }
}

/// What one build may use; one that wants more is ended, and the push says which limit it was.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct BuildLimits {
    /// Memory of one build
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = value_parser!(u64).range(128..=1 << 20))]
    pub build_memory: u64,
    /// Processes and threads of one build at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 1024, value_parser = value_parser!(u32).range(16..=1 << 20))]
    pub build_processes: u32,
    /// How long one build may take
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = value_parser!(u64).range(1..=7 * 86_400))]
    pub build_seconds: u64,
    /// What one build may write to its pusher
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = value_parser!(u64).range(1..=4096))]
    pub build_output: u64,
    /// Disk of one build: the app with what is made from it, and temporary files
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = value_parser!(u64).range(16..=1 << 20))]
    pub build_disk: u64,
    /// Builds at a time; without it one for each processor, as far as half of the machine's memory goes, and two at least
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u16).range(1..=1024))]
    pub builds: Option<u16>,
}

impl BuildLimits {
    /// The flags that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let flags = [
            ("--build-memory", self.build_memory),
            ("--build-processes", self.build_processes.into()),
            ("--build-seconds", self.build_seconds),
            ("--build-output", self.build_output),
            ("--build-disk", self.build_disk),
        ];
        let flags = flags.into_iter().chain(self.builds.map(|most| ("--builds", most.into())));
        flags.flat_map(|(flag, value)| [flag.into(), value.to_string().into()]).collect()
    }

    /// How many builds go at a time on this machine.
    pub fn at_once(&self) -> usize {
        let processors = available_parallelism().map_or(1, usize::from);
        let known = |of| sysconf(of).ok().flatten().and_then(|number| u64::try_from(number).ok());
        let memory = known(SysconfVar::_PHYS_PAGES).zip(known(SysconfVar::PAGE_SIZE)).map(|(pages, size)| pages * size);
        self.at_once_on(processors, memory)
    }

    /// `memory`: the machine's, in bytes, where it is known.
    fn at_once_on(&self, processors: usize, memory: Option<u64>) -> usize {
        let fit =
            memory.map_or(usize::MAX, |all| usize::try_from(all / 2 / (self.build_memory << 20)).unwrap_or(usize::MAX));
        self.builds.map_or_else(|| processors.min(fit).max(LEAST_BUILDS), usize::from)
    }

    /// The same as a dyno's size, of which the memory limit is twice the memory.
    pub fn size(&self) -> DynoSize {
        DynoSize {
            name: "build".into(),
            memory_mib: self.build_memory / 2,
            // Beside other builds, of which none comes first; apps do before any of them.
            cpu_weight: 25,
            pids: self.build_processes,
            disk_mib: self.build_disk,
        }
    }
}

/// The operator's own certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Certificate {
    /// A certificate chain for the domain as a PEM file, instead of our own authority's
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl Certificate {
    /// The flags that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => vec!["--cert".into(), cert.into(), "--key".into(), key.into()],
            _ => Vec::new(),
        }
    }
}

/// The data directory: the one that was named, else root's or this user's own. Absolute.
pub fn home(place: &Place) -> Result<PathBuf, Problem> {
    let home = match &place.home {
        Some(home) => home.clone(),
        None if nix::unistd::geteuid().is_root() => PathBuf::from(SYSTEM_HOME),
        None => user_home()?,
    };
    absolute(&home)
}

/// The directory's real path; what does not exist yet stays as it was named. Interfaces and tables are named after it, so it must
/// not depend on who asks.
fn absolute(home: &Path) -> Result<PathBuf, Problem> {
    match home.canonicalize() {
        Ok(real) => Ok(real),
        Err(_) => std::path::absolute(home).doing(format!("finding {}", home.display())),
    }
}

fn user_home() -> Result<PathBuf, Problem> {
    let filled = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = filled("XDG_DATA_HOME").or_else(|| Some(filled("HOME")?.join(".local/share")));
    let none = || Problem::new("there is no place for the data: HOME is not set").hint("name one with --home DIR");
    Ok(base.ok_or_else(none)?.join("shipway"))
}

fn address(given: &str) -> Result<SocketAddr, String> {
    // A port alone is meant for this machine alone.
    if let Ok(port) = given.trim_start_matches(':').parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let given = given.strip_prefix("localhost").map_or(given.to_owned(), |port| format!("127.0.0.1{port}"));
    given.parse().map_err(|_| "write it as ADDRESS:PORT, such as 127.0.0.1:5000 or 0.0.0.0:80".to_owned())
}

fn domain(given: &str) -> Result<String, String> {
    let domain = given.trim_end_matches('.').to_ascii_lowercase();
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if domain.len() <= 180 && domain.split('.').all(label) {
        return Ok(domain);
    }
    Err("a domain is made of letters, digits and dashes between dots, such as apps.example.org".to_owned())
}

fn email(given: &str) -> Result<shipway_domain::Email, String> {
    shipway_domain::Email::parse(given).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_domains_as_people_write_them() {
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(address(given).ok().map(|a| a.to_string()).as_deref(), expected, "{given}");
        };
        check("0.0.0.0:80", Some("0.0.0.0:80"));
        check("[::1]:80", Some("[::1]:80"));
        check("localhost:5000", Some("127.0.0.1:5000"));
        check("5000", Some("127.0.0.1:5000"));
        check(":5000", Some("127.0.0.1:5000"));
        check("example.org:80", None);
        check("127.0.0.1", None);

        let check =
            |given: &str, expected: Option<&str>| assert_eq!(domain(given).ok().as_deref(), expected, "{given}");
        check("Apps.Example.org.", Some("apps.example.org"));
        check("localhost", Some("localhost"));
        check("a..b", None);
        check("-a.b", None);
        check("a b", None);
        check("", None);
    }

    #[test]
    fn sizes_go_from_up_to_the_server_as_they_were_given() {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            options: Options,
        }
        let given = ["shipway", "--dyno-size", "Basic=768", "--dyno-size", "large=2048,cpu=400"];
        let Flags { options } = clap::Parser::parse_from(given);
        let arguments = [OsString::from("shipway")].into_iter().chain(options.arguments());
        let Flags { options: passed_on } = clap::Parser::parse_from(arguments);
        assert_eq!(passed_on, options);
        let sizes: Vec<_> = options.sizes().0.iter().map(|size| format!("{} {}", size.name, size.memory_mib)).collect();
        assert_eq!(sizes, ["eco 512", "basic 768", "standard-1x 512", "standard-2x 1024", "large 2048"]);
    }

    #[test]
    fn as_many_builds_as_a_machine_can_bear() {
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            limits: BuildLimits,
        }
        let check = |flags: &[&str], processors: usize, memory_gib: Option<u64>, expected: usize| {
            let Flags { limits } = clap::Parser::parse_from([&["shipway"], flags].concat());
            let found = limits.at_once_on(processors, memory_gib.map(|gib| gib << 30));
            assert_eq!(found, expected, "{flags:?} on {processors} processors and {memory_gib:?} GiB");
        };
        check(&[], 2, Some(24), 2);
        check(&[], 1, Some(1), 2);
        check(&[], 8, Some(64), 8);
        check(&[], 32, Some(64), 16);
        check(&["--build-memory", "8192"], 32, Some(64), 4);
        check(&[], 32, None, 32);
        check(&["--builds", "1"], 32, Some(64), 1);
    }
}
