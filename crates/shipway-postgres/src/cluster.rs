//! The cluster: its files, its configuration, its process.
//!
//! `SHIPWAY_HOME/postgres/` holds `data/` and `tls/` (PostgreSQL's own), `run/` with the Unix socket, and the
//! configuration, which is root's where there is root: PostgreSQL reads it and cannot change who may connect.

use crate::wire::{Endpoint, Order};
use nix::unistd::{Uid, User};
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user that the machine's packages make for PostgreSQL, as whom it runs when we are root.
const USER: &str = "postgres";
/// The platform's role: superuser, over the Unix socket alone.
pub const PLATFORM_ROLE: &str = "shipway";
/// Where Debian and Ubuntu keep a directory per version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// The file that holds the cluster's port.
const PORT: &str = "port";
/// The first port that is tried, and how many after it.
const FIRST_PORT: u16 = 5432;
const PORTS: u16 = 100;
/// How long PostgreSQL may take to answer; after a crash it replays its log first.
const START: Duration = Duration::from_secs(60);
/// How long it gets to write everything down.
const STOP: Duration = Duration::from_secs(60);
/// What the machine lacks, for users and operators.
const NOT_INSTALLED: &str =
    "PostgreSQL is not installed on the platform's machine. Its operator runs: apt-get install postgresql";

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The machine lacks something; the text says what, and what to do.
    #[error("{0}")]
    Missing(String),
    /// The machine refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// One of PostgreSQL's programs refused.
    #[error("{0}")]
    Refused(String),
}

type Result<T> = std::result::Result<T, ClusterError>;

trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T> {
        self.map_err(|e| ClusterError::Io { doing: doing.into(), source: e.into() })
    }
}

/// The cluster of one data directory.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `SHIPWAY_HOME/postgres`.
    root: PathBuf,
    /// Where its log goes.
    log: PathBuf,
    /// The address that it listens at.
    address: IpAddr,
    /// The server's user, who is the platform's role.
    owner: u32,
}

/// A PostgreSQL that runs: a child of ours, or one that an earlier keeper started.
pub struct Running {
    pid: rustix::process::Pid,
    handle: rustix::fd::OwnedFd,
    child: Option<Child>,
}

impl Cluster {
    /// The cluster of `home`, which listens at `address` and obeys the user `owner`.
    pub fn new(home: &Path, address: IpAddr, owner: u32) -> Self {
        Self { root: home.join("postgres"), log: home.join("run/postgres.log"), address, owner }
    }

    /// Whether it was made already.
    pub fn exists(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn socket(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Makes what is missing of the cluster, and writes certificate and configuration. Can be repeated.
    ///
    /// Errors: PostgreSQL is not installed, or not in the version that wrote the data; the machine's.
    pub fn prepare(&self, order: &Order) -> Result<Endpoint> {
        let programs = self.programs()?;
        let user = self.user()?;
        self.directory(&self.root, 0o755, None)?;
        for (name, mode) in [("run", 0o755), ("tls", 0o700)] {
            self.directory(&self.root.join(name), mode, user.as_ref())?;
        }
        if !self.exists() {
            self.init(&programs, user.as_ref())?;
        }
        let tls = self.root.join("tls");
        self.write(&tls.join("server.crt"), &order.certificate, 0o600, user.as_ref())?;
        self.write(&tls.join("server.key"), &order.key, 0o600, user.as_ref())?;
        let port = self.port()?;
        self.configure(port)?;
        self.endpoint(port, programs)
    }

    fn endpoint(&self, port: u16, programs: PathBuf) -> Result<Endpoint> {
        Ok(Endpoint { address: SocketAddr::new(self.address, port), socket: self.socket(), programs })
    }

    /// The programs of the version that wrote the data, or the newest for a new cluster.
    fn programs(&self) -> Result<PathBuf> {
        if self.exists() {
            let version = fs::read_to_string(self.data().join("PG_VERSION")).doing("reading the cluster's version")?;
            let version = version.trim();
            let programs = Path::new(PROGRAMS).join(version).join("bin");
            return programs.join("postgres").exists().then_some(programs).ok_or_else(|| {
                ClusterError::Missing(format!(
                    "The databases were written by PostgreSQL {version}, which is not installed any more. The \
                     platform's operator runs: apt-get install postgresql-{version}"
                ))
            });
        }
        let newest = newest_installed().ok_or_else(|| ClusterError::Missing(NOT_INSTALLED.into()))?;
        Ok(Path::new(PROGRAMS).join(newest.to_string()).join("bin"))
    }

    /// As whom it runs: none is ourselves.
    fn user(&self) -> Result<Option<User>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let found = User::from_name(USER).map_err(io::Error::from).doing("looking for the user postgres")?;
        found.map(Some).ok_or_else(|| ClusterError::Missing(NOT_INSTALLED.into()))
    }

    /// A directory of this owner and mode. What is there must be one: its parent may be another user's.
    fn directory(&self, path: &Path, mode: u32, user: Option<&User>) -> Result<()> {
        let doing = || format!("making {}", path.display());
        match fs::DirBuilder::new().mode(mode).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).doing(doing()),
            _ => {}
        }
        let meta = fs::symlink_metadata(path).doing(doing())?;
        let owner = user.map_or_else(nix::unistd::geteuid, |u| u.uid).as_raw();
        if !meta.is_dir() || (meta.uid() != owner && meta.uid() != nix::unistd::geteuid().as_raw()) {
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).doing(doing());
        }
        if let Some(user) = user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).doing(doing())?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing(doing())
    }

    /// Makes the cluster beside its place and moves it there: one that was interrupted is begun anew.
    fn init(&self, programs: &Path, user: Option<&User>) -> Result<()> {
        let new = self.root.join("data.new");
        match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).doing("removing half a cluster"),
            _ => {}
        }
        self.directory(&new, 0o700, user)?;
        let mut initdb = self.command(&programs.join("initdb"), user);
        initdb.arg("--pgdata").arg(&new).args(["--username", PLATFORM_ROLE, "--auth", "reject"]);
        initdb.args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"]);
        let output = initdb.output().doing("running initdb")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| line.contains("error")).or(said.lines().last()).unwrap_or_default();
            return Err(ClusterError::Refused(format!("initdb: {last}")));
        }
        fs::rename(&new, self.data()).doing("putting the new cluster in its place")
    }

    /// Writes the configuration of a cluster that was made before: its directory may be at another place by now, and so may
    /// the address. Can be repeated.
    pub fn reconfigure(&self) -> Result<()> {
        self.configure(self.port()?)
    }

    /// The port that it has, or the first free one of its address.
    fn port(&self) -> Result<u16> {
        let path = self.root.join(PORT);
        if let Some(port) = read_port(&path) {
            return Ok(port);
        }
        let mut free = (FIRST_PORT..FIRST_PORT + PORTS).filter(|port| TcpListener::bind((self.address, *port)).is_ok());
        let taken = || {
            let last = FIRST_PORT + PORTS - 1;
            ClusterError::Missing(format!("All ports from {FIRST_PORT} to {last} of {} are taken.", self.address))
        };
        let port = free.next().ok_or_else(taken)?;
        self.write(&path, &format!("{port}\n"), 0o644, None)?;
        Ok(port)
    }

    fn configure(&self, port: u16) -> Result<()> {
        let owner = User::from_uid(Uid::from_raw(self.owner)).map_err(io::Error::from).doing("finding the owner")?;
        let owner = owner.ok_or_else(|| {
            ClusterError::Missing(format!("The server's user {} has no name: add it to /etc/passwd.", self.owner))
        })?;
        let settings = settings(&self.root, self.address, port);
        self.write(&self.root.join("postgresql.conf"), &settings, 0o644, None)?;
        self.write(&self.root.join("pg_hba.conf"), HBA, 0o644, None)?;
        self.write(
            &self.root.join("pg_ident.conf"),
            &format!("platform \"{}\" {PLATFORM_ROLE}\n", owner.name),
            0o644,
            None,
        )
    }

    /// Writes a file whole or not at all, with its mode from the first byte.
    fn write(&self, path: &Path, text: &str, mode: u32, user: Option<&User>) -> Result<()> {
        let doing = || format!("writing {}", path.display());
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).doing(doing()),
            _ => {}
        }
        let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&new).doing(doing())?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).doing(doing())?;
        if let Some(user) = user {
            std::os::unix::fs::fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw())).doing(doing())?;
        }
        fs::rename(&new, path).doing(doing())
    }

    fn command(&self, program: &Path, user: Option<&User>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
        command.current_dir(&self.root).stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Starts PostgreSQL, or finds the one that runs, and waits until it answers. A running one reads its configuration
    /// again.
    pub fn start(&self) -> Result<Running> {
        if let Some(running) = self.running() {
            running.signal(rustix::process::Signal::HUP);
            return Ok(running);
        }
        let programs = self.programs()?;
        let user = self.user()?;
        let log = fs::File::options().create(true).append(true).mode(0o600).open(&self.log).doing("opening its log")?;
        let from = log.metadata().map_or(0, |meta| meta.len());
        let mut postgres = self.command(&programs.join("postgres"), user.as_ref());
        postgres.arg("-D").arg(self.data());
        postgres.arg("-c").arg(format!("config_file={}", self.root.join("postgresql.conf").display()));
        postgres.stdout(log.try_clone().doing("opening its log")?).stderr(log).process_group(0);
        let child = postgres.spawn().doing("starting PostgreSQL")?;
        let mut running = Running::of_child(child).doing("watching PostgreSQL")?;
        let patience = Instant::now() + START;
        while !self.answers(running.pid) {
            if let Some(how) = running.over() {
                return Err(ClusterError::Refused(format!(
                    "PostgreSQL ended at its start ({how}){}",
                    self.last_words(from)
                )));
            }
            if Instant::now() > patience {
                return Err(ClusterError::Refused(format!("PostgreSQL does not answer{}", self.last_words(from))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// The end of what it has logged, for a message.
    fn last_words(&self, from: u64) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
        let last = text.lines().rfind(|line| line.contains("FATAL") || line.contains("HINT"));
        last.map_or_else(|| format!("; its log: {}", self.log.display()), |line| format!(": {line}"))
    }

    /// Whether the pid file says that this process takes connections; one that was killed leaves its file behind.
    /// Source: `postmaster.pid`, lines 1 and 8 (miscadmin.h).
    fn answers(&self, pid: rustix::process::Pid) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        says_ready(&file, pid.as_raw_nonzero().get())
    }

    /// The PostgreSQL that runs on the data. The pid file is PostgreSQL's to write, so the process must be what it says.
    pub fn running(&self) -> Option<Running> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid: i32 = file.lines().next()?.trim().parse().ok()?;
        let owner = fs::metadata(self.data()).ok()?.uid();
        let process = PathBuf::from(format!("/proc/{pid}"));
        let same_user = fs::metadata(&process).ok()?.uid() == owner;
        let line = fs::read(process.join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let data = self.data();
        let ours = words.first().is_some_and(|name| name.ends_with(b"/postgres"))
            && words.get(2).is_some_and(|word| *word == data.as_os_str().as_encoded_bytes());
        let running = (same_user && ours).then(|| Running::of_pid(pid).ok()).flatten()?;
        // Asked again on what is held now: the number may have changed hands in between.
        (fs::read(process.join("cmdline")).ok()? == line).then_some(running)
    }

    /// Ends PostgreSQL: transactions are rolled back, everything committed is on disk. Nothing runs afterwards.
    pub fn stop(&self) {
        let Some(mut running) = self.running() else { return };
        running.signal(rustix::process::Signal::INT);
        let patience = Instant::now() + STOP;
        while running.over().is_none() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        running.signal(rustix::process::Signal::QUIT);
    }
}

/// The port of the cluster of `home`, once it was made.
pub fn kept_port(home: &Path) -> Option<u16> {
    read_port(&home.join("postgres").join(PORT))
}

fn read_port(path: &Path) -> Option<u16> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether a pid file is this process's, and says that it takes connections.
fn says_ready(file: &str, pid: i32) -> bool {
    let owner = file.lines().next().and_then(|line| line.trim().parse().ok());
    owner == Some(pid) && file.lines().nth(7).is_some_and(|status| status.trim() == "ready")
}

/// The newest version of PostgreSQL whose server is installed here.
pub fn newest_installed() -> Option<u32> {
    let versions = fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    let versions = versions.filter_map(|v| v.file_name().to_str()?.parse::<u32>().ok());
    versions.filter(|v| Path::new(PROGRAMS).join(v.to_string()).join("bin/initdb").exists()).max()
}

impl Running {
    fn of_child(child: Child) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_child(&child);
        Ok(Self { pid, handle: handle(pid)?, child: Some(child) })
    }

    fn of_pid(pid: i32) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { pid, handle: handle(pid)?, child: None })
    }

    /// Waits for its end, and says how it came about.
    pub fn wait(&mut self) -> String {
        loop {
            let mut poll = [rustix::event::PollFd::new(&self.handle, rustix::event::PollFlags::IN)];
            if rustix::event::poll(&mut poll, None).is_ok() {
                return self.over().unwrap_or_else(|| "it ended".into());
            }
        }
    }

    /// How it ended; none while it runs.
    fn over(&mut self) -> Option<String> {
        if let Some(child) = &mut self.child {
            return child.try_wait().ok().flatten().map(|status| status.to_string());
        }
        let mut poll = [rustix::event::PollFd::new(&self.handle, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0);
        ended.then(|| "it ended".to_owned())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        // One that has ended meanwhile needs none.
        let _ = rustix::process::pidfd_send_signal(&self.handle, signal);
    }
}

fn handle(pid: rustix::process::Pid) -> io::Result<rustix::fd::OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// The platform by the kernel's word for who it is, add-ons by password, nobody else. Read from the top.
const HBA: &str = "\
local all shipway peer map=platform
local all all reject
host all shipway all reject
host all all all scram-sha-256
";

/// What the owner of a database may create there (PostgreSQL trusts them), and what is there already. `heroku pg:extensions`
/// reads it under this name; a name with a dot is nobody's setting but ours.
const EXTENSIONS: &str = "btree_gin,btree_gist,citext,cube,dict_int,fuzzystrmatch,hstore,intarray,isn,lo,ltree,\
    pg_stat_statements,pg_trgm,pgcrypto,plpgsql,seg,tablefunc,tcn,tsm_system_rows,tsm_system_time,unaccent,uuid-ossp";

/// Statements that fail are not logged: they can hold what their users keep secret.
fn settings(root: &Path, address: IpAddr, port: u16) -> String {
    let path = |name: &str| quoted(&root.join(name).to_string_lossy());
    format!(
        "\
listen_addresses = '{address}'
port = {port}
unix_socket_directories = {socket}
hba_file = {hba}
ident_file = {ident}
ssl = on
ssl_cert_file = {certificate}
ssl_key_file = {key}
ssl_min_protocol_version = 'TLSv1.2'
password_encryption = 'scram-sha-256'
max_connections = 300
superuser_reserved_connections = 10
shared_preload_libraries = 'pg_stat_statements'
log_min_error_statement = panic
log_connections = off
log_line_prefix = '%m [%p] %d '
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C.UTF-8'
max_wal_size = '512MB'
rds.allowed_extensions = '{EXTENSIONS}'
",
        socket = path("run"),
        hba = path("pg_hba.conf"),
        ident = path("pg_ident.conf"),
        certificate = path("tls/server.crt"),
        key = path("tls/server.key"),
    )
}

/// A value of `postgresql.conf`. Source: PostgreSQL, "Setting Parameters": quotes are doubled.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_that_a_killed_server_left_does_not_count() {
        let file = "4711\n/srv/data\n1763700000\n5432\n/srv/run\n10.1.2.1\n  1234  5\nready   \n";
        assert!(says_ready(file, 4711));
        assert!(!says_ready(file, 4712), "another process's");
        assert!(!says_ready(&file.replace("ready   ", "starting"), 4711));
        assert!(!says_ready("", 4711));
    }

    #[test]
    fn attack_10_a_path_cannot_leave_its_setting() {
        let text = settings(Path::new("/srv/o'brien\\x"), "10.1.2.1".parse().unwrap(), 5432);
        assert!(text.contains("hba_file = '/srv/o''brien\\\\x/pg_hba.conf'"), "{text}");
    }
}
