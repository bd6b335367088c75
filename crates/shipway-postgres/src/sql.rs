//! What is said to the cluster as the platform. Every name and text goes through the protocol library's own quoting.

use crate::cluster::PLATFORM_ROLE;
use crate::ident;
use crate::wire::Endpoint;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use shipway_domain::AddonId;
use shipway_domain::addon::Plan;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// How often a database is asked for until nobody is connected to it, and the pause in between.
const LEAVINGS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// A connection as the platform's role. Closed when dropped.
pub(crate) struct Admin {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Admin {
    pub(crate) async fn connect(endpoint: &Endpoint, database: &str) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&endpoint.socket).port(endpoint.address.port());
        config.user(PLATFORM_ROLE).dbname(database).application_name("shipway");
        config.connect_timeout(Duration::from_secs(10));
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(async move {
            // How it ended is what the client's calls answer.
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }

    /// Nobody but the platform has business in the databases that PostgreSQL itself makes.
    pub(crate) async fn close_common_databases(&self) -> Result<()> {
        for database in ["postgres", "template1"] {
            self.client.batch_execute(&format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).await?;
        }
        Ok(())
    }

    /// Makes an add-on's role, or gives the one that is there this password.
    pub(crate) async fn put_role(&self, addon: AddonId, plan: &Plan, password: &str) -> Result<()> {
        let role = ident::role(addon);
        let there = self.client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role]).await?;
        let verb = if there.is_some() { "ALTER" } else { "CREATE" };
        // Only the verifier is sent: the password itself is in none of PostgreSQL's memory or logs.
        let verifier = escape_literal(&scram_sha_256(password.as_bytes()));
        let statement = format!(
            "{verb} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {} \
             PASSWORD {verifier}",
            escape_identifier(&role),
            plan.connections
        );
        self.client.batch_execute(&statement).await
    }

    /// Makes a database that belongs to an add-on's role and that nobody else may connect to; what is there stays.
    pub(crate) async fn put_database(&self, name: &str, addon: AddonId) -> Result<()> {
        let (quoted, role) = (escape_identifier(name), escape_identifier(&ident::role(addon)));
        if !self.has_database(name).await? {
            self.client.batch_execute(&format!("CREATE DATABASE {quoted} OWNER {role}")).await?;
        }
        self.client.batch_execute(&format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC")).await?;
        self.client.batch_execute(&format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS true")).await
    }

    pub(crate) async fn has_database(&self, name: &str) -> Result<bool> {
        Ok(self.client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?.is_some())
    }

    /// The extension that `pg:outliers` and `pg:calls` read; only a superuser may make it. To be called inside the database.
    pub(crate) async fn put_statistics(&self) -> Result<()> {
        self.client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await
    }

    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        self.client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", escape_identifier(name))).await
    }

    pub(crate) async fn drop_role(&self, addon: AddonId) -> Result<()> {
        self.client.batch_execute(&format!("DROP ROLE IF EXISTS {}", escape_identifier(&ident::role(addon)))).await
    }

    /// Ends every connection to a database but our own.
    pub(crate) async fn disconnect(&self, database: &str) -> Result<()> {
        let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = $1 AND pid <> pg_backend_pid()";
        self.client.query(statement, &[&database]).await.map(drop)
    }

    /// Puts the scratch database in the place of an add-on's own: in one transaction, or not at all.
    pub(crate) async fn swap(&self, addon: AddonId) -> Result<()> {
        let (name, new, old) = (ident::database(addon), ident::scratch(addon), ident::replaced(addon));
        self.drop_database(&old).await?;
        let (present, fresh, aside) = (escape_identifier(&name), escape_identifier(&new), escape_identifier(&old));
        self.client.batch_execute(&format!("ALTER DATABASE {present} ALLOW_CONNECTIONS false")).await?;
        let swapped = async {
            for _ in 0..LEAVINGS {
                self.disconnect(&name).await?;
                self.disconnect(&new).await?;
                let connected = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 OR datname = $2 LIMIT 1";
                if self.client.query_opt(connected, &[&name, &new]).await?.is_none() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            let statements = format!(
                "BEGIN; ALTER DATABASE {present} RENAME TO {aside}; ALTER DATABASE {fresh} RENAME TO {present}; COMMIT"
            );
            self.client.batch_execute(&statements).await
        };
        if let Err(e) = swapped.await {
            self.client.batch_execute("ROLLBACK").await?;
            self.client.batch_execute(&format!("ALTER DATABASE {present} ALLOW_CONNECTIONS true")).await?;
            return Err(e);
        }
        self.drop_database(&old).await
    }

    /// Bytes of a database.
    pub(crate) async fn size_bytes(&self, database: &str) -> Result<u64> {
        let row = self.client.query_one("SELECT pg_database_size($1::text::name)", &[&database]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// `15.18`, 3, 12: version, connections and tables of the database that this is connected to.
    pub(crate) async fn facts(&self, database: &str) -> Result<(String, i64, i64)> {
        let row = self
            .client
            .query_one(
                "SELECT split_part(current_setting('server_version'), ' ', 1),
                        (SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()),
                        (SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema'))",
                &[&database],
            )
            .await?;
        Ok((row.get(0), row.get(1), row.get(2)))
    }
}
