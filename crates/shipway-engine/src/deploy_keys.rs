//! Deploy keys: how a private repository is read with nothing but a key that its forge knows.
//!
//! Each connection has its own, made here; its private half is sealed and leaves only as a file of ours for the time of a
//! fetch. The server must show a key that was given, or that it showed when the connection was made.

use crate::error::Error;
use crate::{Platform, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use shipway_domain::forge::{DeployKey, ForgeCredentials};
use shipway_domain::ssh::{HostKey, SshServer, known_keys};
use shipway_store::Pipeline;

/// Whom forges' own ssh servers expect.
const USER: &str = "git";
/// Where they listen.
const PORT: u16 = 22;

/// A deploy key that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct NewDeployKey {
    /// The account; none is `git`.
    pub user: Option<String>,
    /// The port; none is 22.
    pub port: Option<u16>,
    /// A file `known_hosts` with the server's key; without it the server is believed this once.
    pub known_hosts: Option<String>,
}

impl Platform {
    /// Makes a deploy key for the repository of a pipeline, at the host of its forge and no other.
    pub(crate) async fn new_deploy_key(
        &self,
        pipeline: &Pipeline,
        forge_url: &str,
        wanted: NewDeployKey,
    ) -> Result<ForgeCredentials> {
        let user = wanted.user.as_deref().unwrap_or(USER);
        let server = SshServer::parse(user, host(forge_url), wanted.port.unwrap_or(PORT))?;
        let host_keys = match &wanted.known_hosts {
            Some(text) => known_keys(text, &server),
            None => {
                let shown = self.inner.parts.repositories.host_keys(&server).await?;
                shown.map_err(|refused| {
                    Error::invalid(format!("The ssh server of the forge was not asked for its key: {refused}"))
                })?
            }
        };
        if host_keys.is_empty() {
            let (host, port) = (server.host(), server.port());
            return Err(Error::invalid(match wanted.known_hosts {
                Some(_) => format!(
                    "The known hosts have no key of {host}, port {port}, by its plain name: ssh-keyscan -p {port} {host}"
                ),
                None => format!(
                    "{host} shows no ssh key at port {port}. Say where its ssh server is: --ssh-port, or give its key: \
                     --known-hosts"
                ),
            }));
        }
        let random = self.store().keys().random_bytes();
        let (private, public) = self.inner.parts.forges.deploy_key(random, &format!("shipway-{}", pipeline.name))?;
        Ok(ForgeCredentials::DeployKey(DeployKey { private, public, server, host_keys }))
    }
}

/// The host of an address that was checked.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.split(['/', ':']).next().unwrap_or_default()
}

/// The fingerprint of a server's key, as ssh shows it: `SHA256:…`.
pub fn fingerprint(key: &HostKey) -> String {
    let body = STANDARD.decode(&key.body).unwrap_or_default();
    format!("SHA256:{}", STANDARD_NO_PAD.encode(shipway_store::sha256(&body)))
}
