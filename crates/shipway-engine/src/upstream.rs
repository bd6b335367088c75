//! Upstreams: the line that a pipeline's team works on, and where code stands beside it.
//!
//! It is told (`set`), fetched every few minutes, or pushed to us by CI; what nobody told is not guessed. Where it moves,
//! triggers for its branch are set off; nothing else runs because of it. Code that lacks commits of it is told so before it deploys, and refused where its stage says so;
//! what CI says of a commit is told, and refused, likewise. Both rules are for whatever brings new code, promotions too, whose earlier stage may not ask; what an app has
//! run may come back. Who may change a rule, and nobody else, may take back what it is measured by.

use crate::error::Error;
use crate::pipelines::Access;
use crate::ports::{Caller, FetchRefused, Place, Remote, Spot};
use crate::sides::Point;
use crate::{Event, Platform, RefNews, RefOrigin, Result};
use shipway_domain::address::RemoteAddress;
use shipway_domain::admission::{Behind, Trigger, Unchecked};
use shipway_domain::compare::Beside;
use shipway_domain::review::Checks;
use shipway_domain::triggers::RefName;
use shipway_domain::{BranchName, CommitId, PipelineId, Stage};
use shipway_store::{App, Conn, Pipeline, Upstream};
use std::time::Duration;

/// How often upstreams are fetched.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Commits that are listed of either side.
const LISTED: usize = 20;

/// What it takes to give a pipeline another upstream, or none. Where a stage refuses what lacks its commits that would lift the
/// rule, which is the owner's.
pub(crate) fn to_lead(pipeline: &Pipeline) -> Access {
    if pipeline.settings.refuse_behind.is_empty() { Access::Operate } else { Access::Own }
}

impl Platform {
    /// A pipeline's upstream; none when nobody told it.
    pub fn upstream(&self, pipeline: &Pipeline) -> Result<Option<Upstream>> {
        Ok(self.store().read(|c| c.upstream(pipeline.id))?)
    }

    /// The upstream of an app's pipeline.
    pub(crate) fn upstream_of(&self, app: &App) -> Result<Option<Upstream>> {
        Ok(self.store().read(|c| match c.coupling_of(app.id)? {
            Some(coupling) => c.upstream(coupling.pipeline),
            None => Ok(None),
        })?)
    }

    /// Says where a pipeline's upstream is. Without `url` it is only pushed to us. With one it is fetched first: what
    /// cannot be fetched is not kept.
    ///
    /// Errors: an illegal branch or address, one of a private network, a fetch that fails, in the server's words; a stage
    /// refuses what lacks the present one's commits, and the caller does not own the pipeline.
    pub async fn set_upstream(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        url: Option<&str>,
        branch: &str,
    ) -> Result<Upstream> {
        self.may(caller, pipeline, to_lead(pipeline))?;
        let branch = BranchName::parse(branch)?;
        let now = self.now();
        let (mut tip, mut shown) = (None, None);
        if let Some(url) = url {
            let address = RemoteAddress::parse(url)
                .map_err(|problem| Error::invalid(format!("This upstream cannot be fetched: {problem}.")))?;
            shown = Some(address.shown().to_owned());
            let from = Remote::open(url);
            let _turn = self.turn_of_request().await?;
            let fetched = self.inner.parts.histories.fetch_upstream(pipeline.id, &from, branch.as_str()).await?;
            tip = Some(
                fetched.map_err(|refused| Error::invalid(format!("{} was not fetched: {refused}", address.shown())))?,
            );
        }
        let upstream = Upstream {
            pipeline: pipeline.id,
            branch,
            url: url.map(String::from),
            heard_at: tip.as_ref().map(|_| now),
            tip,
            failure: None,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({ "pipeline": pipeline.name, "branch": upstream.branch, "url": shown });
        let entry = self.entry(caller, None, "upstream-set", detail);
        let row = upstream.clone();
        self.write_with(entry, move |c| c.put_upstream(&row)).await?;
        self.tell(Event::Pipeline(pipeline.id));
        Ok(upstream)
    }

    /// Forgets a pipeline's upstream. Errors: as for another one.
    pub async fn unset_upstream(&self, caller: &Caller, pipeline: &Pipeline) -> Result<()> {
        self.may(caller, pipeline, to_lead(pipeline))?;
        let entry = self.entry(caller, None, "upstream-unset", serde_json::json!({ "pipeline": pipeline.name }));
        let id = pipeline.id;
        self.write_with(entry, move |c| c.delete_upstream(id)).await?;
        self.inner.parts.histories.remove_upstream(id).await?;
        self.tell(Event::Pipeline(id));
        Ok(())
    }

    /// Fetches a pipeline's upstream now. Errors: it has no address; the fetch fails, in the server's words.
    pub async fn fetch_upstream(&self, caller: &Caller, pipeline: &Pipeline) -> Result<Upstream> {
        self.may(caller, pipeline, Access::Operate)?;
        let forge = self.store().read(|c| c.forge_of(pipeline.id))?;
        let known = self.upstream(pipeline)?.filter(|upstream| upstream.url.is_some() || forge.is_some());
        let upstream = known.ok_or_else(|| {
            Error::invalid(format!("{} has no upstream that is fetched: shipway upstream set URL", pipeline.name))
        })?;
        let turn = self.turn_of_request().await?;
        let fetched = self.fetch_one(upstream).await?;
        drop(turn);
        match &fetched.failure {
            Some(failure) => {
                Err(Error::invalid(format!("The upstream of {} was not fetched: {failure}", pipeline.name)))
            }
            None => Ok(fetched),
        }
    }

    /// Takes the end of an upstream's branch that somebody pushed into an app's repository: CI, mostly. The first push
    /// tells the branch.
    ///
    /// Errors: the app is in no pipeline; another branch is the pipeline's upstream; the caller may not deploy to the app; it
    /// lacks commits of the present end, a stage refuses what does, and the caller does not own the pipeline.
    pub async fn push_upstream(&self, caller: &Caller, app: &App, branch: &str, commit: &CommitId) -> Result<()> {
        self.admit(caller, Trigger::Push, app).await?;
        let branch = BranchName::parse(branch)?;
        let Some(coupling) = self.store().read(|c| c.coupling_of(app.id))? else {
            return Err(Error::invalid(format!(
                "{} is in no pipeline, and an upstream is a pipeline's: heroku pipelines:add PIPELINE -a {0}",
                app.name
            )));
        };
        let now = self.now();
        let known = self.store().read(|c| c.upstream(coupling.pipeline))?;
        let is_another = |known: &BranchName| {
            Error::invalid(format!(
                "The upstream of {} is {known}, not {branch}: shipway upstream set --branch {branch}",
                coupling.pipeline_name
            ))
        };
        if let Some(known) = known.as_ref().filter(|known| known.branch != branch) {
            return Err(is_another(&known.branch));
        }
        let from = Spot { place: Place::App(app.id), commit: commit.clone() };
        let pipeline = self.store().read(|c| c.pipeline_by_id(coupling.pipeline))?;
        self.only_forward(caller, &pipeline, known.as_ref(), &from).await?;
        self.inner.parts.histories.take_upstream(coupling.pipeline, branch.as_str(), &from).await?;
        let pushed = Upstream {
            pipeline: coupling.pipeline,
            branch: branch.clone(),
            url: None,
            tip: Some(commit.clone()),
            heard_at: Some(now),
            failure: None,
            created_at: now,
            updated_at: now,
        };
        let detail = serde_json::json!({ "pipeline": coupling.pipeline_name, "branch": branch, "tip": commit });
        let entry = self.entry(caller, Some(app), "upstream-pushed", detail);
        let written = self.store().write(move |c| {
            match c.upstream(pushed.pipeline)? {
                // Somebody may have told another one meanwhile.
                Some(there) if there.branch != pushed.branch => return Ok(Some(there.branch)),
                Some(there) => {
                    c.put_upstream(&Upstream { url: there.url, created_at: there.created_at, ..pushed })?;
                }
                None => c.put_upstream(&pushed)?,
            }
            c.record(&entry)?;
            Ok(None)
        });
        if let Some(known) = written.await? {
            return Err(is_another(&known));
        }
        self.tell(Event::Pipeline(coupling.pipeline));
        let origin = RefOrigin::Upstream { pipeline: coupling.pipeline, actor: Some(caller.actor.clone()) };
        let reference = RefName::Branch(branch);
        let (commit, by) = (commit.clone(), caller.actor.email.clone());
        self.ref_moved(RefNews { origin, reference, commit, by }).await.map(drop)
    }

    /// Errors: an upstream would lose commits, which lifts a rule for who may not change it.
    async fn only_forward(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        known: Option<&Upstream>,
        to: &Spot,
    ) -> Result<()> {
        let tip = known.and_then(|known| known.tip.clone());
        let Some(tip) = tip.filter(|_| to_lead(pipeline) == Access::Own) else { return Ok(()) };
        if tip == to.commit || self.may(caller, pipeline, Access::Own).is_ok() {
            return Ok(());
        }
        let tip = Spot { place: Place::Upstream(pipeline.id), commit: tip };
        let lost = self.inner.parts.histories.commits(&tip, to, 0).await?.behind_count;
        if lost == 0 {
            return Ok(());
        }
        let stages: Vec<&str> = pipeline.settings.refuse_behind.iter().map(|stage| stage.as_str()).collect();
        Err(Error::forbidden(format!(
            "{} lacks {lost} of the commits of the upstream of {}, which only grows, because {} takes nothing that lacks any. Ask \
             {}, who owns the pipeline.",
            to.commit.short(),
            pipeline.name,
            stages.join(" and "),
            pipeline.owner_email.to_ask()
        )))
    }

    /// Where the code that an app runs stands beside its pipeline's upstream. None without code, pipeline, or an upstream
    /// that was heard of.
    pub async fn beside(&self, app: &App) -> Result<Option<Beside>> {
        let now = self.point_of(app, None, None).await?;
        self.beside_of(&now).await
    }

    /// The same for any side of a comparison.
    pub(crate) async fn beside_of(&self, point: &Point) -> Result<Option<Beside>> {
        match &point.spot {
            Some(spot) => self.beside_at(&point.app, spot).await,
            None => Ok(None),
        }
    }

    /// The same for a commit that is to be deployed to an app, and lies in its repository.
    pub async fn beside_commit(&self, app: &App, commit: &CommitId) -> Result<Option<Beside>> {
        self.beside_at(app, &Spot { place: Place::App(app.id), commit: commit.clone() }).await
    }

    async fn beside_at(&self, app: &App, spot: &Spot) -> Result<Option<Beside>> {
        match self.upstream_of(app)? {
            Some(upstream) => self.beside_upstream(upstream, spot).await,
            None => Ok(None),
        }
    }

    async fn beside_upstream(&self, upstream: Upstream, spot: &Spot) -> Result<Option<Beside>> {
        let (Some(tip), Some(heard_at)) = (upstream.tip, upstream.heard_at) else { return Ok(None) };
        let tip = Spot { place: Place::Upstream(upstream.pipeline), commit: tip };
        let standing = self.inner.parts.histories.standing(spot, &tip, LISTED).await?;
        Ok(Some(Beside { branch: upstream.branch, heard_at, standing }))
    }

    /// What code lacks of a pipeline's upstream, where the stage wants all of it.
    pub(crate) async fn behind(&self, pipeline: &Pipeline, stage: Stage, spot: &Spot) -> Result<Option<Behind>> {
        if !pipeline.settings.refuse_behind.contains(&stage) {
            return Ok(None);
        }
        let Some(upstream) = self.upstream(pipeline)? else { return Ok(None) };
        let Some(beside) = self.beside_upstream(upstream, spot).await? else { return Ok(None) };
        Ok((beside.standing.behind_count > 0).then(|| Behind {
            branch: beside.branch.to_string(),
            commits: beside.standing.behind_count,
            stage,
            pipeline: pipeline.name.to_string(),
            owner_email: pipeline.owner_email.to_ask(),
        }))
    }

    /// What is known of CI's state of code, where the stage takes only what has passed and it has not. Code without a commit
    /// has not.
    pub(crate) fn unchecked(
        &self,
        pipeline: &Pipeline,
        stage: Stage,
        commit: Option<&CommitId>,
    ) -> Result<Option<Unchecked>> {
        if !pipeline.settings.refuse_unchecked.contains(&stage) {
            return Ok(None);
        }
        let words = match commit {
            Some(commit) => self.store().read(|c| c.commit_checks(pipeline.id, commit))?.wanting(commit),
            None => Some("this code is of no commit".into()),
        };
        Ok(words.map(|words| Unchecked {
            words,
            stage,
            pipeline: pipeline.name.to_string(),
            owner_email: pipeline.owner_email.to_ask(),
        }))
    }

    /// What CI says of a commit, in an app's pipeline; none where nothing was ever heard of CI there.
    pub fn checks_of(&self, app: &App, commit: &CommitId) -> Result<Option<Checks>> {
        Ok(self.store().read(|c| match c.coupling_of(app.id)? {
            Some(coupling) if c.hears_of_checks(coupling.pipeline)? => {
                c.commit_checks(coupling.pipeline, commit).map(Some)
            }
            _ => Ok(None),
        })?)
    }

    /// Asks for a fetch of a pipeline's upstream. Any number of times, from anywhere.
    pub(crate) fn fetch_upstream_soon(&self, pipeline: PipelineId) {
        self.inner.upstreams_wanted.lock().expect("nobody panics while they hold it").insert(pipeline);
        self.inner.upstream_wanted.notify_one();
    }

    pub(crate) async fn keep_upstreams(self) {
        let mut every = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        loop {
            let all = tokio::select! {
                _ = every.tick() => self.store().read(|c| c.fetched_upstreams()),
                () = self.inner.upstream_wanted.notified() => {
                    let wanted = std::mem::take(&mut *self.inner.upstreams_wanted.lock().expect("nobody panics while they hold it"));
                    let found = |c: &Conn<'_>| wanted.into_iter().filter_map(|id| c.upstream(id).transpose()).collect();
                    self.store().read(found)
                }
            };
            let all: Vec<Upstream> = all.unwrap_or_else(|error| {
                tracing::error!(%error, "upstreams could not be listed");
                Vec::new()
            });
            for upstream in all {
                let pipeline = upstream.pipeline;
                let in_turn = async {
                    let _turn = self.turn_to_fetch().await?;
                    self.fetch_one(upstream).await
                };
                match in_turn.await {
                    Ok(Upstream { failure: Some(failure), .. }) => {
                        tracing::warn!(pipeline.id = %pipeline, failure, "an upstream was not fetched");
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(pipeline.id = %pipeline, %error, cause = ?error.cause, "an upstream was not fetched");
                    }
                }
            }
        }
    }

    /// Where an upstream is fetched from: its own address, else its pipeline's forge. The inner error is the user's.
    async fn upstream_remote(&self, upstream: &Upstream) -> Result<Result<Remote, FetchRefused>> {
        if let Some(url) = &upstream.url {
            return Ok(Ok(Remote::open(url)));
        }
        match self.store().read(|c| c.forge_of(upstream.pipeline))? {
            Some(forge) => Ok(self.inner.parts.forges.remote(&forge).await.map_err(|e| FetchRefused(e.0))),
            None => Ok(Err(FetchRefused("it is only pushed to us".into()))),
        }
    }

    /// Fetches an upstream that has an address, and writes down what came of it.
    async fn fetch_one(&self, known: Upstream) -> Result<Upstream> {
        let fetched = match self.upstream_remote(&known).await? {
            Ok(from) => self.inner.parts.histories.fetch_upstream(known.pipeline, &from, known.branch.as_str()).await?,
            Err(refused) => Err(refused),
        };
        let now = self.now();
        let mut upstream = Upstream { updated_at: now, ..known.clone() };
        match fetched {
            Ok(tip) => (upstream.tip, upstream.heard_at, upstream.failure) = (Some(tip), Some(now), None),
            Err(refused) => upstream.failure = Some(refused.0),
        }
        let row = upstream.clone();
        self.store()
            .write(move |c| {
                // Somebody may have set another one, or none, meanwhile.
                match c.upstream(row.pipeline)? {
                    Some(there) if there.url == row.url && there.branch == row.branch => c.put_upstream(&row),
                    _ => Ok(()),
                }
            })
            .await?;
        if let Some(tip) = upstream.tip.clone().filter(|tip| Some(tip) != known.tip.as_ref()) {
            self.tell(Event::Pipeline(upstream.pipeline));
            let origin = RefOrigin::Upstream { pipeline: upstream.pipeline, actor: None };
            let reference = RefName::Branch(upstream.branch.clone());
            self.ref_moved(RefNews { origin, reference, commit: tip, by: "the upstream".into() }).await?;
        }
        Ok(upstream)
    }
}
