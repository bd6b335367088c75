//! The provider: a role and a database per add-on.

use crate::sql::Admin;
use crate::tools::{self, Ended, Tool, Workplace};
use crate::wire::{self, Answer, Endpoint, Order};
use crate::{cluster, ident};
use async_trait::async_trait;
use shipway_domain::addon::PlanName;
use shipway_domain::{AddonId, AppId, DynoId, TransferId};
use shipway_engine::ports::{AddonFailure, AddonInfo, AddonProvider, DatabaseOrder, Lines, PortError};
use shipway_runtime::Runtime;
use shipway_store::{AddonConfig, Keys, hex};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Issues a certificate for an address: chain and private key, both PEM.
pub type Certificates = Box<dyn Fn(&str) -> Result<(String, String), String> + Send + Sync>;

/// The largest list of what a dump holds, in bytes: some 100,000 objects.
const MAX_LIST: u64 = 16 << 20;

/// Lists what a dump holds. No other format than our own: a plain one would be for psql, whose `\!` runs programs.
/// `ulimit` counts KiB.
const LIST: &str = "ulimit -f 16384; exec pg_restore --format=custom --list --file=/out/list /in/dump";

/// How often is looked how large a database has become that a restore fills.
const LOOK: Duration = Duration::from_millis(250);

/// PostgreSQL for add-ons. The cluster is made when the first one is wanted.
pub struct Provider {
    home: PathBuf,
    runtime: Arc<dyn Runtime>,
    keys: Keys,
    /// Where the cluster listens, which its certificate names.
    address: IpAddr,
    certificates: Certificates,
    /// The most bytes of a dump from elsewhere, and of the database that a dump becomes.
    restore_bytes: u64,
    /// Known once the keeper was asked.
    endpoint: Mutex<Option<Endpoint>>,
}

impl Provider {
    /// The provider of a data directory. `address`: where the keeper's cluster listens. `restore_bytes`: the most that a
    /// dump from elsewhere may have, and the database that a dump becomes.
    pub fn new(
        home: &Path,
        runtime: Arc<dyn Runtime>,
        keys: Keys,
        address: IpAddr,
        certificates: Certificates,
        restore_bytes: u64,
    ) -> Self {
        let home = home.to_path_buf();
        Self { home, runtime, keys, address, certificates, restore_bytes, endpoint: Mutex::default() }
    }

    /// Has the cluster running and returns where it answers.
    async fn endpoint(&self) -> Result<Endpoint, AddonFailure> {
        let mut known = self.endpoint.lock().await;
        if let Some(endpoint) = &*known {
            return Ok(endpoint.clone());
        }
        let (certificate, key) = (self.certificates)(&self.address.to_string()).map_err(AddonFailure::Platform)?;
        let asked = ask(&wire::socket(&self.home), &Order { certificate, key }).await;
        let endpoint = match asked.map_err(|e| platform("asking for PostgreSQL", e))? {
            Answer::Ready(endpoint) => endpoint,
            Answer::Missing(what) => return Err(AddonFailure::Missing(what)),
            Answer::Failed(why) => return Err(AddonFailure::Platform(why)),
        };
        let admin = Admin::connect(&endpoint, "postgres").await.map_err(sql)?;
        admin.close_common_databases().await.map_err(sql)?;
        Ok(known.insert(endpoint).clone())
    }

    async fn admin(&self) -> Result<(Endpoint, Admin), AddonFailure> {
        let endpoint = self.endpoint().await?;
        let admin = Admin::connect(&endpoint, "postgres").await.map_err(sql)?;
        Ok((endpoint, admin))
    }

    /// Makes the empty database that is to take an add-on's place.
    async fn scratch(&self, endpoint: &Endpoint, admin: &Admin, addon: AddonId) -> Result<(), AddonFailure> {
        let name = ident::scratch(addon);
        admin.drop_database(&name).await.map_err(sql)?;
        admin.put_database(&name, addon).await.map_err(sql)?;
        let inside = Admin::connect(endpoint, &name).await.map_err(sql)?;
        inside.put_statistics().await.map_err(sql)
    }

    /// The directory of the transfer, made anew.
    async fn workplace(&self, order: &DatabaseOrder) -> Result<Workplace, AddonFailure> {
        let workplace = Workplace::new(&self.home, order);
        workplace.make().await.map_err(|e| platform("making a transfer's directory", e))?;
        Ok(workplace)
    }

    async fn dump_in(
        &self,
        order: &DatabaseOrder,
        place: &Workplace,
        out: &Arc<dyn Lines>,
        cancel: &CancellationToken,
    ) -> Result<(), AddonFailure> {
        let endpoint = self.endpoint().await?;
        let password = password_of(&order.config)?;
        let env = tools::environment(&endpoint, &ident::database(order.addon), &ident::role(order.addon), &password);
        let command = "exec pg_dump --format=custom --no-owner --no-acl --no-password --file=/out/dump";
        let tool = Tool { command, env, services: vec![endpoint.address.port()], order };
        let ended = tools::run(&*self.runtime, tool, out, cancel).await?;
        if ended.status != 0 {
            return Err(AddonFailure::User(format!("pg_dump failed: {}", ended.last())));
        }
        // Across a file system's border it would be a copy: both are below the data directory.
        keep(&place.output("dump"), &order.file).await
    }

    async fn restore_in(
        &self,
        order: &DatabaseOrder,
        place: &Workplace,
        out: &Arc<dyn Lines>,
        cancel: &CancellationToken,
    ) -> Result<u64, AddonFailure> {
        let (endpoint, admin) = self.admin().await?;
        self.scratch(&endpoint, &admin, order.addon).await?;
        let password = password_of(&order.config)?;
        let (database, role) = (ident::scratch(order.addon), ident::role(order.addon));
        let env = tools::environment(&endpoint, &database, &role, &password);
        // The tools see it without being able to change it.
        tokio::fs::hard_link(&order.file, place.input("dump")).await.map_err(|e| platform("lending a dump", e))?;
        let tool = Tool { command: LIST, env: env.clone(), services: Vec::new(), order };
        let ended = tools::run(&*self.runtime, tool, out, cancel).await?;
        if ended.status != 0 {
            return Err(AddonFailure::User(format!("This is not a dump that can be restored: {}", ended.last())));
        }
        let listed = listed(place.output("list")).await?;
        let wanted = without_foreign_comments(&listed);
        tokio::fs::write(place.input("list"), wanted).await.map_err(|e| platform("writing a dump's list", e))?;
        let command = "exec pg_restore --format=custom --no-owner --no-acl --no-password --use-list=/in/list \
                       --dbname=\"$PGDATABASE\" /in/dump";
        let tool = Tool { command, env, services: vec![endpoint.address.port()], order };
        let room = (&admin, database.as_str(), self.most_restored(order)?);
        let ended = self.fill(tool, room, out, cancel).await?;
        let warnings = match (ended.status, ignored_errors(&ended.said)) {
            (0, _) => 0,
            (1, Some(warnings)) => warnings,
            _ => return Err(AddonFailure::User(format!("pg_restore failed: {}", ended.last()))),
        };
        if cancel.is_cancelled() {
            return Err(AddonFailure::Cancelled);
        }
        admin.swap(order.addon).await.map_err(sql)?;
        Ok(warnings)
    }

    /// The most bytes that the database may have which a restore of `order` fills. A dump of ours has been a database
    /// here, so that there is room for twice of that one; neither it nor another one takes the disk's last tenth.
    fn most_restored(&self, order: &DatabaseOrder) -> Result<u64, AddonFailure> {
        let free = self.free_bytes().map_err(|e| platform("asking for the disk's room", e))?;
        let most = self.restore_bytes.max(order.source_bytes.unwrap_or(0).saturating_mul(2));
        Ok(most.min(free / 10 * 9))
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.home)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Runs `tool`, which fills `database`, and ends it as soon as that has more than `most` bytes: a small dump may ask
    /// for a database without an end.
    async fn fill(
        &self,
        tool: Tool<'_>,
        (admin, database, most): (&Admin, &str, u64),
        out: &Arc<dyn Lines>,
        cancel: &CancellationToken,
    ) -> Result<Ended, AddonFailure> {
        let stop = cancel.child_token();
        let grown = async || -> Result<(), AddonFailure> {
            match admin.size_bytes(database).await.map_err(sql)? > most {
                true => Err(too_large(most)),
                false => Ok(()),
            }
        };
        let watch = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Err(e) = grown().await {
                    break e;
                }
            }
        };
        let mut run = std::pin::pin!(tools::run(&*self.runtime, tool, out, &stop));
        tokio::select! {
            ended = &mut run => {
                grown().await?;
                ended
            }
            failure = watch => {
                stop.cancel();
                // Cancelled, or over by itself meanwhile: why is known.
                let _ = run.await;
                Err(failure)
            }
        }
    }
}

#[async_trait]
impl AddonProvider for Provider {
    async fn provision(&self, addon: AddonId, plan: PlanName) -> Result<AddonConfig, AddonFailure> {
        let (endpoint, admin) = self.admin().await?;
        let password = format!("p{}", hex(&self.keys.random_bytes::<32>()));
        let (role, database) = (ident::role(addon), ident::database(addon));
        admin.put_role(addon, plan.plan, &password).await.map_err(sql)?;
        admin.put_database(&database, addon).await.map_err(sql)?;
        let inside = Admin::connect(&endpoint, &database).await.map_err(sql)?;
        inside.put_statistics().await.map_err(sql)?;
        // Letters and digits all of it: nothing that would have to be escaped in a URL.
        let url = format!("postgres://{role}:{password}@{}/{database}", endpoint.address);
        Ok(AddonConfig::from([("URL".to_owned(), url)]))
    }

    async fn deprovision(&self, addon: AddonId) -> Result<(), PortError> {
        let gone = async {
            let (_, admin) = self.admin().await?;
            for database in [ident::scratch(addon), ident::replaced(addon), ident::database(addon)] {
                admin.drop_database(&database).await.map_err(sql)?;
            }
            admin.drop_role(addon).await.map_err(sql)
        };
        match gone.await {
            // Where there is no PostgreSQL there is no database.
            Err(AddonFailure::Missing(_)) if !self.home.join("postgres/data").exists() => Ok(()),
            Err(e) => Err(PortError::new("removing a database", e)),
            Ok(()) => Ok(()),
        }
    }

    fn endpoint(&self, config: &AddonConfig) -> Option<SocketAddr> {
        let authority = config.get("URL")?.strip_prefix("postgres://")?.split('/').next()?;
        authority.rsplit('@').next()?.parse().ok()
    }

    fn relocated(&self, config: &AddonConfig) -> Option<AddonConfig> {
        let was = AddonProvider::endpoint(self, config)?;
        let now = SocketAddr::new(self.address, cluster::kept_port(&self.home)?);
        let url = config.get("URL")?.replacen(&format!("@{was}/"), &format!("@{now}/"), 1);
        (was != now).then(|| AddonConfig::from([("URL".to_owned(), url)]))
    }

    async fn info(&self, addon: AddonId, plan: PlanName) -> Result<AddonInfo, AddonFailure> {
        let endpoint = self.endpoint().await?;
        let database = ident::database(addon);
        let admin = Admin::connect(&endpoint, &database).await.map_err(sql)?;
        let (version, connections, tables) = admin.facts(&database).await.map_err(sql)?;
        let bytes = admin.size_bytes(&database).await.map_err(sql)?;
        let one = |name: &str, value: String| (name.to_owned(), vec![value]);
        Ok(vec![
            one("Plan", plan.plan.human_name.to_owned()),
            one("Status", "Available".to_owned()),
            one("Connections", format!("{connections}/{}", plan.plan.connections)),
            one("PG Version", version),
            one("Data Size", size(bytes)),
            one("Tables", tables.to_string()),
            one("Fork/Follow", "Unsupported".to_owned()),
            one("Rollback", "Unsupported".to_owned()),
            one("Continuous Protection", "Off".to_owned()),
        ])
    }

    async fn size_bytes(&self, addon: AddonId) -> Result<u64, AddonFailure> {
        let (_, admin) = self.admin().await?;
        admin.size_bytes(&ident::database(addon)).await.map_err(sql)
    }

    async fn reset(&self, addon: AddonId, _: PlanName) -> Result<(), AddonFailure> {
        let (endpoint, admin) = self.admin().await?;
        self.scratch(&endpoint, &admin, addon).await?;
        admin.swap(addon).await.map_err(sql)
    }

    async fn reset_connections(&self, addon: AddonId) -> Result<(), AddonFailure> {
        let (_, admin) = self.admin().await?;
        admin.disconnect(&ident::database(addon)).await.map_err(sql)
    }

    async fn dump(
        &self,
        order: &DatabaseOrder,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<(), AddonFailure> {
        let place = self.workplace(order).await?;
        let done = self.dump_in(order, &place, &out, &cancel).await;
        clear(&place, done).await
    }

    async fn restore(
        &self,
        order: &DatabaseOrder,
        _: PlanName,
        out: Arc<dyn Lines>,
        cancel: CancellationToken,
    ) -> Result<u64, AddonFailure> {
        let place = self.workplace(order).await?;
        let done = self.restore_in(order, &place, &out, &cancel).await;
        clear(&place, done).await
    }

    async fn abandon(&self, transfer: TransferId, addon: AddonId) -> Result<(), PortError> {
        let order = DatabaseOrder {
            transfer,
            app: AppId(transfer.0),
            uid_block: 0,
            addon,
            config: AddonConfig::new(),
            file: PathBuf::new(),
            source_bytes: None,
        };
        let removed = self.runtime.remove(DynoId(transfer.0)).await;
        removed.map_err(|e| PortError::new("ending a database tool", e))?;
        let cleared = Workplace::new(&self.home, &order).remove().await;
        cleared.map_err(|e| PortError::new("removing a transfer's directory", e))?;
        let (_, admin) = self.admin().await.map_err(|e| PortError::new("asking for PostgreSQL", e))?;
        let cleared = async {
            admin.drop_database(&ident::scratch(addon)).await?;
            // A swap that was interrupted left it closed.
            let database = ident::database(addon);
            if admin.has_database(&database).await? { admin.put_database(&database, addon).await } else { Ok(()) }
        };
        cleared.await.map_err(|e| PortError::new("removing half a restore", e))
    }

    fn most_dump_bytes(&self) -> Result<u64, PortError> {
        let free = self.free_bytes().map_err(|e| PortError::new("asking for the disk's room", e))?;
        Ok(self.restore_bytes.min(free / 2))
    }
}

async fn ask(path: &Path, order: &Order) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(path).await?;
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

async fn clear<T>(place: &Workplace, done: Result<T, AddonFailure>) -> Result<T, AddonFailure> {
    let removed = place.remove().await;
    let done = done?;
    removed.map_err(|e| platform("removing a transfer's directory", e))?;
    Ok(done)
}

/// Moves a dump to where it is kept: nobody's to read but the server's, and on disk.
async fn keep(from: &Path, to: &Path) -> Result<(), AddonFailure> {
    let (from, to) = (from.to_path_buf(), to.to_path_buf());
    let moving = move || -> std::io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        if let Some(directory) = to.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let file = written_by_a_tool(&from)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.sync_all()?;
        std::fs::rename(&from, &to)
    };
    let moved = tokio::task::spawn_blocking(moving).await;
    let moved = moved.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    moved.map_err(|e| platform("keeping a dump", e))
}

/// Reads what `pg_restore --list` wrote.
async fn listed(path: PathBuf) -> Result<String, AddonFailure> {
    let read = move || -> std::io::Result<Option<String>> {
        let mut bytes = Vec::new();
        written_by_a_tool(&path)?.take(MAX_LIST + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= MAX_LIST).then(|| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    let read = read.map_err(|e| platform("reading a dump's list", e))?;
    read.ok_or_else(|| AddonFailure::User("The dump holds more objects than can be listed.".into()))
}

/// Opens what a tool left. It chose what lies there: a link is not followed, anything but a file is refused.
fn written_by_a_tool(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits();
    let file = std::fs::File::options().read(true).custom_flags(flags as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

fn password_of(config: &AddonConfig) -> Result<String, AddonFailure> {
    let url = config.get("URL").and_then(|url| url.strip_prefix("postgres://"));
    let user = url.and_then(|rest| rest.split('@').next()).and_then(|user| user.split_once(':'));
    let none = || AddonFailure::Platform("the add-on's address holds no password".into());
    user.map(|(_, password)| password.to_owned()).ok_or_else(none)
}

/// A dump's table of contents without comments on extensions: those belong to the platform, and are as they were.
fn without_foreign_comments(list: &str) -> String {
    let wanted = list.lines().filter(|line| !line.contains(" COMMENT - EXTENSION "));
    wanted.fold(String::new(), |text, line| text + line + "\n")
}

/// What pg_restore counts at its end: `warning: errors ignored on restore: 3`.
fn ignored_errors(said: &[String]) -> Option<u64> {
    said.iter().rev().find_map(|line| line.split_once("errors ignored on restore: ")?.1.trim().parse().ok())
}

/// `7.2 MB`, as `pg:info` shows sizes.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} kB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GB", bytes as f64 / 1_073_741_824.0),
    }
}

fn too_large(most: u64) -> AddonFailure {
    AddonFailure::User(format!(
        "The database would get larger than {}, more than a restore may take here: the data is as it was. The platform's \
         operator makes room on the disk, or allows more with --restore-size.",
        size(most)
    ))
}

fn platform(doing: &str, e: std::io::Error) -> AddonFailure {
    AddonFailure::Platform(format!("{doing}: {e}"))
}

fn sql(e: tokio_postgres::Error) -> AddonFailure {
    let told = e.as_db_error().map_or_else(|| e.to_string(), |db| db.message().to_owned());
    AddonFailure::Platform(format!("PostgreSQL: {told}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_read_from_the_address() {
        let config = |url: &str| AddonConfig::from([("URL".to_string(), url.to_string())]);
        assert_eq!(password_of(&config("postgres://u1:p2@10.0.0.1:5432/d3")).unwrap(), "p2");
        assert!(password_of(&config("postgres://10.0.0.1/d3")).is_err());
        assert!(password_of(&AddonConfig::new()).is_err());
    }

    #[test]
    fn attack_36_a_plain_dump_runs_nothing() {
        let there = tempfile::tempdir().unwrap();
        let [dump, list, ran] = ["dump", "list", "ran"].map(|name| there.path().join(name).display().to_string());
        std::fs::write(&dump, format!("\\! touch {ran}\nCOPY x FROM PROGRAM 'touch {ran}';\n")).unwrap();
        let command = LIST.replace("/out/list", &list).replace("/in/dump", &dump);
        let restored = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&restored.stderr).into_owned();
        assert!(!restored.status.success() && said.contains("pg_restore"), "{said}");
        assert!(!Path::new(&ran).exists() && !Path::new(&list).exists(), "{said}");
    }

    #[tokio::test]
    async fn attack_36_a_list_is_a_file_of_a_bounded_size() {
        let there = tempfile::tempdir().unwrap();
        let path = |name: &str| there.path().join(name);
        std::fs::write(path("secret"), "correct-horse").unwrap();
        std::os::unix::fs::symlink(path("secret"), path("link")).unwrap();
        assert!(matches!(listed(path("link")).await, Err(AddonFailure::Platform(_))));
        assert_eq!(listed(path("secret")).await.unwrap(), "correct-horse");
        std::fs::File::create(path("huge")).unwrap().set_len(MAX_LIST + 1).unwrap();
        assert!(matches!(listed(path("huge")).await, Err(AddonFailure::User(_))));
    }

    #[test]
    fn pg_restore_counts_what_it_skipped() {
        let said = |text: &str| ignored_errors(&[text.to_string()]);
        assert_eq!(said("pg_restore: warning: errors ignored on restore: 12"), Some(12));
        assert_eq!(said("pg_restore: error: could not read"), None);
        let list = "; comment\n3; 3079 16385 EXTENSION - hstore\n9; 0 0 COMMENT - EXTENSION hstore \n4; TABLE x\n";
        assert_eq!(without_foreign_comments(list), "; comment\n3; 3079 16385 EXTENSION - hstore\n4; TABLE x\n");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!((size(8192), size(7_549_747), size(3 << 30)), ("8.0 kB".into(), "7.2 MB".into(), "3.00 GB".into()));
    }
}
