//! Keeps each app's dynos as its formation wants them, and changes the formation.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use jiff::Timestamp;
use shipway_domain::admission::Trigger;
use shipway_domain::formation::{Action, Seen, Wanted, reconcile};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::quantity::Quantity;
use shipway_domain::size::DynoSize;
use shipway_domain::{AppId, DynoId, FormationId, ProcessType, ReleaseId, SlugId};
use shipway_store::{App, AppSettings, Conn, Dyno, Formation, Slug};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// One line of a `ps:scale`.
#[derive(Debug, Clone)]
pub struct ScaleUpdate {
    /// Which type.
    pub process_type: String,
    /// How many.
    pub quantity: Option<Quantity>,
    /// A size's name.
    pub size: Option<String>,
}

/// The result of a scaling, with commands.
pub type ScaleTo = Vec<(Formation, String)>;

impl Platform {
    /// Asks for an app's dynos to be brought to what is wanted. Any number of times, from anywhere.
    pub(crate) fn reconcile(&self, app: AppId) {
        let mut reconcilers = self.inner.reconcilers.lock().expect("no panic while registered");
        if let Some(wanted) = reconcilers.get(&app) {
            wanted.notify_one();
            return;
        }
        let wanted = Arc::new(Notify::new());
        wanted.notify_one();
        reconcilers.insert(app, wanted.clone());
        self.spawn(move |platform| platform.keep_formation(app, wanted));
    }

    async fn keep_formation(self, app: AppId, wanted: Arc<Notify>) {
        let mut wake: Option<Timestamp> = None;
        loop {
            let pause = wake.map_or(Duration::from_secs(3600), |at| {
                Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO)
            });
            tokio::select! {
                () = wanted.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            match self.reconcile_once(app).await {
                Ok(next) => wake = next,
                Err(e) if e.kind == crate::Kind::NotFound => {
                    self.inner.reconcilers.lock().expect("no panic while registered").remove(&app);
                    return;
                }
                Err(e) => {
                    tracing::error!(app.id = %app, error = %e, cause = ?e.cause, "an app's formation could not be kept");
                    wake = Some(self.now() + jiff::SignedDuration::from_secs(1));
                }
            }
        }
    }

    /// Plans and writes the plan down in one transaction, so that two of them never start one slot twice.
    async fn reconcile_once(&self, id: AppId) -> Result<Option<Timestamp>> {
        let platform = self.clone();
        let now = self.now();
        let (pokes, wake, changes) = self
            .store()
            .write(move |c| {
                let app = c.app_by_id(id)?;
                let rows = c.dynos(id)?;
                let Some(current) = app.current_release else { return Ok((Vec::new(), None, Vec::new())) };
                let formation = c.formation(id)?;
                let commands = platform.commands(c, &app)?;
                let wanted = if app.ending { BTreeMap::new() } else { wanted(&formation, &commands, &app.settings) };
                let seen: Vec<Seen> = rows.iter().filter(|d| d.one_off.is_none()).map(seen).collect();
                let mut pokes: Vec<DynoId> = rows
                    .iter()
                    .filter(|d| d.one_off.is_none() && d.state != DynoState::Crashed)
                    .map(|d| d.id)
                    .collect();
                let (mut wake, mut changes) = (None, Vec::new());
                for action in reconcile(&wanted, current, &seen, now) {
                    match action {
                        Action::WakeAt(at) => wake = Some(at),
                        Action::Stop(dyno) => {
                            if let Some(mut row) = c.dyno(dyno)? {
                                let succeeds = |d: &Dyno| {
                                    d.id != dyno
                                        && d.name() == row.name()
                                        && matches!(d.state, DynoState::Starting | DynoState::Up)
                                };
                                if !rows.iter().any(succeeds) {
                                    changes.push((row.clone(), has_slot(&wanted, &row)));
                                }
                                row.state = DynoState::Stopping;
                                row.updated_at = now;
                                if std::mem::take(&mut row.routed) {
                                    row.unrouted_epoch = Some(c.next_epoch(None, now)?);
                                }
                                c.put_dyno(&row)?;
                                pokes.push(dyno);
                            }
                        }
                        Action::Start { process_type, index, crashes, replaces } => {
                            if let Some(old) = replaces {
                                changes.extend(c.dyno(old)?.map(|crashed| (crashed, true)));
                                c.delete_dyno(old)?;
                                if process_type.is_web() {
                                    // Visitors may wait for it, and are not told of the crash any more.
                                    c.next_epoch(None, now)?;
                                }
                            }
                            let slot = (process_type, index);
                            let row = starting(&platform, id, slot, current, &formation, &commands, now);
                            let row = Dyno { crashes, ..row };
                            c.put_dyno(&row)?;
                            pokes.push(row.id);
                        }
                    }
                }
                Ok((pokes, wake, changes))
            })
            .await?;
        for (old, is_replaced) in &changes {
            match is_replaced {
                true => self.log_replaced(old),
                false => self.log_state(old, old.state, DynoState::Down),
            }
        }
        let is_replaced = |dyno: &DynoId| changes.iter().any(|(old, is_replaced)| *is_replaced && old.id == *dyno);
        self.inner.failures.lock().expect("no panic while noted").retain(|dyno, _| !is_replaced(dyno));
        for dyno in pokes {
            self.poke(dyno);
        }
        self.routes_changed();
        Ok(wake)
    }

    /// The commands of the current release by type.
    pub(crate) fn commands(&self, c: &Conn<'_>, app: &App) -> shipway_store::Result<BTreeMap<ProcessType, String>> {
        let Some(current) = app.current_release else { return Ok(BTreeMap::new()) };
        let Some(slug) = c.release(current)?.and_then(|r| r.slug) else { return Ok(BTreeMap::new()) };
        let Some(slug) = c.slug(slug)? else { return Ok(BTreeMap::new()) };
        Ok(self.process_types(&slug.manifest))
    }

    /// The commands of a manifest by type; of one that cannot be read, none.
    pub(crate) fn process_types(&self, manifest: &serde_json::Value) -> BTreeMap<ProcessType, String> {
        let read = self.inner.parts.builder.runnable(manifest, self.default_size());
        read.map(|r| r.process_types).unwrap_or_default()
    }

    /// A size by its name. Sizes of plans that there are only elsewhere are taken as the default, as files and scripts
    /// that were written for them ask for them, unless the operator has defined one of that name.
    pub(crate) fn size_or_default(&self, name: &str) -> Result<&DynoSize> {
        match self.settings().sizes.find(name) {
            Err(_) if name.starts_with("private-") || name.starts_with("performance-") => Ok(self.default_size()),
            found => Ok(found?),
        }
    }

    pub(crate) fn default_size(&self) -> &DynoSize {
        self.settings().sizes.default_size()
    }

    /// An app's formation with the commands of its types.
    pub fn formation(&self, app: &App) -> Result<ScaleTo> {
        Ok(self.store().read(|c| self.formation_of(c, &c.app_by_id(app.id)?))?)
    }

    /// The command of the release phase of an app's newest release that has code, whatever became of that release.
    pub fn release_command(&self, app: &App) -> Result<Option<String>> {
        let slug = self.store().read(|c| c.newest_code(app.id))?;
        Ok(slug.and_then(|slug| self.release_command_in(&slug)))
    }

    /// Whether a release of this code runs a release phase.
    pub fn has_release_phase(&self, slug: SlugId) -> Result<bool> {
        let slug = self.store().read(|c| c.slug(slug))?;
        Ok(slug.is_some_and(|slug| self.release_command_in(&slug).is_some()))
    }

    fn release_command_in(&self, slug: &Slug) -> Option<String> {
        let mut types = self.process_types(&slug.manifest).into_iter();
        types.find(|(of, _)| of.is_release()).map(|(_, command)| command)
    }

    fn formation_of(&self, c: &Conn<'_>, app: &App) -> shipway_store::Result<ScaleTo> {
        let commands = self.commands(c, app)?;
        let rows = c.formation(app.id)?.into_iter();
        Ok(rows.filter_map(|f| commands.get(&f.process_type).cloned().map(|command| (f, command))).collect())
    }

    /// Changes quantities and sizes; all of them or none. Errors: an unknown type (with those that there are), size or
    /// quantity.
    pub async fn scale(&self, caller: &Caller, app: &App, updates: Vec<ScaleUpdate>) -> Result<ScaleTo> {
        self.admit(caller, Trigger::Scale, app).await?;
        let mut entry = self.entry(caller, Some(app), "scale", serde_json::json!({}));
        let (platform, of, now) = (self.clone(), app.clone(), self.now());
        // From the rows as they are in this transaction: `web=+1` counts beside another one that is made now.
        let written = self.store().write(move |c| {
            let present = platform.formation_of(c, &c.app_by_id(of.id)?)?;
            let (changed, resized) = match platform.scaled(&of, &present, &updates, now) {
                Ok(scaled) => scaled,
                Err(refused) => return Ok(Err(refused)),
            };
            for row in &changed {
                c.put_formation(of.id, row)?;
            }
            let name = |f: &Formation| platform.size(&f.size).display_name().to_string();
            let text = changed.iter().map(|f| format!("{}@{}:{}", f.process_type, f.quantity, name(f)));
            let text: Vec<String> = text.collect();
            entry.detail = serde_json::json!({ "to": text });
            // An app without web dynos has another page than one that is starting.
            c.next_epoch(None, now)?;
            c.record(&entry)?;
            Ok(Ok((changed, resized, text)))
        });
        let (changed, resized, text) = written.await??;
        if !changed.is_empty() {
            self.log_api(app.id, &format!("Scaled to {} by user {}", text.join(" "), caller.actor.email));
        }
        self.reconcile(app.id);
        if resized {
            for row in &changed {
                self.restart_operation(caller, app, crate::Which::Type(row.process_type.clone())).await?;
            }
        }
        self.tell(Event::App(app.id));
        self.formation(app)
    }

    /// The rows that a scaling changes, and whether a size is among what it changes.
    fn scaled(
        &self,
        app: &App,
        present: &ScaleTo,
        updates: &[ScaleUpdate],
        now: Timestamp,
    ) -> Result<(Vec<Formation>, bool)> {
        let mut changed = Vec::new();
        let mut resized = false;
        for update in updates {
            let found = present.iter().find(|(f, _)| f.process_type.as_str() == update.process_type);
            let (mut row, _) = found.cloned().ok_or_else(|| self.no_such_type(app, present, &update.process_type))?;
            if let Some(quantity) = update.quantity {
                row.quantity = quantity.apply(row.quantity);
            }
            if let Some(size) = &update.size {
                let size = self.settings().sizes.find(size)?;
                resized |= row.size != size.name;
                row.size.clone_from(&size.name);
            }
            row.updated_at = now;
            changed.push(row);
        }
        Ok((changed, resized))
    }

    fn no_such_type(&self, app: &App, present: &ScaleTo, given: &str) -> Error {
        let given: String = given.chars().take(80).collect();
        if given == ProcessType::RELEASE {
            return Error::invalid("The release process type cannot be scaled: it runs once before each release.");
        }
        let there: Vec<&str> = present.iter().map(|(f, _)| f.process_type.as_str()).collect();
        let mut e = Error::missing("process type");
        e.message = if there.is_empty() {
            format!(
                "Couldn't find that process type ({given}): {} has none yet. Push code with a Procfile first.",
                app.name
            )
        } else {
            format!("Couldn't find that process type ({given}). {} has {}.", app.name, there.join(", "))
        };
        e
    }
}

/// What is wanted of each type that the release has.
pub(crate) fn wanted(
    formation: &[Formation],
    commands: &BTreeMap<ProcessType, String>,
    settings: &AppSettings,
) -> BTreeMap<ProcessType, Wanted> {
    formation
        .iter()
        .filter(|f| commands.contains_key(&f.process_type))
        .map(|f| {
            let overlap = settings.overlap.get(&f.process_type).copied().unwrap_or(f.process_type.is_web());
            (f.process_type.clone(), Wanted { quantity: f.quantity, overlap })
        })
        .collect()
}

/// Whether a dyno's slot is among those that are wanted.
pub(crate) fn has_slot(wanted: &BTreeMap<ProcessType, Wanted>, dyno: &Dyno) -> bool {
    wanted.get(&dyno.process_type).is_some_and(|w| dyno.index <= w.quantity)
}

/// The formation that a release with these types has: kept where it was, `web` 1 and others 0 where it is new.
pub(crate) fn formation_for(
    platform: &Platform,
    present: &[Formation],
    commands: &BTreeMap<ProcessType, String>,
    now: Timestamp,
) -> Vec<Formation> {
    commands
        .keys()
        .filter(|t| !t.is_release())
        .map(|t| match present.iter().find(|f| f.process_type == *t) {
            Some(there) => there.clone(),
            None => Formation {
                id: platform.id(FormationId),
                process_type: t.clone(),
                quantity: u32::from(t.is_web()),
                size: platform.default_size().name.clone(),
                created_at: now,
                updated_at: now,
            },
        })
        .collect()
}

/// The row of a new dyno in a slot, about to be started, that belongs to no operation.
pub(crate) fn starting(
    platform: &Platform,
    app: AppId,
    (process_type, index): (ProcessType, u32),
    release: ReleaseId,
    formation: &[Formation],
    commands: &BTreeMap<ProcessType, String>,
    now: Timestamp,
) -> Dyno {
    let size = formation.iter().find(|f| f.process_type == process_type);
    Dyno {
        id: platform.id(DynoId),
        app,
        command: commands.get(&process_type).cloned().unwrap_or_default(),
        size: size.map_or_else(String::new, |f| f.size.clone()),
        process_type,
        index,
        release,
        state: DynoState::Starting,
        operation: None,
        routed: false,
        unrouted_epoch: None,
        address: None,
        crashes: 0,
        one_off: None,
        created_at: now,
        updated_at: now,
    }
}

fn seen(d: &Dyno) -> Seen {
    Seen {
        dyno: d.id,
        process_type: d.process_type.clone(),
        index: d.index,
        release: d.release,
        state: d.state,
        owned: d.operation.is_some(),
        crashes: d.crashes,
        since: d.updated_at,
    }
}
