//! Forges: GitHub, GitLab, Gitea and Forgejo. Their webhooks read, their APIs asked and told.
//!
//! [`webhook`] is pure. Each kind of forge has one file with what it is asked and told; [`api`] is how, and what does not
//! answer as documented is an error that names the request. Nothing is kept here but App tokens until they expire.

mod api;
mod app_token;
mod deploy_key;
mod gitea;
mod github;
mod gitlab;
mod json;
mod webhook;

use api::Api;
use app_token::AppTokens;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use shipway_domain::address::RemoteAddress;
use shipway_domain::forge::{ForgeCredentials, ForgeKind, Message};
use shipway_engine::ports::{
    Envelope, Forges, PortError, PullRequestNews, Received, Remote, WebhookRefused, WebhookRequest,
};
use shipway_net::outward::Outward;
use shipway_store::ForgeConnection;
use std::path::Path;
use std::time::Duration;

/// Forges by HTTP.
pub struct HttpForges {
    outward: Outward,
    tokens: AppTokens,
}

impl HttpForges {
    /// `private_hosts`: hosts of private networks that the operator named.
    pub fn new(private_hosts: &[String]) -> Self {
        Self { outward: Outward::new(private_hosts), tokens: AppTokens::default() }
    }

    /// The API of a connection's forge, with what opens it.
    async fn api<'a>(&'a self, forge: &'a ForgeConnection) -> Result<Api<'a>, String> {
        let api = Api::new(&self.outward, forge);
        Ok(match self.token(&api).await? {
            Some(token) => api.with(&token),
            None => api,
        })
    }

    async fn token(&self, api: &Api<'_>) -> Result<Option<String>, String> {
        match &api.forge.credentials {
            ForgeCredentials::None | ForgeCredentials::DeployKey(_) => Ok(None),
            ForgeCredentials::Token { token } => Ok(Some(token.clone())),
            ForgeCredentials::App { app_id, key } => self.tokens.get(api, app_id, key).await.map(Some),
        }
    }
}

#[async_trait]
impl Forges for HttpForges {
    fn check(&self, kind: ForgeKind, url: &str, credentials: &ForgeCredentials) -> Result<String, PortError> {
        let url = url.trim_end_matches('/');
        let address = RemoteAddress::parse_within(url, self.outward.private_hosts())
            .map_err(|problem| PortError(format!("The forge's address cannot be used: {problem}.")))?;
        if url.contains(['?', '#', '@']) {
            return Err(PortError(
                "The forge's address must be like https://git.example.org, without anything else.".into(),
            ));
        }
        match credentials {
            ForgeCredentials::App { key, .. } if kind == ForgeKind::Github => {
                app_token::check(key).map_err(PortError)?;
            }
            ForgeCredentials::App { .. } => {
                return Err(PortError(format!("Only GitHub has Apps; give {kind} an access token.")));
            }
            ForgeCredentials::Token { token } if token.is_empty() || token.bytes().any(|b| !b.is_ascii_graphic()) => {
                return Err(PortError("The token is empty, or has characters that no token has.".into()));
            }
            ForgeCredentials::Token { .. } | ForgeCredentials::DeployKey(_) | ForgeCredentials::None => {}
        }
        Ok(address.shown().to_owned())
    }

    fn deploy_key(&self, random: [u8; 32], comment: &str) -> Result<(String, String), PortError> {
        deploy_key::made_of(random, comment).map_err(PortError)
    }

    fn open(
        &self,
        connection: &ForgeConnection,
        request: WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<Envelope, WebhookRefused> {
        webhook::open(connection.kind, &connection.secret, request, now)
    }

    fn read(&self, kind: ForgeKind, event: &str, payload: &[u8]) -> Result<Received, PortError> {
        webhook::read(kind, event, payload)
            .map_err(|e| PortError(format!("The payload is not what {kind} documents: {e}.")))
    }

    async fn open_pull_requests(&self, connection: &ForgeConnection) -> Result<Vec<PullRequestNews>, PortError> {
        let api = self.api(connection).await.map_err(PortError)?;
        let open = match connection.kind {
            ForgeKind::Github => github::open_pull_requests(&api).await,
            ForgeKind::Gitlab => gitlab::open_pull_requests(&api).await,
            ForgeKind::Gitea => gitea::open_pull_requests(&api).await,
        };
        open.map_err(PortError)
    }

    async fn download(
        &self,
        from: &str,
        into: &Path,
        most: u64,
        time: Duration,
    ) -> Result<Result<u64, String>, PortError> {
        let from = match RemoteAddress::parse_within(from, self.outward.private_hosts()) {
            Ok(from) => from,
            Err(problem) => return Ok(Err(problem)),
        };
        let file = tokio::fs::File::create(into).await;
        let mut file = file.map_err(|e| PortError::new("making room for a source", e))?;
        Ok(self.outward.download(&from, &mut file, most, time).await)
    }

    async fn remote(&self, connection: &ForgeConnection) -> Result<Remote, PortError> {
        if let ForgeCredentials::DeployKey(key) = &connection.credentials {
            return Ok(Remote::Ssh { key: Box::new(key.clone()), repository: connection.repository.clone() });
        }
        let token = self.token(&Api::new(&self.outward, connection)).await.map_err(PortError)?;
        // Whose name stands before a token matters to none of them but must not be empty.
        let user = match connection.kind {
            ForgeKind::Github => "x-access-token",
            ForgeKind::Gitlab | ForgeKind::Gitea => "oauth2",
        };
        Ok(Remote::Http {
            address: format!("{}/{}.git", connection.url, connection.repository),
            authorization: token.map(|token| format!("Basic {}", STANDARD.encode(format!("{user}:{token}")))),
        })
    }

    async fn tell(
        &self,
        connection: &ForgeConnection,
        message: &Message,
        remote: Option<&Value>,
        again: bool,
    ) -> Result<Option<Value>, PortError> {
        let api = self.api(connection).await.map_err(PortError)?;
        let told = match connection.kind {
            ForgeKind::Github => github::tell(&api, message, remote, again).await,
            ForgeKind::Gitlab => gitlab::tell(&api, message, remote, again).await,
            ForgeKind::Gitea => gitea::tell(&api, message, remote, again).await,
        };
        told.map_err(PortError)
    }
}
