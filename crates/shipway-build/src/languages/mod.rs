//! The built-in buildpacks, all by one trait.
//!
//! A language first makes a [`Plan`] from the tree alone, without starting a process: its versions, what its dependency
//! layer is made from, whether build steps need the dependencies at hand. The builder compares the inputs with the last
//! build's; only when they differ does it call [`Language::install`].

use crate::model::BuildError;
use crate::session::{Session, Step};
use crate::toolchains::Toolchains;
use crate::tree::Tree;
use async_trait::async_trait;
use std::collections::BTreeMap;

pub(crate) mod node;
pub(crate) mod php;
pub(crate) mod procfile;
pub(crate) mod python;
pub(crate) mod static_files;

/// A built-in buildpack.
#[async_trait]
pub(crate) trait Language: Send + Sync {
    /// The buildpack's name: `heroku/python`.
    fn name(&self) -> &'static str;

    /// What people call it: `Python`.
    fn title(&self) -> &'static str;

    /// Whether the tree looks like one of its apps.
    fn detect(&self, tree: &Tree) -> bool;

    /// What will be done. May fetch a toolchain that no app had before; starts nothing else.
    async fn plan(&self, tree: &Tree, session: &mut Session<'_>, tools: &Toolchains) -> Result<Plan, BuildError>;

    /// The app's own hook before anything is installed.
    async fn before(&self, _plan: &Plan, _tree: &Tree, _session: &mut Session<'_>) -> Result<(), BuildError> {
        Ok(())
    }

    /// Makes the dependency tree at its path in the app.
    async fn install(&self, _plan: &Plan, _session: &mut Session<'_>) -> Result<(), BuildError> {
        Ok(())
    }

    /// The app's own build steps, with the dependencies in place when the plan asked for them.
    async fn build(&self, _plan: &Plan, _tree: &Tree, _session: &mut Session<'_>) -> Result<(), BuildError> {
        Ok(())
    }

    /// Makes the dependency tree what it is at run time (development dependencies removed), once, before it is packed.
    async fn strip(&self, _plan: &Plan, _session: &mut Session<'_>) -> Result<(), BuildError> {
        Ok(())
    }

    /// The app's own hook after everything else.
    async fn after(&self, _plan: &Plan, _session: &mut Session<'_>) -> Result<(), BuildError> {
        Ok(())
    }
}

/// What a language will do with a tree.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Versions it chose, by tool: kept for the next build.
    pub(crate) versions: BTreeMap<String, String>,
    /// What it says about them.
    pub(crate) notes: Vec<String>,
    /// Directories of `toolchains/` that the app's dynos need, each as a layer of its own.
    pub(crate) toolchains: Vec<String>,
    /// Its dependency layer, if it has one.
    pub(crate) dependencies: Option<Dependencies>,
    /// Directories before the stack's own in `PATH`, in the build and in dynos.
    pub(crate) path: Vec<String>,
    /// Directories below `/app` that are for the build alone, so they are not in the slug.
    pub(crate) left_out: Vec<&'static str>,
    /// Defaults of the environment in dynos.
    pub(crate) env: BTreeMap<String, String>,
    /// Process types when the Procfile does not name them.
    pub(crate) process_types: BTreeMap<&'static str, String>,
    /// What the language tells its own later steps.
    pub(crate) own: BTreeMap<&'static str, String>,
}

/// A dependency layer to be.
#[derive(Debug, Clone)]
pub(crate) struct Dependencies {
    /// Where it lies below `/app`.
    pub(crate) path: &'static str,
    /// Hex digest of everything that it is made from. None: it is installed in every build, because that is the whole
    /// tree, or because not all of what is installed lies in it.
    pub(crate) inputs: Option<String>,
    /// Whether what is committed there counts; otherwise it makes way.
    pub(crate) committed: bool,
    /// Whether build steps need it, so that it is put back in place when it is not installed anew.
    pub(crate) needed_to_build: bool,
    /// Whether [`Language::strip`] takes something away, so that the layer is not enough to build with.
    pub(crate) stripped: bool,
    /// What it was asked for by: `requirements.txt`.
    pub(crate) source: &'static str,
}

/// Every built-in buildpack, in the order in which they are tried.
pub(crate) fn all() -> [&'static dyn Language; 5] {
    // A Python or PHP app often has a package.json for its assets; with both, Heroku's order decides for Node.js only if
    // it is asked for, and so do we.
    [&python::Python, &php::Php, &node::Node, &static_files::StaticFiles, &procfile::Procfile]
}

/// The built-in buildpack that goes by this name, in any of the forms in which Heroku writes it.
pub(crate) fn by_name(given: &str) -> Option<&'static dyn Language> {
    let name = shipway_domain::buildpack::name(given);
    all().into_iter().find(|language| language.name() == name)
}

/// Runs one of an app's own hooks (`bin/post_compile`) or scripts; a failure names it.
pub(crate) async fn run_own(session: &mut Session<'_>, step: Step, what: &str) -> Result<(), BuildError> {
    let finished = session.run(step).await?;
    if finished.status == 0 {
        return Ok(());
    }
    Err(BuildError::User(format!(
        "{what} exited with {}. Its output is above; it runs at build time with the app's config vars, without its database.",
        finished.status
    )))
}

/// The last lines of an output, for a message.
pub(crate) fn tail(output: &str, lines: usize) -> String {
    let all: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use shipway_domain::buildpack::BUILT_IN;

    #[test]
    fn every_built_in_buildpack_is_known_by_its_name() {
        assert_eq!(super::all().len(), BUILT_IN.len());
        for (name, _) in BUILT_IN {
            assert_eq!(super::by_name(name).map(|language| language.name()), Some(name));
        }
        assert!(super::by_name("heroku/ruby").is_none());
    }
}
