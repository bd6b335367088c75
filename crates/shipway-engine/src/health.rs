//! Waiting until new dynos are ready, and saying why one is not.

use crate::change::cancelled;
use crate::error::Error;
use crate::operation::{Context, Effect, nothing};
use crate::output::{LAST_WORD, LAST_WORDS};
use crate::plan::Part;
use crate::{Event, Platform, Result};
use shipway_domain::DynoId;
use shipway_domain::admission::Trigger;
use shipway_domain::app_json::AppJson;
use shipway_domain::health::{HealthCheck, likely_cause};
use shipway_domain::lifecycle::DynoState;
use shipway_store::{App, Dyno};
use std::time::{Duration, Instant};

/// How long a start goes on before its reader is told what is waited for.
const QUIET: Duration = Duration::from_secs(5);
/// Characters of a command that are shown.
const COMMAND: usize = 200;

impl Platform {
    pub(crate) async fn step_healthy(&self, ctx: &Context, part: &Part) -> Result<Effect> {
        let (mut events, begun, mut told) = (self.events(), Instant::now(), false);
        loop {
            let owned = self.owned(ctx, part)?;
            for dyno in &owned {
                // One that an undone step let go, or whose task found no process, counts as failed too.
                if matches!(dyno.state, DynoState::Crashed | DynoState::Stopping | DynoState::Down) {
                    return Err(self.not_healthy(ctx, part, dyno));
                }
            }
            if owned.iter().all(|d| d.state == DynoState::Up) {
                return Ok(nothing());
            }
            let starting = || owned.iter().filter(|d| d.state == DynoState::Starting);
            if !told && begun.elapsed() >= QUIET {
                told = true;
                let names: Vec<String> = starting().map(Dyno::name).collect();
                let limit = self.settings().boot_seconds;
                ctx.line(&format!("-----> Waiting for {} to be ready, {limit} seconds at most", names.join(", ")));
            }
            starting().for_each(|dyno| self.ensure_driven(dyno.id));
            tokio::select! {
                () = ctx.cancel.cancelled() => return Err(cancelled()),
                event = events.recv() => match event {
                    Ok(Event::App(app)) if app != part.app => continue,
                    _ => {}
                },
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Says what happened, to which process, what it wrote last, what is likely behind that, and what to do next.
    fn not_healthy(&self, ctx: &Context, part: &Part, dyno: &Dyno) -> Error {
        let known = self.inner.failures.lock().expect("no panic while noted").get(&dyno.id).cloned();
        let (code, text) = match known {
            Some(f) => (f.code, f.text),
            None => ("H10", format!("{} did not stay up.", dyno.name())),
        };
        ctx.say_why(&format!("{code}: {text}"));
        let command: String = dyno.command.chars().take(COMMAND).collect();
        ctx.line(&format!(" !     It ran: {}", command.replace('\n', " ")));
        let last = self.last_lines(dyno, 20);
        match last.is_empty() {
            true => ctx.line(" !     It wrote nothing."),
            false => ctx.line(LAST_WORDS),
        }
        for line in &last {
            ctx.line(&format!("{LAST_WORD}{line}"));
        }
        if let Some(cause) = likely_cause(&last) {
            ctx.line(&format!(" !     Likely: {cause}"));
        }
        if let Ok((app, runs)) = self.store().read(|c| {
            let app = c.app_by_id(part.app)?;
            let runs = c.current_release(&app)?;
            Ok((app, runs))
        }) {
            let runs = match runs.filter(|release| release.slug.is_some()) {
                Some(release) => format!("{} goes on with v{}.", app.name, release.version),
                None => format!("Nothing serves {} yet.", app.name),
            };
            let again = match ctx.plan.trigger {
                Trigger::Push => "Mend it, commit, and push again.",
                _ => "Mend it, and deploy again.",
            };
            ctx.line(&format!(" !     {runs} {again} All that it wrote: heroku logs -a {}", app.name));
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
