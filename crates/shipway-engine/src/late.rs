//! Pushes that a forge tells of late: after a newer one of the same branch or tag.
//!
//! A delivery that failed is sent again, and may come when what followed it is deployed, or waits. Then it says nothing
//! new: its commit is part of the newer one. A ref that was forced back looks alike but for one thing: it was moved from where
//! it was last heard to be.

use crate::ports::{Place, Spot};
use crate::{Platform, Result};
use shipway_domain::CommitId;
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::triggers::TriggeredStatus;
use shipway_store::{CommitSource, Conn, TriggeredDeploy};

impl Platform {
    /// Why a push that a forge told of is not deployed: newer code of the same ref is deployed, or waits. Asked when it is
    /// heard of, and again when it has its turn, because others may have been under way.
    pub(crate) async fn comes_late(&self, push: &TriggeredDeploy) -> Result<Option<String>> {
        if !matches!(push.source, CommitSource::Forge(_)) {
            return Ok(None);
        }
        for newer in self.store().read(|c| heard_before(c, push))? {
            if !self.is_part_of(push, &newer.commit).await? {
                continue;
            }
            let (commit, after, reference) = (push.commit.short(), newer.commit.short(), &push.reference);
            let how = match newer.status {
                TriggeredStatus::Waiting => "which waits",
                _ => "which is deployed already",
            };
            return Ok(Some(format!(
                "{commit} was pushed to {reference} before {after}, {how}: the forge told of it late. To run it all the \
                 same: git push heroku {commit}:main"
            )));
        }
        Ok(None)
    }

    /// Whether the commit of a push is part of another one, as far as one of our repositories has both.
    async fn is_part_of(&self, push: &TriggeredDeploy, newer: &CommitId) -> Result<bool> {
        let histories = &self.inner.parts.histories;
        let upstream = self.store().read(|c| match push.pipeline {
            Some(pipeline) => c.upstream(pipeline),
            None => Ok(None),
        })?;
        let upstream = upstream.filter(|upstream| upstream.tip.is_some()).map(|of| Place::Upstream(of.pipeline));
        for place in [Some(Place::App(push.app)), upstream].into_iter().flatten() {
            let has = async |commit: &CommitId| -> Result<bool> {
                Ok(histories.find(place, commit.as_str()).await?.as_ref() == Some(commit))
            };
            if has(&push.commit).await? && has(newer).await? {
                let spot = |commit: &CommitId| Spot { place, commit: commit.clone() };
                return Ok(histories.commits(&spot(newer), &spot(&push.commit), 0).await?.ahead_count == 0);
            }
        }
        Ok(false)
    }
}

/// What the ref of a push has deployed last, and what of it waited when the push was heard of; but nothing that the push
/// moved the ref away from.
fn heard_before(c: &Conn<'_>, push: &TriggeredDeploy) -> shipway_store::Result<Vec<TriggeredDeploy>> {
    let mut others = c.triggered_deploys_of(push.app, &push.reference)?;
    others.retain(|other| other.id != push.id && other.status != TriggeredStatus::Refused);
    let earlier = |other: &TriggeredDeploy| other.created_at <= push.created_at;
    let heard = others.iter().find(|other| earlier(other)).map(|last| last.commit.clone());
    let moved_on = heard.is_some() && push.before == heard;
    let (mut found, mut deployed) = (Vec::new(), false);
    for other in others {
        let counts = match (other.status, other.operation) {
            (TriggeredStatus::Waiting, _) => earlier(&other),
            (TriggeredStatus::Begun, Some(operation)) if !deployed => {
                deployed = c.operation(operation)?.status == OperationStatus::Succeeded;
                deployed
            }
            _ => false,
        };
        if counts && other.commit != push.commit && !(moved_on && earlier(&other)) {
            found.push(other);
        }
    }
    Ok(found)
}
