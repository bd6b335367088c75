//! What a dyno is started with: its plan for the runtime, from its release and its size.

use crate::error::Error;
use crate::{Platform, Result};
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, SET_IN_DYNOS};
use shipway_runtime::{DynoPlan, Io, Observation, Root, RuntimeError};
use shipway_store::{Dyno, Release, Slug};
use std::collections::BTreeMap;

/// Has what is pushed built, also where it was built before.
pub const BUILD_AGAIN: &str = "git commit --allow-empty -m \"Build again\" && git push heroku HEAD:main";

impl Platform {
    /// What a runtime needs to start a dyno.
    pub(crate) fn dyno_plan(&self, dyno: &Dyno, io: Io, extra: &BTreeMap<String, String>) -> Result<DynoPlan> {
        let size = self.size(&dyno.size);
        let (app, release, config, slug) = self.store().read(|c| {
            let release = c.release_by_id(dyno.release)?;
            let slug = c.slug_of(&release)?;
            let mut config = c.release_config(dyno.release)?;
            config.extend(c.addon_vars_of(&release)?);
            Ok((c.app_by_id(dyno.app)?, release, config, slug))
        })?;
        let slug = slug
            .ok_or_else(|| Error::invalid(format!("{} has no code yet. Push some: git push heroku main", app.name)))?;
        let runnable = self.inner.parts.builder.runnable(&slug.manifest, &size)?;
        let host = format!("{}.{}", app.name, self.settings().domain);
        let mut env = runnable.env;
        env.extend(config.into_iter().map(|(k, v)| (k.into(), v)));
        env.extend(extra.clone());
        let commit = slug.commit.as_ref().map_or("", |c| c.as_str());
        for (key, value) in [
            ("HOME", "/app".into()),
            ("DYNO", dyno.name()),
            ("HEROKU_APP_ID", app.id.to_string()),
            ("HEROKU_APP_NAME", app.name.to_string()),
            ("HEROKU_APP_DEFAULT_DOMAIN_NAME", host.clone()),
            ("HEROKU_RELEASE_VERSION", format!("v{}", release.version)),
            ("HEROKU_RELEASE_CREATED_AT", release.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("HEROKU_SLUG_COMMIT", commit.to_string()),
            ("HEROKU_SLUG_DESCRIPTION", slug.commit_description.clone().unwrap_or_default()),
            ("HEROKU_BUILD_COMMIT", commit.to_string()),
        ] {
            debug_assert!(SET_IN_DYNOS.contains(&key), "whoever sets {key} as a config var is not warned");
            env.insert(key.into(), value);
        }
        let hosts = self.store().read(|c| c.domains(app.id))?.into_iter().map(|d| d.hostname.to_string());
        Ok(DynoPlan {
            dyno: dyno.id,
            app: app.id,
            uid_block: app.uid_block,
            name: dyno.name(),
            root: Root::Slug { layers: runnable.layers },
            command: dyno.command.clone(),
            profile: true,
            env,
            port: dyno.process_type.is_web() && dyno.one_off.is_none(),
            size,
            io,
            grace_seconds: self.settings().grace_seconds,
            time_limit_seconds: None,
            hosts: [host].into_iter().chain(hosts.filter(|h| !h.starts_with('*'))).collect(),
            services: self.services_of(&release)?,
        })
    }

    /// Starts a dyno. Layers that are not unpacked are unpacked first: none
    /// are kept over a start of the machine, and data that was put back from a backup has none.
    pub(crate) async fn start_dyno(&self, dyno: &Dyno, plan: &DynoPlan) -> Result<Observation> {
        match self.runtime().start(plan).await {
            Err(RuntimeError::MissingLayer(layer)) => {
                tracing::info!(dyno.id = %dyno.id, %layer, "unpacking the layers of the dyno's slug");
                let release = dyno.release;
                let slug = self.store().read(|c| c.release_by_id(release)?.slug.map(|s| c.slug(s)).transpose())?;
                if let Some(slug) = slug.flatten() {
                    self.ensure(&slug).await?;
                }
                Ok(self.runtime().start(plan).await?)
            }
            started => Ok(started?),
        }
    }

    /// Ports of the add-ons that a release was made with.
    fn services_of(&self, release: &Release) -> Result<Vec<u16>> {
        let configs = self.store().read(|c| {
            let there = release.attachments.iter().filter_map(|a| match c.addon_config(a.addon) {
                Err(shipway_store::StoreError::Missing(_)) => None,
                config => Some(config),
            });
            there.collect::<shipway_store::Result<Vec<_>>>()
        })?;
        let addons = &self.inner.parts.addons;
        let mut ports: Vec<u16> = configs.iter().filter_map(|c| Some(addons.endpoint(c)?.port())).collect();
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    /// A size by name; one that the operator has removed since counts as the default.
    pub(crate) fn size(&self, name: &str) -> DynoSize {
        let sizes = &self.settings().sizes;
        sizes.find(name).unwrap_or(sizes.default_size()).clone()
    }

    /// Says which apps have dynos of a size that the operator has removed since: in the server's log, and in theirs.
    pub(crate) fn announce_removed_sizes(&self) -> Result<()> {
        let sizes = &self.settings().sizes;
        let removed = self.store().read(|c| {
            let mut removed = Vec::new();
            for app in c.apps()? {
                let rows = c.formation(app.id)?.into_iter().filter(|f| sizes.find(&f.size).is_err());
                removed.extend(rows.map(|row| (app.clone(), row)));
            }
            Ok(removed)
        })?;
        for (app, row) in removed {
            let (size, process_type, counts) = (&row.size, &row.process_type, &sizes.default_size().name);
            tracing::warn!(
                app.name = %app.name, %process_type, size,
                "a dyno size in use is not defined any more and counts as {counts}: define it (shipway up --dyno-size), or scale the app to another"
            );
            let choose = format!("To choose another: heroku ps:scale {process_type}={}:{counts}", row.quantity);
            let gone = format!("the dyno size {size} is not there any more: {process_type} dynos start as {counts}");
            self.log_api(app.id, &format!("Warning: {gone}. {choose}"));
        }
        Ok(())
    }

    /// Makes sure that a slug can run. Errors: it is damaged, with the way to make it again.
    pub(crate) async fn ensure(&self, slug: &Slug) -> Result<()> {
        self.ensure_or(slug, BUILD_AGAIN).await
    }

    /// The same for code that is not the newest. `again`: what builds it again.
    pub(crate) async fn ensure_or(&self, slug: &Slug, again: &str) -> Result<()> {
        self.inner.parts.builder.ensure(&slug.manifest).await.map_err(|e| {
            let what = slug.commit.as_ref().map_or("the code".into(), |c| format!("commit {}", c.short()));
            let message =
                format!("What was built of {what} is damaged on the platform's disk. To build it again: {again}");
            Error::unavailable(message, e)
        })
    }

    /// The same for the code that an app runs, if it runs any.
    pub(crate) async fn ensure_current(&self, app: AppId) -> Result<()> {
        let slug = self.store().read(|c| {
            let current = c.current_release(&c.app_by_id(app)?)?;
            current.map_or(Ok(None), |release| c.slug_of(&release))
        })?;
        match slug {
            Some(slug) => self.ensure(&slug).await,
            None => Ok(()),
        }
    }
}
