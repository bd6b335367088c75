//! Keeps the router's table as the store has it.
//!
//! The switch is the commit of an epoch; this follows it. An old dyno is signalled only after the router has said that
//! it serves the epoch without it ([`Platform::acknowledged`]).

use crate::{Platform, Result, Settings};
use shipway_domain::formation::backoff_seconds;
use shipway_domain::lifecycle::DynoState;
use shipway_domain::route::{AppRoute, RouteMode, RouteTable, Target};
use shipway_store::{App, Conn, Dyno, hex, sha256};
use std::collections::HashMap;
use std::time::Duration;

/// How long between two tries, and between two looks whether the router was restarted with an older table.
const RETRY: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(2);
/// How long a caller whose change is safe already waits for the router to show it.
const SOON: Duration = Duration::from_secs(5);

impl Platform {
    /// Waits until the router serves `epoch` or a later one.
    pub(crate) async fn acknowledged(&self, epoch: u64) {
        self.inner.routes_wanted.notify_one();
        let mut seen = self.inner.acknowledged.subscribe();
        // The sender lives in the platform, which lives as long as this task.
        let _ = seen.wait_for(|served| *served >= epoch).await;
    }

    /// Waits until the router serves the newest epoch, but not for a router that is down.
    pub(crate) async fn routed_soon(&self) -> Result<()> {
        let epoch = self.store().read(|c| c.epoch())?;
        let _ = tokio::time::timeout(SOON, self.acknowledged(epoch)).await;
        Ok(())
    }

    /// Asks for the newest table to be pushed, without waiting.
    pub(crate) fn routes_changed(&self) {
        self.inner.routes_wanted.notify_one();
    }

    /// The reconciler: pushes each new epoch, and the newest again to a router that has an older one.
    pub(crate) async fn keep_routes(self) {
        let mut served = None;
        loop {
            let wanted = self.store().read(|c| c.epoch()).unwrap_or(0);
            if served != Some(wanted) {
                match self.push_routes().await {
                    Ok(epoch) => {
                        served = Some(epoch.max(wanted));
                        self.inner.acknowledged.send_replace(epoch);
                        continue;
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, cause = ?e.cause, "the router did not take the route table yet");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                () = self.inner.routes_wanted.notified() => {}
                () = tokio::time::sleep(LOOK) => {
                    served = self.inner.parts.router.epoch().await.ok();
                }
            }
        }
    }

    async fn push_routes(&self) -> Result<u64> {
        let table = self.route_table()?;
        Ok(self.inner.parts.router.push(&table).await?)
    }

    /// The route table of the newest epoch, from the store alone.
    pub fn route_table(&self) -> Result<RouteTable> {
        let settings = &self.inner.settings;
        let table = self.store().read(|c| {
            let mut dynos: HashMap<_, Vec<Dyno>> = HashMap::new();
            for dyno in c.all_dynos()? {
                dynos.entry(dyno.app).or_default().push(dyno);
            }
            let mut apps = Vec::new();
            for app in c.apps()? {
                apps.push(app_route(c, &app, dynos.get(&app.id).map_or(&[][..], Vec::as_slice), settings)?);
            }
            apps.sort_by_key(|a| a.app);
            Ok(RouteTable { epoch: c.epoch()?, apps })
        })?;
        Ok(table)
    }
}

fn app_route(c: &Conn<'_>, app: &App, dynos: &[Dyno], settings: &Settings) -> shipway_store::Result<AppRoute> {
    // What an app had before the operator named it as the platform's leads nowhere.
    let own = (!settings.is_api_host(&app.name)).then(|| format!("{}.{}", app.name, settings.domain));
    let domains = c.domains(app.id)?.into_iter().map(|d| d.hostname);
    let domains = domains.filter(|hostname| settings.api_host_in(hostname).is_none());
    let hosts = own.into_iter().chain(domains.map(|hostname| hostname.to_string())).collect();
    let targets: Vec<Target> = dynos
        .iter()
        .filter(|d| d.routed)
        .filter_map(|d| Some(Target { dyno: d.id, name: d.name(), address: d.address? }))
        .collect();
    let web: Vec<&Dyno> =
        dynos.iter().filter(|d| d.process_type.is_web() && d.one_off.is_none() && d.operation.is_none()).collect();
    let wanted = c.formation(app.id)?.iter().any(|f| f.process_type.is_web() && f.quantity > 0);
    let has_slug = match app.current_release {
        Some(id) => c.release(id)?.is_some_and(|r| r.slug.is_some()),
        None => false,
    };
    let mode = if app.maintenance {
        RouteMode::Maintenance
    } else if !targets.is_empty() {
        RouteMode::Serve
    } else if !has_slug {
        RouteMode::Blank
    } else if !wanted {
        RouteMode::NoWeb
    } else if !web.is_empty() && web.iter().all(|d| d.state == DynoState::Crashed && backoff_seconds(d.crashes) > 0) {
        // One that is started again at once is starting already: requests wait for it.
        RouteMode::Crashed
    } else {
        RouteMode::Starting
    };
    let password = match c.review_app_of(app.id)? {
        Some(review) => c.review_password(review.pipeline)?,
        None => None,
    };
    let password = password.map(|p| hex(&sha256(crate::review_apps::authorization(&p).as_bytes())));
    Ok(AppRoute { app: app.id, name: app.name.to_string(), hosts, mode, targets, password })
}
