//! The whole state of a platform as text without ids and times, and what must hold in every state.

use crate::Server;
use crate::ground::get;
use shipway_domain::DynoId;
use shipway_domain::lifecycle::DynoState;
use shipway_runtime::Runtime;
use shipway_store::{App, Release};
use std::collections::BTreeSet;
use std::fmt::Write;

impl Server {
    /// All apps, by name.
    pub fn apps(&self) -> Vec<App> {
        let mut apps = self.platform.store().read(|c| c.apps()).unwrap();
        apps.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        apps
    }

    /// Waits until no operation is open and every app's dynos are as its formation wants them.
    pub async fn quiet(&self) {
        let open = || self.platform.store().read(|c| c.open_operations()).unwrap();
        let mut events = self.platform.events();
        while !open().is_empty() {
            // A missed event costs a tenth of a second.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), events.recv()).await;
        }
        for app in self.apps() {
            self.settled(&app).await;
        }
    }

    /// What users see of every app: its dynos, what answers, with which config, what main is, its settings.
    pub async fn screen(&self) -> String {
        let mut out = String::new();
        for app in self.apps() {
            let config = |release: &Release| self.platform.store().read(|c| c.release_config(release.id)).unwrap();
            let dynos = self.platform.store().read(|c| c.dynos(app.id)).unwrap();
            let domains = self.platform.store().read(|c| c.domains(app.id)).unwrap();
            let hosts: Vec<String> = domains.iter().map(|d| d.hostname.to_string()).collect();
            writeln!(out, "{} maintenance={} {}", app.name, app.maintenance, hosts.join(" ")).unwrap();
            for dyno in &dynos {
                let release = self.platform.store().read(|c| c.release_by_id(dyno.release)).unwrap();
                let (name, state, size, command) = (dyno.name(), dyno.state, &dyno.size, &dyno.command);
                writeln!(out, "  {name} {state} {size} {command:?} with {:?}", config(&release)).unwrap();
            }
            let current = app.current_release.map(|r| self.platform.store().read(|c| c.release_by_id(r)).unwrap());
            let slug = current.as_ref().and_then(|r| r.slug);
            let slug = slug.and_then(|s| self.platform.store().read(|c| c.slug(s)).unwrap());
            writeln!(out, "  runs {:?}", slug.map(|s| s.manifest.to_string())).unwrap();
            writeln!(out, "  main {:?}", self.ground.repositories.branch(app.id)).unwrap();
        }
        out
    }

    /// What holds whenever nothing is under way: the runtime has the dynos of the store and no other, each serves the
    /// release of its app, the router has the store's newest table, no commit is kept for an operation.
    pub async fn whole(&self, what: &str) {
        let rows = self.platform.store().read(|c| c.all_dynos()).unwrap();
        let known: BTreeSet<DynoId> = rows.iter().map(|d| d.id).collect();
        let running: BTreeSet<DynoId> = self.ground.runtime.list().await.unwrap().iter().map(|o| o.dyno).collect();
        assert_eq!(running, known, "{what}: dynos of the runtime, and of the store");
        self.routed(what).await;
        for app in self.apps() {
            let mine: Vec<_> = rows.iter().filter(|d| d.app == app.id).collect();
            assert!(mine.iter().all(|d| d.state == DynoState::Up), "{what}: {} has dynos that are not up", app.name);
            assert!(mine.iter().all(|d| Some(d.release) == app.current_release), "{what}: an old dyno of {}", app.name);
            let current = app.current_release.map(|r| self.platform.store().read(|c| c.release_by_id(r)).unwrap());
            let Some(current) = current else { continue };
            let table = self.ground.router.table();
            let route = table.apps.iter().find(|a| a.app == app.id).unwrap();
            for target in &route.targets {
                let answer = get(target.address).await;
                assert_eq!(answer, Some(format!("v{}", current.version)), "{what}: {} answers", target.name);
            }
        }
        assert_eq!(self.ground.repositories.pins(), 0, "{what}: commits that are still kept");
    }

    async fn routed(&self, what: &str) {
        let wanted = self.platform.route_table().unwrap();
        for _ in 0..1000 {
            if self.ground.router.table() == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{what}: the router has {:?}, the store {wanted:?}", self.ground.router.table());
    }

    /// The next pushes to these apps, at the same time, work, and are what serves then. An app that is gone is made
    /// again under its name.
    pub async fn takes_pushes(&self, names: &[String], what: &str) {
        let there = self.apps();
        let push = async |name: &String| {
            let app = match there.iter().find(|a| a.name.as_str() == name) {
                Some(app) => app.clone(),
                None => self.create(name).await,
            };
            let pushed = self.push(&app, "web: listen-after 1ms").await;
            assert!(pushed.is_ok(), "{what}: the next push to {name}: {pushed:?}");
        };
        futures::future::join_all(names.iter().map(push)).await;
        self.quiet().await;
        self.whole(&format!("{what}, after the next pushes")).await;
    }
}
