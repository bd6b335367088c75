//! The config vars that a review app begins with: its parent's, but for what leads to the parent's data.

use crate::{Platform, Result};
use shipway_domain::address::percent_decoded;
use shipway_domain::{ConfigKey, Stage};
use shipway_store::{App, ConfigVars, Pipeline, ReviewApp, ReviewAppSettings};
use std::collections::BTreeSet;

/// Shorter values and passwords are in other values by chance.
const MIN_SECRET: usize = 8;

/// What a review app is given.
pub(crate) struct Given {
    pub(crate) config: ConfigVars,
    /// Names of `config` that its app.json may give another value.
    pub(crate) inherited: BTreeSet<ConfigKey>,
    /// Names of the parent's that it does not get, because they lead to the parent's data.
    pub(crate) withheld: BTreeSet<ConfigKey>,
}

impl Platform {
    /// The config vars that a review app begins with. A fork gets nothing that is not its own: who wrote the code would
    /// read it.
    pub(crate) fn review_config(
        &self,
        pipeline: &Pipeline,
        parent: Option<&App>,
        settings: &ReviewAppSettings,
        row: &ReviewApp,
        environment: ConfigVars,
    ) -> Result<Given> {
        let (mut config, mut withheld) = (ConfigVars::new(), BTreeSet::new());
        let mut given = ConfigVars::new();
        if row.fork.is_none() {
            if let Some(parent) = parent {
                let of_parent = self.store().read(|c| Ok((c.own_config_vars(parent.id)?, c.attached_vars(parent.id)?)));
                let (own, attached) = of_parent?;
                (config, withheld) = inherited(settings, own, &attached);
            }
            given = self.store().read(|c| c.stage_config(pipeline.id, Stage::Review))?;
        }
        given.extend(environment);
        for (key, value) in [
            ("HEROKU_PR_NUMBER", row.pr_number.map(|n| n.to_string())),
            ("HEROKU_BRANCH", Some(row.branch.to_string())),
            ("HEROKU_PARENT_APP_NAME", parent.map(|p| p.name.to_string())),
        ] {
            if let Some(value) = value {
                given.insert(ConfigKey::parse(key)?, value);
            }
        }
        let inherited = config.keys().filter(|key| !given.contains_key(*key)).cloned().collect();
        withheld.retain(|key| !given.contains_key(key));
        config.extend(given);
        Ok(Given { config, inherited, withheld })
    }
}

/// What of a parent's config vars is inherited, and what is not because it leads to the parent's data: that must be named
/// to be inherited.
fn inherited(
    settings: &ReviewAppSettings,
    own: ConfigVars,
    attached: &ConfigVars,
) -> (ConfigVars, BTreeSet<ConfigKey>) {
    let addresses: Vec<String> = attached.values().chain(own.iter().filter(named).map(|(_, v)| v)).cloned().collect();
    // A password stands in an address with what would end it there written otherwise.
    let passwords = addresses.iter().filter_map(|address| password(address));
    let passwords: Vec<String> = passwords.flat_map(|it| [it.to_owned(), percent_decoded(it)]).collect();
    let secrets: Vec<&String> =
        addresses.iter().chain(&passwords).filter(|secret| secret.len() >= MIN_SECRET).collect();
    let (mut config, mut withheld) = (ConfigVars::new(), BTreeSet::new());
    for (key, value) in own.into_iter().filter(|(key, _)| !settings.deny.contains(key)) {
        let leads_there = || named(&(&key, &value)) || secrets.iter().any(|secret| value.contains(secret.as_str()));
        match &settings.allow {
            Some(allow) if !allow.contains(&key) => {}
            None if leads_there() => {
                withheld.insert(key);
            }
            _ => {
                config.insert(key, value);
            }
        }
    }
    (config, withheld)
}

/// Whether a config var is called as those of databases are.
fn named((key, _): &(&ConfigKey, &String)) -> bool {
    let name = key.as_str();
    name == "DATABASE_URL" || (name.starts_with("HEROKU_POSTGRESQL_") && name.ends_with("_URL"))
}

/// The password in a URL.
fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_the_parents_data_must_be_named() {
        let vars = |pairs: &[(&str, &str)]| -> ConfigVars {
            pairs.iter().map(|(key, value)| (ConfigKey::parse(key).expect("a name"), value.to_string())).collect()
        };
        let attached = vars(&[("GOLD_URL", "postgres://u:0a1b2c3d4e@db:5432/x")]);
        let own = vars(&[
            ("REPLICA_URL", "postgres://u:0a1b2c3d4e@db:5432/x"),
            ("JDBC_URL", "jdbc:postgres://u:0a1b2c3d4e@db:5432/x?sslmode=require"),
            ("PGPASSWORD", "0a1b2c3d4e"),
            ("DATABASE_URL", "mysql://u:pw@elsewhere/y"),
            ("OLD_URL", "mysql://u:pw@elsewhere/y"),
            ("HEROKU_POSTGRESQL_RED_URL", "postgres://u:p%40ss%2Fword@elsewhere/z"),
            ("RED_PASSWORD", "p@ss/word"),
            ("COLOUR", "pw"),
            ("CACHE_URL", "redis://u:other-secret@db/0"),
        ]);
        let names = |settings: &ReviewAppSettings| {
            let (config, withheld) = inherited(settings, own.clone(), &attached);
            let words =
                |keys: &mut dyn Iterator<Item = &ConfigKey>| keys.map(ConfigKey::as_str).collect::<Vec<_>>().join(" ");
            (words(&mut config.keys()), words(&mut withheld.iter()))
        };
        let all = ReviewAppSettings::default();
        assert_eq!(
            names(&all),
            (
                "CACHE_URL COLOUR".into(),
                "DATABASE_URL HEROKU_POSTGRESQL_RED_URL JDBC_URL OLD_URL PGPASSWORD RED_PASSWORD REPLICA_URL".into()
            )
        );
        let keys = |names: &[&str]| names.iter().map(|name| ConfigKey::parse(name).expect("a name")).collect();
        let allowed = ReviewAppSettings { allow: Some(keys(&["REPLICA_URL"])), ..ReviewAppSettings::default() };
        assert_eq!(names(&allowed), ("REPLICA_URL".into(), String::new()));
        let denied = ReviewAppSettings { deny: keys(&["COLOUR", "OLD_URL"]), ..ReviewAppSettings::default() };
        let withheld = "DATABASE_URL HEROKU_POSTGRESQL_RED_URL JDBC_URL PGPASSWORD RED_PASSWORD REPLICA_URL";
        assert_eq!(names(&denied), ("CACHE_URL".into(), withheld.into()));
    }
}
