//! The platform's own lines in apps' logs: `app[api]` and `heroku[web.1]`.

use crate::Platform;
use shipway_domain::AppId;
use shipway_logs::{Limits, Source, Writer};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

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
