//! What a comparison is of: an app, a release, a stage of a pipeline, or a commit, as people name it.

use crate::error::Error;
use crate::ports::{Caller, Place, Spot};
use crate::{Platform, Result};
use shipway_domain::compare::Side;
use shipway_domain::{CommitId, NameOrId, Stage};
use shipway_store::{App, Coupling, Pipeline, Release, Slug};

/// One side of a comparison.
#[derive(Debug, Clone)]
pub struct Point {
    /// The app that it is of.
    pub app: App,
    /// The stage that it was named by.
    pub stage: Option<Stage>,
    /// Whether the app as it is now was named, and no release of it.
    pub is_now: bool,
    /// The release; none for a commit.
    pub release: Option<Release>,
    /// What the release runs.
    pub slug: Option<Slug>,
    /// The commit and where it is; none before the first deploy.
    pub spot: Option<Spot>,
}

/// Longest name of a commit, branch or tag that is looked up.
const MAX_NAME: usize = 200;

impl Point {
    /// How it is shown, without where it stands beside an upstream.
    pub fn side(&self) -> Side {
        Side {
            app: self.app.id,
            name: self.app.name.clone(),
            stage: self.stage,
            version: self.release.as_ref().map(|r| r.version),
            commit: self.spot.as_ref().map(|s| s.commit.clone()),
            digest: self.slug.as_ref().map(|s| s.digest.to_string()),
            beside: None,
        }
    }

    /// `production (shop v12)`, `shop v12`, `shop 3f9c0de`.
    pub fn label(&self) -> String {
        let at = match (&self.release, &self.spot) {
            (Some(release), _) => format!(" v{}", release.version),
            (None, Some(spot)) => format!(" {}", spot.commit.short()),
            (None, None) => String::new(),
        };
        match self.stage {
            Some(stage) => format!("{stage} ({}{at})", self.app.name),
            None => format!("{}{at}", self.app.name),
        }
    }
}

impl Platform {
    /// Reads one side: `shop`, `shop@v12`, `shop@3f9c0de`, or with a stage instead of the app, `production@v12`. Without a
    /// `pipeline` a stage is that of the one pipeline that has apps there.
    ///
    /// Errors: no such app, stage, release or commit; a stage of several apps or pipelines, which are then named.
    pub async fn point(&self, caller: &Caller, pipeline: Option<&Pipeline>, text: &str) -> Result<Point> {
        let (name, at) = text.split_once('@').map_or((text, None), |(name, at)| (name, Some(at)));
        let (app, stage) = self.app_or_stage(caller, pipeline, name)?;
        self.point_of(&app, stage, at).await
    }

    /// One side of an app that is known: its current release, or `v12`, or a commit.
    pub async fn point_of(&self, app: &App, stage: Option<Stage>, at: Option<&str>) -> Result<Point> {
        let wanted = at.unwrap_or("current");
        let is_version = wanted.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok());
        if is_version || at.is_none() {
            let release = self.release(app, wanted).map_err(|_| Error {
                message: format!("{} has no release {wanted}.", app.name),
                ..Error::missing("release")
            })?;
            let slug = self.store().read(|c| c.slug_of(&release))?;
            let spot = match slug.as_ref().and_then(|slug| slug.commit.as_ref()) {
                Some(commit) => self.spot(app, commit).await?,
                None => None,
            };
            return Ok(Point { app: app.clone(), stage, is_now: at.is_none(), release: Some(release), slug, spot });
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
        let unknown = || Error {
            message: format!("{} has no commit {:?}.", app.name, wanted.chars().take(80).collect::<String>()),
            ..Error::missing("commit")
        };
        if wanted.len() > MAX_NAME || wanted.starts_with('-') || !wanted.bytes().all(plain) {
            return Err(unknown());
        }
        // Not in the repositories of other apps, which the caller may not see.
        let own = |place: &Place| matches!(place, Place::Upstream(_)) || *place == Place::App(app.id);
        for place in self.places(app)?.into_iter().filter(own) {
            if let Some(commit) = self.inner.parts.histories.find(place, wanted).await? {
                return Ok(Point {
                    app: app.clone(),
                    stage,
                    is_now: false,
                    release: None,
                    slug: None,
                    spot: Some(Spot { place, commit }),
                });
            }
        }
        Err(unknown())
    }

    /// Where a commit of an app is: in its own repository, else in one of its pipeline's.
    pub(crate) async fn spot(&self, app: &App, commit: &CommitId) -> Result<Option<Spot>> {
        for place in self.places(app)? {
            if self.inner.parts.histories.find(place, commit.as_str()).await?.is_some() {
                return Ok(Some(Spot { place, commit: commit.clone() }));
            }
        }
        Ok(None)
    }

    /// The repositories that may have an app's commits, its own first.
    fn places(&self, app: &App) -> Result<Vec<Place>> {
        let others = self.store().read(|c| match c.coupling_of(app.id)? {
            Some(coupling) => Ok(c.couplings(coupling.pipeline)?),
            None => Ok(Vec::new()),
        })?;
        let pipeline = others.first().map(|coupling| Place::Upstream(coupling.pipeline));
        let others = others.iter().map(|coupling| coupling.app).filter(|other| *other != app.id).map(Place::App);
        Ok(std::iter::once(Place::App(app.id)).chain(others).chain(pipeline).collect())
    }

    fn app_or_stage(&self, caller: &Caller, pipeline: Option<&Pipeline>, name: &str) -> Result<(App, Option<Stage>)> {
        let stage = match name {
            "dev" => Some(Stage::Development),
            "prod" => Some(Stage::Production),
            _ => Stage::parse(name).ok(),
        };
        // An app may be called `staging`; with a pipeline in hand the stage is meant.
        if pipeline.is_none() || stage.is_none() {
            match self.app(caller, &NameOrId::parse(name)) {
                Ok(app) => return Ok((app, None)),
                Err(e) if stage.is_none() => {
                    return self.by_display_name(caller, pipeline, name)?.ok_or(Error {
                        message: format!(
                            "There is no app {:?} that you can see, and it is no stage of a pipeline (test, review, \
                         development, staging, production).",
                            name.chars().take(80).collect::<String>()
                        ),
                        ..e
                    });
                }
                Err(_) => {}
            }
        }
        let Some(stage) = stage else { return Err(Error::missing("app")) };
        let found = self.visible(caller, pipeline)?.into_iter().filter(|(c, _)| c.stage == stage).collect::<Vec<_>>();
        match found.as_slice() {
            [(_, app)] => Ok((app.clone(), Some(stage))),
            [] => Err(Error::invalid(match pipeline {
                Some(pipeline) => format!("The pipeline {} has no app in {stage}.", pipeline.name),
                None => format!("No pipeline that you can see has an app in {stage}."),
            })),
            several => {
                let names: Vec<String> =
                    several.iter().map(|(c, app)| format!("{} ({})", app.name, c.pipeline_name)).collect();
                Err(Error::invalid(format!("Several apps stand in {stage}: {}. Name one.", names.join(", "))))
            }
        }
    }

    /// An app by what its team calls it.
    fn by_display_name(
        &self,
        caller: &Caller,
        pipeline: Option<&Pipeline>,
        name: &str,
    ) -> Result<Option<(App, Option<Stage>)>> {
        let called = |c: &Coupling| c.display_name.as_ref().is_some_and(|d| d.as_str().eq_ignore_ascii_case(name));
        let mut found = self.visible(caller, pipeline)?.into_iter().filter(|(c, _)| called(c));
        Ok(found.next().filter(|_| found.next().is_none()).map(|(c, app)| (app, Some(c.stage))))
    }

    /// The apps of a pipeline, or of all, that the caller may see.
    fn visible(&self, caller: &Caller, pipeline: Option<&Pipeline>) -> Result<Vec<(Coupling, App)>> {
        let pipelines = match pipeline {
            Some(pipeline) => vec![pipeline.clone()],
            None => self.pipelines(caller)?,
        };
        let mut all = Vec::new();
        for pipeline in &pipelines {
            all.extend(self.pipeline_apps(caller, pipeline)?);
        }
        Ok(all)
    }
}
