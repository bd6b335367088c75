//! A real PostgreSQL under the platform of a test.

use shipway_net::Ca;
use shipway_postgres::wire::{self, Answer, Order};
use shipway_postgres::{Cluster, Provider, cluster};
use shipway_store::Keys;
use shipway_testkit::Ground;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

/// A cluster of its own, which ends with the test.
pub struct Postgres {
    cluster: Cluster,
    pub ground: Ground,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.cluster.stop();
    }
}

impl Postgres {
    /// None where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        cluster::newest_installed()?;
        // On the disk: a hundred databases are more than some machines have in memory. The user of PostgreSQL gets there.
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let home = directory.path().to_path_buf();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(home.join("run")).unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let cluster = Cluster::new(&home, address, rustix::process::geteuid().as_raw());
        keep(&home, cluster.clone());
        let keys = Keys::of_home(&home).unwrap();
        let ca = Ca::load_or_create(&home.join("keys")).unwrap();
        let certificates = move |address: &str| ca.issue_pem(&[address.to_owned()]).map_err(|e| e.to_string());
        let ground = Ground { home: directory, ..Ground::new() };
        let runtime = Arc::new(ground.runtime.clone());
        let provider = Provider::new(&home, runtime, keys, address, Box::new(certificates), u64::MAX);
        Some(Self { cluster, ground: Ground { databases: Some(Arc::new(provider)), ..ground } })
    }

    /// Databases and roles that the cluster has besides its own, by its catalogue.
    pub async fn made(&self) -> (usize, usize) {
        let home = self.ground.home.path();
        let mut config = tokio_postgres::Config::new();
        config.host_path(home.join("postgres/run")).port(cluster::kept_port(home).unwrap());
        config.user(cluster::PLATFORM_ROLE).dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let count = async |query: &str| {
            let row = client.query_one(query, &[]).await.unwrap();
            usize::try_from(row.get::<_, i64>(0)).unwrap()
        };
        let databases =
            count("SELECT count(*) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')").await;
        let roles = count("SELECT count(*) FROM pg_roles WHERE rolname <> 'shipway' AND rolname !~ '^pg_'").await;
        connection.abort();
        (databases, roles)
    }
}

/// Answers the provider as the keeper in the spawner does, and starts nothing again.
fn keep(home: &Path, cluster: Cluster) {
    let listener = UnixListener::bind(wire::socket(home)).unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut line = String::new();
            BufReader::new(&socket).read_line(&mut line).unwrap();
            let order: Order = serde_json::from_str(&line).unwrap();
            let ready = cluster.prepare(&order).and_then(|endpoint| cluster.start().map(|_| endpoint));
            let answer = ready.map_or_else(|e| Answer::Failed(e.to_string()), Answer::Ready);
            // A server that was killed meanwhile asks again when it is back.
            let _ = writeln!(socket, "{}", serde_json::to_string(&answer).unwrap());
        }
    });
}
