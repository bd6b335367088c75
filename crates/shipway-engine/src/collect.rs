//! Collection: what no release can go back to, expired tokens, old log segments, stale uploads.

use crate::{LOG_LIMITS, Platform, Result};
use jiff::SignedDuration;
use shipway_domain::AppId;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// How long a repository is left alone after it was packed.
const MAINTAINED: Duration = Duration::from_secs(24 * 60 * 60);
/// Uploaded sources are kept this long.
const SOURCES: SignedDuration = SignedDuration::from_hours(24);
/// What is said of review apps and setups whose apps are gone is kept this long.
const REPORTS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What triggers asked for, what checks said and what people were told is kept this long.
const TRIGGERED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// What a forge's webhook brought is known again this long, so that it is not carried out twice.
const DELIVERIES: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A slug younger than this is never collected: its release may be about to be written.
const YOUNG: SignedDuration = SignedDuration::from_hours(1);

impl Platform {
    pub(crate) async fn keep_tidy(self) {
        let mut maintained = HashMap::new();
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(e) = self.tidy().await {
                tracing::error!(error = %e, cause = ?e.cause, "the platform could not be tidied");
            }
            if let Err(e) = self.maintain_one(&mut maintained, Instant::now()).await {
                tracing::warn!(error = %e, cause = ?e.cause, "a repository could not be maintained");
            }
        }
    }

    /// Packs the repository of one app that waits for it: one at a time, each once a day, none while something of its app
    /// is under way. `maintained` says when each was, last.
    async fn maintain_one(&self, maintained: &mut HashMap<AppId, Instant>, now: Instant) -> Result<()> {
        let (apps, open) = self.store().read(|c| Ok((c.apps()?, c.open_operations()?)))?;
        maintained.retain(|id, _| apps.iter().any(|app| app.id == *id));
        let due = |id: &AppId| maintained.get(id).is_none_or(|last| now.duration_since(*last) >= MAINTAINED);
        let idle = |id: &AppId| !open.iter().any(|o| o.apps.contains(id));
        let Some(next) = apps.iter().map(|app| app.id).find(|id| due(id) && idle(id)) else { return Ok(()) };
        // Before it is tried: one that cannot be packed must not keep the others from it.
        maintained.insert(next, now);
        Ok(self.inner.parts.repositories.maintain(next).await?)
    }

    /// Collects once. Never removes what one of the newest releases of an app can go back to.
    pub async fn tidy(&self) -> Result<()> {
        let now = self.now();
        self.store().write(move |c| c.delete_expired_tokens(now)).await?;
        let apps = self.store().read(|c| c.apps())?;
        for app in &apps {
            let dir = self.log_dir(app.id);
            let (bytes, age) = LOG_LIMITS;
            let pruned = tokio::task::spawn_blocking(move || {
                shipway_logs::prune(&dir, bytes, age, std::time::SystemTime::now())
            });
            if let Ok(Err(e)) = pruned.await {
                tracing::warn!(app.name = %app.name, error = %e, "old log segments could not be removed");
            }
        }
        let (keep, young) = (self.settings().keep_releases, now - YOUNG);
        // Looked at and deleted in one transaction: nothing can be released in between.
        let stay = self
            .store()
            .write(move |c| {
                // An operation may be about to release code that no release names yet. The next time will do.
                if !c.open_operations()?.is_empty() {
                    return c.slugs();
                }
                let mut kept = HashSet::new();
                for app in c.apps()? {
                    let releases = c.releases(app.id)?;
                    let mut code: Vec<_> = releases.iter().filter_map(|r| r.slug).collect();
                    code.dedup();
                    kept.extend(code.into_iter().take(keep));
                    kept.extend(releases.iter().filter(|r| Some(r.id) == app.current_release).filter_map(|r| r.slug));
                }
                for dyno in c.all_dynos()? {
                    kept.extend(c.release(dyno.release)?.and_then(|r| r.slug));
                }
                let (stay, go): (Vec<_>, Vec<_>) =
                    c.slugs()?.into_iter().partition(|s| kept.contains(&s.id) || s.created_at > young);
                for slug in go {
                    c.delete_slug(slug.id)?;
                }
                Ok(stay)
            })
            .await?;
        let manifests: Vec<_> = stay.into_iter().map(|s| s.manifest).collect();
        let freed = self.inner.parts.builder.collect(&manifests).await?;
        tracing::debug!(bytes = freed, "collected");
        let gone = self
            .store()
            .write(move |c| {
                c.forget_review_apps_before(now - REPORTS)?;
                c.forget_triggered_before(now - TRIGGERED)?;
                c.forget_forge_deliveries(now - REPORTS, now - DELIVERIES)?;
                c.forget_notices_before(now - TRIGGERED)?;
                c.delete_app_setups_before(now - REPORTS)
            })
            .await?;
        gone.into_iter().for_each(|build| self.inner.outputs.remove(build.0));
        self.remove_old_sources(now - SOURCES).await
    }

    async fn remove_old_sources(&self, then: jiff::Timestamp) -> Result<()> {
        let gone = self.store().write(move |c| c.delete_sources_before(then)).await?;
        for source in gone {
            let path = self.settings().home.join("sources").join(source.to_string());
            if let Err(e) = tokio::fs::remove_file(&path).await
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(source.id = %source, error = %e, "an old upload could not be removed");
            }
        }
        Ok(())
    }
}
