//! `pg_dump`, `pg_restore` and `curl`, each in a sandbox like a build's: as the app's own uid, without our files, reaching
//! nothing but what they need. A dump or a server that lies to them has what a dyno of the app has, and less.

use crate::wire::Endpoint;
use shipway_domain::size::DynoSize;
use shipway_domain::{BuildId, DynoId};
use shipway_engine::ports::{AddonFailure, DatabaseOrder, Lines, PortError};
use shipway_runtime::{BuildMount, BuildSource, DynoPlan, ExitCause, Io, Root, Runtime};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio_util::sync::CancellationToken;

/// Longest line of a tool's output that is kept in one piece, in bytes.
const MAX_LINE: u64 = 4096;
/// How long a tool may take, in seconds.
const TIME_LIMIT: u32 = 6 * 3600;

/// The directories of one transfer, below `work/<transfer-id>`.
pub(crate) struct Workplace {
    directory: PathBuf,
}

impl Workplace {
    pub(crate) fn new(home: &Path, order: &DatabaseOrder) -> Self {
        Self { directory: home.join("work").join(order.transfer.to_string()) }
    }

    /// Empty directories: `in`, which tools read, and `out`, which they write.
    pub(crate) async fn make(&self) -> std::io::Result<()> {
        self.remove().await?;
        for name in ["in", "out"] {
            tokio::fs::create_dir_all(self.directory.join(name)).await?;
        }
        Ok(())
    }

    pub(crate) async fn remove(&self) -> std::io::Result<()> {
        match tokio::fs::remove_dir_all(&self.directory).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.directory.join("in").join(name)
    }

    pub(crate) fn output(&self, name: &str) -> PathBuf {
        self.directory.join("out").join(name)
    }
}

/// One run of a tool.
pub(crate) struct Tool<'a> {
    /// For the shell; a constant: what comes from anywhere else is in `env`.
    pub(crate) command: &'static str,
    pub(crate) env: BTreeMap<String, String>,
    /// Ports of the services address that it may reach.
    pub(crate) services: Vec<u16>,
    pub(crate) order: &'a DatabaseOrder,
}

/// How a tool ended.
pub(crate) struct Ended {
    pub(crate) status: i32,
    /// The last lines that it said.
    pub(crate) said: Vec<String>,
}

impl Ended {
    /// The last line, for a message.
    pub(crate) fn last(&self) -> String {
        self.said.last().cloned().unwrap_or_else(|| "it gave no reason".into())
    }
}

/// The sandbox of a transfer: one at a time, so that it is found again by the transfer's id.
pub(crate) fn sandbox_of(order: &DatabaseOrder) -> DynoId {
    DynoId(order.transfer.0)
}

/// The environment in which libpq finds one database and nothing else: no service or password files.
pub(crate) fn environment(endpoint: &Endpoint, database: &str, role: &str, password: &str) -> BTreeMap<String, String> {
    let address = endpoint.address;
    let settings = [
        ("PGHOST", address.ip().to_string()),
        ("PGPORT", address.port().to_string()),
        ("PGUSER", role.to_owned()),
        ("PGPASSWORD", password.to_owned()),
        ("PGDATABASE", database.to_owned()),
        ("PGSSLMODE", "require".to_owned()),
        ("PGAPPNAME", "shipway".to_owned()),
        ("PATH", format!("{}:/usr/bin:/bin", endpoint.programs.display())),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Runs a tool to its end. Errors: cancelled, out of memory or time, the platform's; not the tool's own status.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    tool: Tool<'_>,
    out: &Arc<dyn Lines>,
    cancel: &CancellationToken,
) -> Result<Ended, AddonFailure> {
    let order = tool.order;
    let dyno = sandbox_of(order);
    let mount = |name: &str, target: &str, writable| BuildMount {
        source: BuildSource::Work(name.into()),
        target: target.into(),
        writable,
    };
    let mut env = tool.env;
    env.insert("HOME".into(), "/out".into());
    env.insert("LANG".into(), "C.UTF-8".into());
    let plan = DynoPlan {
        dyno,
        app: order.app,
        uid_block: order.uid_block,
        name: "transfer.1".into(),
        root: Root::Build {
            build: BuildId(order.transfer.0),
            mounts: vec![mount("in", "/in", false), mount("out", "/out", true)],
            working_directory: "/out".into(),
        },
        command: tool.command.into(),
        profile: false,
        env,
        port: false,
        // Beside builds, of which none comes first; apps do before any of them.
        size: DynoSize { name: "transfer".into(), memory_mib: 512, cpu_weight: 25, pids: 64, disk_mib: 64 },
        io: Io::Pipe,
        grace_seconds: 5,
        time_limit_seconds: Some(TIME_LIMIT),
        hosts: Vec::new(),
        services: tool.services,
    };
    runtime.start(&plan).await.map_err(platform)?;
    let followed = tokio::select! {
        followed = follow(runtime, dyno, out) => followed,
        () = cancel.cancelled() => Err(AddonFailure::Cancelled),
    };
    let removed = runtime.remove(dyno).await;
    let ended = followed?;
    removed.map_err(platform)?;
    Ok(ended)
}

async fn follow(runtime: &dyn Runtime, dyno: DynoId, out: &Arc<dyn Lines>) -> Result<Ended, AddonFailure> {
    let mut lines = BufReader::new(runtime.attach(dyno).await.map_err(platform)?);
    let mut said: Vec<String> = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).await;
        // A stream that breaks off ends like one that ends: the exit tells which it was.
        if read.unwrap_or(0) == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        out.line(&text);
        said.push(text);
        if said.len() > 50 {
            said.remove(0);
        }
    }
    let exit = runtime.wait(dyno).await.map_err(platform)?;
    match exit.cause {
        ExitCause::Memory => Err(AddonFailure::User("It needed more than 1024 MiB of memory.".into())),
        ExitCause::Processes => Err(AddonFailure::User("It needed more processes than it may have.".into())),
        ExitCause::Time => Err(AddonFailure::User(format!("It took more than {} hours.", TIME_LIMIT / 3600))),
        ExitCause::Lost => Err(AddonFailure::Platform("the sandbox was lost: its shim is gone".into())),
        ExitCause::Exited | ExitCause::Stopped | ExitCause::Killed => Ok(Ended { status: exit.status, said }),
    }
}

fn platform(e: shipway_runtime::RuntimeError) -> AddonFailure {
    AddonFailure::Platform(PortError::new("running a database tool", e).0)
}
