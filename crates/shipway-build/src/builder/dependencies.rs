//! The dependency layer of a build: made, or used again.

use super::{Builder, Built};
use crate::languages::{Dependencies, Language, Plan};
use crate::model::{BuildError, LayerKind, LayerRef};
use crate::session::Session;
use crate::slug::{self, Packing};
use crate::tree::Tree;
use shipway_runtime::remove_tree;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl Builder {
    /// The layer that the last build made from these inputs, if it is still there.
    pub(super) fn known(&self, session: &Session<'_>, inputs: &str) -> Option<LayerRef> {
        let previous = session.request.previous.as_ref().filter(|_| !session.request.clear_cache)?;
        let layer = previous.dependencies.get(inputs)?;
        (self.blobs.exists(&layer.digest) && self.layers.unpack(&layer.digest).is_ok()).then(|| layer.clone())
    }

    pub(super) async fn with_dependencies(
        &self,
        language: &'static dyn Language,
        plan: &Plan,
        dependencies: &Dependencies,
        tree: &Tree,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        let app = session.app();
        let place = app.join(dependencies.path);
        let placing = || BuildError::platform(format!("making room for {}", dependencies.path));
        // From here on every directory above it is a real one, not a link of the app's.
        slug::make_parents(&app, Path::new(dependencies.path)).map_err(placing())?;
        // What was committed there is not what the lock file asks for.
        if !dependencies.committed && place.symlink_metadata().is_ok() {
            session.report.warning(&format!(
                "{} is in the repository; what {} asks for is used instead",
                dependencies.path, dependencies.source
            ));
            remove_tree(&place).map_err(placing())?;
        }
        let Some(inputs) = &dependencies.inputs else {
            return self.installed_anew(language, plan, dependencies, tree, session, built).await;
        };
        let known = self.known(session, inputs);
        let began = Instant::now();
        let kept = self.kept(session.request.app).join(inputs);
        let wanted = known.is_none() || dependencies.needed_to_build;
        let kept = wanted && restore(&kept, &app, dependencies.path)?;
        match &known {
            Some(layer) => {
                session.report.detail(&format!("{} is unchanged: its layer is used again", dependencies.source));
                if wanted && !kept {
                    if dependencies.stripped {
                        language.install(plan, session).await?;
                    } else {
                        slug::unpack_into(&self.blobs, layer, &app).await?;
                    }
                }
            }
            None if kept => {
                session.report.detail(&format!("{} is unchanged: installed before", dependencies.source));
            }
            None => {
                language.install(plan, session).await?;
                session.report.took("Installed", began.elapsed());
            }
        }
        if dependencies.needed_to_build {
            let work = session.work.clone();
            let mark = slug::blocking(move || slug::mark(&work)).await?;
            if let Err(error) = language.build(plan, tree, session).await {
                if slug::is_plain_directory(&app, Path::new(dependencies.path)) {
                    built.keep.push((place, inputs.clone()));
                }
                return Err(error);
            }
            built.touched.extend(slug::touched(&app, Path::new(dependencies.path), mark)?);
            if dependencies.stripped && known.is_none() {
                slug::duplicate(&app, Path::new(dependencies.path), &session.work.join("kept")).await?;
                language.strip(plan, session).await?;
                built.keep.push((session.work.join("kept").join(dependencies.path), inputs.clone()));
            } else {
                built.keep.push((place.clone(), inputs.clone()));
            }
        } else {
            language.build(plan, tree, session).await?;
        }
        language.after(plan, session).await?;
        if known.is_none() || dependencies.needed_to_build {
            if place.symlink_metadata().is_err() {
                // The app has cleaned it away: what it built is enough for it.
                built.keep.retain(|(from, _)| *from != place);
                return Ok(());
            }
            still_a_directory(language, dependencies, &app)?;
        }
        let layer = match known {
            Some(layer) => layer,
            None => self.dependency_layer(dependencies, &app).await?,
        };
        built.dependencies.insert(inputs.clone(), layer.clone());
        built.layers.push(layer);
        built.apart.push(dependencies.path.into());
        Ok(())
    }

    /// A dependency tree that no earlier build is compared with. Its layer is one of its own all the same: where the same
    /// was installed it has the same bytes, and is stored and unpacked once.
    async fn installed_anew(
        &self,
        language: &'static dyn Language,
        plan: &Plan,
        dependencies: &Dependencies,
        tree: &Tree,
        session: &mut Session<'_>,
        built: &mut Built,
    ) -> Result<(), BuildError> {
        let app = session.app();
        let began = Instant::now();
        language.install(plan, session).await?;
        session.report.took("Installed", began.elapsed());
        language.build(plan, tree, session).await?;
        if dependencies.stripped {
            language.strip(plan, session).await?;
        }
        language.after(plan, session).await?;
        if app.join(dependencies.path).symlink_metadata().is_err() {
            // Nothing of what was asked for belongs there, or the app has cleaned it away.
            return Ok(());
        }
        still_a_directory(language, dependencies, &app)?;
        built.layers.push(self.dependency_layer(dependencies, &app).await?);
        built.apart.push(dependencies.path.into());
        Ok(())
    }

    async fn dependency_layer(&self, dependencies: &Dependencies, app: &Path) -> Result<LayerRef, BuildError> {
        let packing = Packing {
            subtree: dependencies.path.into(),
            ..Packing::everything(app.into(), LayerKind::Dependencies, dependencies.inputs.clone())
        };
        Ok(slug::pack(&self.layers, packing).await?.0)
    }
}

/// The app's own code ran: what lies there now need not be what was put there.
fn still_a_directory(language: &dyn Language, dependencies: &Dependencies, app: &Path) -> Result<(), BuildError> {
    if slug::is_plain_directory(app, Path::new(dependencies.path)) {
        return Ok(());
    }
    Err(BuildError::User(format!(
        "After the build {} is not a directory any more. Leave it to {}; it is made into a layer of its own.",
        dependencies.path,
        language.title()
    )))
}

/// Moves a kept dependency tree into place. Says whether there was one.
fn restore(kept: &Path, app: &Path, path: &str) -> Result<bool, BuildError> {
    let restoring = || BuildError::platform(format!("taking {path} out of the build cache"));
    if !fs::symlink_metadata(kept).is_ok_and(|meta| meta.is_dir()) {
        return Ok(false);
    }
    fs::rename(kept, app.join(path)).map_err(restoring())?;
    Ok(true)
}

/// Moves dependency trees, each with its name, into the cache.
pub(super) fn keep(trees: Vec<(PathBuf, String)>, directory: &Path) -> Result<(), BuildError> {
    let keeping = || BuildError::platform("keeping dependencies in the build cache");
    for (from, name) in trees {
        let to = directory.join(name);
        fs::create_dir_all(directory).map_err(keeping())?;
        remove_tree(&to).map_err(keeping())?;
        fs::rename(from, to).map_err(keeping())?;
    }
    Ok(())
}
