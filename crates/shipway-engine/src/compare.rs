//! What would change: one function for any two of app, release, stage and commit.
//!
//! Everything comes from our own store and repositories; no forge is asked. Config vars are compared by value and told by
//! name.

use crate::ports::{Caller, Spot};
use crate::sides::Point;
use crate::{Platform, Result};
use shipway_domain::address::RemoteAddress;
use shipway_domain::app_json::{AppJson, Environment};
use shipway_domain::compare::{self, Change, Comparison, Extent, KeyChanges, Parity, Side, Size};
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_domain::{ProcessType, procfile};
use shipway_store::{App, ConfigVars};
use std::collections::BTreeMap;

/// Commits that are listed of each side.
const LISTED: usize = 100;
/// Earlier changes that say what is usual.
const EARLIER: usize = 10;

/// Names and what stands behind them, for [`compare::tables`].
type Table = BTreeMap<String, String>;

impl Platform {
    /// Says what would change if `head` ran in the place of `base`. The caller has seen both apps.
    pub async fn compare(&self, caller: &Caller, base: &Point, head: &Point) -> Result<Comparison> {
        let mut unknown = Vec::new();
        for point in [base, head] {
            match (&point.spot, &point.slug) {
                (None, None) => unknown.push(format!("{} has no code.", point.label())),
                (None, Some(_)) => unknown.push(format!("The commit of {} is not kept.", point.label())),
                _ => {}
            }
        }
        let histories = &self.inner.parts.histories;
        let spots = base.spot.as_ref().zip(head.spot.as_ref());
        let (commits, size) = match spots {
            Some((base_spot, head_spot)) => {
                let commits = histories.commits(base_spot, head_spot, LISTED).await?;
                (Some(commits), Some(self.size_of_change(&base.app, base_spot, head_spot).await?))
            }
            None => (None, None),
        };
        let migrations = match &head.spot {
            Some(spot) => Some(histories.migrations(base.spot.as_ref(), spot).await?),
            None => None,
        };
        let mut config = self.config_changes(caller, base, head, &mut unknown)?;
        let artifacts = base.slug.as_ref().zip(head.slug.as_ref());
        let same_artifact = artifacts.is_some_and(|(base, head)| base.digest == head.digest);
        if let Some(config) = config.as_mut().filter(|_| same_artifact) {
            // What a build wrote into it is in both.
            config.baked.clear();
        }
        let processes = self.processes(base, &mut unknown).await?.zip(self.processes(head, &mut unknown).await?);
        let (base_apps, head_apps) = (self.app_tables(base)?, self.app_tables(head)?);
        let between_apps = |pick: fn(&AppTables) -> &Table| match base.app.id == head.app.id {
            true => Vec::new(),
            false => compare::tables(pick(&base_apps), pick(&head_apps)),
        };
        let upstream = self.upstream_of(&base.app)?.or(self.upstream_of(&head.app)?);
        let url = upstream.and_then(|upstream| RemoteAddress::parse(upstream.url.as_deref()?).ok());
        let url = spots.and_then(|(base, head)| compare::compare_url(url?.shown(), &base.commit, &head.commit));
        Ok(Comparison {
            base: Side { beside: self.beside_of(base).await?, ..base.side() },
            head: Side { beside: self.beside_of(head).await?, ..head.side() },
            same_artifact,
            commits,
            size,
            config,
            processes: processes.map_or_else(Vec::new, |(base, head)| compare::tables(&base, &head)),
            formation: between_apps(|t| &t.formation),
            build: build(base, head),
            addons: between_apps(|t| &t.addons),
            schedules: match spots {
                Some((base, head)) => compare::tables(&self.schedules(base).await?, &self.schedules(head).await?),
                None => Vec::new(),
            },
            migrations,
            url,
            unknown,
        })
    }

    /// In what two apps differ that should be alike: sizes, formation, names of config vars, plans, stack, domains.
    pub fn parity(&self, caller: &Caller, base: &Point, head: &Point) -> Result<Parity> {
        let mut unknown = Vec::new();
        let config = self.config_changes(caller, base, head, &mut unknown)?;
        let (one, other) = (self.app_tables(base)?, self.app_tables(head)?);
        Ok(Parity {
            base: base.side(),
            head: head.side(),
            formation: compare::tables(&one.formation, &other.formation),
            config,
            addons: compare::tables(&one.addons, &other.addons),
            build: build(base, head),
            domains: compare::tables(&one.domains, &other.domains),
            unknown,
        })
    }

    /// The change beside the app's earlier ones.
    async fn size_of_change(&self, app: &App, base: &Spot, head: &Spot) -> Result<Size> {
        let histories = &self.inner.parts.histories;
        let extent = histories.extent(base, head).await?;
        let mut commits = self.store().read(|c| {
            let mut commits = Vec::new();
            for release in c.releases(app.id)? {
                if release.status == ReleaseStatus::Succeeded
                    && let Some(slug) = release.slug
                {
                    commits.extend(c.slug(slug)?.and_then(|slug| slug.commit));
                }
                if commits.len() > 2 * EARLIER {
                    break;
                }
            }
            Ok(commits)
        })?;
        commits.dedup();
        let mut earlier: Vec<Extent> = Vec::new();
        for pair in commits.windows(2).take(EARLIER) {
            if let (Some(to), Some(from)) = (self.spot(app, &pair[0]).await?, self.spot(app, &pair[1]).await?) {
                earlier.push(histories.extent(&from, &to).await?);
            }
        }
        // A way back brings no commits and says nothing of the usual way on.
        earlier.retain(|extent| extent.commits > 0);
        Ok(Size { extent, usual: compare::usual(&extent, &earlier) })
    }

    /// The config vars that differ, without those that attachments bring: each app has its own.
    fn config_changes(
        &self,
        caller: &Caller,
        base: &Point,
        head: &Point,
        unknown: &mut Vec<String>,
    ) -> Result<Option<KeyChanges>> {
        if base.release.is_none() || head.release.is_none() {
            return Ok(None);
        }
        if !caller.actor.scope.reads_secrets() {
            unknown.push(self.out_of_scope(caller, "compare config vars").message);
            return Ok(None);
        }
        Ok(Some(compare::config(&self.own_config(base)?, &self.own_config(head)?)))
    }

    /// The config vars of a side that no attachment brought. Those of an app are what its next release will have.
    fn own_config(&self, point: &Point) -> Result<ConfigVars> {
        Ok(self.store().read(|c| {
            let (mut vars, attached) = match &point.release {
                Some(release) if !point.is_now => {
                    let keys = release.attachments.iter().flat_map(|a| a.keys.clone()).collect::<Vec<_>>();
                    (c.release_config(release.id)?, keys)
                }
                _ => (c.config_vars(point.app.id)?, c.attached_vars(point.app.id)?.into_keys().collect()),
            };
            vars.retain(|key, _| !attached.contains(key));
            Ok(vars)
        })?)
    }

    /// What a release runs, by process type; what a commit would run, as far as its Procfile says.
    async fn processes(&self, point: &Point, unknown: &mut Vec<String>) -> Result<Option<Table>> {
        let table = |types: BTreeMap<ProcessType, String>| -> Table {
            types.into_iter().map(|(name, command)| (name.to_string(), command)).collect()
        };
        if let Some(slug) = &point.slug {
            let runnable = self.inner.parts.builder.runnable(&slug.manifest, self.settings().sizes.default_size())?;
            return Ok(Some(table(runnable.process_types)));
        }
        let Some(spot) = &point.spot else { return Ok(None) };
        let file = self.inner.parts.histories.file(spot, "Procfile").await?;
        let types = file.and_then(|text| procfile::parse(&text).ok());
        if types.is_none() {
            unknown.push(format!("What {} runs is known once it is built: it has no Procfile.", point.label()));
        }
        Ok(types.map(table))
    }

    /// What a commit runs by the clock, by command. A file that cannot be read says nothing.
    async fn schedules(&self, spot: &Spot) -> Result<Table> {
        let text = self.inner.parts.histories.file(spot, "app.json").await?;
        let app = text.and_then(|text| AppJson::parse(&text).ok());
        let cron = app.and_then(|app| app.parts(Environment::Plain).cron).unwrap_or_default();
        Ok(cron.into_iter().map(|cron| (cron.command, cron.schedule.as_str().to_string())).collect())
    }

    fn app_tables(&self, point: &Point) -> Result<AppTables> {
        let id = point.app.id;
        Ok(self.store().read(|c| {
            let formation = c
                .formation(id)?
                .into_iter()
                .map(|f| (f.process_type.to_string(), format!("{} x {}", f.quantity, f.size)));
            let formation = formation.collect();
            let mut addons = Table::new();
            for attachment in c.attachments(id)? {
                let addon = c.addon_by_id(attachment.addon)?;
                addons.insert(attachment.name.to_string(), addon.plan.to_string());
            }
            let domains = c.domains(id)?.into_iter().map(|d| (d.hostname.to_string(), "yes".to_string())).collect();
            Ok(AppTables { formation, addons, domains })
        })?)
    }
}

/// What belongs to an app and not to a release.
struct AppTables {
    formation: Table,
    addons: Table,
    domains: Table,
}

/// In what the builds of two sides differ. What is not known of one of them is no difference.
fn build(base: &Point, head: &Point) -> Vec<Change> {
    let (base, head) = (made_with(base), made_with(head));
    let both = |of: &Table, other: &Table| -> Table {
        of.iter()
            .filter(|(name, _)| other.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    compare::tables(&both(&base, &head), &both(&head, &base))
}

/// What a build was made with, as far as that is known.
fn made_with(point: &Point) -> Table {
    let Some(slug) = &point.slug else { return Table::new() };
    let known = [
        ("stack", slug.stack.clone()),
        ("host", slug.stack_fingerprint.clone()),
        ("buildpacks", slug.buildpacks.join(", ")),
        ("language", slug.language.clone().unwrap_or_default()),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_string(), value)).collect()
}
