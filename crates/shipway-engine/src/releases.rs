//! Releases without a build: rollback, a slug that is there, the running one once more.

use crate::change::pending_release;
use crate::error::Error;
use crate::gate::Incoming;
use crate::plan::{Code, Part, Plan, ReleasePlan};
use crate::ports::Caller;
use crate::starts::BUILD_AGAIN;
use crate::transfers::short_name;
use crate::{Platform, Result};
use shipway_domain::addon::TransferKind;
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::{OperationStatus, ReleaseStatus};
use shipway_domain::migrations::{Backup, Migrations, Onward, SchemaMoved};
use shipway_domain::{CommitId, NameOrId, OperationId, SlugId};
use shipway_store::{App, Release};

/// Later states of the code that are looked at for migrations.
const LATER: usize = 10;

/// Code that ran after a release.
struct Later {
    commit: CommitId,
    /// The newest release with it, of those that worked where there are any.
    newest: Release,
    /// The first release with it.
    first: Release,
}

/// A push that is under way and comes live after what is released now.
#[derive(Debug, Clone)]
pub struct Coming {
    /// Its operation.
    pub operation: OperationId,
    /// What it brings.
    pub commit: CommitId,
    /// Who pushed it.
    pub by: String,
}

impl Coming {
    /// It for whoever goes back meanwhile, with the command that ends it.
    pub fn sentence(&self) -> String {
        format!(
            "A push of {} by {} is under way and will replace this when its turn comes. To cancel it: shipway ops {} --cancel",
            self.commit.short(),
            self.by,
            self.operation
        )
    }
}

impl Platform {
    /// A release by id, version (`12`, `v12`) or `current`.
    pub fn release(&self, app: &App, which: &str) -> Result<Release> {
        let found = self.store().read(|c| {
            if which == "current" {
                let current = c.app_by_id(app.id)?.current_release;
                return current.map(|r| c.release(r)).transpose().map(Option::flatten);
            }
            match NameOrId::parse(which) {
                NameOrId::Id(id) => c.release(shipway_domain::ReleaseId(id)),
                NameOrId::Name(text) => match text.strip_prefix('v').unwrap_or(&text).parse::<u32>() {
                    Ok(version) => c.release_by_version(app.id, version.into()),
                    Err(_) => Ok(None),
                },
            }
        })?;
        found.filter(|r| r.app == app.id).ok_or_else(|| {
            // The CLI sends `99` for `v99`.
            let version = which.parse::<u32>().map_or_else(|_| which.to_string(), |version| format!("v{version}"));
            Error::missing_one("release", &version, &format!("`heroku releases -a {}` lists what there is.", app.name))
        })
    }

    /// The release that brought the code that runs: changes of config since then carry the same code.
    pub fn latest_deployment(&self, app: &App) -> Result<Option<Release>> {
        let releases = self.store().read(|c| c.releases(app.id))?;
        let Some(current) = releases.iter().find(|r| Some(r.id) == app.current_release && r.slug.is_some()) else {
            return Ok(None);
        };
        let older = releases.iter().filter(|r| r.status == ReleaseStatus::Succeeded && r.version <= current.version);
        Ok(older.take_while(|r| r.slug == current.slug).last().cloned())
    }

    /// Whether an app can go back to a release: it worked, it has code, and the code is still kept.
    pub fn eligible_for_rollback(&self, release: &Release) -> bool {
        release.status == ReleaseStatus::Succeeded
            && release.slug.is_some_and(|s| self.store().read(|c| c.slug(s)).is_ok_and(|s| s.is_some()))
    }

    /// The release before the current one that an app can go back to. Errors: there is none.
    pub fn previous_release(&self, app: &App) -> Result<Release> {
        let releases = self.store().read(|c| c.releases(app.id))?;
        let after = releases.into_iter().skip_while(|r| Some(r.id) != app.current_release).skip(1);
        let found = after.into_iter().find(|r| self.eligible_for_rollback(r));
        found.ok_or_else(|| Error::invalid(format!("{} has no earlier release to go back to.", app.name)))
    }

    /// Says whether the schema has moved on since a release: migrations that code which ran later brought. A later
    /// release counts when it worked, or failed after its release phase had run.
    pub async fn schema_moved(&self, app: &App, to: &Release) -> Result<Option<SchemaMoved>> {
        let older = self.point_of(app, None, Some(&format!("v{}", to.version))).await?;
        let Some(base) = &older.spot else { return Ok(None) };
        let later = self.later_code(app, to, &base.commit)?;
        let (mut found, mut brought): (Option<(&Later, Migrations)>, Vec<&Release>) = (None, Vec::new());
        for it in later.iter().take(LATER) {
            let Some(head) = self.spot(app, &it.commit).await? else {
                brought.push(&it.first);
                continue;
            };
            let migrations = self.inner.parts.histories.migrations(Some(base), &head).await?;
            if migrations.added.is_empty() {
                continue;
            }
            brought.push(&it.first);
            if found.as_ref().is_none_or(|(_, most)| migrations.added.len() > most.added.len()) {
                found = Some((it, migrations));
            }
        }
        // What was not looked at may have brought some: a backup from after it is not from before them.
        brought.extend(later.iter().skip(LATER).map(|it| &it.first));
        let first = brought.into_iter().min_by_key(|release| release.version);
        let Some(((Later { commit, newest, .. }, migrations), brought)) = found.zip(first) else { return Ok(None) };
        let onward = match newest.status {
            ReleaseStatus::Succeeded if self.eligible_for_rollback(newest) => Onward::Open,
            ReleaseStatus::Succeeded => Onward::Gone,
            _ => Onward::Failed,
        };
        Ok(Some(SchemaMoved {
            to: to.version,
            with_code_of: newest.version,
            commit: commit.clone(),
            onward,
            brought_by: brought.version,
            backup: self.backup_before(app, brought)?,
            migrations,
        }))
    }

    /// The code that ran after a release and is not `base`, the newest first. A release that worked stands for its code
    /// rather than one that did not.
    fn later_code(&self, app: &App, to: &Release, base: &CommitId) -> Result<Vec<Later>> {
        Ok(self.store().read(|c| {
            let mut later: Vec<Later> = Vec::new();
            for release in c.releases(app.id)?.into_iter().filter(|r| r.version > to.version) {
                let worked = release.status == ReleaseStatus::Succeeded;
                let slug = release.slug.filter(|_| worked || release.has_output);
                let slug = slug.map(|slug| c.slug(slug)).transpose()?.flatten();
                let Some(commit) = slug.and_then(|slug| slug.commit).filter(|commit| commit != base) else { continue };
                match later.iter_mut().find(|known| known.commit == commit) {
                    Some(known) => {
                        if worked && known.newest.status != ReleaseStatus::Succeeded {
                            known.newest = release.clone();
                        }
                        known.first = release;
                    }
                    None => later.push(Later { commit, newest: release.clone(), first: release }),
                }
            }
            Ok(later)
        })?)
    }

    /// The newest backup of an app's database that was done before a release was made.
    fn backup_before(&self, app: &App, release: &Release) -> Result<Option<Backup>> {
        let (transfers, attachments) = self.store().read(|c| Ok((c.transfers(app.id)?, c.attachments(app.id)?)))?;
        let primary = attachments.iter().find(|a| a.name.as_str() == "DATABASE").map(|a| a.addon);
        let backup = transfers.into_iter().find_map(|t| {
            let finished_at = t.finished_at.filter(|at| *at <= release.created_at)?;
            let whole = t.kind == TransferKind::Backup && t.succeeded == Some(true);
            (whole && primary.is_none_or(|addon| addon == t.addon))
                .then(|| Backup { name: short_name(&t), finished_at })
        });
        Ok(backup)
    }

    /// The pushes to an app that come live after whatever is released now, and replace it: they have no version yet. In the
    /// order in which they were asked for.
    pub fn coming(&self, app: &App) -> Result<Vec<Coming>> {
        Ok(self.store().read(|c| {
            let mut coming = Vec::new();
            for operation in c.open_operations()?.into_iter().filter(|one| one.apps.contains(&app.id) && !one.cancel) {
                let Ok(plan) = Plan::of(&operation) else { continue };
                let part = plan.part(app.id).filter(|part| part.setup.is_none());
                let Some((build, release)) = part.and_then(|part| part.build.as_ref().zip(part.release.as_ref()))
                else {
                    continue;
                };
                if operation.status == OperationStatus::Unwinding || c.release(release.release)?.is_some() {
                    continue;
                }
                let by = c.account_by_id(operation.account)?.email.to_string();
                coming.push(Coming { operation: operation.id, commit: build.commit.clone(), by });
            }
            Ok(coming)
        })?)
    }

    /// Makes a release with the code and the config vars of an earlier one. Errors: a failed one, one whose code is
    /// not kept any more.
    pub async fn rollback(&self, caller: &Caller, app: &App, to: &Release) -> Result<Release> {
        self.admit(caller, Trigger::Rollback, app).await?;
        if !self.eligible_for_rollback(to) {
            return Err(Error::invalid(match to.status {
                ReleaseStatus::Succeeded if to.slug.is_none() => {
                    format!("v{} has no code: it is from before the first deploy.", to.version)
                }
                ReleaseStatus::Succeeded => format!(
                    "The code of v{} is not kept any more. Push its commit again: git push heroku <commit>:main",
                    to.version
                ),
                _ => format!("v{} failed: choose a release that worked (heroku releases).", to.version),
            }));
        }
        let slug = to.slug.ok_or_else(|| Error::missing("slug"))?;
        if let Some(slug) = self.store().read(|c| c.slug(slug))? {
            let again = slug.commit.as_ref().map(|c| format!("git push --force heroku {}:main", c.short()));
            self.ensure_or(&slug, again.as_deref().unwrap_or(BUILD_AGAIN)).await?;
        }
        let mut plan = self.release_plan(app, format!("Rollback to v{}", to.version), Code::Slug(slug));
        plan.config_of = Some(to.id);
        let (release, _) = self.make_release(caller, app, Trigger::Rollback, plan).await?;
        Ok(release)
    }

    /// Releases a slug of the app. Errors: another app's, or none.
    pub async fn release_slug(
        &self,
        caller: &Caller,
        app: &App,
        slug: SlugId,
        description: Option<String>,
    ) -> Result<Release> {
        self.admit(caller, Trigger::SlugRelease, app).await?;
        let found = self.store().read(|c| c.slug(slug))?.filter(|s| s.app == app.id);
        let found = found.ok_or_else(|| Error::missing("slug"))?;
        let place = self.place_of_slug(app, &found).await?;
        let code = Incoming { commit: found.commit.as_ref(), artifact: None, place };
        let subject = self.subject_with(caller, app, code).await?;
        self.admit_subject(caller, Trigger::SlugRelease, app, subject).await?;
        let commit = found.commit.as_ref().map_or("slug", |c| c.short()).to_string();
        let description = description.filter(|d| !d.trim().is_empty()).unwrap_or(format!("Deploy {commit}"));
        let plan = self.release_plan(app, description.chars().take(200).collect(), Code::Slug(slug));
        let (release, _) = self.make_release(caller, app, Trigger::SlugRelease, plan).await?;
        Ok(release)
    }

    /// Releases the running code once more.
    pub async fn redeploy(&self, caller: &Caller, app: &App) -> Result<(Release, OperationId)> {
        self.admit(caller, Trigger::Redeploy, app).await?;
        let current = self.release(app, "current")?;
        let Some(slug) = current.slug else {
            return Err(Error::invalid(format!("{} has no code yet. Push some: git push heroku main", app.name)));
        };
        let commit = self.store().read(|c| c.slug(slug))?.and_then(|s| s.commit);
        let commit = commit.as_ref().map_or("code", |c| c.short());
        let plan = self.release_plan(app, format!("Redeploy {commit}"), Code::Current);
        self.make_release(caller, app, Trigger::Redeploy, plan).await
    }

    pub(crate) async fn make_release(
        &self,
        caller: &Caller,
        app: &App,
        trigger: Trigger,
        release: ReleasePlan,
    ) -> Result<(Release, OperationId)> {
        let id = release.release;
        let row = pending_release(id, app.id, caller.actor.account, &release.description, None, self.now());
        let (config_of, app_id) = (release.config_of, app.id);
        let description = release.description.clone();
        let plan = self.plan(caller, trigger, Part { release: Some(release), ..Part::new(app.id) });
        let operation = self
            .submit(plan, move |c| {
                let config = match config_of {
                    Some(earlier) => c.config_to_return_to(earlier)?,
                    None => c.config_vars(app_id)?,
                };
                c.insert_release(&row, &config).map(|_| ())
            })
            .await?;
        let made = self.store().read(|c| c.release_by_id(id))?;
        self.log_api(app.id, &format!("{description} by user {}", caller.actor.email));
        self.log_api(app.id, &format!("Release v{} created by user {}", made.version, caller.actor.email));
        Ok((made, operation))
    }
}
