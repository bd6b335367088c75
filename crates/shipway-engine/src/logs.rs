//! The platform's own lines in apps' logs: `app[api]` and `heroku[web.1]`.

use crate::Platform;
use shipway_domain::AppId;
use shipway_domain::lifecycle::DynoState;
use shipway_logs::{Limits, Source, Writer};
use shipway_runtime::{Exit, ExitCause};
use shipway_store::Dyno;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// How much of an app's log is kept: far above Heroku's 1,500 lines. Bytes and age.
pub const LOG_LIMITS: (u64, std::time::Duration) =
    (256 * 1024 * 1024, std::time::Duration::from_secs(7 * 24 * 60 * 60));

pub(crate) struct PlatformLogs {
    dir: PathBuf,
    writers: Mutex<HashMap<AppId, Writer>>,
}

/// Open writers of the platform's chains; the least used is not worth finding, all are closed when there are more.
const MAX_OPEN: usize = 256;

impl PlatformLogs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, writers: Mutex::default() }
    }

    fn append(&self, app: AppId, time_us: u64, source: Source, dyno: &str, message: &str) -> std::io::Result<()> {
        let mut writers = self.writers.lock().expect("no panic while logging");
        if writers.len() >= MAX_OPEN && !writers.contains_key(&app) {
            writers.clear();
        }
        let writer = match writers.entry(app) {
            std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let dir = self.dir.join(app.to_string());
                std::fs::create_dir_all(&dir)?;
                place.insert(Writer::open(&dir, "platform", Limits::default())?)
            }
        };
        writer.append(time_us, source, dyno, message.as_bytes()).map(|_| ())
    }

    pub(crate) fn close(&self, app: AppId) {
        self.writers.lock().expect("no panic while logging").remove(&app);
    }
}

impl Platform {
    /// `app[api]: Release v3 created by user x@y`.
    pub(crate) fn log_api(&self, app: AppId, message: &str) {
        self.log(app, Source::App, "api", message);
    }

    /// `heroku[web.1]: State changed from starting to up`.
    pub(crate) fn log_dyno(&self, app: AppId, dyno: &str, message: &str) {
        self.log(app, Source::Heroku, dyno, message);
    }

    /// `heroku[web.1]: State changed from up to crashed`.
    pub(crate) fn log_state(&self, dyno: &Dyno, from: DynoState, to: impl Display) {
        self.log_dyno(dyno.app, &dyno.name(), &format!("State changed from {from} to {to}"));
    }

    /// What is said of a slot when the dyno that has it is to be replaced, before its successor's first line. One that
    /// is not up yet has nothing to change.
    pub(crate) fn log_replaced(&self, old: &Dyno) {
        match old.state {
            DynoState::Up => {
                self.log_dyno(old.app, &old.name(), "Restarting");
                self.log_state(old, DynoState::Up, DynoState::Starting);
            }
            DynoState::Crashed => self.log_state(old, DynoState::Crashed, DynoState::Starting),
            DynoState::Starting | DynoState::Stopping | DynoState::Down => {}
        }
    }

    /// A process's end, after Heroku's code for a limit or a time that it broke: R15, R12.
    pub(crate) fn log_exit(&self, dyno: &Dyno, exit: Exit) {
        let name = dyno.name();
        match exit.cause {
            ExitCause::Memory => {
                self.log_dyno(dyno.app, &name, "Error R15 (Memory quota vastly exceeded)");
                self.log_dyno(dyno.app, &name, "Stopping process with SIGKILL");
            }
            ExitCause::Killed => {
                let seconds = self.settings().grace_seconds;
                self.log_dyno(dyno.app, &name, &format!(
                    "Error R12 (Exit timeout) -> At least one process failed to exit within {seconds} seconds of SIGTERM"
                ));
                self.log_dyno(dyno.app, &name, "Stopping remaining processes with SIGKILL");
            }
            _ => {}
        }
        self.log_dyno(dyno.app, &name, &format!("Process exited with status {}", exit.status));
    }

    /// Says R14 at each look at a dyno's memory that finds more than its size has. Never ends.
    pub(crate) async fn mind_memory(&self, dyno: &Dyno) -> Infallible {
        let limit = self.size(&dyno.size).memory_mib * 1024 * 1024;
        let mut looks = tokio::time::interval(Duration::from_secs(u64::from(self.settings().memory_seconds)));
        looks.tick().await;
        loop {
            looks.tick().await;
            let Ok(usage) = self.runtime().usage(dyno.id).await else { continue };
            if usage.memory_bytes > limit {
                let percent = usage.memory_bytes as f64 * 100.0 / limit as f64;
                let mib = usage.memory_bytes / (1024 * 1024);
                self.log_dyno(dyno.app, &dyno.name(), &format!("Process running mem={mib}M({percent:.1}%)"));
                self.log_dyno(dyno.app, &dyno.name(), "Error R14 (Memory quota exceeded)");
            }
        }
    }

    /// A line of the app's own, written on a dyno's behalf: release phases.
    pub(crate) fn log_app(&self, app: AppId, dyno: &str, message: &str) {
        self.log(app, Source::App, dyno, message);
    }

    fn log(&self, app: AppId, source: Source, dyno: &str, message: &str) {
        let now = u64::try_from(self.now().as_microsecond()).unwrap_or(0);
        if let Err(e) = self.inner.platform_logs.append(app, now, source, dyno, message) {
            tracing::warn!(app.id = %app, error = %e, "a log line was lost");
        }
    }

    /// Where an app's log segments are.
    pub fn log_dir(&self, app: AppId) -> PathBuf {
        self.inner.platform_logs.dir.join(app.to_string())
    }
}
