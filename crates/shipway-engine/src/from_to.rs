//! What the words of `shipway promote FROM TO` mean, and what is said where they mean nothing.

use crate::error::Error;
use crate::ports::Caller;
use crate::products::TogetherOrder;
use crate::{Platform, Result};
use shipway_domain::{AppName, NameOrId, Stage};
use shipway_store::{App, Coupling, Pipeline};

impl Platform {
    /// Why a word of an order means no app of a pipeline.
    pub(crate) fn not_in(&self, caller: &Caller, pipeline: &Pipeline, order: &TogetherOrder, word: &str) -> Error {
        if Stage::from_people(word).is_some() {
            return Error::invalid(format!("The pipeline {} has no app in {word}.", pipeline.name));
        }
        let app = match self.app(caller, &NameOrId::parse(word)) {
            Ok(app) => app,
            Err(missing) => return nor_a_stage(missing),
        };
        match self.coupling_of(&app) {
            Ok(there) => {
                let other = if word == order.from { &order.to } else { &order.from };
                let other_is = self.app(caller, &NameOrId::parse(other)).and_then(|app| self.coupling_of(&app));
                let own = match other_is {
                    Ok(its) if its.pipeline == pipeline.id => format!("{other} in {}", pipeline.name),
                    _ => format!("not in {}", pipeline.name),
                };
                Error::invalid(format!(
                    "{word} is in the pipeline {}, {own}: a promotion stays within one pipeline.",
                    there.pipeline_name
                ))
            }
            Err(uncoupled) => Error::invalid(uncoupled.message),
        }
    }
}

/// What is said of a word that is no app: it might have been meant as a stage.
pub(crate) fn nor_a_stage(missing: Error) -> Error {
    let stages = Stage::ALL.into_iter().filter(|stage| !stage.is_made_by_the_platform()).map(Stage::as_str);
    let stages = stages.collect::<Vec<_>>().join(", ");
    Error { message: format!("{} It is no stage either (stages: {stages}).", missing.message), ..missing }
}

/// The apps of a pipeline that a word means: a stage's, or the one of that name.
pub(crate) fn find<'a>(apps: &'a [(Coupling, App)], word: &str) -> impl Iterator<Item = &'a (Coupling, App)> {
    let stage = Stage::from_people(word);
    let name = AppName::parse(word).ok();
    apps.iter().filter(move |(coupling, app)| match stage {
        Some(stage) => coupling.stage == stage,
        None => name.as_ref() == Some(&app.name),
    })
}

/// The app that a pipeline is promoted from. Errors: none, or several; `command` names one of those.
pub(crate) fn one_source(
    pipeline: &Pipeline,
    apps: &[(Coupling, App)],
    word: &str,
    command: impl Fn(&App) -> String,
) -> Result<(Stage, App)> {
    let found: Vec<_> = find(apps, word).collect();
    let (coupling, app) = match found.as_slice() {
        [] => return Err(Error::invalid(format!("The pipeline {} has no app in {word}.", pipeline.name))),
        [one] => one,
        [(_, first), ..] => {
            let names: Vec<&str> = found.iter().map(|(_, app)| app.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "The pipeline {} has several apps in {word}: {}. Name the one to promote from: {}",
                pipeline.name,
                names.join(", "),
                command(first)
            )));
        }
    };
    if coupling.stage.is_made_by_the_platform() {
        return Err(Error::invalid(format!("Nothing is promoted from {}.", coupling.stage)));
    }
    Ok((coupling.stage, app.clone()))
}
