//! The names by which visitors reach apps.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result, Settings};
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::{AppName, DomainId, Hostname, LedgerId};
use shipway_store::{App, Domain, LedgerEntry};

/// What the ledger calls a name that the platform took from an app.
const TAKEN: &str = "name-taken";
/// Entries of an app's ledger that are looked through for one that has said so.
const SAID: u32 = 1000;
/// Most custom domains of one app.
const MAX_DOMAINS: usize = 1000;

impl Settings {
    /// The name of the API and the dashboard that `hostname` is, or is a wildcard around.
    pub(crate) fn api_host_in(&self, hostname: &Hostname) -> Option<&String> {
        self.api_hosts.iter().find(|host| hostname.as_str() == *host || hostname.covers(host))
    }

    /// Whether an app of this name would be at a name of the API and the dashboard.
    pub(crate) fn is_api_host(&self, name: &AppName) -> bool {
        self.api_hosts.contains(&format!("{name}.{}", self.domain))
    }
}

impl Platform {
    /// Adds a custom domain. An app at the dashboard's name would be sent the cookies of those who are signed in there, for
    /// cookies know no ports (attack 22). Errors: illegal, the platform's own in part or whole, or another app's; a wildcard around
    /// a name of an app that the caller does not operate, or a name inside such a wildcard.
    pub async fn add_domain(&self, caller: &Caller, app: &App, hostname: &str) -> Result<Domain> {
        self.admit(caller, Trigger::Domain, app).await?;
        let hostname = Hostname::parse(hostname)?;
        if let Some(host) = self.settings().api_host_in(&hostname) {
            return Err(Error::invalid(format!(
                "{hostname} belongs to the platform: its API and dashboard are reached by {host}. Choose another name; \
                 the operator decides which are the platform's (shipway up --api-host)."
            )));
        }
        let own = Hostname::parse(&format!("*.{}", self.settings().domain))?;
        let base = &self.settings().domain;
        if hostname.as_str() == base || hostname.overlaps(&own) || hostname.covers(base) {
            return Err(Error::invalid(format!(
                "{hostname} belongs to the platform, at least in part: every app has its own name below {base}."
            )));
        }
        self.not_around_others(caller, app, &hostname)?;
        if self.store().read(|c| c.domains(app.id))?.len() >= MAX_DOMAINS {
            return Err(Error::invalid(format!("{} has {MAX_DOMAINS} domains, which is the most.", app.name)));
        }
        let now = self.now();
        let domain =
            Domain { id: self.id(DomainId), app: app.id, hostname: hostname.clone(), created_at: now, updated_at: now };
        let entry = self.entry(caller, Some(app), "domain-added", serde_json::json!({ "hostname": hostname.as_str() }));
        let row = domain.clone();
        self.write_with(entry, move |c| {
            c.insert_domain(&row)?;
            c.next_epoch(None, now)
        })
        .await
        .map_err(|e| match e {
            shipway_store::StoreError::Taken(_) => self.taken_domain(caller, app, &hostname),
            other => other.into(),
        })?;
        self.log_api(app.id, &format!("Add {hostname} domain by user {}", caller.actor.email));
        self.routes_changed();
        self.tell(crate::Event::App(app.id));
        Ok(domain)
    }

    /// What is said where an app has this domain already. Which one is said to whoever may see it.
    fn taken_domain(&self, caller: &Caller, app: &App, hostname: &Hostname) -> Error {
        let holder = || {
            let all = self.store().read(|c| c.all_domains()).ok()?;
            let there = all.into_iter().find(|domain| domain.hostname == *hostname)?;
            self.app(caller, &there.app.into()).ok()
        };
        Error::invalid(match holder() {
            Some(it) if it.id == app.id => format!("{hostname} is already added to {}: heroku domains -a {0}", it.name),
            Some(it) => format!(
                "{hostname} is already added to {}. Choose another name, or take it from there first: heroku domains:remove \
                 {hostname} -a {0}",
                it.name
            ),
            None => format!("{hostname} is already added to another app of this platform. Choose another name."),
        })
    }

    /// Says which names of apps lead to the platform itself now, because the operator took them for it (`--api-host`): in
    /// the server's log, in the app's, and once in the ledger.
    pub(crate) async fn announce_taken_names(&self) -> Result<()> {
        let settings = self.settings();
        if settings.api_hosts.is_empty() {
            return Ok(());
        }
        let taken = self.store().read(|c| {
            let mut taken = Vec::new();
            for app in c.apps()? {
                let own = settings.is_api_host(&app.name).then(|| format!("{}.{}", app.name, settings.domain));
                let domains = c.domains(app.id)?.into_iter().map(|domain| domain.hostname);
                let domains = domains.filter(|name| settings.api_host_in(name).is_some()).map(|name| name.to_string());
                let names: Vec<String> = own.into_iter().chain(domains).collect();
                let ledger = if names.is_empty() { Vec::new() } else { c.ledger(Some(app.id), SAID)? };
                let said = |name: &String| ledger.iter().any(|e| e.action == TAKEN && e.detail["hostname"] == **name);
                taken.extend(names.into_iter().map(|name| (app.clone(), said(&name), name)));
            }
            Ok(taken)
        })?;
        for (app, said, hostname) in taken {
            let because = "the operator gave it to the API and the dashboard (shipway up --api-host)";
            tracing::warn!(app.name = %app.name, hostname, "a name of an app leads to the platform: {because}");
            self.log_api(app.id, &format!("Warning: {hostname} does not lead here any more: {because}"));
            if said {
                continue;
            }
            let entry = LedgerEntry {
                id: self.id(LedgerId),
                at: self.now(),
                actor: "platform".into(),
                via: "platform".into(),
                app: Some(app.id),
                app_name: Some(app.name.to_string()),
                action: TAKEN.into(),
                detail: serde_json::json!({ "hostname": hostname, "because": because }),
            };
            self.record(entry).await?;
        }
        Ok(())
    }

    /// Errors: the name takes visitors from somebody else's app, or would once that gives a name up.
    fn not_around_others(&self, caller: &Caller, app: &App, hostname: &Hostname) -> Result<()> {
        let all = self.store().read(|c| c.all_domains())?;
        for other in all.iter().filter(|d| d.app != app.id && d.hostname != *hostname && d.hostname.overlaps(hostname))
        {
            let theirs = self.store().read(|c| c.app_by_id(other.app))?;
            let permission = self.subject(caller, &theirs)?.permission;
            if !caller.actor.admin && permission < Some(Permission::Operate) {
                return Err(Error::invalid(format!(
                    "{hostname} cannot be added: an app of somebody else has a name in it, or around it."
                )));
            }
        }
        Ok(())
    }

    /// Removes a custom domain, by name or id.
    pub async fn remove_domain(&self, caller: &Caller, app: &App, which: &str) -> Result<Domain> {
        self.admit(caller, Trigger::Domain, app).await?;
        let all = self.store().read(|c| c.domains(app.id))?;
        let found =
            all.into_iter().find(|d| d.hostname.as_str() == which.to_ascii_lowercase() || d.id.to_string() == which);
        let domain = found.ok_or_else(|| {
            Error::missing_one("domain", which, &format!("`heroku domains -a {}` lists them.", app.name))
        })?;
        let entry = self.entry(
            caller,
            Some(app),
            "domain-removed",
            serde_json::json!({ "hostname": domain.hostname.as_str() }),
        );
        let (id, now) = (domain.id, self.now());
        self.write_with(entry, move |c| {
            c.delete_domain(id)?;
            c.next_epoch(None, now)
        })
        .await?;
        self.log_api(app.id, &format!("Remove {} domain by user {}", domain.hostname, caller.actor.email));
        self.routes_changed();
        self.tell(crate::Event::App(app.id));
        Ok(domain)
    }
}
