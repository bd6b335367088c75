//! Where code comes from that nobody pushes: uploaded archives, and commits of repositories that are here already.

use crate::error::Error;
use crate::pipelines::Access;
use crate::ports::{Archive, Caller, Place, Spot};
use crate::{Platform, Result};
use shipway_domain::admission::Scope;
use shipway_domain::{AppId, CommitId, NameOrId, SourceId};
use shipway_store::{ForgeConnection, Pipeline, Source};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// What the URL of a source blob names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceBlob {
    /// An archive that was uploaded here.
    Uploaded(SourceId),
    /// A commit of a repository of ours.
    Commit(Spot),
    /// An archive at a server elsewhere, by its address.
    Elsewhere(String),
}

impl SourceBlob {
    /// The URL that named it, as it may be seen: one elsewhere may carry in its query or before its host what opens it.
    pub(crate) fn shown(&self, url: &str) -> String {
        let Self::Elsewhere(address) = self else { return url.to_owned() };
        let plain = address.split(['?', '#']).next().unwrap_or_default();
        match plain.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{host}{path}")
            }
            None => plain.to_owned(),
        }
    }
}

/// A build by the API.
#[derive(Debug, Clone)]
pub struct SourceOrder {
    /// What `source_blob.url` said.
    pub url: String,
    /// What the caller calls it: a commit, mostly.
    pub version: Option<String>,
    /// `SHA256:…` of the archive.
    pub checksum: Option<String>,
    /// Buildpacks of this build, instead of the app's.
    pub buildpacks: Option<Vec<String>>,
}

/// Largest source archive, in bytes.
const MAX_SOURCE: u64 = 2 * 1024 * 1024 * 1024;
/// For an archive to come from a server elsewhere: whoever asked waits.
const FETCH_TIME: Duration = Duration::from_secs(120);
/// The owner of repositories that are here and at no forge: `shipway/<app>`, `shipway/<pipeline>`.
const OWN: &str = "shipway";

/// A file that goes with this.
struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        // There may be none.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Platform {
    /// A place for a source archive to be uploaded to. Nothing runs because of it: what builds it is asked then.
    /// Errors: a token that changes nothing.
    pub async fn create_source(&self, caller: &Caller) -> Result<Source> {
        if matches!(caller.actor.scope, Scope::Identity | Scope::Read | Scope::ReadProtected) {
            return Err(self.out_of_scope(caller, "upload a source"));
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

    /// Takes an uploaded archive. Errors: an unknown source, more than 2 GiB, a body that breaks off (`UnexpectedEof`).
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
                if e.kind() == ErrorKind::UnexpectedEof {
                    return Err(Error::invalid(
                        "The upload ended before as much had come as it announced. Nothing was kept; send it again.",
                    ));
                }
                return Err(Error::unavailable("The upload broke off. Nothing was kept; send it again.", e));
            }
        };
        file.flush().await.map_err(Error::platform)?;
        file.sync_all().await.map_err(Error::platform)?;
        tokio::fs::rename(&part, &path).await.map_err(Error::platform)?;
        tracing::debug!(source.id = %id, bytes = copied, "a source was uploaded");
        Ok(())
    }

    /// Turns a source into a commit of an app's repository. Errors: an upload of somebody else, nothing was uploaded, a
    /// server elsewhere that does not give it, an archive that is damaged or hostile.
    pub(crate) async fn import_source(
        &self,
        caller: &Caller,
        app: AppId,
        source: &SourceBlob,
        order: &SourceOrder,
    ) -> Result<CommitId> {
        match source {
            SourceBlob::Uploaded(id) => self.import_upload(caller, app, *id, order).await,
            SourceBlob::Commit(spot) => {
                let there = self.inner.parts.histories.find(spot.place, spot.commit.as_str()).await?;
                there.ok_or_else(|| Error::missing("source"))?;
                self.inner.parts.repositories.adopt(app, spot).await?;
                Ok(spot.commit.clone())
            }
            SourceBlob::Elsewhere(from) => self.import_from(caller, app, from, order).await,
        }
    }

    async fn import_from(&self, caller: &Caller, app: AppId, from: &str, order: &SourceOrder) -> Result<CommitId> {
        // As if the caller had uploaded it: so it is removed in time, should the server end meanwhile.
        let source = Source { id: self.id(SourceId), account: caller.actor.account, created_at: self.now() };
        let file = OwnFile(self.source_path(source.id));
        self.store().write(move |c| c.insert_source(&source)).await?;
        tokio::fs::create_dir_all(self.settings().home.join("sources")).await.map_err(Error::platform)?;
        let turn = self.turn_of_request().await?;
        let fetched = self.inner.parts.forges.download(from, &file.0, MAX_SOURCE, FETCH_TIME).await?;
        drop(turn);
        fetched.map_err(|refused| Error::invalid(format!("The source was not fetched: {refused}.")))?;
        self.import_archive(app, &file.0, order).await
    }

    async fn import_upload(
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
        self.import_archive(app, &path, order).await
    }

    async fn import_archive(&self, app: AppId, path: &Path, order: &SourceOrder) -> Result<CommitId> {
        let version = order.version.clone().unwrap_or_default();
        let message = format!("Source {}", version.chars().filter(|c| !c.is_control()).take(100).collect::<String>());
        let imported = self.inner.parts.repositories.import(app, path, order.checksum.as_deref(), &message).await;
        imported.map_err(|e| Error::invalid(e.0))
    }

    /// The repository that a pipeline's code is in, `owner/name`: the one that was connected, else `shipway/<pipeline>`.
    pub fn repository_of(&self, pipeline: &Pipeline) -> String {
        pipeline.settings.repository.clone().unwrap_or_else(|| format!("{OWN}/{}", pipeline.name))
    }

    /// Where the code of a repository is here: `owner/name` as a pipeline of the caller's has it, or `shipway/<app>`.
    /// `reference`: a branch, tag or commit; the forge of a connected pipeline is asked for one that is not here. Whoever
    /// may operate the pipeline may take the code of its upstream, and of its forge.
    ///
    /// Errors: there is no such repository, or nothing of that name in it, or what its forge said.
    pub async fn find_source(&self, caller: &Caller, repository: &str, reference: &str) -> Result<Spot> {
        for place in self.places_of(caller, repository)? {
            if let Some(commit) = self.inner.parts.histories.find(place, reference).await? {
                return Ok(Spot { place, commit });
            }
        }
        let refused = match self.ask_forges(caller, repository, reference).await? {
            Ok(spot) => return Ok(spot),
            Err(refused) => refused.map_or(String::new(), |said| format!(" Its forge was asked: {said}.")),
        };
        Err(Error {
            message: format!(
                "{repository} has no such branch, tag or commit here.{refused} Name the app whose code it is, {OWN}/APP, or bring it: \
                 shipway upstream set https://… -p PIPELINE, for a pipeline that is connected to {repository}."
            ),
            ..Error::missing("repository")
        })
    }

    /// Fetches a branch, tag or commit from the forge of a pipeline that is connected to a repository. The inner error is
    /// what the last forge said; none where none was asked.
    async fn ask_forges(
        &self,
        caller: &Caller,
        repository: &str,
        reference: &str,
    ) -> Result<std::result::Result<Spot, Option<String>>> {
        let mut refused = None;
        for pipeline in self.pipelines(caller)? {
            let forge = self.store().read(|c| c.forge_of(pipeline.id))?;
            let of_it = |forge: &ForgeConnection| forge.repository.as_str().eq_ignore_ascii_case(repository);
            let Some(forge) = forge.filter(of_it) else { continue };
            if self.may(caller, &pipeline, Access::Operate).is_err() {
                continue;
            }
            let from = match self.inner.parts.forges.remote(&forge).await {
                Ok(from) => from,
                Err(e) => {
                    refused = Some(e.0);
                    continue;
                }
            };
            let _turn = self.turn_of_request().await?;
            match self.inner.parts.histories.fetch_reference(pipeline.id, &from, reference).await? {
                Ok(commit) => return Ok(Ok(Spot { place: Place::Upstream(pipeline.id), commit })),
                Err(said) => refused = Some(said.0.trim_end_matches('.').to_owned()),
            }
        }
        Ok(Err(refused))
    }

    /// The branch that a repository is known by: that of its upstream, else main.
    pub fn default_branch(&self, caller: &Caller, repository: &str) -> Result<String> {
        let upstreams = self.places_of(caller, repository)?.into_iter().filter_map(|place| match place {
            Place::Upstream(pipeline) => self.store().read(|c| c.upstream(pipeline)).ok().flatten(),
            Place::App(_) => None,
        });
        let branch = upstreams.map(|upstream| upstream.branch.to_string()).next();
        Ok(branch.unwrap_or_else(|| "main".into()))
    }

    /// The repositories of ours that have the code of one by the name that people know: what a team works on before what
    /// runs.
    fn places_of(&self, caller: &Caller, repository: &str) -> Result<Vec<Place>> {
        let (mut upstreams, mut apps) = (Vec::new(), Vec::new());
        for pipeline in self.pipelines(caller)? {
            if !self.repository_of(&pipeline).eq_ignore_ascii_case(repository) {
                continue;
            }
            let has_upstream = self.upstream(&pipeline)?.is_some_and(|upstream| upstream.tip.is_some());
            if has_upstream && self.may(caller, &pipeline, Access::Operate).is_ok() {
                upstreams.push(Place::Upstream(pipeline.id));
            }
            apps.extend(self.pipeline_apps(caller, &pipeline)?.iter().map(|(at, _)| Place::App(at.app)));
        }
        let own = repository.split_once('/').filter(|(owner, _)| owner.eq_ignore_ascii_case(OWN));
        if let Some(app) = own.and_then(|(_, name)| self.app(caller, &NameOrId::Name(name.into())).ok()) {
            apps.push(Place::App(app.id));
        }
        upstreams.extend(apps);
        Ok(upstreams)
    }

    /// A commit's tree as an archive. Whoever calls has asked who may see it.
    pub async fn archive(&self, at: &Spot) -> Result<Archive> {
        self.inner.parts.histories.archive(at).await.map_err(|_| Error::missing("archive"))
    }
}
