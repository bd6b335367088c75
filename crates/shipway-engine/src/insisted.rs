//! What code insists on: the config vars that its app.json says are required. It is neither built, nor promoted, nor left
//! running without them.

use crate::error::Error;
use crate::ports::{Place, Spot};
use crate::promotions::Promotable;
use crate::setups::{APP_JSON, read_app_json};
use crate::{Kind, Platform, Result};
use shipway_domain::app_json::{EnvVar, Environment};
use shipway_domain::{AppId, ConfigKey};
use shipway_store::{App, Attachment, ConfigVars, Slug};

impl Platform {
    /// Refuses a commit whose app.json insists on config vars that the app does not have; says what else is wrong with
    /// the file. Asked before a build, with the file that was checked out.
    pub(crate) fn check_insisted(
        &self,
        app: &App,
        config: &ConfigVars,
        file: &str,
        mut warn: impl FnMut(&str),
    ) -> Result<()> {
        match read_app_json(file) {
            Err(problems) => problems.iter().for_each(|problem| warn(problem)),
            Ok(app_json) => {
                // Of the rest an app that is there takes nothing from the file, with effect or without.
                let checks = app_json.warnings.iter().filter(|w| w.message.starts_with("healthchecks"));
                checks.for_each(|warning| warn(&warning.to_string()));
                let parts = app_json.parts(Environment::Plain);
                let missing = parts.insisted(|key| config.contains_key(key));
                if !missing.is_empty() {
                    let way_out = format!("Set them: heroku config:set {}=… -a {}", missing[0].0, app.name);
                    return Err(missing_vars("lacks", app, &missing, &way_out));
                }
            }
        }
        Ok(())
    }

    /// Refuses to promote code to an app that lacks what it insists on.
    pub(crate) async fn check_promoted(&self, app: &App, source: &Promotable) -> Result<()> {
        let Some(file) = self.app_json_of(source.app.id, &source.slug).await? else { return Ok(()) };
        let config = self.store().read(|c| c.config_vars(app.id))?;
        self.check_insisted(app, &config, &file, |_| ())
    }

    /// What the code insists on and an app that it would be promoted to lacks, in words; none where nothing is lacking.
    pub(crate) async fn lacks_insisted(&self, app: &App, source: &Promotable) -> Result<Option<String>> {
        match self.check_promoted(app, source).await {
            Ok(()) => Ok(None),
            Err(e) if e.kind == Kind::Platform => Err(e),
            Err(e) => Ok(Some(e.message)),
        }
    }

    /// Refuses to take `attachments` from an app when what it runs insists on a config var of theirs.
    pub(crate) async fn check_detached(&self, app: &App, attachments: &[&Attachment]) -> Result<()> {
        let (mut config, gone) = self.store().read(|c| {
            let mut gone = ConfigVars::new();
            for attachment in attachments {
                gone.extend(c.attachment_vars(attachment)?);
            }
            Ok((c.config_vars(app.id)?, gone))
        })?;
        config.retain(|key, _| !gone.contains_key(key));
        let gone: Vec<String> = gone.keys().map(ToString::to_string).collect();
        self.check_unset(app, &config, &gone, "attach another add-on under the same name").await
    }

    /// Refuses to leave an app with `config` when what it runs insists on one of `unset`, which were taken out of it;
    /// `instead` is what else could be done.
    pub(crate) async fn check_unset(
        &self,
        app: &App,
        config: &ConfigVars,
        unset: &[String],
        instead: &str,
    ) -> Result<()> {
        let running = self.store().read(|c| c.running(app))?;
        let Some((_, slug)) = running.filter(|_| !unset.is_empty()) else { return Ok(()) };
        let Some(file) = self.app_json_of(app.id, &slug).await? else { return Ok(()) };
        let Ok(app_json) = read_app_json(&file) else { return Ok(()) };
        let parts = app_json.parts(Environment::Plain);
        let mut missing = parts.insisted(|key| config.contains_key(key));
        missing.retain(|(key, _)| unset.iter().any(|gone| gone == key.as_str()));
        if missing.is_empty() {
            return Ok(());
        }
        let way_out = format!("Deploy code first whose app.json does not say \"required\": true of it, or {instead}.");
        Err(missing_vars("would lack", app, &missing, &way_out))
    }

    /// The `app.json` of a slug's commit, where it has one.
    pub(crate) async fn app_json_of(&self, app: AppId, slug: &Slug) -> Result<Option<String>> {
        let Some(commit) = slug.commit.clone() else { return Ok(None) };
        Ok(self.inner.parts.histories.file(&Spot { place: Place::App(app), commit }, APP_JSON).await?)
    }
}

/// Names every config var that is missing, with its line.
pub(crate) fn missing_vars(lacks: &str, app: &App, missing: &[(&ConfigKey, &EnvVar)], way_out: &str) -> Error {
    let name = |(key, var): &(&ConfigKey, &EnvVar)| {
        let what: String = var.description.iter().flat_map(|d| d.lines().next()).collect();
        let what = if what.is_empty() {
            what
        } else {
            format!(": {}", what.chars().filter(|c| !c.is_control()).collect::<String>())
        };
        format!("\n  {key} (app.json line {}){what}", var.line)
    };
    let all: String = missing.iter().map(name).collect();
    Error::invalid(format!("{} {lacks} config vars that its app.json requires:{all}\n{way_out}", app.name))
}
