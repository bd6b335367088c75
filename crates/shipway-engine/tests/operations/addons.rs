//! Add-ons and backups: each test is a session.

use shipway_domain::ConfigKey;
use shipway_domain::addon::AddonState;
use shipway_engine::{Kind, NewAddon, Within};
use shipway_store::{Addon, App, Transfer};
use shipway_testkit::{Ground, Server, Trial, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn postgres() -> NewAddon {
    NewAddon { plan: "heroku-postgresql:essential-0".into(), ..NewAddon::default() }
}

async fn database(server: &Server, app: &App) -> Addon {
    server.platform.create_addon(&server.caller, app, postgres()).await.unwrap()
}

/// An app's config vars by name.
fn config(server: &Server, app: &App) -> BTreeMap<ConfigKey, String> {
    server.platform.config_vars(&server.caller, app).unwrap()
}

fn keys(server: &Server, app: &App) -> String {
    config(server, app).keys().map(ConfigKey::as_str).collect::<Vec<_>>().join(" ")
}

/// Waits until a transfer is over.
async fn over(server: &Server, transfer: &Transfer) -> Transfer {
    let _ = server.outcome(transfer.operation).await;
    server.platform.store().read(|c| c.transfer_by_id(transfer.id)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addon_is_made_with_a_release_and_goes_with_its_app() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let addon = database(&server, &app).await;
    assert_eq!(addon.state, AddonState::Provisioned);
    server.settled(&app).await;
    assert_eq!(server.served(&app).await, "v3");
    assert_eq!(server.releases(&app)[0].description, format!("Attach DATABASE (@ref:{})", addon.name));
    assert_eq!(keys(&server, &app), "DATABASE_URL");

    let second = database(&server, &app).await;
    let name = &server.platform.attachments_of(&server.caller, &second).unwrap()[0].name;
    assert!(name.as_str().starts_with("HEROKU_POSTGRESQL_"), "{name}");
    let destroyed = server.platform.destroy_addon(&server.caller, &second, false).await.unwrap();
    assert_eq!(destroyed.state, AddonState::Deprovisioned);
    assert_eq!(keys(&server, &app), "DATABASE_URL");
    assert_eq!(server.ground.addons.count(), 1);

    server.platform.destroy_app(&server.caller, &app).await.unwrap();
    assert_eq!(server.ground.addons.count(), 0);
    assert!(server.platform.addon(&server.caller, addon.name.as_str(), Within::Everything).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachments_config_vars_are_its_own() {
    let server = Ground::new().server(None).await;
    let (acorn, beech) = (server.create("acorn").await, server.create("beech").await);
    let addon = database(&server, &acorn).await;
    for value in [Some("postgres://mine".to_string()), None] {
        let vars = BTreeMap::from([("DATABASE_URL".to_string(), value)]);
        let refused = server.platform.set_config_vars(&server.caller, &acorn, vars).await.unwrap_err();
        assert!(refused.message.starts_with("Cannot overwrite attachment values DATABASE_URL"), "{refused}");
    }
    let attach = |name: Option<&'static str>, confirm: Option<&'static str>| {
        server.platform.attach_addon(&server.caller, &beech, &addon, name, confirm)
    };
    let attached = attach(Some("shared_db"), None).await.unwrap();
    assert_eq!((attached.name.as_str(), &*keys(&server, &beech)), ("SHARED_DB", "SHARED_DB_URL"));
    let again = attach(Some("SHARED_DB"), None).await.unwrap_err();
    assert_eq!(again.id, "confirmation_required");
    attach(Some("SHARED_DB"), Some("beech")).await.unwrap();
    assert_eq!(
        server.releases(&beech)[0].description,
        format!("Attach SHARED_DB (@ref:{0}), Detach SHARED_DB (@ref:{0})", addon.name)
    );
    let own = BTreeMap::from([("MAIN_URL".to_string(), Some("x".to_string()))]);
    server.platform.set_config_vars(&server.caller, &beech, own).await.unwrap();
    assert!(attach(Some("MAIN"), None).await.unwrap_err().message.contains("config var MAIN_URL of its own"));

    let refused = server.platform.destroy_addon(&server.caller, &addon, false).await.unwrap_err();
    assert!(refused.message.contains("attached to beech as well"), "{refused}");
    let last = server.platform.attachments(&server.caller, Within::App(&acorn)).unwrap().remove(0);
    let there = server.platform.attachments(&server.caller, Within::App(&beech)).unwrap().remove(0);
    server.platform.detach_addon(&server.caller, &there).await.unwrap();
    assert_eq!(keys(&server, &beech), "MAIN_URL");
    let refused = server.platform.detach_addon(&server.caller, &last).await.unwrap_err();
    assert!(refused.message.contains("last attachment"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_keeps_the_attachments_that_it_requires() {
    let server = Ground::new().server(None).await;
    let (acorn, beech) = (server.create("acorn").await, server.create("beech").await);
    let addon = database(&server, &acorn).await;
    server.platform.attach_addon(&server.caller, &beech, &addon, Some("DATABASE"), None).await.unwrap();
    server.quiet().await;
    let app_json = r#"{"env": {"DATABASE_URL": {"required": true}}}"#;
    for app in [&acorn, &beech] {
        let commit = server.ground.repositories.commit_of(&[("Procfile", "web: listen"), ("app.json", app_json)]);
        let (_, operation) = server.platform.deploy(&server.caller, app, commit).await.unwrap();
        server.outcome(operation).await.unwrap();
    }
    let all = server.platform.attachments_of(&server.caller, &addon).unwrap();
    let of = |app: &App| all.iter().find(|attachment| attachment.app == app.id).unwrap();
    let lacks = |app: &str| {
        format!(
            "{app} would lack config vars that its app.json requires:\n  DATABASE_URL (app.json line 1)\nDeploy code first \
             whose app.json does not say \"required\": true of it, or attach another add-on under the same name."
        )
    };
    let refused = server.platform.detach_addon(&server.caller, of(&beech)).await.unwrap_err();
    assert_eq!(refused.message, lacks("beech"));

    // Another one in its place, and under another name, is no loss.
    let other = database(&server, &beech).await;
    let confirmed = Some("beech");
    server.platform.attach_addon(&server.caller, &beech, &other, Some("DATABASE"), confirmed).await.unwrap();
    let attached = server.platform.attach_addon(&server.caller, &beech, &addon, Some("OLD"), None).await.unwrap();
    server.platform.detach_addon(&server.caller, &attached).await.unwrap();

    let refused = server.platform.destroy_addon(&server.caller, &addon, false).await.unwrap_err();
    assert_eq!(refused.message, lacks("acorn"));
    server.quiet().await;
    server.platform.destroy_addon(&server.caller, &addon, true).await.unwrap();
    assert_eq!(keys(&server, &acorn), "");
    // The next release that insists on it is refused by name.
    let commit = server.ground.repositories.commit_of(&[("Procfile", "web: listen"), ("app.json", app_json)]);
    let (_, operation) = server.platform.deploy(&server.caller, &acorn, commit).await.unwrap();
    let failed = server.outcome(operation).await.unwrap_err();
    assert!(failed.starts_with("acorn lacks config vars that its app.json requires:\n  DATABASE_URL"), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_keeps_todays_attachments() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    let before = server.releases(&app).remove(0);
    let old = database(&server, &app).await;
    server.settled(&app).await;
    let with_old = server.releases(&app).remove(0);
    server.platform.rollback(&server.caller, &app, &before).await.unwrap();
    server.settled(&app).await;
    assert_eq!(keys(&server, &app), "DATABASE_URL");
    server.platform.destroy_addon(&server.caller, &old, false).await.unwrap();
    server.platform.rollback(&server.caller, &app, &with_old).await.unwrap();
    server.settled(&app).await;
    assert_eq!(keys(&server, &app), "", "an address where nobody answers does not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_leaves_nothing() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    server.ground.addons.missing.store(true, Ordering::Relaxed);
    let refused = server.platform.create_addon(&server.caller, &app, postgres()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert!(refused.message.ends_with("PostgreSQL is not installed here: apt-get install postgresql"), "{refused}");
    assert!(server.platform.addons(&server.caller, Within::App(&app)).unwrap().is_empty());
    assert_eq!((keys(&server, &app).as_str(), server.releases(&app).len()), ("", 1));
    for (plan, kind) in [("newrelic:wayne", Kind::NotFound), ("heroku-postgresql:premium-9", Kind::Invalid)] {
        let new = NewAddon { plan: plan.into(), ..NewAddon::default() };
        assert_eq!(server.platform.create_addon(&server.caller, &app, new).await.unwrap_err().kind, kind);
    }
    let fork = NewAddon { options: vec!["fork".into()], ..postgres() };
    assert!(server.platform.create_addon(&server.caller, &app, fork).await.unwrap_err().message.contains("\"fork\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn addons_are_found_by_all_their_names() {
    let server = Ground::new().server(None).await;
    let (acorn, beech) = (server.create("acorn").await, server.create("beech").await);
    let addon = database(&server, &acorn).await;
    let id = addon.id.to_string();
    let within = Within::App(&acorn);
    let check = |which: &str, within: Within<'_>, found: bool| {
        let addons = server.platform.resolve_addons(&server.caller, which, within);
        let attachments = server.platform.resolve_attachments(&server.caller, which, within);
        assert_eq!((addons.is_ok(), attachments.is_ok()), (found, found), "{which}");
    };
    for which in [addon.name.as_str(), &id, "DATABASE", "DATABASE_URL", "database", "heroku-postgresql"] {
        check(which, within, true);
    }
    check("acorn::DATABASE_URL", Within::App(&beech), true);
    check("acorn::DATABASE", Within::Everything, true);
    check("DATABASE", Within::App(&beech), false);
    check("nobody", within, false);
    check("missing::DATABASE", within, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_copied_goes_when_the_copy_is_there() {
    let server = Ground::new().server(None).await;
    let (production, qa) = (server.create("production").await, server.create("qa-1").await);
    let (from, to) = (database(&server, &production).await, database(&server, &qa).await);
    server.ground.addons.write(from.id, "rows");
    server.ground.addons.slow.send_replace(true);
    let copy = server.platform.copy_database(&server.caller, &from, &to).await.unwrap();
    let destroyed = server.platform.destroy_addon(&server.caller, &from, false);
    let meanwhile = async {
        let operation = until("the end waits for the copy", async || {
            let open = server.platform.store().read(|c| c.open_operations()).unwrap();
            let end = open.iter().find(|o| o.kind == "addon")?.id;
            (server.platform.waiting_behind(end) == Some(copy.operation)).then_some(end)
        })
        .await;
        let refused = server.platform.cancel(&server.caller, operation).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Conflict);
        assert_eq!(refused.message, "It only goes forward: nothing that is left of it can be taken back.");
        server.ground.addons.slow.send_replace(false);
    };
    let (destroyed, ()) = tokio::join!(destroyed, meanwhile);
    destroyed.unwrap();
    assert_eq!(over(&server, &copy).await.succeeded, Some(true));
    assert_eq!(server.ground.addons.read(to.id).as_deref(), Some("rows"));
    assert_eq!(server.ground.addons.read(from.id), None);

    // The end of its app waits for the copy likewise.
    let from = database(&server, &production).await;
    server.ground.addons.write(from.id, "more rows");
    server.ground.addons.slow.send_replace(true);
    let copy = server.platform.copy_database(&server.caller, &from, &to).await.unwrap();
    until("the copy has begun", async || (server.ground.addons.dumping() == 1).then_some(())).await;
    let destroyed = server.platform.destroy_app(&server.caller, &production);
    let meanwhile = async {
        until("the app is being erased", async || {
            let open = server.platform.store().read(|c| c.open_operations()).unwrap();
            let end = open.iter().find(|o| o.kind == "destroy")?.id;
            let steps = server.platform.steps(end).unwrap();
            steps.iter().any(|step| step.name == "erase" && step.state == "running").then_some(())
        })
        .await;
        server.ground.addons.slow.send_replace(false);
    };
    let (destroyed, ()) = tokio::join!(destroyed, meanwhile);
    destroyed.unwrap();
    assert_eq!(over(&server, &copy).await.succeeded, Some(true));
    assert_eq!(server.ground.addons.read(to.id).as_deref(), Some("more rows"));
    assert_eq!(server.ground.addons.read(from.id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_into_another_apps_database() {
    let server = Ground::new().server(None).await;
    let (production, qa) = (server.create("production").await, server.create("qa-1").await);
    let (from, to) = (database(&server, &production).await, database(&server, &qa).await);
    server.ground.addons.write(from.id, "rows");
    let backup = server.platform.capture(&server.caller, &from).await.unwrap();
    let backup = over(&server, &backup).await;
    assert_eq!(
        (backup.number, backup.succeeded, backup.source_bytes, backup.processed_bytes),
        (1, Some(true), Some(4), 4)
    );
    let said = server.platform.transfer_lines(&backup).await.unwrap();
    let said: Vec<&str> = said.iter().map(|l| l.message.as_str()).collect();
    assert_eq!(said, ["Starting backup of DATABASE to BACKUP", "dumping", "Done: 4 bytes, 0 warnings"]);

    let address = shipway_engine::Platform::backup_address(&backup);
    let restore = server.platform.restore(&server.caller, &to, &address).await.unwrap();
    assert_eq!(over(&server, &restore).await.succeeded, Some(true));
    assert_eq!(server.ground.addons.read(to.id).as_deref(), Some("rows"));

    server.ground.addons.write(from.id, "more rows");
    let copy = server.platform.copy_database(&server.caller, &from, &to).await.unwrap();
    assert_eq!(over(&server, &copy).await.number, 2);
    assert_eq!(server.ground.addons.read(to.id).as_deref(), Some("more rows"));

    server.ground.addons.write(from.id, "broken");
    let copy = server.platform.copy_database(&server.caller, &from, &to).await.unwrap();
    let copy = over(&server, &copy).await;
    assert_eq!(copy.succeeded, Some(false));
    let said = server.platform.transfer_lines(&copy).await.unwrap();
    assert_eq!(said.last().unwrap().message, "The dump is not a dump.");

    for bad in ["ftp://x/y", "/etc/passwd", "shipway-backup:nonsense", "-f"] {
        assert!(server.platform.restore(&server.caller, &to, bad).await.is_err(), "{bad}");
    }
    server.platform.delete_transfer(&server.caller, &production, &backup).await.unwrap();
    assert!(server.platform.open_backup(backup.id).await.is_err());
    let left = std::fs::read_dir(server.ground.home.path().join("backups")).unwrap().count();
    assert_eq!(left, 0);
}

/// Answers one request a connection, in turn, and gives its address.
async fn answering(answers: &[&str]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/dump", listener.local_addr().unwrap());
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_23_a_dump_from_elsewhere_comes_from_no_private_network_wherever_it_leads() {
    let server = Ground::new().server(None).await;
    let app = server.create("acorn").await;
    let addon = database(&server, &app).await;
    server.ground.addons.write(addon.id, "rows");
    let restored = async |answers: &[&str]| {
        let url = answering(answers).await;
        let restore = server.platform.restore(&server.caller, &addon, &url).await.unwrap();
        let restore = over(&server, &restore).await;
        let last = server.platform.transfer_lines(&restore).await.unwrap().pop().unwrap();
        (server.ground.addons.read(addon.id).unwrap(), last.message)
    };
    let led = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    for (to, words) in [
        ("https://169.254.169.254/latest/", "169.254.169.254 is in a private network"),
        ("https://10.0.0.1/dump", "10.0.0.1 is in a private network"),
        ("https://localhost/dump", "localhost is in a private network"),
        ("http://localhost/dump", "only https:// addresses are fetched"),
        ("file:///etc/passwd", "only https:// addresses are fetched"),
    ] {
        let (rows, said) = restored(&[&led(to)]).await;
        assert!(
            rows == "rows" && said.starts_with("The dump could not be fetched: ") && said.contains(words),
            "{said}"
        );
    }
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (1 << 20) + 1);
    let (rows, said) = restored(&[&huge]).await;
    assert!(rows == "rows" && said.ends_with("it has more than 1 MiB."), "{said}");

    let good = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnew rows";
    let (rows, said) = restored(&[&led("/elsewhere"), good]).await;
    assert_eq!((rows.as_str(), said.as_str()), ("new rows", "Done: 8 bytes, 0 warnings"));
    let left = std::fs::read_dir(server.ground.home.path().join("backups")).unwrap().count();
    assert_eq!(left, 0);
}

/// What there is of add-ons, without names and ids.
async fn look(server: Arc<Server>) -> String {
    let Some(app) = server.apps().into_iter().next() else { return "gone".into() };
    let addons = server.platform.addons(&server.caller, Within::App(&app)).unwrap();
    let states: Vec<&str> = addons.iter().map(|a| a.state.as_str()).collect();
    let transfers = server.platform.transfers(&app).unwrap();
    let ended: Vec<_> = transfers.iter().map(|t| t.succeeded).collect();
    let releases = server.releases(&app).len();
    let databases = server.ground.addons.count();
    format!("{states:?} vars {} releases {releases} databases {databases} {ended:?}", keys(&server, &app))
}

/// Runs `ask` undisturbed, then killed and repeated at every moment; returns what is there before and after.
async fn survives<F, Fut>(ask: F) -> (String, String)
where
    F: Fn(Arc<Server>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let trial = Trial::of(ask).looking_at(look).on(|server| async move {
        let app = server.create("acorn").await;
        let addon = database(&server, &app).await;
        server.ground.addons.write(addon.id, "rows");
    });
    let seen = trial.undisturbed().await;
    trial.survives_death(&seen).await;
    trial.repeats(&seen).await;
    let last = |screen: &str| screen.lines().last().unwrap_or_default().to_owned();
    (last(&seen.before), last(&seen.after))
}

fn the_database(server: &Server) -> Addon {
    let app = server.app("acorn");
    server.platform.addon(&server.caller, "DATABASE", Within::App(&app)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_an_attachment_under_a_second_name() {
    let (_, after) = survives(|server| async move {
        let (app, addon) = (server.app("acorn"), the_database(&server));
        server.platform.attach_addon(&server.caller, &app, &addon, Some("SECOND"), None).await.unwrap();
    })
    .await;
    assert_eq!(after, "[\"provisioned\"] vars DATABASE_URL SECOND_URL releases 3 databases 1 []");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_new_database() {
    let (before, after) = survives(|server| async move {
        let new = NewAddon { attachment: Some("OTHER".into()), ..postgres() };
        let _ = server.platform.create_addon(&server.caller, &server.app("acorn"), new).await;
    })
    .await;
    assert_eq!(before, "[\"provisioned\"] vars DATABASE_URL releases 2 databases 1 []");
    assert_eq!(after, "[\"provisioned\", \"provisioned\"] vars DATABASE_URL OTHER_URL releases 3 databases 2 []");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_the_end_of_a_database() {
    let (_, after) = survives(|server| async move {
        let _ = server.platform.destroy_addon(&server.caller, &the_database(&server), false).await;
    })
    .await;
    assert_eq!(after, "[] vars  releases 3 databases 0 []");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_40_a_backup() {
    let (_, after) = survives(|server| async move {
        server.platform.capture(&server.caller, &the_database(&server)).await.unwrap();
    })
    .await;
    assert_eq!(after, "[\"provisioned\"] vars DATABASE_URL releases 2 databases 1 [Some(true)]");
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_find_their_databases_after_the_data_directory_was_moved() {
    let ground = Ground::new();
    let server = ground.server(None).await;
    let app = server.create("acorn").await;
    server.push(&app, "web: listen").await.unwrap();
    database(&server, &app).await;
    let url = |server: &Server| config(server, &app).into_values().next().unwrap();
    let before = url(&server);
    server.platform.stop().await;
    ground.addons.moves.store(1, Ordering::Relaxed);
    let server = ground.server(None).await;
    assert_eq!(url(&server), before.replace(":5432/", ":5433/"));
}
