//! The route table as the router uses it: hosts to apps to targets, swapped whole.

use crate::target::Target;
use arc_swap::ArcSwap;
use shipway_domain::route::{AppRoute, RouteMode, RouteTable};
use shipway_domain::{AppId, DynoId};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// The longest host name there is.
const MAX_HOST: usize = 253;

/// One app's routes.
pub struct App {
    /// Whose log gets the lines.
    pub id: AppId,
    /// For error pages.
    pub name: Box<str>,
    /// What to do with requests.
    pub mode: RouteMode,
    /// Where to send them.
    pub targets: Vec<Arc<Target>>,
    /// SHA-256 of the `Authorization` header that lets a visitor in, in hex; none: everybody comes in.
    pub password: Option<Box<str>>,
}

impl App {
    /// Whether a visitor with this `Authorization` header comes in. What is compared are hashes: how long it takes says
    /// nothing of the password.
    pub fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(wanted) = &self.password else { return true };
        let Some(given) = authorization else { return false };
        let hash = ring::digest::digest(&ring::digest::SHA256, given);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        **wanted == *hex
    }
}

/// All routes at one epoch, ready for look-ups.
#[derive(Default)]
pub struct Table {
    source: RouteTable,
    exact: HashMap<Box<str>, Arc<App>>,
    /// By what follows `*.`.
    wildcards: HashMap<Box<str>, Arc<App>>,
}

impl Table {
    /// The table as it was pushed.
    pub fn source(&self) -> &RouteTable {
        &self.source
    }

    /// The app of a host as a client names it: any case, with or without port and final dot. An exact name comes before
    /// the longest wildcard; a wildcard stands for one or more labels.
    pub fn app(&self, host: &str) -> Option<&Arc<App>> {
        let mut lower = [0; MAX_HOST];
        let host = normal(host, &mut lower)?;
        if let Some(app) = self.exact.get(host) {
            return Some(app);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(app) = self.wildcards.get(parent) {
                return Some(app);
            }
            rest = parent;
        }
        None
    }

    /// Every target of every app that has a host.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.exact.values().chain(self.wildcards.values()).flat_map(|app| &app.targets)
    }

    fn build(source: RouteTable, mut target: impl FnMut(&shipway_domain::route::Target) -> Arc<Target>) -> Self {
        let mut table = Self::default();
        for route in &source.apps {
            let AppRoute { app, name, hosts, mode, targets, password } = route;
            let targets = targets.iter().map(&mut target).collect();
            let password = password.as_deref().map(Into::into);
            let app = Arc::new(App { id: *app, name: name.as_str().into(), mode: *mode, targets, password });
            for host in hosts {
                // The first app, by id, keeps a host that two claim: the same one at every push.
                match host.strip_prefix("*.") {
                    Some(parent) => table.wildcards.entry(parent.into()).or_insert_with(|| app.clone()),
                    None => table.exact.entry(host.as_str().into()).or_insert_with(|| app.clone()),
                };
            }
        }
        table.source = source;
        table
    }
}

/// What each byte of a host name is in lower case; 0 for those that cannot be in one.
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let from = byte as u8;
        if from.is_ascii_alphanumeric() || matches!(from, b'-' | b'.' | b'_') {
            table[byte] = from.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// `host` in lower case without port and final dot. `None` when it cannot be a host name.
fn normal<'b>(host: &str, buffer: &'b mut [u8; MAX_HOST]) -> Option<&'b str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return None,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let lower = buffer.get_mut(..name.len())?;
    let mut all_fit = true;
    for (to, from) in lower.iter_mut().zip(name) {
        *to = LOWER[usize::from(*from)];
        all_fit &= *to != 0;
    }
    if !all_fit {
        return None;
    }
    std::str::from_utf8(lower).ok().filter(|name| !name.is_empty())
}

/// The current table, its file, and every target that still has something in flight.
pub struct Routes {
    current: ArcSwap<Table>,
    changed: Notify,
    /// Whether a server has pushed a table since this router started: until then the kept one may name dynos that went
    /// with the machine.
    confirmed: AtomicBool,
    file: PathBuf,
    /// Held for a whole push, so that file and memory agree.
    targets: Mutex<HashMap<DynoId, Weak<Target>>>,
}

impl Routes {
    /// Starts with the table kept in `file`, or an empty one when there is none or it cannot be read: the server pushes
    /// a whole one as soon as it connects.
    pub fn load(file: PathBuf) -> Self {
        let kept = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(file = %file.display(), %error, "the kept route table is damaged; waiting for the server's");
                RouteTable::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => RouteTable::default(),
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "cannot read the kept route table; waiting for the server's");
                RouteTable::default()
            }
        };
        let routes = Self {
            current: ArcSwap::default(),
            changed: Notify::new(),
            confirmed: AtomicBool::new(false),
            file,
            targets: Mutex::new(HashMap::new()),
        };
        let mut targets = HashMap::new();
        routes.swap(kept, &mut targets);
        *routes.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
        routes
    }

    /// The table now.
    pub fn current(&self) -> arc_swap::Guard<Arc<Table>> {
        self.current.load()
    }

    /// The app of `host` now.
    pub fn app(&self, host: &str) -> Option<Arc<App>> {
        self.current.load().app(host).cloned()
    }

    /// The epoch now.
    pub fn epoch(&self) -> u64 {
        self.current.load().source.epoch
    }

    /// Completes at the next change after this call.
    pub fn change(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }

    /// Whether a server has said since the start what runs.
    pub fn are_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::SeqCst)
    }

    /// Completes when a server has said what runs; at once when it has.
    pub async fn confirmed(&self) {
        let change = self.changed.notified();
        if !self.are_confirmed() {
            change.await;
        }
    }

    /// Stores `table` (new file, flushed, renamed, directory flushed) and then uses it; returns the epoch in use.
    ///
    /// A table that is not newer changes nothing. Errors: the disk's; the old table stays in use then.
    pub fn push(&self, table: RouteTable) -> io::Result<u64> {
        self.push_or_keep(table, true)
    }

    /// As [`push`](Self::push); without `keep` the file is left alone: it belongs to the router that took over.
    pub fn push_or_keep(&self, table: RouteTable, keep: bool) -> io::Result<u64> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch();
        if table.epoch <= epoch {
            if !self.confirmed.swap(true, Ordering::SeqCst) {
                self.changed.notify_waiters();
            }
            return Ok(epoch);
        }
        if keep {
            store(&self.file, &serde_json::to_vec(&table)?)?;
        }
        let epoch = table.epoch;
        self.confirmed.store(true, Ordering::SeqCst);
        self.swap(table, &mut targets);
        Ok(epoch)
    }

    fn swap(&self, table: RouteTable, targets: &mut HashMap<DynoId, Weak<Target>>) {
        let next = Table::build(table, |target| {
            let kept = targets.get(&target.dyno).and_then(Weak::upgrade);
            match kept.filter(|kept| kept.address == target.address && !kept.is_gone()) {
                Some(kept) => kept,
                None => {
                    let new = Arc::new(Target::new(target));
                    targets.insert(target.dyno, Arc::downgrade(&new));
                    new
                }
            }
        });
        let next = Arc::new(next);
        let previous = self.current.swap(next.clone());
        let staying: HashSet<_> =
            next.source.apps.iter().flat_map(|app| &app.targets).map(|target| (target.dyno, target.address)).collect();
        let stays = |target: &Arc<Target>| staying.contains(&(target.dyno, target.address));
        for target in previous.targets().filter(|target| !stays(target)) {
            target.leave();
        }
        drop(previous);
        targets.retain(|_, target| target.strong_count() > 0);
        self.changed.notify_waiters();
    }

    /// Requests and streams in flight at `dyno`; zeroes for one that has nothing, or was never heard of.
    pub fn in_flight(&self, dyno: DynoId) -> (usize, usize) {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(&dyno).and_then(Weak::upgrade).map_or((0, 0), |target| target.in_flight())
    }
}

fn store(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = fs::File::create(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn app(n: u128, hosts: &[&str]) -> AppRoute {
        AppRoute {
            app: AppId(Uuid::from_u128(n)),
            name: format!("app-{n}"),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            mode: RouteMode::Serve,
            targets: vec![shipway_domain::route::Target {
                dyno: DynoId(Uuid::from_u128(n)),
                name: "web.1".into(),
                address: ([127, 0, 0, 1], 1000 + n as u16).into(),
            }],
            password: None,
        }
    }

    fn check(host: &str, expected: Option<&str>) {
        let apps = vec![
            app(1, &["shop.example.com"]),
            app(2, &["*.example.com"]),
            app(3, &["*.eu.example.com"]),
            app(4, &["xn--shp-0na.example.com"]),
        ];
        let table = Table::build(RouteTable { epoch: 1, apps }, |target| Arc::new(Target::new(target)));
        assert_eq!(table.app(host).map(|app| &*app.name), expected, "{host}");
    }

    #[test]
    fn attack_34_the_exact_host_wins_then_the_longest_wildcard() {
        check("shop.example.com", Some("app-1"));
        check("SHOP.Example.COM:8080", Some("app-1"));
        check("shop.example.com.", Some("app-1"));
        check("blog.example.com", Some("app-2"));
        check("a.b.example.com", Some("app-2"));
        check("a.eu.example.com", Some("app-3"));
        check("example.com", None);
        check("eu.example.com", Some("app-2"));
        check("evilexample.com", None);
        check("xn--shp-0na.example.com", Some("app-4"));
        check("shöp.example.com", None);
        check("shop.example.com@evil.test", None);
        check("shop.example.com:80:90", None);
        check("shop.example.com/x", None);
        check(&format!("{}.example.com", "a".repeat(300)), None);
        check("", None);
    }

    #[test]
    fn attack_40_the_table_survives_a_restart_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("routes.json");
        let routes = Routes::load(file.clone());
        assert_eq!(routes.epoch(), 0);
        assert_eq!(routes.push(RouteTable { epoch: 5, apps: vec![app(1, &["a.example.com"])] }).unwrap(), 5);
        assert_eq!(routes.push(RouteTable { epoch: 4, apps: vec![] }).unwrap(), 5);
        let again = Routes::load(file.clone());
        assert_eq!(again.epoch(), 5);
        assert!(again.current().app("a.example.com").is_some());
        fs::write(&file, b"{").unwrap();
        assert_eq!(Routes::load(file).epoch(), 0);
    }

    #[test]
    fn targets_stay_the_same_while_they_are_in_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let routes = Routes::load(dir.path().join("routes.json"));
        let target = |host: &str| routes.current().app(host).unwrap().targets[0].clone();
        routes.push(RouteTable { epoch: 1, apps: vec![app(1, &["a.example.com"])] }).unwrap();
        let first = target("a.example.com");
        routes.push(RouteTable { epoch: 2, apps: vec![app(1, &["a.example.com", "b.example.com"])] }).unwrap();
        assert!(Arc::ptr_eq(&first, &target("b.example.com")) && !first.is_gone());
        // The next dyno has the address of the one before it.
        let mut next = app(1, &["a.example.com"]);
        next.targets[0].dyno = DynoId(Uuid::from_u128(99));
        routes.push(RouteTable { epoch: 3, apps: vec![next] }).unwrap();
        assert!(first.is_gone() && !Arc::ptr_eq(&first, &target("a.example.com")));
    }
}
