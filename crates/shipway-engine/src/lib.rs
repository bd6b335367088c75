//! What the platform does: build, release, scale, restart, roll back, run, destroy.
//!
//! One [`Platform`] holds the store, the ports and the tasks. Whatever changes what runs is an *operation* (`operation`,
//! steps in `change` and its neighbours): a plan, then named steps with a journal row written before and after each effect,
//! in the transaction of the state that it explains. Whatever keeps things as they are wanted is a *reconciler*
//! (`formation`, `routes`): no input, may run at any time, any number of times. Each live dyno is driven by one task
//! (`dynos`). All of them find their place again from the store alone when the server was killed.

mod accounts;
mod addon_steps;
mod addons;
mod apps;
mod artifact;
mod backups;
mod builds;
mod change;
mod collect;
mod compare;
mod config;
mod deploy_keys;
mod deployments;
mod destroy;
mod domains;
mod dynos;
mod error;
mod findings;
mod forge_news;
mod forges;
mod formation;
mod from_to;
mod gate;
mod health;
mod inherited;
mod insisted;
mod keys;
mod late;
mod leaving;
mod locks;
mod logins;
mod logs;
mod look;
mod operation;
mod output;
mod overwritten;
mod owners;
mod phase;
mod pipelines;
mod plan;
pub mod ports;
mod products;
mod promotions;
mod releases;
mod reservations;
mod restarts;
mod review_apps;
mod reviewing;
mod routes;
mod run;
mod scopes;
mod setup_addons;
mod setups;
mod sides;
mod sign_offs;
mod sources;
mod standing;
mod starts;
mod teams;
mod telling;
mod transfers;
mod triggers;
mod tunnels;
mod turns;
mod upstream;
mod webhooks;

pub use accounts::{NewToken, UpdateAccount};
pub use addons::{NewAddon, Within};
pub use apps::{NewApp, UpdateApp};
pub use apps::{REGIONS, STACKS};
pub use config::without_effect;
pub use deploy_keys::{NewDeployKey, fingerprint};
pub use deployments::{NewDeployment, NewDeploymentStatus};
pub use error::{Error, Kind, Result};
pub use findings::{Finding, Gravity, Machine};
pub use forges::{Delivered, NewCredentials, NewForge, Refusal};
pub use formation::{ScaleTo, ScaleUpdate};
pub use leaving::Removed;
pub use logins::Login;
pub use logs::LOG_LIMITS;
pub use operation::{Ending, Outcome, StepView};
pub use output::OutputReader;
pub use overwritten::{Deployed, ago};
pub use pipelines::UpdateCoupling;
pub use plan::{Part, Plan, Step, StepAt};
pub use products::{Move, Seen, StepChange, TogetherOrder, external_steps};
pub use promotions::{Against, Outlook, Promotable, PromotionOrder, PromotionView, TargetView};
pub use releases::Coming;
pub use restarts::Which;
pub use review_apps::{NewReviewApp, ReviewSource};
pub use run::{Attached, RunOrder};
pub use setups::SetupOrder;
pub use sides::Point;
pub use sign_offs::{SignedInstead, StageRule, Waits};
pub use sources::{SourceBlob, SourceOrder};
pub use standing::{Ended, Holder, Standing};
pub use starts::BUILD_AGAIN;
pub use transfers::TransferLine;
pub use triggers::{RefNews, RefOrigin, SetOff, TriggeredView};
pub use tunnels::Tunnel;
pub use turns::{FETCHES_ASKED, FETCHES_AT_ONCE};
pub use webhooks::{WebhookOrder, webhook_payload};

use locks::Locks;
use ports::{AddonProvider, Builder, Caller, Forges, Histories, Repositories, Router, World};
use shipway_domain::admission::{Admitted, Permission, Refused, Reserved, Subject, Trigger, admit};
use shipway_domain::size::DynoSizes;
use shipway_domain::{AppId, DynoId, LedgerId, NameOrId, PipelineId};
use shipway_runtime::Runtime;
use shipway_store::{App, Conn, LedgerEntry, Store};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory.
    pub home: PathBuf,
    /// Apps are at `<app>.<domain>`.
    pub domain: String,
    /// Names by which the API and the dashboard are reached, in lower case: no app has one.
    pub api_hosts: Vec<String>,
    /// What follows the host name in an app's URL: `:8080`, or nothing for the scheme's own port.
    pub router_port: Option<u16>,
    /// Scheme of apps' URLs.
    pub router_scheme: &'static str,
    /// Sizes that dynos may have.
    pub sizes: DynoSizes,
    /// The one stack that is there.
    pub stack: String,
    /// What that stack is on this host: distribution and versions of languages, such as `debian-12-x86_64 python-3.11.2`.
    pub stack_fingerprint: String,
    /// What a build may use.
    pub build_size: shipway_domain::size::DynoSize,
    /// Builds at a time, one or more.
    pub builds_at_once: usize,
    /// How long new dynos may take to bind their port (R10).
    pub boot_seconds: u32,
    /// How long requests in flight may take before an old dyno is signalled all the same.
    pub drain_seconds: u32,
    /// Between SIGTERM and SIGKILL.
    pub grace_seconds: u32,
    /// How long a one-off dyno waits for whoever is to attach to it (R13).
    pub attach_seconds: u32,
    /// Between two looks at a dyno's memory (R14), one or more.
    pub memory_seconds: u32,
    /// How long a script may take that runs before the end of a review app, or takes an external step back: the rest goes
    /// on without it.
    pub script_seconds: u32,
    /// Releases per app that stay runnable.
    pub keep_releases: usize,
}

/// What changed, for whoever waits or watches. Carries no data: the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something of an app: its releases, dynos, config, operations.
    App(AppId),
    /// The list of apps.
    Apps,
    /// A pipeline: its name, which apps stand where, its promotions.
    Pipeline(PipelineId),
}

/// Where in the life of a step a test may interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// `started` is written, nothing is done.
    Started,
    /// Its effects outside the store stand; what it changes in the store and `succeeded` are not written.
    Worked,
    /// `succeeded` is written.
    Succeeded,
    /// Its undo's effects outside the store stand; `undone` is not written.
    TakenBack,
    /// `undone` is written.
    Undone,
}

/// What a test does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The platform is dead from here on, as after `kill -9`.
    Die,
    /// The step fails although it worked. Means something at [`Moment::Worked`] only.
    Fail,
    /// The step, or its undo, runs once more. Means something at [`Moment::Worked`] and [`Moment::TakenBack`] only.
    Repeat,
}

/// Asks a test what happens at a moment of a step, by the step's name.
pub type Faults = Arc<dyn Fn(&str, Moment) -> Option<Fault> + Send + Sync>;

/// Everything outside that the platform works with.
pub struct Parts {
    /// What runs processes.
    pub runtime: Arc<dyn Runtime>,
    /// The data plane.
    pub router: Arc<dyn Router>,
    /// The repositories.
    pub repositories: Arc<dyn Repositories>,
    /// The histories in them.
    pub histories: Arc<dyn Histories>,
    /// The builder.
    pub builder: Arc<dyn Builder>,
    /// Where teams' repositories and pull requests are.
    pub forges: Arc<dyn Forges>,
    /// What makes add-ons.
    pub addons: Arc<dyn AddonProvider>,
    /// Time and chance.
    pub world: Arc<dyn World>,
    /// For tests only; see [`Faults`].
    pub faults: Option<Faults>,
}

/// The platform. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Store,
    parts: Parts,
    locks: Arc<Locks>,
    tasks: TaskTracker,
    stop: CancellationToken,
    events: broadcast::Sender<Event>,
    told: AtomicU64,
    reconcilers: Mutex<HashMap<AppId, Arc<Notify>>>,
    drivers: Mutex<HashMap<DynoId, Arc<Notify>>>,
    failures: Mutex<HashMap<DynoId, dynos::Failure>>,
    cancels: Mutex<HashMap<shipway_domain::OperationId, CancellationToken>>,
    sessions: run::Sessions,
    logins: logins::Logins,
    platform_logs: logs::PlatformLogs,
    outputs: output::Outputs,
    routes_wanted: Notify,
    review_wanted: Notify,
    news_wanted: Notify,
    upstream_wanted: Notify,
    upstreams_wanted: Mutex<HashSet<PipelineId>>,
    /// One look at review apps at a time.
    reviewing: tokio::sync::Mutex<()>,
    /// One telling of forges at a time: two would say the same.
    telling: tokio::sync::Mutex<()>,
    triggers_wanted: Notify,
    /// One look at triggered deploys at a time.
    triggering: tokio::sync::Mutex<()>,
    sharing: artifact::Sharing,
    turns: turns::Turns,
    tunnels: tunnels::Tunnels,
    receivers: OnceLock<Arc<dyn ports::Receivers>>,
    machine: OnceLock<findings::Machine>,
    /// One look at what webhooks are told of at a time.
    looking: tokio::sync::Mutex<()>,
    deliveries_wanted: Notify,
    acknowledged: watch::Sender<u64>,
    promoting: tokio::sync::Mutex<()>,
}

impl Platform {
    /// Opens the platform on `settings.home`, without starting anything; [`Self::start`] does.
    pub fn open(settings: Settings, parts: Parts) -> Result<Self> {
        let store = Store::open(&settings.home)?;
        let begun = u64::try_from(parts.world.now().as_microsecond()).unwrap_or(0);
        let inner = Inner {
            platform_logs: logs::PlatformLogs::new(settings.home.join("logs")),
            outputs: output::Outputs::new(settings.home.join("outputs")).map_err(Error::platform)?,
            turns: turns::Turns::new(settings.builds_at_once),
            settings,
            store,
            parts,
            locks: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            events: broadcast::channel(1024).0,
            told: AtomicU64::new(begun),
            reconcilers: Mutex::default(),
            drivers: Mutex::default(),
            failures: Mutex::default(),
            cancels: Mutex::default(),
            sessions: run::Sessions::default(),
            logins: logins::Logins::default(),
            routes_wanted: Notify::new(),
            review_wanted: Notify::new(),
            news_wanted: Notify::new(),
            upstream_wanted: Notify::new(),
            upstreams_wanted: Mutex::default(),
            reviewing: tokio::sync::Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            triggers_wanted: Notify::new(),
            triggering: tokio::sync::Mutex::default(),
            sharing: artifact::Sharing::default(),
            tunnels: tunnels::Tunnels::default(),
            receivers: OnceLock::new(),
            machine: OnceLock::new(),
            looking: tokio::sync::Mutex::default(),
            deliveries_wanted: Notify::new(),
            acknowledged: watch::channel(0).0,
            promoting: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts the reconcilers and goes on with every operation that was under way.
    pub async fn start(&self) -> Result<()> {
        // Before dynos are started with them.
        self.relocate_addons().await?;
        self.announce_removed_sizes()?;
        // Before the router hears of a table: it must not lead to dynos that went with the machine.
        self.adopt_dynos().await?;
        self.spawn(Self::keep_routes);
        for app in self.store().read(|c| c.apps())? {
            self.reconcile(app.id);
        }
        self.resume_operations()?;
        self.announce_taken_names().await?;
        self.spawn(Self::keep_tidy);
        self.spawn(Self::keep_review_apps);
        self.spawn(Self::keep_triggers);
        self.spawn(Self::keep_upstreams);
        self.spawn(Self::keep_forge_news);
        self.spawn(Self::keep_forges_told);
        Ok(())
    }

    /// Stops all tasks where they are, as the end of the process would. Dynos go on.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What runs processes.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.inner.parts.runtime
    }

    /// Changes as they happen. A receiver that lags has missed some and should look again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Where in the sequence of all events this is: another number than before when something was told since, of which
    /// whoever subscribes only now does not hear. No two servers of a platform count alike: each begins at its start, in µs.
    pub fn told(&self) -> u64 {
        self.inner.told.load(Ordering::SeqCst)
    }

    /// Now.
    pub fn now(&self) -> jiff::Timestamp {
        self.inner.parts.world.now()
    }

    /// The URL of an app, with the slash at the end: `http://shop.localhost:8080/`.
    pub fn web_url(&self, name: &str) -> String {
        let s = &self.inner.settings;
        let port = s.router_port.map_or(String::new(), |p| format!(":{p}"));
        format!("{}://{name}.{}{port}/", s.router_scheme, s.domain)
    }

    pub(crate) fn world(&self) -> &dyn World {
        &*self.inner.parts.world
    }

    pub(crate) fn id<T>(&self, make: impl FnOnce(uuid::Uuid) -> T) -> T {
        make(self.world().uuid())
    }

    pub(crate) fn tell(&self, event: Event) {
        self.inner.told.fetch_add(1, Ordering::SeqCst);
        // Nobody listening is fine.
        let _ = self.inner.events.send(event);
    }

    /// Runs a task until it ends or the platform stops.
    pub(crate) fn spawn<F, Fut>(&self, task: F)
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let work = task(self.clone());
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Finds an app that the caller may see. What may not be seen does not exist.
    pub fn app(&self, caller: &Caller, which: &NameOrId) -> Result<App> {
        let found = self.store().read(|c| {
            let Some(app) = c.app(which)? else { return Ok(None) };
            let permission = c.permission(&app, caller.actor.account)?;
            Ok(Some((app, permission)))
        })?;
        match found {
            Some((app, permission))
                if (caller.actor.admin || permission.is_some()) && caller.actor.scope.reads(app.id) =>
            {
                Ok(app)
            }
            _ => Err(Error::missing_named("app", which, "`heroku apps` lists those that you can see.")),
        }
    }

    /// Asks admission for `trigger` on an app. A refusal is recorded.
    pub async fn admit(&self, caller: &Caller, trigger: Trigger, app: &App) -> Result<Admitted> {
        let subject = self.subject(caller, app)?;
        self.admit_subject(caller, trigger, app, subject).await
    }

    /// The same where more is known of the subject than the app: which code is to run.
    pub(crate) async fn admit_subject(
        &self,
        caller: &Caller,
        trigger: Trigger,
        app: &App,
        subject: Subject,
    ) -> Result<Admitted> {
        match admit(&caller.actor, trigger, &subject, self.now()) {
            Ok(admitted) => Ok(admitted),
            Err(refused) => {
                let detail =
                    serde_json::json!({ "trigger": trigger, "rule": refused.rule, "because": refused.because });
                let entry = self.entry(caller, Some(app), "refused", detail);
                self.record(entry).await?;
                Err(refused.into())
            }
        }
    }

    /// What admission would say, without a record of the question.
    pub fn refusal(&self, caller: &Caller, trigger: Trigger, app: &App) -> Result<Option<Refused>> {
        Ok(admit(&caller.actor, trigger, &self.subject(caller, app)?, self.now()).err())
    }

    pub(crate) fn subject(&self, caller: &Caller, app: &App) -> Result<Subject> {
        let now = self.now();
        let (permission, reservation) = self.store().read(|c| {
            let permission: Option<Permission> = c.permission(app, caller.actor.account)?;
            Ok((permission, c.reservation(app.id, now)?))
        })?;
        Ok(Subject {
            app: app.id,
            name: app.name.to_string(),
            owner_email: app.owner_email.to_ask(),
            permission,
            ending: app.ending,
            behind: None,
            unchecked: None,
            sign_offs: None,
            reserved: reservation.map(|r| Reserved {
                account: r.account,
                email: r.email.to_string(),
                until: r.until,
                reason: r.reason,
            }),
        })
    }

    /// Writes a change down and its entry of the ledger with it, in one transaction.
    pub(crate) async fn write_with<T, F>(&self, entry: LedgerEntry, change: F) -> shipway_store::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn<'_>) -> shipway_store::Result<T> + Send + 'static,
    {
        let written = self.store().write(move |c| {
            let changed = change(c)?;
            c.record(&entry)?;
            Ok(changed)
        });
        written.await
    }

    /// Writes an entry of the ledger alone.
    pub(crate) async fn record(&self, entry: LedgerEntry) -> shipway_store::Result<()> {
        self.write_with(entry, |_| Ok(())).await
    }

    /// An entry for the ledger.
    pub(crate) fn entry(
        &self,
        caller: &Caller,
        app: Option<&App>,
        action: &str,
        detail: serde_json::Value,
    ) -> LedgerEntry {
        LedgerEntry {
            id: self.id(LedgerId),
            at: self.now(),
            actor: caller.actor.email.clone(),
            via: caller.via.into(),
            app: app.map(|a| a.id),
            app_name: app.map(|a| a.name.to_string()),
            action: action.into(),
            detail,
        }
    }
}
