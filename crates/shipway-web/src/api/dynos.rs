//! Dynos: listed, run, restarted, stopped.

use crate::payload::Payload;
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use serde_json::{Value, json};
use shipway_domain::lifecycle::DynoState;
use shipway_domain::{ProcessType, ReleaseId};
use shipway_engine::{Kind, RunOrder, Which};
use shipway_store::{App, Dyno};
use std::collections::{BTreeMap, HashMap};

const FIELDS: &Fields<Dyno> =
    &[("name", |d| Key::text(format!("{}.{:010}", d.process_type, d.index))), ("id", |d| Key::text(d.id))];

/// GET /apps/{app}/dynos
pub async fn list(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let mut versions = HashMap::new();
    call.page(seen(&call, &app)?, FIELDS, |d| show(&call, &app, &mut versions, d, None))
}

/// GET /apps/{app}/dynos/{dyno}: a name or an id.
pub async fn info(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let wanted = call.parameter("dyno");
    let found = seen(&call, &app)?.into_iter().find(|d| d.name() == wanted || d.id.to_string() == wanted);
    let dyno = found.ok_or_else(|| no_such_dyno(&call, &app))?;
    Ok(Answer::ok(show(&call, &app, &mut HashMap::new(), &dyno, None)))
}

/// POST /apps/{app}/dynos: a one-off dyno. Attached ones are met at `attach_url`.
pub async fn run(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let attach = payload.flag("attach")?.unwrap_or(false);
    let env = match payload.object("env")? {
        Some(env) => env.texts_or_null()?.into_iter().filter_map(|(k, v)| Some((k, v?))).collect(),
        None => BTreeMap::new(),
    };
    let terminal = (attach && !payload.flag("force_no_tty")?.unwrap_or(false)).then(|| window(&env));
    let order = RunOrder {
        command: payload.required("command")?,
        attach: attach.then(|| call.holder.clone()),
        env,
        size: payload.text("size")?,
        process_type: payload.text("type")?,
        terminal,
    };
    let (dyno, secret) = call.platform().run(&call.caller, &app, order).await?;
    let attach_url = secret.map(|s| format!("rendezvous://{}/{s}", call.origin.host_and_port()));
    Ok(Answer::created(show(&call, &app, &mut HashMap::new(), &dyno, attach_url)))
}

/// The size of the caller's window, as its environment tells; 80 x 24 where it does not.
fn window(env: &BTreeMap<String, String>) -> (u16, u16) {
    let size = |name: &str, or| env.get(name).and_then(|v| v.parse().ok()).filter(|n| *n > 0).unwrap_or(or);
    (size("COLUMNS", 80), size("LINES", 24))
}

/// POST /apps/{app}/dynos/{dyno}
pub async fn run_inside(call: Call) -> Result<Answer> {
    Err(no_way_in(&call.app()?))
}

/// Why nobody gets into a dyno that is up, and what to do instead.
pub(super) fn no_way_in(app: &App) -> ApiError {
    ApiError::invalid(format!(
        "A command cannot be run inside a dyno that is up. `heroku run -a {} COMMAND` runs it in a new one with the same \
         code and config.",
        app.name
    ))
}

/// DELETE /apps/{app}/dynos
pub async fn restart_all(call: Call) -> Result<Answer> {
    restart(&call, |_, _| Ok(Which::All)).await
}

/// DELETE /apps/{app}/dynos/{dyno}
pub async fn restart_one(call: Call) -> Result<Answer> {
    restart(&call, named).await
}

/// DELETE /apps/{app}/formations/{type}
pub async fn restart_type(call: Call) -> Result<Answer> {
    restart(&call, of_type).await
}

/// POST /apps/{app}/dynos/{dyno}/actions/stop
pub async fn stop_one(call: Call) -> Result<Answer> {
    stop(&call, named).await
}

/// POST /apps/{app}/formations/{type}/actions/stop
pub async fn stop_type(call: Call) -> Result<Answer> {
    stop(&call, of_type).await
}

async fn restart(call: &Call, which: impl FnOnce(&Call, &App) -> Result<Which>) -> Result<Answer> {
    let app = call.app()?;
    let which = which(call, &app)?;
    let done = call.platform().restart(&call.caller, &app, which.clone()).await;
    accepted(&which, done)
}

async fn stop(call: &Call, which: impl FnOnce(&Call, &App) -> Result<Which>) -> Result<Answer> {
    let app = call.app()?;
    let which = which(call, &app)?;
    let done = call.platform().stop_dynos(&call.caller, &app, which.clone()).await;
    accepted(&which, done)
}

/// A process type that exists and has no dyno at the moment is done with.
fn accepted(which: &Which, done: shipway_engine::Result<()>) -> Result<Answer> {
    match (which, done) {
        (Which::Type(_), Err(e)) if e.kind == Kind::NotFound => {}
        (_, done) => done?,
    }
    Ok(Answer::accepted(json!({})))
}

/// The dyno of the path, by name, id, or (as older clients send it) type.
fn named(call: &Call, app: &App) -> Result<Which> {
    let wanted = call.parameter("dyno");
    let dynos = call.platform().store().read(|c| c.dynos(app.id))?;
    if let Some(dyno) = dynos.iter().find(|d| d.name() == wanted || d.id.to_string() == wanted) {
        return Ok(Which::Dyno(dyno.name()));
    }
    match dynos.iter().find(|d| d.process_type.as_str() == wanted) {
        Some(dyno) => Ok(Which::Type(dyno.process_type.clone())),
        None => Err(no_such_dyno(call, app)),
    }
}

fn no_such_dyno(call: &Call, app: &App) -> ApiError {
    let next = format!("`heroku ps -a {}` lists those that there are.", app.name);
    ApiError::missing_one("dyno", call.parameter("dyno"), &next)
}

fn of_type(call: &Call, app: &App) -> Result<Which> {
    let wanted = call.parameter("type");
    let formation = call.platform().store().read(|c| c.formation(app.id))?;
    match formation.iter().find(|f| f.process_type.as_str() == wanted) {
        Some(f) => Ok(Which::Type(ProcessType::clone(&f.process_type))),
        None => {
            let next = format!("`heroku ps -a {}` lists the process types that there are.", app.name);
            Err(ApiError::missing_one("formation", wanted, &next))
        }
    }
}

/// An app's dynos, each name once: while a release changes hands, the one that serves.
fn seen(call: &Call, app: &App) -> Result<Vec<Dyno>> {
    let mut by_name: BTreeMap<String, Dyno> = BTreeMap::new();
    let rank = |d: &Dyno| (d.state != DynoState::Stopping, d.operation.is_none(), d.created_at);
    for dyno in call.platform().store().read(|c| c.dynos(app.id))? {
        match by_name.get(&dyno.name()) {
            Some(other) if rank(other) >= rank(&dyno) => {}
            _ => _ = by_name.insert(dyno.name(), dyno),
        }
    }
    Ok(by_name.into_values().collect())
}

fn show(call: &Call, app: &App, versions: &mut HashMap<ReleaseId, u64>, dyno: &Dyno, attach: Option<String>) -> Value {
    let store = call.platform().store();
    let look = || store.read(|c| c.release_by_id(dyno.release)).map_or(0, |r| r.version);
    let version = *versions.entry(dyno.release).or_insert_with(look);
    present::dyno(&call.platform().settings().sizes, app, dyno, version, attach)
}

/// The text of `size`, or of `dyno_size` as the public schema calls it.
pub(super) fn size(payload: &Payload) -> Result<Option<String>> {
    Ok(payload.reference("size")?.or(payload.reference("dyno_size")?))
}
