//! Pipelines' connections to forges, and the door of their webhooks.
//!
//! A delivery is checked, written down and answered; `forge_news` carries it out. What is written down is the queue, so
//! it survives a restart and takes no memory, and it has an end: beyond it forges are asked to come again.

use crate::deploy_keys::NewDeployKey;
use crate::error::Error;
use crate::pipelines::Access;
use crate::ports::{Caller, Envelope, WebhookRefused, WebhookRequest};
use crate::upstream::to_lead;
use crate::{Event, Platform, Result};
use shipway_domain::forge::{DeliveryStatus, ForgeCredentials, ForgeKind, RepositoryName};
use shipway_domain::{ForgeConnectionId, ForgeDeliveryId};
use shipway_store::{Conn, ForgeConnection, ForgeDelivery, Pipeline, StoreError, hex};

/// Deliveries that wait at once.
const WAITING: u64 = 1000;
/// Those of one connection.
const SHARE: u64 = WAITING / 2;
/// As many of each connection wait, however many others do.
const ASSURED: u64 = 50;
/// Deliveries that are listed.
const LISTED: usize = 100;

/// A connection that somebody wants.
#[derive(Debug, Clone)]
pub struct NewForge {
    /// How the forge is spoken with.
    pub kind: ForgeKind,
    /// Its address; none is the one that everybody means.
    pub url: Option<String>,
    /// The repository.
    pub repository: String,
    /// What opens it.
    pub credentials: NewCredentials,
    /// This platform's own address, as the caller reached it, without a slash at the end.
    pub home_url: String,
}

/// What is to open a forge to us.
#[derive(Debug, Clone)]
pub enum NewCredentials {
    /// What somebody has.
    Given(ForgeCredentials),
    /// A key that is made.
    DeployKey(NewDeployKey),
}

/// What became of a request to a webhook's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is written down.
    New(ForgeDeliveryId),
    /// It came before and is not carried out again.
    Known,
}

/// Why a request to a webhook's address was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is not the forge's, or cannot be read.
    #[error(transparent)]
    Webhook(#[from] WebhookRefused),
    /// Too many wait.
    #[error("too many deliveries wait")]
    Full,
    /// Ours.
    #[error(transparent)]
    Platform(#[from] Error),
}

impl From<StoreError> for Refusal {
    fn from(e: StoreError) -> Self {
        Self::Platform(e.into())
    }
}

impl Platform {
    /// The connections of all pipelines that the caller may see.
    pub fn forges(&self, caller: &Caller) -> Result<Vec<(Pipeline, ForgeConnection)>> {
        let mut all = Vec::new();
        for pipeline in self.pipelines(caller)? {
            if let Some(forge) = self.store().read(|c| c.forge_of(pipeline.id))? {
                all.push((pipeline, forge));
            }
        }
        Ok(all)
    }

    /// A pipeline's connection. Errors: it has none.
    pub fn forge_of(&self, pipeline: &Pipeline) -> Result<ForgeConnection> {
        self.store().read(|c| c.forge_of(pipeline.id))?.ok_or_else(|| Error {
            message: format!("{0} is not connected to a forge: shipway forges connect {0} --kind …", pipeline.name),
            ..Error::missing("forge")
        })
    }

    /// Connects a pipeline to its repository at a forge, in place of the connection that it had. The connection has a new
    /// webhook secret, which is shown to nobody but the caller.
    ///
    /// Errors: an address that cannot be asked, credentials that are none, an illegal repository, a server whose key for a
    /// deploy key is not known; a stage refuses what lacks the upstream's commits, which come from there, and the caller does
    /// not own the pipeline.
    pub async fn connect_forge(&self, caller: &Caller, pipeline: &Pipeline, new: NewForge) -> Result<ForgeConnection> {
        self.may(caller, pipeline, to_lead(pipeline))?;
        let repository = RepositoryName::parse(&new.repository)?;
        let Some(url) = new.url.as_deref().or(new.kind.usual_url()) else {
            return Err(Error::invalid(format!("Say where your {} is: --url https://git.example.org", new.kind)));
        };
        let given = match &new.credentials {
            NewCredentials::Given(credentials) => credentials,
            NewCredentials::DeployKey(_) => &ForgeCredentials::None,
        };
        let checked = self.inner.parts.forges.check(new.kind, url, given);
        let url = checked.map_err(|e| Error::invalid(e.0))?;
        let credentials = match new.credentials {
            NewCredentials::Given(credentials) => credentials,
            NewCredentials::DeployKey(wanted) => self.new_deploy_key(pipeline, &url, wanted).await?,
        };
        let now = self.now();
        let forge = ForgeConnection {
            id: self.id(ForgeConnectionId),
            pipeline: pipeline.id,
            kind: new.kind,
            url,
            repository,
            home_url: new.home_url,
            secret: self.webhook_secret(new.kind),
            credentials,
            heard_at: None,
            failure: None,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({
            "pipeline": pipeline.name, "forge": forge.kind, "url": forge.url, "repository": forge.repository,
            "credentials": forge.credentials.word(),
        });
        let entry = self.entry(caller, None, "forge-connected", detail);
        let row = forge.clone();
        self.write_with(entry, move |c| {
            c.put_forge_connection(&row)?;
            let mut pipeline = c.pipeline_by_id(row.pipeline)?;
            pipeline.settings.repository = Some(row.repository.to_string());
            pipeline.updated_at = now;
            c.update_pipeline(&pipeline)
        })
        .await?;
        self.sweep_soon();
        self.tell(Event::Pipeline(pipeline.id));
        Ok(forge)
    }

    /// Ends a pipeline's connection, with its deliveries. Review apps stay until somebody removes them. Errors: as for another
    /// one.
    pub async fn disconnect_forge(&self, caller: &Caller, pipeline: &Pipeline) -> Result<ForgeConnection> {
        self.may(caller, pipeline, to_lead(pipeline))?;
        let forge = self.forge_of(pipeline)?;
        let detail = serde_json::json!({ "pipeline": pipeline.name, "repository": forge.repository });
        let entry = self.entry(caller, None, "forge-disconnected", detail);
        let id = pipeline.id;
        self.write_with(entry, move |c| c.delete_forge_connection(id)).await?;
        self.tell(Event::Pipeline(id));
        Ok(forge)
    }

    /// A pipeline's newest 100 deliveries, newest first. Who may operate the pipeline may read them.
    pub fn forge_deliveries(&self, caller: &Caller, pipeline: &Pipeline) -> Result<Vec<ForgeDelivery>> {
        self.may(caller, pipeline, Access::Operate)?;
        let forge = self.forge_of(pipeline)?;
        Ok(self.store().read(|c| c.forge_deliveries(forge.id, LISTED))?)
    }

    /// Carries a delivery out again, from the body that was kept. Errors: there is none any more; it waits.
    pub async fn redeliver(&self, caller: &Caller, id: ForgeDeliveryId) -> Result<ForgeDelivery> {
        let missing = || Error::missing("delivery");
        let delivery = self.store().read(|c| c.forge_delivery(id))?.ok_or_else(missing)?;
        let forge = self.store().read(|c| c.forge(delivery.connection))?.ok_or_else(missing)?;
        let pipeline = self.pipeline(caller, &forge.pipeline.into()).map_err(|_| missing())?;
        self.may(caller, &pipeline, Access::Operate)?;
        if !delivery.kept {
            return Err(Error::conflict(
                "The body of this delivery is not kept any more. Redeliver it at the forge, or wait for the next one.",
            ));
        }
        let again = ForgeDelivery { status: DeliveryStatus::Received, message: None, finished_at: None, ..delivery };
        let detail = serde_json::json!({ "pipeline": pipeline.name, "delivery": id, "event": again.event });
        let entry = self.entry(caller, None, "forge-redelivered", detail);
        let row = again.clone();
        self.write_with(entry, move |c| c.update_forge_delivery(&row)).await?;
        self.inner.news_wanted.notify_one();
        Ok(again)
    }

    /// Whether a webhook's address leads somewhere and there is room for a delivery, before its body is read. A wrong
    /// address is refused as a wrong signature is.
    pub fn expects_webhook(&self, id: ForgeConnectionId) -> Result<(), Refusal> {
        let (known, room) = self.store().read(|c| Ok((c.forge(id)?.is_some(), has_room(c, id)?)))?;
        match (known, room) {
            (false, _) => Err(WebhookRefused::Unauthorized.into()),
            (true, false) => Err(Refusal::Full),
            (true, true) => Ok(()),
        }
    }

    /// Takes a request to a webhook's address: checks whose it is and writes it down.
    ///
    /// Errors: [`Refusal`]; nothing of what was refused is kept.
    pub async fn receive_webhook(
        &self,
        id: ForgeConnectionId,
        request: WebhookRequest<'_>,
    ) -> Result<Delivered, Refusal> {
        let forge = self.store().read(|c| c.forge(id))?.ok_or(WebhookRefused::Unauthorized)?;
        let now = self.now();
        let Envelope { given, digest, event, payload } = self.inner.parts.forges.open(&forge, request, now)?;
        let delivery = ForgeDelivery {
            id: self.id(ForgeDeliveryId),
            connection: id,
            given,
            digest,
            event,
            status: DeliveryStatus::Received,
            message: None,
            kept: true,
            received_at: now,
            finished_at: None,
        };
        let delivered = Delivered::New(delivery.id);
        let written = self.store().write(move |c| {
            if !has_room(c, id)? {
                return Ok(false);
            }
            c.heard_of_forge(id, now)?;
            c.insert_forge_delivery(&delivery, &payload)?;
            Ok(true)
        });
        match written.await {
            Ok(true) => {
                self.inner.news_wanted.notify_one();
                Ok(delivered)
            }
            Ok(false) => Err(Refusal::Full),
            Err(StoreError::Taken(_)) => Ok(Delivered::Known),
            Err(e) => Err(e.into()),
        }
    }

    /// 256 random bits. GitLab signs only with a key of a form of its own, which serves as its plain token as well.
    fn webhook_secret(&self, kind: ForgeKind) -> String {
        use base64::Engine;
        let random: [u8; 32] = self.store().keys().random_bytes();
        match kind {
            ForgeKind::Gitlab => format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(random)),
            ForgeKind::Github | ForgeKind::Gitea => hex(&random),
        }
    }

    /// Asks forges soon what is open: somebody has just connected one.
    fn sweep_soon(&self) {
        self.spawn(|platform| async move {
            if let Err(e) = platform.sweep_pull_requests().await {
                tracing::warn!(error = %e, cause = ?e.cause, "open pull requests could not be asked for");
            }
        });
    }
}

/// Whether another delivery of a connection may wait. One loud forge leaves room for the others.
fn has_room(c: &Conn<'_>, id: ForgeConnectionId) -> shipway_store::Result<bool> {
    let own = c.count_waiting_forge_deliveries_of(id)?;
    Ok(own < ASSURED || (own < SHARE && c.count_waiting_forge_deliveries()? < WAITING))
}
