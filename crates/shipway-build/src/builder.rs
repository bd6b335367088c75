//! The build, from the first header to the manifest.

mod dependencies;

use crate::classic::{self, Classic};
use crate::languages::{self, Language, Plan};
use crate::model::{
    BuildError, BuildOutcome, BuildRequest, BuilderConfig, LayerKind, LayerRef, Limit, Pins, SlugManifest,
};
use crate::output::{BuildOutput, Report};
use crate::session::{CACHE_DISKS, DEFAULT_PATH, Earlier, Session, used_bytes};
use crate::slug::{self, Packing};
use crate::sources::{self, Source};
use crate::toolchains::{Toolchains, toolchain_mount};
use crate::tree::{SlugIgnore, Tree};
use dependencies::keep;
use shipway_blobs::{Blobs, Layers};
use shipway_domain::{AppId, ProcessType, procfile};
use shipway_runtime::{Runtime, remove_tree};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Builds apps. One for the whole platform; builds of different apps may run at once.
pub struct Builder {
    home: PathBuf,
    layers: Layers,
    blobs: Blobs,
    runtime: Arc<dyn Runtime>,
    config: BuilderConfig,
    toolchains: Toolchains,
}

/// What the buildpacks of one build add up to.
#[derive(Default)]
struct Built {
    layers: Vec<LayerRef>,
    versions: BTreeMap<String, String>,
    dependencies: BTreeMap<String, LayerRef>,
    buildpacks: BTreeMap<String, String>,
    names: Vec<String>,
    titles: Vec<String>,
    path: Vec<String>,
    env: BTreeMap<String, String>,
    process_types: BTreeMap<String, String>,
    /// Directories below `/app` that are layers of their own, so they are not in the app's.
    apart: Vec<PathBuf>,
    /// Files in those that build steps wrote: they belong to the app's layer all the same.
    touched: Vec<PathBuf>,
    /// Dependency trees that go back into the cache: from where below `/app`, under which name.
    keep: Vec<(PathBuf, String)>,
}

impl Builder {
    /// Opens the builder of a data directory.
    pub fn new(
        home: &Path,
        blobs: Blobs,
        runtime: Arc<dyn Runtime>,
        config: BuilderConfig,
    ) -> Result<Self, BuildError> {
        let toolchains =
            Toolchains::new(home, &config).map_err(BuildError::platform("making the directory of toolchains"))?;
        Ok(Self { home: home.into(), layers: Layers::open(home, blobs.clone())?, blobs, runtime, config, toolchains })
    }

    /// Where the tree of a build must be checked out before [`Builder::build`]: `work/<build-id>/app`.
    pub fn source_directory(&self, build: shipway_domain::BuildId) -> PathBuf {
        self.home.join("work").join(build.to_string()).join("app")
    }

    /// Removes what builds of an earlier process left: working directories, half-made buildpacks, toolchains, layers, blobs.
    ///
    /// Call it once, at start, when no process of an earlier build runs any more and before a tree is checked out.
    pub fn sweep(&self) -> Result<(), BuildError> {
        let sweeping = || BuildError::platform("sweeping what earlier builds left");
        for (name, half_made) in [("work", ""), ("buildpacks", ".new-"), ("toolchains", ".new-")] {
            let entries = match fs::read_dir(self.home.join(name)) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(sweeping())?,
            };
            for entry in entries {
                let entry = entry.map_err(sweeping())?;
                if entry.file_name().as_encoded_bytes().starts_with(half_made.as_bytes()) {
                    remove_tree(&entry.path()).map_err(sweeping())?;
                }
            }
        }
        self.layers.sweep()?;
        Ok(self.blobs.sweep()?)
    }

    /// Keyed digest of everything that would go into a build; two builds with the same one make the same slug. None when
    /// that cannot be known: no commit is named, or a buildpack is fetched.
    ///
    /// Errors: a buildpack that is not allowed or has no such name.
    pub fn inputs(&self, request: &BuildRequest) -> Result<Option<String>, BuildError> {
        Ok(slug::request_inputs(request, &self.config, &self.sources(request)?))
    }

    fn sources(&self, request: &BuildRequest) -> Result<Vec<Source>, BuildError> {
        request.buildpacks.iter().map(|name| sources::read(name, &self.config)).collect()
    }

    /// Empties the app's build cache. An unknown app has an empty one.
    pub fn purge_cache(&self, app: AppId) -> Result<(), BuildError> {
        remove_tree(&self.cache(app))
            .and_then(|()| remove_tree(&self.kept(app)))
            .map_err(BuildError::platform("emptying the build cache"))
    }

    fn cache(&self, app: AppId) -> PathBuf {
        self.home.join("cache").join(app.to_string())
    }

    /// Dependency trees between builds. Beside the cache, because builds can write links into that, and we move these.
    fn kept(&self, app: AppId) -> PathBuf {
        self.home.join("cache").join(format!("{app}.dependencies"))
    }

    /// Builds the tree at [`Builder::source_directory`] and stores the slug; the working directory is gone afterwards.
    ///
    /// The layers of the slug are in the blob store and unpacked when this returns. Two builds of one app must not run at
    /// once: they share a cache. What to say to the pusher is in the error and is not in `out` yet.
    pub async fn build(
        &self,
        request: &BuildRequest,
        out: &mut dyn BuildOutput,
        cancel: &CancellationToken,
    ) -> Result<BuildOutcome, BuildError> {
        let work = self.home.join("work").join(request.build.to_string());
        let mut session = Session {
            request,
            config: &self.config,
            runtime: self.runtime.clone(),
            report: Report::new(out),
            cancel,
            started: Instant::now(),
            work: work.clone(),
            home: &self.home,
            earlier: Earlier::default(),
        };
        let mut result = self.run(&mut session).await;
        let removed = tokio::task::spawn_blocking(move || remove_tree(&work)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(build.id = %request.build, %error, "the build's working directory could not be removed");
        }
        let may_have_grown = match &result {
            Ok(outcome) => !outcome.reused,
            Err(error) => matches!(error, BuildError::Limit { which: Limit::Disk, .. }),
        };
        if may_have_grown && let Err(error) = self.bound_cache(request, &mut session.report).await {
            result = Err(error);
        }
        result
    }

    async fn run(&self, session: &mut Session<'_>) -> Result<BuildOutcome, BuildError> {
        let request = session.request;
        let tree = Tree::open(&session.app())?;
        let sources = self.sources(request)?;
        let inputs = slug::request_inputs(request, &self.config, &sources);
        if let Some(outcome) = self.reuse(session, inputs.as_deref()) {
            return Ok(outcome);
        }
        if request.clear_cache {
            self.purge_cache(request.app)?;
            session.report.detail("The build cache is empty, as asked");
        }
        fs::create_dir_all(self.cache(request.app)).map_err(BuildError::platform("making the build cache"))?;
        if tree.has(".env") {
            session.report.warning(
                ".env is in the repository: its values become part of the slug and of git's history.\nSet them with `heroku config:set` and remove the file with `git rm --cached .env`.",
            );
        }
        // Read now, so that a bad line does not cost a whole build.
        let before = read_procfile(&tree)?;
        let mut built = Built::default();
        if let Err(error) = self.buildpacks(&sources, &tree, session, &mut built).await {
            // What took long to install is there for the next try.
            keep(built.keep, &self.kept(request.app))?;
            return Err(error);
        }
        session.cancelled()?;
        let procfile = read_procfile(&tree)?.or(before);
        self.assemble(session, &tree, built, procfile, inputs).await
    }

    /// Empties a build cache that holds more than it may: no later build of the app would get anywhere with it.
    async fn bound_cache(&self, request: &BuildRequest, report: &mut Report<'_>) -> Result<(), BuildError> {
        let places = [self.cache(request.app), self.kept(request.app)];
        let used = slug::blocking(move || {
            Ok(places.iter().map(|place| used_bytes(place).unwrap_or(0)).fold(0, u64::saturating_add))
        });
        if used.await? > (request.size.disk_mib << 20) * CACHE_DISKS {
            report.warning("The build cache had grown past its limit and was emptied");
            self.purge_cache(request.app)?;
        }
        Ok(())
    }

    /// The outcome of the last build, when everything that goes into this one is the same and its layers are all there.
    fn reuse(&self, session: &mut Session<'_>, inputs: Option<&str>) -> Option<BuildOutcome> {
        let previous = session.request.previous.as_ref().filter(|_| !session.request.clear_cache)?;
        let slug = previous.slug.clone()?;
        if inputs.is_none() || previous.inputs.as_deref() != inputs {
            return None;
        }
        for layer in &slug.layers {
            if !self.blobs.exists(&layer.digest) {
                return None;
            }
            self.layers.unpack(&layer.digest).ok()?;
        }
        let (manifest_digest, config_digest) = slug::store(&slug, &self.blobs).ok()?;
        session.report.header("This commit was built before with the same inputs: its slug is used again");
        Some(BuildOutcome {
            size_bytes: slug.layers.iter().map(|l| l.size_bytes).sum(),
            slug,
            manifest_digest,
            config_digest,
            pins: previous.clone(),
            warnings: Vec::new(),
            reused: true,
        })
    }

    async fn buildpacks(
        &self,
        sources: &[Source],
        tree: &Tree,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        if !sources.is_empty() {
            return self.several(&session.request.buildpacks, sources, tree, session, built).await;
        }
        let Some(language) = languages::all().into_iter().find(|l| l.detect(tree)) else {
            return Err(BuildError::User(
                "No buildpack knows this app. Add a Procfile (`web: <command>`), requirements.txt, composer.json, package.json or index.html at the top of the tree, or name a buildpack with `heroku buildpacks:set`.".into(),
            ));
        };
        self.language(language, true, tree, session, built).await
    }

    async fn several(
        &self,
        names: &[String],
        sources: &[Source],
        tree: &Tree,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        let mut classics = 0;
        for (at, (name, source)) in names.iter().zip(sources).enumerate() {
            session.cancelled()?;
            if let Source::BuiltIn(language) = source {
                if !language.detect(tree) {
                    return Err(BuildError::User(format!(
                        "{name} does not know this app: no file of the tree is one of its signs. Remove it with `heroku buildpacks:remove {name} -a {}`.",
                        session.request.app_name
                    )));
                }
                self.language(*language, at + 1 == names.len(), tree, session, built).await?;
                continue;
            }
            classic::write_env_directory(session)?;
            let hex = sources::fetch(source, name, session).await?;
            let classic = Classic { index: classics, name: name.clone() };
            sources::copy(&self.home, &hex, &session.work.join(format!("buildpack-{classics}")))?;
            classics += 1;
            built.buildpacks.insert(name.clone(), hex);
            let Some(title) = classic.detect(session).await? else {
                return Err(BuildError::User(format!(
                    "The buildpack {name} does not know this app: its bin/detect said no. Change it with `heroku buildpacks:set`."
                )));
            };
            session.report.header(&format!("{title} app detected"));
            classic.compile(session).await?;
            let mut exported = classic.exports(session).await?;
            if let Some(path) = exported.remove("PATH") {
                session.earlier.path = path
                    .split(':')
                    .filter(|p| !DEFAULT_PATH.split(':').any(|own| own == *p))
                    .map(String::from)
                    .collect();
            }
            session.earlier.env.extend(exported);
            let released = classic.release(session).await?;
            for addon in released.addons {
                session.report.warning(&format!(
                    "{name} asks for the add-on {addon}; add it with `heroku addons:create {addon}` if the app needs it"
                ));
            }
            built.env.extend(released.config_vars);
            built.process_types.extend(released.process_types);
            built.names.push(name.clone());
            built.titles.push(title);
        }
        Ok(())
    }

    async fn language(
        &self,
        language: &'static dyn Language,
        last: bool,
        tree: &Tree,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        session.report.header(&format!("{} app detected", language.title()));
        let mut plan = language.plan(tree, session, &self.toolchains).await?;
        if let Some(dependencies) = plan.dependencies.as_mut().filter(|_| !last) {
            // Those after it may use them, and must find the same whether or not they were installed just now.
            dependencies.needed_to_build = true;
        }
        for note in &plan.notes {
            session.report.detail(note);
        }
        for name in &plan.toolchains {
            self.toolchain_layer(name, session, built).await?;
        }
        language.before(&plan, tree, session).await?;
        match plan.dependencies.clone() {
            Some(dependencies) => self.with_dependencies(language, &plan, &dependencies, tree, session, built).await?,
            None => {
                language.build(&plan, tree, session).await?;
                language.after(&plan, session).await?;
            }
        }
        built.apart.extend(plan.left_out.iter().map(PathBuf::from));
        self.leave_to_the_next(&plan, session);
        built.names.push(language.name().into());
        built.titles.push(language.title().into());
        built.versions.extend(plan.versions);
        built.path.extend(plan.path);
        built.env.extend(plan.env);
        built.process_types.extend(plan.process_types.into_iter().map(|(k, v)| (k.to_string(), v)));
        Ok(())
    }

    /// The programs of a built-in buildpack, for the steps of those after it.
    fn leave_to_the_next(&self, plan: &Plan, session: &mut Session<'_>) {
        let target = |name: &str| format!("/toolchains/{name}");
        for path in &plan.path {
            let below = path.trim_start_matches("/app/");
            let brings = |name: &&String| self.toolchains.path(name).join(below).is_dir();
            let from = plan.toolchains.iter().find(brings).map(|name| format!("{}/{below}", target(name)));
            session.earlier.path.push(from.unwrap_or_else(|| path.clone()));
        }
        session.earlier.mounts.extend(plan.toolchains.iter().map(|name| toolchain_mount(name, &target(name))));
    }

    /// A fetched language version as a layer of its own; packed once, then known by its name.
    async fn toolchain_layer(
        &self,
        name: &str,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        let layer = match self.known(session, name) {
            Some(layer) => layer,
            None => {
                let packing = Packing::everything(self.toolchains.path(name), LayerKind::Toolchain, Some(name.into()));
                slug::pack(&self.layers, packing).await?.0
            }
        };
        built.dependencies.insert(name.into(), layer.clone());
        built.layers.push(layer);
        Ok(())
    }

    async fn assemble(
        &self,
        session: &mut Session<'_>,
        tree: &Tree,
        built: Built,
        procfile: Option<BTreeMap<ProcessType, String>>,
        inputs: Option<String>,
    ) -> Result<BuildOutcome, BuildError> {
        let mut process_types = BTreeMap::new();
        for (name, command) in &built.process_types {
            let name = ProcessType::parse(name)
                .map_err(|e| BuildError::User(format!("A buildpack's default process types: {e}")))?;
            process_types.insert(name, command.clone());
        }
        session.report.header("Discovering process types");
        match &procfile {
            Some(types) => {
                session.report.detail(&format!("Procfile declares types -> {}", listed(types.keys())));
                process_types.extend(types.clone());
            }
            None => session
                .report
                .detail(&format!("Procfile declares types -> (none); defaults -> {}", listed(process_types.keys()))),
        }
        if !process_types.keys().any(ProcessType::is_web) {
            session.report.warning(
                "There is no web process type, so nothing answers requests.\nIf it should, add a line to the Procfile: `web: <command that listens on $PORT>`.",
            );
        }
        session.report.header("Compressing...");
        let ignore = tree.text(".slugignore")?.map(|text| SlugIgnore::parse(&text)).unwrap_or_default();
        let packing = Packing {
            apart: built.apart,
            touched: built.touched,
            ignore,
            ..Packing::everything(session.app(), LayerKind::App, None)
        };
        let (app, skipped) = slug::pack(&self.layers, packing).await?;
        if !skipped.is_empty() {
            session.report.warning(&format!(
                "Left out, because a slug holds only files, directories and links: {}",
                listed(skipped.iter().map(|p| p.display()))
            ));
        }
        let mut layers = built.layers;
        layers.push(app);
        let size_bytes = layers.iter().map(|l| l.size_bytes).sum::<u64>();
        session.report.detail(&format!("Done: {}", megabytes(size_bytes)));
        // In place of those of earlier inputs.
        let kept = self.kept(session.request.app);
        remove_tree(&kept).map_err(BuildError::platform("making room in the build cache"))?;
        keep(built.keep, &kept)?;
        let mut env = built.env;
        let mut path = built.path;
        path.extend(env.remove("PATH"));
        path.push(DEFAULT_PATH.into());
        env.insert("PATH".into(), path.join(":"));
        let slug = SlugManifest {
            layers,
            process_types,
            env,
            language: built.titles.join(", "),
            buildpacks: built.names,
            stack: self.config.stack.clone(),
        };
        let (manifest_digest, config_digest) = slug::store(&slug, &self.blobs)?;
        let pins = Pins {
            versions: built.versions,
            dependencies: built.dependencies,
            buildpacks: built.buildpacks,
            inputs,
            slug: Some(slug.clone()),
        };
        let warnings = std::mem::take(&mut session.report.warnings);
        Ok(BuildOutcome { slug, manifest_digest, config_digest, size_bytes, pins, warnings, reused: false })
    }
}

fn read_procfile(tree: &Tree) -> Result<Option<BTreeMap<ProcessType, String>>, BuildError> {
    let Some(text) = tree.text("Procfile")? else { return Ok(None) };
    procfile::parse(&text)
        .map(Some)
        .map_err(|e| BuildError::User(format!("{e}. Fix that line, commit, and push again.")))
}

fn listed(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let all: Vec<String> = items.map(|i| i.to_string()).collect();
    if all.is_empty() { "(none)".into() } else { all.join(", ") }
}

/// `92.1M`, as Heroku writes a slug's size.
fn megabytes(bytes: u64) -> String {
    if bytes < 100 << 10 {
        format!("{:.1}K", bytes as f64 / 1024.0)
    } else {
        format!("{:.1}M", bytes as f64 / 1048576.0)
    }
}
