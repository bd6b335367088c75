//! One-off dynos: `run`, `run:detached`, `console`.

use crate::error::Error;
use crate::ports::Caller;
use crate::standing::{Holder, Standing};
use crate::{Event, Platform, Result};
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::DynoState;
use shipway_domain::{AppId, DynoId, ProcessType};
use shipway_runtime::{Io, Stream};
use shipway_store::{App, Dyno, hex};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// What is to run.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// What the user typed, for a shell.
    pub command: String,
    /// Who attaches to it; without anybody its output goes to the log.
    pub attach: Option<Holder>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// A size's name.
    pub size: Option<String>,
    /// What stands before the dot of its name; `run` without.
    pub process_type: Option<String>,
    /// Columns and lines of a terminal; without them it gets pipes.
    pub terminal: Option<(u16, u16)>,
}

/// A stream to a one-off dyno. Dropping it tells the platform that nobody listens any more.
pub struct Attached {
    /// Whose.
    pub app: AppId,
    /// Which dyno.
    pub dyno: DynoId,
    /// Its name, `run.4821`.
    pub name: String,
    /// What its shell runs.
    pub command: String,
    /// Whether it has a terminal.
    pub pty: bool,
    /// Its input and output.
    pub stream: Box<dyn Stream>,
    /// The right of whoever ordered it to go on.
    pub standing: Standing,
    /// Ends when this does.
    pub session: watch::Sender<Session>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.session.send_replace(Session::Over);
    }
}

/// Where the visitor of a one-off dyno is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Not here yet.
    Awaited,
    /// Attached.
    Attached,
    /// Gone.
    Over,
}

/// The rendezvous that wait: by secret. Each is used once.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Rendezvous>>);

struct Rendezvous {
    dyno: DynoId,
    holder: Holder,
    pty: bool,
    session: watch::Sender<Session>,
}

/// How long a visitor may take to read what a one-off wrote last.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest command, in bytes.
const MAX_COMMAND: usize = 64 * 1024;

/// The numbers of one-off dynos: four digits, as on Heroku.
const NUMBERS: std::ops::Range<u32> = 1000..10_000;

/// The first free number from the one that was drawn on; none when all are taken.
fn free_number(drawn: u64, taken: &[u32]) -> Option<u32> {
    let first = NUMBERS.start + (drawn % NUMBERS.len() as u64) as u32;
    (first..NUMBERS.end).chain(NUMBERS.start..first).find(|number| !taken.contains(number))
}

impl Platform {
    /// Starts a one-off dyno on the current release. Returns the secret of its rendezvous when somebody is to attach.
    /// Errors: no code yet, an unknown size, a command that is empty or too long.
    pub async fn run(&self, caller: &Caller, app: &App, order: RunOrder) -> Result<(Dyno, Option<String>)> {
        self.admit(caller, Trigger::OneOff, app).await?;
        if order.command.trim().is_empty() || order.command.len() > MAX_COMMAND || order.command.contains('\0') {
            return Err(Error::invalid("A command is needed: between 1 byte and 64 KiB, without NUL bytes."));
        }
        let process_type = ProcessType::parse(order.process_type.as_deref().unwrap_or("run"))?;
        let size = match &order.size {
            Some(name) => self.size_or_default(name)?,
            None => self.default_size(),
        };
        for (key, value) in &order.env {
            shipway_domain::ConfigKey::parse(key)?;
            if value.contains('\0') {
                return Err(Error::invalid(format!("The value of {key} holds a NUL byte.")));
            }
        }
        let (current, commands) = self.store().read(|c| {
            let app = c.app_by_id(app.id)?;
            let current = c.current_release(&app)?;
            Ok((current, self.commands(c, &app)?))
        })?;
        let command = named(&order.command, &commands);
        let Some(release) = current.filter(|r| r.slug.is_some()) else {
            return Err(Error::invalid(format!("{} has no code yet. Push some: git push heroku main", app.name)));
        };
        let (now, drawn) = (self.now(), self.world().random());
        let dyno = Dyno {
            id: self.id(DynoId),
            app: app.id,
            process_type,
            index: 0,
            release: release.id,
            state: DynoState::Starting,
            size: size.name.clone(),
            command: command.clone(),
            operation: None,
            routed: false,
            unrouted_epoch: None,
            address: None,
            crashes: 0,
            one_off: Some(if order.attach.is_some() { "attached" } else { "detached" }.into()),
            created_at: now,
            updated_at: now,
        };
        let io = match (order.attach.is_some(), order.terminal) {
            (false, _) => Io::Log,
            (true, Some((columns, lines))) => Io::Pty { columns, lines },
            (true, None) => Io::Pipe,
        };
        let (platform, said, ran_by, of) = (self.clone(), order.command.clone(), caller.clone(), app.clone());
        let numbered = self
            .store()
            .write(move |c| {
                let others = c.dynos(dyno.app)?;
                let taken: Vec<u32> =
                    others.iter().filter(|d| d.process_type == dyno.process_type).map(|d| d.index).collect();
                let Some(index) = free_number(drawn, &taken) else { return Ok(None) };
                let dyno = Dyno { index, ..dyno };
                let details = serde_json::json!({ "dyno": dyno.name(), "command": said });
                c.put_dyno(&dyno)?;
                c.record(&platform.entry(&ran_by, Some(&of), "run", details))?;
                Ok(Some(dyno))
            })
            .await?;
        let dyno = numbered.ok_or_else(|| {
            Error::invalid(format!(
                "{} has no number left for another one-off dyno. Stop some: heroku ps:stop NAME",
                app.name
            ))
        })?;
        self.log_api(app.id, &format!("Starting process with command `{command}` by user {}", caller.actor.email));
        let plan = self.dyno_plan(&dyno, io, &order.env)?;
        if let Err(e) = self.start_dyno(&dyno, &plan).await {
            let id = dyno.id;
            self.store().write(move |c| c.delete_dyno(id)).await?;
            return Err(e);
        }
        let mut up = dyno.clone();
        up.state = DynoState::Up;
        let row = up.clone();
        self.store().write(move |c| c.put_dyno(&row)).await?;
        self.log_dyno(app.id, &dyno.name(), &format!("Starting process with command `{command}`"));
        self.log_state(&dyno, DynoState::Starting, DynoState::Up);
        let secret = order.attach.is_some().then(|| hex(&self.store().keys().random_bytes::<24>()));
        let session = watch::channel(if secret.is_some() { Session::Awaited } else { Session::Over }).0;
        let seen = session.subscribe();
        if let (Some(secret), Some(holder)) = (&secret, order.attach) {
            let waiting = Rendezvous { dyno: dyno.id, holder, pty: order.terminal.is_some(), session };
            self.inner.sessions.0.lock().expect("no panic while registered").insert(secret.clone(), waiting);
        }
        let (watched, key) = (up.clone(), secret.clone());
        self.spawn(move |platform| async move { platform.see_one_off_out(watched, key, seen).await });
        self.tell(Event::App(app.id));
        Ok((up, secret))
    }

    /// Meets a one-off dyno by its secret, once. Errors: unknown, used, or waited too long; whoever ordered it may not run
    /// it any more, which ends it.
    pub async fn attach(&self, secret: &str) -> Result<Attached> {
        let found = self.inner.sessions.0.lock().expect("no panic while registered").remove(secret);
        let missing = || Error {
            message: "Couldn't find that dyno: it is met once, and soon after its start. Run the command again.".into(),
            ..Error::missing("dyno")
        };
        let Rendezvous { dyno: id, holder, pty, session } = found.ok_or_else(missing)?;
        let row = self.store().read(|c| c.dyno(id))?.ok_or_else(missing)?;
        let app = row.app;
        let standing = self.stand(holder, "api", move |platform, caller| platform.may_run(caller, app));
        let standing = standing.map_err(|ended| {
            session.send_replace(Session::Over);
            Error::forbidden(ended.words_of_process())
        })?;
        let stream = self.runtime().attach(id).await?;
        session.send_replace(Session::Attached);
        Ok(Attached { app, dyno: id, name: row.name(), command: row.command, pty, stream, standing, session })
    }

    /// Whether the caller may run commands in an app, now. Errors: the reason.
    fn may_run(&self, caller: &Caller, app: AppId) -> Result<()> {
        let app = self.app(caller, &app.into())?;
        self.refusal(caller, Trigger::OneOff, &app)?.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Waits for a one-off's end and for its visitor to have read everything, then removes it.
    async fn see_one_off_out(&self, dyno: Dyno, secret: Option<String>, mut session: watch::Receiver<Session>) {
        let patience = Duration::from_secs(u64::from(self.settings().attach_seconds));
        if let Some(secret) = &secret
            && !became(&mut session, patience, |s| s != Session::Awaited).await
        {
            self.inner.sessions.0.lock().expect("no panic while registered").remove(secret);
            self.log_dyno(dyno.app, &dyno.name(), "Error R13 (Attach error) -> Failed to attach to process");
            if let Err(e) = self.runtime().stop(dyno.id).await {
                tracing::warn!(dyno.id = %dyno.id, error = %e, "a one-off could not be stopped");
            }
        }
        let exit = tokio::select! {
            exit = self.runtime().wait(dyno.id) => exit,
            // The visitor hung up: what ran for them ends, as on Heroku.
            () = hung_up(session.clone(), secret.is_some()) => {
                if let Err(e) = self.runtime().stop(dyno.id).await {
                    tracing::warn!(dyno.id = %dyno.id, error = %e, "a one-off could not be stopped");
                }
                self.runtime().wait(dyno.id).await
            }
            never = self.mind_memory(&dyno) => match never {},
        };
        if secret.is_some() {
            // What it wrote last is still on its way to the visitor.
            became(&mut session, PATIENCE, |s| s == Session::Over).await;
        }
        if let Ok(exit) = exit {
            self.log_exit(&dyno, exit);
            self.log_state(&dyno, DynoState::Up, "complete");
        }
        if let Err(e) = self.end_one_off(&dyno).await {
            tracing::error!(dyno.id = %dyno.id, error = %e, cause = ?e.cause, "a one-off could not be removed");
        }
    }

    async fn end_one_off(&self, dyno: &Dyno) -> Result<()> {
        self.runtime().remove(dyno.id).await?;
        let id = dyno.id;
        self.store().write(move |c| c.delete_dyno(id)).await?;
        self.tell(Event::App(dyno.app));
        Ok(())
    }

    /// After a restart of the server: detached one-offs go on, attached ones have lost their visitor and end. The dyno
    /// of a release phase is its operation's.
    pub(crate) async fn adopt_one_off(&self, dyno: Dyno) -> Result<()> {
        if dyno.operation.is_some() {
            return Ok(());
        }
        if dyno.one_off.as_deref() == Some("detached") {
            let session = watch::channel(Session::Over).1;
            self.spawn(move |platform| async move { platform.see_one_off_out(dyno, None, session).await });
            return Ok(());
        }
        self.log_dyno(dyno.app, &dyno.name(), "The connection to this process was lost: stopping it");
        self.end_one_off(&dyno).await
    }
}

/// A command whose first word is one of the release's process types begins with what that type runs: `console`,
/// `rake db:migrate`. Source: Heroku Dev Center, "The Procfile" (process types that are run as one-offs).
fn named(command: &str, types: &BTreeMap<ProcessType, String>) -> String {
    let (word, rest) = command.split_at(command.find(char::is_whitespace).unwrap_or(command.len()));
    match ProcessType::parse(word).ok().and_then(|name| types.get(&name)) {
        Some(of_type) => format!("{of_type}{rest}"),
        None => command.into(),
    }
}

/// Waits until a session is as wanted, at most so long; a session whose other end is gone counts as over.
async fn became(session: &mut watch::Receiver<Session>, limit: Duration, wanted: fn(Session) -> bool) -> bool {
    tokio::time::timeout(limit, session.wait_for(|s| wanted(*s))).await.is_ok()
}

/// Waits until the visitor has gone; without one, for ever.
async fn hung_up(mut session: watch::Receiver<Session>, attached: bool) {
    let over = attached && session.wait_for(|s| *s == Session::Over).await.is_ok();
    if !over {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_begin_with_a_process_type() {
        let types = [("console", "bin/rails console"), ("rake", "bundle exec rake")];
        let types = types.map(|(name, command)| (ProcessType::parse(name).unwrap(), command.to_string())).into();
        for (given, expected) in [
            ("console", "bin/rails console"),
            ("rake db:migrate && echo done", "bundle exec rake db:migrate && echo done"),
            ("rake\tx", "bundle exec rake\tx"),
            ("consoles", "consoles"),
            ("echo console", "echo console"),
            ("(exit 3)", "(exit 3)"),
        ] {
            assert_eq!(named(given, &types), expected);
        }
    }

    #[test]
    fn two_one_offs_never_have_one_number() {
        assert_eq!(free_number(0, &[]), Some(1000));
        assert_eq!(free_number(9_003, &[1003, 1004]), Some(1005));
        assert_eq!(free_number(8_999, &[9999]), Some(1000));
        let all: Vec<u32> = NUMBERS.collect();
        assert_eq!((free_number(7, &all[1..]), free_number(7, &all)), (Some(1000), None));
    }
}
