//! Restarts and stops that people ask for.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Platform, Result};
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::DynoState;
use shipway_domain::{AppId, ProcessType};
use shipway_store::{App, Dyno};

/// Which dynos of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All of the formation.
    All,
    /// All of one process type.
    Type(ProcessType),
    /// One, by its name: `web.1`.
    Dyno(String),
}

impl Which {
    /// Whether it means this dyno.
    pub fn means(&self, dyno: &Dyno) -> bool {
        match self {
            Self::All => dyno.one_off.is_none(),
            Self::Type(t) => dyno.process_type == *t,
            Self::Dyno(name) => dyno.name() == *name || dyno.id.to_string() == *name,
        }
    }
}

impl Platform {
    /// Restarts dynos: of types that overlap, new ones are up before the old ones go.
    pub async fn restart(&self, caller: &Caller, app: &App, which: Which) -> Result<()> {
        self.admit(caller, Trigger::Restart, app).await?;
        let dynos = self.chosen(app.id, &which)?;
        if dynos.iter().any(|d| d.one_off.is_none()) {
            // What could not start again is said here, to whoever waits for the answer.
            self.ensure_current(app.id).await?;
        }
        let entry = self.entry(caller, Some(app), "restart", serde_json::json!({ "which": format!("{which:?}") }));
        self.record(entry).await?;
        self.log_api(app.id, &format!("Restarting {} by user {}", which_text(&which), caller.actor.email));
        for one_off in dynos.iter().filter(|d| d.one_off.is_some()) {
            self.stop_one_off(one_off).await?;
        }
        if dynos.iter().any(|d| d.one_off.is_none()) {
            self.restart_operation(caller, app, which).await?;
        }
        Ok(())
    }

    /// Stops dynos. Those of the formation are started anew, one-offs are over.
    pub async fn stop_dynos(&self, caller: &Caller, app: &App, which: Which) -> Result<()> {
        self.admit(caller, Trigger::Restart, app).await?;
        let dynos = self.chosen(app.id, &which)?;
        if dynos.iter().any(|d| d.one_off.is_none()) {
            // They are started anew: what could not start must not be stopped.
            self.ensure_current(app.id).await?;
        }
        let entry = self.entry(caller, Some(app), "stop", serde_json::json!({ "which": format!("{which:?}") }));
        self.record(entry).await?;
        for dyno in &dynos {
            if dyno.one_off.is_some() {
                self.stop_one_off(dyno).await?;
            } else {
                self.log_state(dyno, dyno.state, DynoState::Down);
                self.let_go(dyno.id).await?;
            }
        }
        self.reconcile(app.id);
        Ok(())
    }

    async fn stop_one_off(&self, dyno: &Dyno) -> Result<()> {
        self.log_dyno(dyno.app, &dyno.name(), "Stopping all processes with SIGTERM");
        Ok(self.runtime().stop(dyno.id).await?)
    }

    fn chosen(&self, app: AppId, which: &Which) -> Result<Vec<Dyno>> {
        let dynos: Vec<Dyno> = self.store().read(|c| c.dynos(app))?;
        let chosen: Vec<Dyno> = dynos
            .into_iter()
            .filter(|d| which.means(d) && d.operation.is_none() && d.state != DynoState::Stopping)
            .collect();
        if chosen.is_empty() && *which != Which::All {
            return Err(Error::missing(match which {
                Which::Type(_) => "process type",
                _ => "dyno",
            }));
        }
        Ok(chosen)
    }
}

fn which_text(which: &Which) -> String {
    match which {
        Which::All => "all dynos".into(),
        Which::Type(t) => format!("{t} dynos"),
        Which::Dyno(name) => name.clone(),
    }
}
