//! Deploys of commits, and builds of uploaded sources.

use crate::error::Error;
use crate::operation::{Effect, nothing};
use crate::plan::{BuildPlan, Code, Part};
use crate::ports::{Caller, Place, Spot};
use crate::{Platform, Result};
use shipway_domain::admission::{Scope, Trigger};
use shipway_domain::{AppId, BuildId, CommitId, OperationId, PipelineId, SlugId, SourceId};
use shipway_store::{App, Build, Source};
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A build by the API.
#[derive(Debug, Clone)]
pub struct SourceOrder {
    /// What `source_blob.url` said: the address of a source that was uploaded here.
    pub url: String,
    /// What the caller calls it: a commit, mostly.
    pub version: Option<String>,
    /// `SHA256:…` of the archive.
    pub checksum: Option<String>,
    /// Buildpacks of this build, instead of the app's.
    pub buildpacks: Option<Vec<String>>,
}

/// What else belongs to a deploy.
pub(crate) struct Extra {
    /// The operation's id.
    pub(crate) operation: OperationId,
    /// What happens to the app besides the build and the release.
    pub(crate) part: Part,
    /// The pipeline whose apps share the build.
    pub(crate) shared: Option<PipelineId>,
    /// What is written down with it.
    pub(crate) also: Effect,
}

/// Largest source archive, in bytes.
const MAX_SOURCE: u64 = 2 * 1024 * 1024 * 1024;

impl Platform {
    /// Builds a commit of the app's repository and releases what comes of it.
    pub async fn deploy(&self, caller: &Caller, app: &App, commit: CommitId) -> Result<(Build, OperationId)> {
        self.admit(caller, Trigger::Push, app).await?;
        self.deploy_as(caller, app, commit, Trigger::Push, |_| ()).await
    }

    async fn deploy_as(
        &self,
        caller: &Caller,
        app: &App,
        commit: CommitId,
        trigger: Trigger,
        also: impl FnOnce(&mut Build),
    ) -> Result<(Build, OperationId)> {
        self.deploy_with(caller, app, commit, trigger, self.nothing_else(app), also).await
    }

    /// Nothing but a build of the app's own and its release.
    pub(crate) fn nothing_else(&self, app: &App) -> Extra {
        Extra { operation: self.id(OperationId), part: Part::new(app.id), shared: None, also: nothing() }
    }

    /// The same, with what else happens to the app before the build and in the transaction that writes it down.
    pub(crate) async fn deploy_with(
        &self,
        caller: &Caller,
        app: &App,
        commit: CommitId,
        trigger: Trigger,
        extra: Extra,
        also: impl FnOnce(&mut Build),
    ) -> Result<(Build, OperationId)> {
        let place = match (&extra.part.carry, &extra.part.fetch) {
            (Some(carry), _) => Some(carry.from),
            (None, None) => Some(Place::App(app.id)),
            // A commit that is at a forge is looked at when it is here.
            (None, Some(_)) => None,
        };
        if let Some(place) = place {
            self.admit_code(caller, trigger, app, &Spot { place, commit: commit.clone() }).await?;
        }
        let shared = extra.shared;
        let build = BuildPlan { build: self.id(BuildId), slug: self.id(SlugId), commit: commit.clone(), shared };
        let release = self.release_plan(app, format!("Deploy {}", commit.short()), Code::Built);
        let operation = extra.operation;
        let mut row = self.build_row(caller, app, &build, operation);
        also(&mut row);
        let part = Part { build: Some(build), release: Some(release), ..extra.part };
        let plan = self.plan(caller, trigger, part);
        let (kept, with) = (row.clone(), extra.also);
        self.log_api(app.id, &format!("Build started by user {}", caller.actor.email));
        self.submit_as(operation, plan, move |c| {
            c.put_build(&kept)?;
            with(c)
        })
        .await?;
        Ok((row, operation))
    }

    /// A place for a source archive to be uploaded to. Nothing runs because of it: what builds it is asked then.
    /// Errors: a token that changes nothing.
    pub async fn create_source(&self, caller: &Caller) -> Result<Source> {
        if matches!(caller.actor.scope, Scope::Identity | Scope::Read | Scope::ReadProtected) {
            let scope = caller.actor.scope.text();
            return Err(Error::forbidden(format!(
                "The token that was used may not upload a source: its scope is {scope}. Use one with the scope \
                 deploy:APP or global."
            )));
        }
        let source = Source { id: self.id(SourceId), account: caller.actor.account, created_at: self.now() };
        let row = source.clone();
        self.store().write(move |c| c.insert_source(&row)).await?;
        Ok(source)
    }

    /// Where an uploaded archive is.
    fn source_path(&self, id: SourceId) -> PathBuf {
        self.settings().home.join("sources").join(id.to_string())
    }

    /// Takes an uploaded archive. Errors: an unknown source, more than 2 GiB.
    pub async fn put_source(&self, id: SourceId, mut body: impl AsyncRead + Unpin + Send) -> Result<()> {
        self.store().read(|c| c.source(id))?.ok_or_else(|| Error::missing("source"))?;
        let path = self.source_path(id);
        let part = path.with_extension("part");
        tokio::fs::create_dir_all(self.settings().home.join("sources")).await.map_err(Error::platform)?;
        let mut file = tokio::fs::File::create(&part).await.map_err(Error::platform)?;
        let copied = tokio::io::copy(&mut (&mut body).take(MAX_SOURCE + 1), &mut file).await;
        let copied = match copied {
            Ok(n) if n <= MAX_SOURCE => n,
            Ok(_) => {
                let _ = tokio::fs::remove_file(&part).await;
                return Err(Error::invalid(
                    "A source archive may have 2 GiB at most. Leave out what is not built, or push with git.",
                ));
            }
            Err(e) => {
                let _ = tokio::fs::remove_file(&part).await;
                return Err(Error::unavailable("The upload broke off. Nothing was kept; send it again.", e));
            }
        };
        file.flush().await.map_err(Error::platform)?;
        file.sync_all().await.map_err(Error::platform)?;
        tokio::fs::rename(&part, &path).await.map_err(Error::platform)?;
        tracing::debug!(source.id = %id, bytes = copied, "a source was uploaded");
        Ok(())
    }

    /// Builds an uploaded source: it becomes a commit of the app's repository, so that everything that runs is one.
    /// `source` is which one its URL named; only what was uploaded here is taken, no address is fetched.
    pub async fn build_source(
        &self,
        caller: &Caller,
        app: &App,
        source: SourceId,
        order: SourceOrder,
    ) -> Result<(Build, OperationId)> {
        self.admit(caller, Trigger::Build, app).await?;
        let commit = self.import_source(caller, app.id, source, &order).await?;
        let mut app = app.clone();
        if let Some(buildpacks) = &order.buildpacks {
            app.buildpacks = self.set_buildpacks(caller, &app, buildpacks.clone()).await?;
        }
        let (url, version) = (order.url, order.version);
        self.deploy_as(caller, &app, commit, Trigger::Build, |row| {
            row.source_url = Some(url);
            row.source_version = version;
        })
        .await
    }

    /// Turns an uploaded source of the caller's into a commit of an app's repository. Errors: another's, nothing was
    /// uploaded, an archive that is damaged or hostile.
    pub(crate) async fn import_source(
        &self,
        caller: &Caller,
        app: AppId,
        source: SourceId,
        order: &SourceOrder,
    ) -> Result<CommitId> {
        let known = self.store().read(|c| c.source(source))?.filter(|s| s.account == caller.actor.account);
        known.ok_or_else(|| Error::missing("source"))?;
        let path = self.source_path(source);
        if !path.exists() {
            return Err(Error::invalid(
                "Nothing was uploaded to that source yet. PUT the archive to its put_url first.",
            ));
        }
        let version = order.version.clone().unwrap_or_default();
        let message = format!("Source {}", version.chars().filter(|c| !c.is_control()).take(100).collect::<String>());
        let imported = self.inner.parts.repositories.import(app, &path, order.checksum.as_deref(), &message).await;
        imported.map_err(|e| Error::invalid(e.0))
    }
}
