//! The names by which visitors reach apps.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result, Settings};
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::{AppName, DomainId, Hostname};
use shipway_store::{App, Domain};

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
        self.store()
            .write(move |c| {
                c.insert_domain(&row)?;
                c.next_epoch(None, now)?;
                c.record(&entry)
            })
            .await
            .map_err(|e| match e {
                shipway_store::StoreError::Taken(_) => {
                    Error::invalid(format!("{hostname} is already added to an app of this platform."))
                }
                other => other.into(),
            })?;
        self.log_api(app.id, &format!("Add {hostname} domain by user {}", caller.actor.email));
        self.routes_changed();
        self.tell(crate::Event::App(app.id));
        Ok(domain)
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
        let domain = found.ok_or_else(|| Error::missing("domain"))?;
        let entry = self.entry(
            caller,
            Some(app),
            "domain-removed",
            serde_json::json!({ "hostname": domain.hostname.as_str() }),
        );
        let (id, now) = (domain.id, self.now());
        self.store()
            .write(move |c| {
                c.delete_domain(id)?;
                c.next_epoch(None, now)?;
                c.record(&entry)
            })
            .await?;
        self.log_api(app.id, &format!("Remove {} domain by user {}", domain.hostname, caller.actor.email));
        self.routes_changed();
        self.tell(crate::Event::App(app.id));
        Ok(domain)
    }
}
