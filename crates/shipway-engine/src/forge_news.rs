//! What forges' webhooks bring, carried out one after another. Nothing here waits for a forge: what has to be fetched is
//! asked for and fetched elsewhere.

use crate::error::Error;
use crate::ports::{CheckNews, News, PortError, PushNews, Received};
use crate::{Event, Platform, RefNews, RefOrigin, Result, look};
use shipway_domain::forge::DeliveryStatus;
use shipway_domain::triggers::RefName;
use shipway_domain::{AccountId, Email, NameOrId, PipelineId};
use shipway_store::{ForgeConnection, ForgeDelivery, Upstream};

/// Deliveries that are read at once.
const BATCH: usize = 50;
/// Checks with this in front are our own words: waiting for them would be waiting for ourselves.
pub(crate) const OWN_CONTEXT: &str = "shipway/";

impl Platform {
    pub(crate) async fn keep_forge_news(self) {
        loop {
            if let Err(e) = self.carry_out_deliveries().await {
                tracing::error!(error = %e, cause = ?e.cause, "deliveries of forges could not be carried out");
            }
            look::next(&self.inner.news_wanted).await;
        }
    }

    /// Carries out all deliveries that wait, oldest first.
    pub async fn carry_out_deliveries(&self) -> Result<()> {
        loop {
            let waiting = self.store().read(|c| c.waiting_forge_deliveries(BATCH))?;
            if waiting.is_empty() {
                return Ok(());
            }
            for delivery in waiting {
                self.carry_out_delivery(delivery).await?;
            }
        }
    }

    async fn carry_out_delivery(&self, mut delivery: ForgeDelivery) -> Result<()> {
        let id = delivery.id;
        let (forge, body) = self.store().read(|c| Ok((c.forge(delivery.connection)?, c.forge_delivery_body(id)?)))?;
        // Disconnected meanwhile: the row is gone with the connection.
        let (Some(forge), Some(body)) = (forge, body) else { return Ok(()) };
        let read = self.inner.parts.forges.read(forge.kind, &delivery.event, &body);
        (delivery.status, delivery.message) = match self.take_news(&forge, read).await {
            Ok(Some(done)) => (DeliveryStatus::Done, Some(done)),
            Ok(None) => (DeliveryStatus::Ignored, None),
            Err(e) => {
                tracing::warn!(delivery.id = %id, error = %e, cause = ?e.cause, "a delivery could not be carried out");
                (DeliveryStatus::Failed, Some(e.to_string()))
            }
        };
        delivery.finished_at = Some(self.now());
        let pipeline = forge.pipeline;
        self.store().write(move |c| c.update_forge_delivery(&delivery)).await?;
        self.tell(Event::Pipeline(pipeline));
        Ok(())
    }

    /// What was done, in a sentence; none where there was nothing to do.
    async fn take_news(&self, forge: &ForgeConnection, read: Result<Received, PortError>) -> Result<Option<String>> {
        let Received { repository, news } = read.map_err(|e| Error::invalid(e.0))?;
        let same = |name: &str| name.eq_ignore_ascii_case(forge.repository.as_str());
        if let Some(other) = repository.filter(|name| !same(name.as_str())) {
            return Err(Error::invalid(format!(
                "It is about {other}, and this pipeline is connected to {}.",
                forge.repository
            )));
        }
        match news {
            News::PullRequest(news) => {
                let state = if news.open { "open" } else { "closed" };
                let said = format!("#{} is {state} at {}", news.number, news.commit.short());
                self.pull_request_changed(forge.pipeline, news).await?;
                Ok(Some(said))
            }
            News::Push(push) => self.pushed(forge, push).await,
            News::Check(check) => self.checked(forge.pipeline, check).await,
            News::Ping => Ok(Some("the webhook is set up".into())),
            News::Other => Ok(None),
        }
    }

    /// A push deploys what has a trigger for it, and tells the upstream where it is the upstream's branch.
    async fn pushed(&self, forge: &ForgeConnection, push: PushNews) -> Result<Option<String>> {
        let Some(commit) = push.after.clone() else { return Ok(None) };
        let followed = self.follow(forge, &push).await?;
        let at = format!("{} is at {}", push.reference.name(), commit.short());
        let origin = RefOrigin::Forge {
            pipeline: forge.pipeline,
            repository: forge.repository.to_string(),
            before: push.before,
            pusher: self.pusher(forge.pipeline, push.email.as_ref())?,
        };
        let news = RefNews { origin, reference: push.reference, commit, by: push.by };
        let set_off = self.ref_moved(news).await?;
        let (refused, apps): (Vec<_>, Vec<_>) = set_off.into_iter().partition(|of| of.refused.is_some());
        let waits = apps.iter().filter_map(|of| Some(format!("; {}: {}", of.app, of.waits.as_ref()?)));
        let waits: String = waits.collect();
        let apps: Vec<String> = apps.into_iter().map(|of| of.app.into()).collect();
        let refused = refused.into_iter().filter_map(|of| Some(format!("; not for {}: {}", of.app, of.refused?)));
        let refused: String = refused.collect();
        Ok(match (apps.is_empty(), followed || !refused.is_empty()) {
            (false, _) => Some(format!("{at}, for {}{waits}{refused}", apps.join(", "))),
            (true, true) => Some(format!("{at}{refused}")),
            (true, false) => None,
        })
    }

    /// The account of an address that a forge gave, where it is of somebody who sees the pipeline: they are told what became
    /// of theirs. Nothing is allowed because of it, for it is the forge's word.
    fn pusher(&self, pipeline: PipelineId, email: Option<&Email>) -> Result<Option<AccountId>> {
        let Some(email) = email.filter(|email| email.team().is_none()) else { return Ok(None) };
        let (account, pipeline) =
            self.store().read(|c| Ok((c.account(&NameOrId::Name(email.to_string()))?, c.pipeline_by_id(pipeline)?)))?;
        match account {
            Some(account) if self.sees_pipeline(&account, &pipeline)? => Ok(Some(account.id)),
            _ => Ok(None),
        }
    }

    /// Has the upstream fetched where a push is to its branch. A pipeline whose upstream nobody told learns it from its
    /// repository's main branch.
    async fn follow(&self, forge: &ForgeConnection, push: &PushNews) -> Result<bool> {
        let RefName::Branch(branch) = &push.reference else { return Ok(false) };
        let known = self.store().read(|c| c.upstream(forge.pipeline))?;
        let follows = match &known {
            Some(upstream) => upstream.branch == *branch,
            None => push.default_branch.as_ref() == Some(branch),
        };
        if follows && known.is_none() {
            let now = self.now();
            let upstream = Upstream {
                pipeline: forge.pipeline,
                branch: branch.clone(),
                url: None,
                tip: None,
                heard_at: None,
                failure: None,
                created_at: now,
                updated_at: now,
            };
            let told = self.store().write(move |c| {
                // Somebody may have told another one meanwhile.
                match c.upstream(upstream.pipeline)? {
                    Some(_) => Ok(()),
                    None => c.put_upstream(&upstream),
                }
            });
            told.await?;
        }
        if follows {
            self.fetch_upstream_soon(forge.pipeline);
        }
        Ok(follows)
    }

    async fn checked(&self, pipeline: PipelineId, check: CheckNews) -> Result<Option<String>> {
        let CheckNews { commit, context, state, at } = check;
        if context.starts_with(OWN_CONTEXT) {
            return Ok(None);
        }
        let said = format!("{context} of {}: {state}", commit.short());
        let of = commit.clone();
        let together = self.store().write(move |c| c.put_forge_check(pipeline, &of, &context, state, at)).await?;
        self.checks_changed(pipeline, commit, together).await?;
        Ok(Some(said))
    }
}
