//! Waiting until new dynos are ready, and saying why one is not.

use crate::change::cancelled;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::output::{LAST_WORD, LAST_WORDS};
use crate::plan::Part;
use crate::{Event, Platform, Result};
use shipway_domain::DynoId;
use shipway_domain::app_json::AppJson;
use shipway_domain::health::HealthCheck;
use shipway_domain::lifecycle::DynoState;
use shipway_store::{App, Dyno};

impl Platform {
    pub(crate) async fn step_healthy(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let mut events = self.events();
        loop {
            let owned = self.owned(ctx, part)?;
            for dyno in &owned {
                // One that an undone step let go, or whose task found no process, counts as failed too.
                if matches!(dyno.state, DynoState::Crashed | DynoState::Stopping | DynoState::Down) {
                    return Err(self.not_healthy(ctx, dyno));
                }
            }
            if owned.iter().all(|d| d.state == DynoState::Up) {
                return Ok(nothing());
            }
            for dyno in owned.iter().filter(|d| d.state == DynoState::Starting) {
                self.ensure_driven(dyno.id);
            }
            tokio::select! {
                () = ctx.cancel.cancelled() => return Err(cancelled()),
                event = events.recv() => match event {
                    Ok(Event::App(app)) if app != part.app => continue,
                    _ => {}
                },
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }

    fn not_healthy(&self, ctx: &Context, dyno: &Dyno) -> Error {
        let known = self.inner.failures.lock().expect("no panic while noted").get(&dyno.id).cloned();
        let (code, text) = match known {
            Some(f) => (f.code, f.text),
            None => ("H10", format!("{} did not stay up.", dyno.name())),
        };
        ctx.line(&format!(" !     {code}: {text}"));
        let last = self.last_lines(dyno, 20);
        if !last.is_empty() {
            ctx.line(LAST_WORDS);
            for line in &last {
                ctx.line(&format!("{LAST_WORD}{line}"));
            }
        }
        // Without a transcript the reason itself has to say it.
        let tail = last.last().filter(|_| ctx.output.is_none()).map(|line| format!(" Its last line: {line}"));
        Error::invalid(format!("{code}: {text}{}", tail.unwrap_or_default()))
    }

    fn last_lines(&self, dyno: &Dyno, count: usize) -> Vec<String> {
        let filter = shipway_logs::Filter { source: Some(shipway_logs::Source::App), dyno: Some(dyno.name()) };
        let since = dyno.created_at.as_microsecond().max(0) as u64;
        let read = shipway_logs::Reader::last(&self.log_dir(dyno.app), filter, count * 2);
        let entries = read.map(|(entries, _)| entries).unwrap_or_default();
        let mine: Vec<String> = entries
            .iter()
            .filter(|e| e.id.time_us >= since)
            .map(|e| String::from_utf8_lossy(&e.message).into_owned())
            .collect();
        mine[mine.len().saturating_sub(count)..].to_vec()
    }

    /// What a new web dyno is asked: as the app's settings say, else as the `app.json` of its code does. None: a bound port
    /// is healthy.
    pub(crate) async fn health_check(&self, app: &App, dyno: &Dyno) -> Result<Option<HealthCheck>> {
        let statuses = app.settings.health_check_status.clone();
        if let Some(path) = app.settings.health_check_path.clone() {
            return Ok(Some(HealthCheck { path, statuses }));
        }
        let slug = self.store().read(|c| c.release_by_id(dyno.release)?.slug.map(|s| c.slug(s)).transpose())?;
        let Some(slug) = slug.flatten() else { return Ok(None) };
        let file = self.app_json_of(app.id, &slug).await.unwrap_or_else(|e| {
            // A repository that cannot be read keeps no app from starting.
            tracing::warn!(app.name = %app.name, error = %e, cause = ?e.cause, "app.json could not be read: no health check is made");
            None
        });
        let check = file.and_then(|file| AppJson::parse(&file).ok()?.health_check);
        Ok(check.map(|check| HealthCheck { statuses: statuses.or(check.statuses), ..check }))
    }

    fn ensure_driven(&self, id: DynoId) {
        if !self.inner.drivers.lock().expect("no panic while registered").contains_key(&id) {
            self.poke(id);
        }
    }
}
