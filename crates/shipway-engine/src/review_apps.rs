//! Review apps: what a pipeline decided about them, making and removing them by hand, and who may.
//!
//! What keeps them as they are wanted is in `reviewing`.

use crate::error::Error;
use crate::pipelines::Access;
use crate::ports::Caller;
use crate::reviewing::{may_be_built, seen};
use crate::{Event, Platform, Result, SourceBlob, SourceOrder};
use jiff::SignedDuration;
use shipway_domain::admission::Trigger;
use shipway_domain::review::{BranchName, Checks, Policy, ReviewAppStatus, Wanted, hold};
use shipway_domain::{AppName, CommitId, PipelineId, ReviewAppId, Stage};
use shipway_store::{
    App, ConfigVars, Pipeline, PullRequest, ReviewApp, ReviewAppConfig, ReviewAppSettings, ReviewOrigin,
};

/// Fewest and most days until a review app is stale.
const STALE_DAYS: std::ops::RangeInclusive<u32> = 1..=60;
/// Most review apps of one pipeline at once.
const MAX_QUOTA: u32 = 1000;
/// Fewest characters of a password: what guards the router is a fast hash.
const MIN_PASSWORD: usize = 12;

/// Where a review app's code is.
#[derive(Debug, Clone)]
pub enum ReviewSource {
    /// The head of the branch in the parent's repository.
    Branch,
    /// An uploaded archive.
    Upload(SourceBlob, SourceOrder),
}

/// What a new review app is to be.
#[derive(Debug, Clone)]
pub struct NewReviewApp {
    /// Its branch.
    pub branch: BranchName,
    /// Its pull request.
    pub pr_number: Option<u64>,
    /// Its code.
    pub source: ReviewSource,
    /// Config vars that count more than all others.
    pub environment: ConfigVars,
}

impl Platform {
    /// What a pipeline decided about review apps. Errors: they are not enabled.
    pub fn review_app_config(&self, pipeline: &Pipeline) -> Result<ReviewAppConfig> {
        self.store().read(|c| c.review_app_config(pipeline.id))?.ok_or_else(|| not_enabled(pipeline))
    }

    /// Enables review apps, or changes what was decided about them, as it is when that is written down: two changes at once
    /// are both kept. It counts for those too that are there from before they were disabled, and the password of those stays.
    ///
    /// Errors: a setting that makes no sense, a parent that is no app of the pipeline.
    pub async fn set_review_app_config(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        change: impl FnOnce(&mut ReviewAppSettings) + Send + 'static,
    ) -> Result<ReviewAppConfig> {
        self.may(caller, pipeline, Access::Operate)?;
        let mut entry = self.entry(caller, None, "review-apps-configured", serde_json::Value::Null);
        let (pipeline, now) = (pipeline.clone(), self.now());
        let id = pipeline.id;
        let written = self.store().write(move |c| {
            let before = c.review_app_config(id)?;
            let created_at = before.as_ref().map_or(now, |before| before.created_at);
            let mut settings = before.map(|before| before.settings).unwrap_or_default();
            change(&mut settings);
            if let Err(refused) = check_settings(&settings) {
                return Ok(Err(refused));
            }
            if let Some(parent) = settings.parent
                && c.coupling_of(parent)?.is_none_or(|at| at.pipeline != id)
            {
                let name = &pipeline.name;
                return Ok(Err(Error::invalid(format!("The parent app must be an app of the pipeline {name}."))));
            }
            entry.detail = serde_json::json!({ "pipeline": pipeline.name, "settings": settings });
            let config = ReviewAppConfig { pipeline: id, settings, created_at, updated_at: now };
            c.put_review_app_config(&config)?;
            c.record(&entry)?;
            Ok(Ok(config))
        });
        let config = written.await??;
        self.review_soon();
        self.tell(Event::Pipeline(id));
        Ok(config)
    }

    /// Disables review apps: none is made from now on. Those that are there stay until their pull requests are closed, their
    /// branches gone, they are stale or somebody removes them, with their password, and deploys to them wait for CI as before.
    pub async fn disable_review_apps(&self, caller: &Caller, pipeline: &Pipeline) -> Result<ReviewAppConfig> {
        self.may(caller, pipeline, Access::Operate)?;
        let config = self.review_app_config(pipeline)?;
        let entry = self.entry(caller, None, "review-apps-disabled", serde_json::json!({ "pipeline": pipeline.name }));
        let (id, now) = (pipeline.id, self.now());
        self.write_with(entry, move |c| c.disable_review_app_config(id, now)).await?;
        self.review_soon();
        self.tell(Event::Pipeline(pipeline.id));
        Ok(config)
    }

    /// Puts all review apps of a pipeline behind a password, or opens them; also those that are there while no new ones are
    /// made. Errors: one that is too short.
    pub async fn set_review_password(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        password: Option<String>,
    ) -> Result<()> {
        self.may(caller, pipeline, Access::Operate)?;
        self.store().read(|c| c.review_settings(pipeline.id))?.ok_or_else(|| not_enabled(pipeline))?;
        if password.as_ref().is_some_and(|p| p.chars().count() < MIN_PASSWORD || p.contains(char::is_control)) {
            return Err(Error::invalid(format!(
                "The password must have {MIN_PASSWORD} characters at least, none of them a control character."
            )));
        }
        let detail = serde_json::json!({ "pipeline": pipeline.name, "set": password.is_some() });
        let entry = self.entry(caller, None, "review-apps-password", detail);
        let (id, now) = (pipeline.id, self.now());
        self.write_with(entry, move |c| {
            c.set_review_password(id, password.as_deref())?;
            c.next_epoch(None, now)
        })
        .await?;
        self.routed_soon().await
    }

    /// The app whose config a pipeline's review apps begin with and whose branches they are for: the one that was
    /// chosen, else the first of staging, else of development.
    pub fn review_parent(&self, pipeline: &Pipeline) -> Result<Option<App>> {
        let parent = self.store().read(|c| {
            let chosen = c.review_settings(pipeline.id)?.and_then(|settings| settings.parent);
            let couplings = c.couplings(pipeline.id)?;
            let first = |stage: Stage| couplings.iter().find(|at| at.stage == stage).map(|at| at.app);
            let id = chosen
                .filter(|app| couplings.iter().any(|at| at.app == *app))
                .or_else(|| first(Stage::Staging))
                .or_else(|| first(Stage::Development));
            id.map(|id| c.app(&id.into())).transpose().map(Option::flatten)
        })?;
        Ok(parent)
    }

    /// The repository that a pipeline's branches are in: `owner/name` at a forge, else the parent's own, by the app's name.
    pub fn review_repository(&self, pipeline: &Pipeline) -> Result<String> {
        let named = self.store().read(|c| c.review_app_config(pipeline.id))?.map(|c| c.settings.repo);
        let named = named.filter(|repo| repo.contains('/'));
        match named.or_else(|| pipeline.settings.repository.clone()) {
            Some(repo) => Ok(repo),
            None => match self.review_parent(pipeline)? {
                Some(parent) => Ok(parent.name.to_string()),
                None => Err(Error {
                    message: format!(
                        "{} has no app in staging or development, whose branches it would have.",
                        pipeline.name
                    ),
                    ..Error::missing("repo")
                }),
            },
        }
    }

    /// The head of a branch in the repository that a pipeline's review apps are for. Errors: no such branch.
    pub async fn review_branch(&self, pipeline: &Pipeline, branch: &str) -> Result<(BranchName, CommitId)> {
        let missing = || Error {
            message: match self.review_parent(pipeline) {
                Ok(Some(parent)) => format!(
                    "There is no such branch. Push it to {0} first: git push <remote of {0}> <branch>",
                    parent.name
                ),
                _ => format!("{} has no app in staging or development, whose branches they would be.", pipeline.name),
            },
            ..Error::missing("branch")
        };
        let Ok(branch) = BranchName::parse(branch) else { return Err(missing()) };
        let parent = self.review_parent(pipeline)?.ok_or_else(missing)?;
        let head = self.inner.parts.repositories.branch(parent.id, &branch).await?;
        head.map(|commit| (branch, commit)).ok_or_else(missing)
    }

    /// Whether a pushed branch of an app is kept because a review app is made of it, or runs it.
    pub fn reviews_branch_of(&self, app: &App, branch: &str) -> Result<bool> {
        let Some(at) = self.store().read(|c| c.coupling_of(app.id))? else { return Ok(false) };
        let (pipeline, enabled) =
            self.store().read(|c| Ok((c.pipeline_by_id(at.pipeline)?, c.review_app_config(at.pipeline)?.is_some())))?;
        let reviewed =
            || Ok::<_, Error>(self.review_apps(&pipeline)?.iter().any(|review| review.branch.as_str() == branch));
        let wanted = enabled || reviewed()?;
        Ok(wanted && self.review_parent(&pipeline)?.is_some_and(|parent| parent.id == app.id))
    }

    /// Makes a review app, or notes one that waits until its checks have passed. Whoever may deploy to the parent may.
    /// Errors: not enabled, no such branch, one is there, as many as the quota are there.
    pub async fn create_review_app(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        new: NewReviewApp,
    ) -> Result<ReviewApp> {
        let config = self.review_app_config(pipeline)?;
        let parent = self.review_parent(pipeline)?.ok_or_else(|| {
            Error::invalid(format!(
                "{} has no app in staging or development to take config from. Add one: heroku pipelines:add {0} -a APP",
                pipeline.name
            ))
        })?;
        self.admit(caller, Trigger::Push, &parent).await?;
        let _turn = self.inner.reviewing.lock().await;
        let there = self.ended_before(pipeline, &new)?;
        let known = new.pr_number.map(|n| self.store().read(|c| c.pull_request(pipeline.id, n))).transpose()?.flatten();
        let (origin, commit) = match &new.source {
            ReviewSource::Branch => match &known {
                Some(request) => (ReviewOrigin::PullRequest, Some(request.commit.clone())),
                None => (ReviewOrigin::Branch, Some(self.review_branch(pipeline, new.branch.as_str()).await?.1)),
            },
            ReviewSource::Upload(..) => (ReviewOrigin::Source, None),
        };
        if known.as_ref().is_some_and(|request| !may_be_built(request, &config.settings)) {
            return Err(Error::forbidden(
                "The pull request comes from a fork. Look at its commit, then allow it: shipway reviewapps allow",
            ));
        }
        let waits = match &commit {
            Some(commit) => {
                let checks = match &known {
                    Some(request) => request.checks,
                    None => self.checks_awaited(origin, pipeline.id, commit)?,
                };
                let want = Wanted { commit: commit.clone(), make: true, unallowed_fork: false, checks };
                hold(&want, &policy(&config.settings, true))
            }
            None => None,
        };
        let now = self.now();
        let row = ReviewApp {
            id: there.as_ref().map_or_else(|| self.id(ReviewAppId), |r| r.id),
            pipeline: pipeline.id,
            origin,
            app: None,
            // It is its own for as long as it is wanted.
            app_name: there.and_then(|r| r.app_name),
            setup: None,
            pr_number: new.pr_number,
            branch: new.branch,
            fork: known.and_then(|r| r.fork),
            commit: commit.unwrap_or_else(no_commit),
            status: ReviewAppStatus::Pending,
            message: None,
            creator: caller.actor.account,
            deployed_at: now,
            created_at: now,
            updated_at: now,
        };
        let upload = match new.source {
            ReviewSource::Upload(id, order) => Some((id, order)),
            ReviewSource::Branch => None,
        };
        match waits {
            Some(_) if !new.environment.is_empty() => Err(Error::invalid(format!(
                "The checks of {} have not passed, and config vars that are given by hand are not kept until they have. \
                 Leave `environment` out, or ask again then.",
                row.commit.short()
            ))),
            Some(why) => {
                let row = ReviewApp { message: Some(why), ..row };
                self.put_review(row.clone()).await?;
                Ok(row)
            }
            None => {
                self.has_room(pipeline, config.settings.quota)?;
                self.make_review_app(caller, row, new.environment, upload).await
            }
        }
    }

    /// The review app that is to be made once more, if there was one: of the same pull request or branch, and it has no
    /// app. Errors: one is there, or under way.
    fn ended_before(&self, pipeline: &Pipeline, new: &NewReviewApp) -> Result<Option<ReviewApp>> {
        let is_same = |r: &ReviewApp| match new.pr_number {
            Some(number) => r.pr_number == Some(number),
            None => r.pr_number.is_none() && r.branch == new.branch,
        };
        let mut reviews = self.store().read(|c| c.review_apps(pipeline.id))?.into_iter();
        let there = reviews.find(|r| is_same(r) && r.status != ReviewAppStatus::Deleted);
        match there {
            // One whose postdeploy script failed is there.
            Some(there) if there.status != ReviewAppStatus::Errored || there.app.is_some() => {
                let name = there.app_name.as_ref().map_or_else(|| there.id.to_string(), ToString::to_string);
                Err(Error::conflict(format!(
                    "There is a review app of {} already: {name} ({}). A push to the branch deploys to it.",
                    there.branch, there.status
                )))
            }
            there => Ok(there),
        }
    }

    /// Errors: as many review apps as the quota are there.
    fn has_room(&self, pipeline: &Pipeline, quota: u32) -> Result<()> {
        let mut there = self.review_apps(pipeline)?;
        there.retain(|review| seen(review).has_place());
        if there.len() < quota as usize {
            return Ok(());
        }
        let (name, count) = (&pipeline.name, there.len());
        let apps = if count == 1 { "app" } else { "apps" };
        let mut message = format!(
            "{name} has {count} review {apps}, and its quota is {quota}. Raise it: shipway reviewapps set {name} --quota {}",
            count + 1
        );
        if let Some((oldest, app)) =
            there.iter().find_map(|r| Some((r, r.app_name.as_ref()?)).filter(|_| r.status != ReviewAppStatus::Deleting))
        {
            message += &format!(
                "\nOr remove one. The oldest is {app} (branch {}, made {}): shipway reviewapps destroy -p {name} {app}",
                oldest.branch,
                oldest.created_at.strftime("%Y-%m-%d")
            );
        }
        Err(Error::invalid(message))
    }

    /// What checks say of the commit of a review app that is no pull request's. A branch does not wait for what nobody tells:
    /// without a forge, and without CI that told of any commit, its checks count as passed. So do those of an upload.
    pub(crate) fn checks_awaited(
        &self,
        origin: ReviewOrigin,
        pipeline: PipelineId,
        commit: &CommitId,
    ) -> Result<Checks> {
        if origin != ReviewOrigin::Branch {
            return Ok(Checks::Succeeded);
        }
        let (checks, heard) = self.store().read(|c| {
            let told = c.hears_of_checks(pipeline)? || c.forge_of(pipeline)?.is_some();
            Ok((c.commit_checks(pipeline, commit)?, told))
        })?;
        Ok(if heard { checks } else { Checks::Succeeded })
    }

    /// Makes a review app again that could not be made, from its branch's present commit. Config vars that were given for
    /// the first try alone are not given again. Errors: as for a new one; it did not fail, or its app is there.
    pub async fn retry_review_app(&self, caller: &Caller, pipeline: &Pipeline, review: ReviewApp) -> Result<ReviewApp> {
        if review.status != ReviewAppStatus::Errored || review.app.is_some() {
            return Err(Error::invalid(format!(
                "The review app of {} is {}: only one that could not be made is made again.",
                review.branch, review.status
            )));
        }
        if review.origin == ReviewOrigin::Source {
            return Err(Error::invalid("It was made from an upload, which is not kept. Make it again from one."));
        }
        let new = NewReviewApp {
            branch: review.branch,
            pr_number: review.pr_number,
            source: ReviewSource::Branch,
            environment: ConfigVars::new(),
        };
        self.create_review_app(caller, pipeline, new).await
    }

    /// The review apps of a pipeline, oldest first; those that are deleted are left out.
    pub fn review_apps(&self, pipeline: &Pipeline) -> Result<Vec<ReviewApp>> {
        let all = self.store().read(|c| c.review_apps(pipeline.id))?;
        Ok(all.into_iter().filter(|r| r.status != ReviewAppStatus::Deleted).collect())
    }

    /// A review app of a pipeline that the caller may see, deleted ones included.
    pub fn review_app(&self, caller: &Caller, id: ReviewAppId) -> Result<ReviewApp> {
        let found = self.store().read(|c| c.review_app(id))?;
        let seen = found.filter(|r| self.pipeline(caller, &r.pipeline.into()).is_ok());
        seen.ok_or_else(|| Error::missing("review_app"))
    }

    /// The review app that an app is. Errors: it is none.
    pub fn review_app_of(&self, app: &App) -> Result<ReviewApp> {
        self.store().read(|c| c.review_app_of(app.id))?.ok_or_else(|| Error {
            message: format!("{} is not a review app.", app.name),
            ..Error::missing("review_app")
        })
    }

    /// Removes a review app and all that it owned. It is made again when its pull request gets another commit. Whoever
    /// may deploy to the parent may.
    pub async fn delete_review_app(&self, caller: &Caller, review: &ReviewApp) -> Result<ReviewApp> {
        let pipeline = self.store().read(|c| c.pipeline_by_id(review.pipeline))?;
        match self.review_parent(&pipeline)? {
            Some(parent) => {
                self.admit(caller, Trigger::Push, &parent).await?;
            }
            None => self.may(caller, &pipeline, Access::Operate)?,
        }
        let _turn = self.inner.reviewing.lock().await;
        self.remove_review_app(review.id).await?;
        let removed = self.store().read(|c| c.review_app(review.id))?;
        removed.ok_or_else(|| Error::missing("review_app"))
    }

    /// Whether a pull request's commit is built only when somebody allows it: it is from a fork, and nobody has.
    pub fn waits_for_permission(&self, pipeline: &Pipeline, request: &PullRequest) -> Result<bool> {
        let settings = self.store().read(|c| c.review_settings(pipeline.id))?;
        Ok(request.open && !may_be_built(request, &settings.unwrap_or_default()))
    }

    /// Lets the present commit of a fork's pull request be built. Whoever may deploy to the parent may: it is their
    /// machine that runs a stranger's code. It still gets none of the parent's config.
    ///
    /// `seen`: the commit that they looked at. Errors: the pull request has another one by now.
    pub async fn allow_pull_request(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        number: u64,
        seen: Option<&CommitId>,
    ) -> Result<PullRequest> {
        let parent = self.review_parent(pipeline)?.ok_or_else(|| Error::missing("app"))?;
        self.admit(caller, Trigger::Push, &parent).await?;
        let request = self.store().read(|c| c.pull_request(pipeline.id, number))?;
        let request = request.filter(|r| r.open).ok_or_else(|| Error {
            message: format!("There is no open pull request {number} in the repository of {}.", pipeline.name),
            ..Error::missing("pull_request")
        })?;
        if let Some(seen) = seen.filter(|seen| **seen != request.commit) {
            return Err(Error::conflict(format!(
                "#{number} is at {} by now, and you looked at {}. Nothing was allowed; look again.",
                request.commit.short(),
                seen.short()
            )));
        }
        let detail = serde_json::json!({ "pipeline": pipeline.name, "pull_request": number, "commit": request.commit });
        let entry = self.entry(caller, None, "fork-allowed", detail);
        let (id, commit) = (pipeline.id, request.commit.clone());
        self.store()
            .write(move |c| {
                let Some(mut request) = c.pull_request(id, number)? else { return Ok(()) };
                // Exactly the commit that the maintainer saw.
                request.allowed = Some(commit);
                c.put_pull_request(&request)?;
                c.record(&entry)
            })
            .await?;
        self.review_soon();
        Ok(request)
    }
}

/// What settings say of a pipeline that makes new review apps, or does not.
pub(crate) fn policy(settings: &ReviewAppSettings, makes: bool) -> Policy {
    let days = i64::from(settings.stale_days);
    Policy {
        makes,
        wait_for_ci: settings.wait_for_ci,
        stale_after: settings.destroy_stale_apps.then(|| SignedDuration::from_hours(24 * days)),
        quota: settings.quota as usize,
    }
}

/// Errors: a setting that makes no sense by itself.
fn check_settings(settings: &ReviewAppSettings) -> Result<()> {
    if !STALE_DAYS.contains(&settings.stale_days) {
        let (low, high) = (STALE_DAYS.start(), STALE_DAYS.end());
        return Err(Error::invalid(format!("`stale_days` must be a number from {low} to {high}.")));
    }
    if settings.quota > MAX_QUOTA {
        return Err(Error::invalid(format!("`quota` must be {MAX_QUOTA} at most.")));
    }
    if let Some(base) = &settings.base_name {
        // As long as the rest of a name needs room.
        AppName::parse(&format!("{}-pr-1", base.chars().take(25).collect::<String>()))?;
    }
    crate::apps::known("region", &settings.region, &crate::REGIONS)?;
    Ok(())
}

fn not_enabled(pipeline: &Pipeline) -> Error {
    Error {
        message: format!(
            "Review apps are not enabled for {0}. Enable them: heroku reviewapps:enable -p {0}",
            pipeline.name
        ),
        ..Error::missing("review_app_config")
    }
}

/// The header that a browser sends for a password of review apps: the user name is `review`.
pub(crate) fn authorization(password: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("review:{password}"));
    format!("Basic {pair}")
}

/// What stands in a row until the upload is a commit.
fn no_commit() -> CommitId {
    CommitId::parse(&"0".repeat(40)).expect("forty digits are a commit's name")
}
