//! One dyno as the router sees it: what is in flight, its idle connections, whether to avoid it.

use crate::upstream::{MAX_IDLE, Upstream};
use shipway_domain::{DynoId, route};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a target that refused a connection is avoided while there are others.
const SHUNNED: Duration = Duration::from_secs(2);
/// Idle connections kept to one target.
const MAX_KEPT: usize = 256;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One dyno. Connections belong to it and not to its address: another dyno may get the address later.
pub struct Target {
    /// Its id.
    pub dyno: DynoId,
    /// Its name in log lines.
    pub name: Box<str>,
    /// Where it listens.
    pub address: SocketAddr,
    requests: AtomicUsize,
    streams: AtomicUsize,
    gone: AtomicBool,
    /// Milliseconds since the router started.
    shunned_until: AtomicU64,
    idle: Mutex<Vec<Upstream>>,
}

impl Target {
    /// A target with nothing in flight.
    pub fn new(target: &route::Target) -> Self {
        Self {
            dyno: target.dyno,
            name: target.name.as_str().into(),
            address: target.address,
            requests: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            shunned_until: AtomicU64::new(0),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Requests (without streams) and streams in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.requests.load(Ordering::SeqCst), self.streams.load(Ordering::SeqCst))
    }

    /// Whether it has left the table.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// It left the table: nothing new goes there, idle connections are closed.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.forget_idle();
    }

    /// Avoids it for a moment.
    pub fn shun(&self) {
        let until = STARTED.elapsed() + SHUNNED;
        self.shunned_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    fn is_shunned(&self) -> bool {
        let until = self.shunned_until.load(Ordering::Relaxed);
        until != 0 && (STARTED.elapsed().as_millis() as u64) < until
    }

    /// Counts a request. `None` when it left the table meanwhile.
    ///
    /// Count first, look second, while [`leave`](Self::leave) is set before anybody asks for the count: whoever sees no
    /// request after the switch was acknowledged can rely on none coming.
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight { target: self.clone(), stream: false };
        (!self.is_gone()).then_some(in_flight)
    }

    /// Takes an idle connection, the one used last.
    pub fn take_idle(&self) -> Option<Upstream> {
        self.idle().pop()
    }

    /// Keeps a connection for the next request.
    pub fn keep_idle(&self, upstream: Upstream) {
        let mut idle = self.idle();
        // Looked at under the lock that `leave` takes after it said so.
        if idle.len() < MAX_KEPT && !self.is_gone() {
            idle.push(upstream);
        }
    }

    /// Closes all idle connections: the next request connects anew.
    pub fn forget_idle(&self) {
        self.idle().clear();
    }

    /// Closes connections that have been idle for long, or that the dyno has closed.
    pub fn prune_idle(&self, now: Instant) {
        self.idle().retain_mut(|upstream| upstream.is_usable(now, MAX_IDLE));
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Upstream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request at a target, counted until it is dropped.
pub struct InFlight {
    target: Arc<Target>,
    stream: bool,
}

impl InFlight {
    /// Where it is.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// It is a stream from here on: a drain does not wait for it.
    pub fn becomes_stream(&mut self) {
        if !self.stream {
            self.stream = true;
            self.target.streams.fetch_add(1, Ordering::SeqCst);
            self.target.requests.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counter = if self.stream { &self.target.streams } else { &self.target.requests };
        counter.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why no target was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTarget {
    /// There is none, or all were tried.
    None,
    /// All have as many requests as they may.
    Full,
}

/// The less busy of two random targets, leaving out those already `tried`, those with `most` requests and, while there are
/// others, the shunned.
pub fn pick<'t>(targets: &'t [Arc<Target>], tried: &[DynoId], most: usize) -> Result<&'t Arc<Target>, NoTarget> {
    let load = |target: &Target| {
        let (requests, streams) = target.in_flight();
        requests + streams
    };
    let good = |target: &Target| !tried.contains(&target.dyno) && !target.is_shunned() && load(target) < most;
    let n = targets.len();
    if n == 0 {
        return Err(NoTarget::None);
    }
    let one = fastrand::usize(..n);
    let other = if n > 1 { (one + 1 + fastrand::usize(..n - 1)) % n } else { one };
    let (one, other) = (&targets[one], &targets[other]);
    match (good(one), good(other)) {
        (true, true) => return Ok(if load(other) < load(one) { other } else { one }),
        (true, false) => return Ok(one),
        (false, true) => return Ok(other),
        (false, false) => {}
    }
    let untried = || targets.iter().filter(|target| !tried.contains(&target.dyno));
    if let Some(target) = untried().find(|target| good(target)).or_else(|| untried().find(|t| load(t) < most)) {
        return Ok(target);
    }
    Err(if untried().next().is_some() { NoTarget::Full } else { NoTarget::None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const MOST: usize = 3;

    fn targets(n: u128) -> Vec<Arc<Target>> {
        (1..=n)
            .map(|i| {
                let address = ([127, 0, 0, 1], i as u16).into();
                let target = route::Target { dyno: DynoId(Uuid::from_u128(i)), name: format!("web.{i}"), address };
                Arc::new(Target::new(&target))
            })
            .collect()
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let two = targets(2);
        let _busy = two[0].begin().unwrap();
        for _ in 0..50 {
            assert_eq!(&*pick(&two, &[], MOST).unwrap().name, "web.2");
        }
    }

    #[test]
    fn tried_targets_are_left_out_and_shunned_ones_are_the_last_resort() {
        let three = targets(3);
        three[0].shun();
        for _ in 0..50 {
            assert_eq!(&*pick(&three, &[three[1].dyno], MOST).unwrap().name, "web.3");
        }
        let picked = pick(&three, &[three[1].dyno, three[2].dyno], MOST).unwrap();
        assert_eq!(&*picked.name, "web.1");
        let all: Vec<DynoId> = three.iter().map(|target| target.dyno).collect();
        assert_eq!(pick(&three, &all, MOST).err(), Some(NoTarget::None));
        assert_eq!(pick(&[], &[], MOST).err(), Some(NoTarget::None));
    }

    #[test]
    fn a_full_target_takes_no_more() {
        let one = targets(1);
        let _flood: Vec<_> = (0..MOST).map(|_| one[0].begin().unwrap()).collect();
        assert_eq!(pick(&one, &[], MOST).err(), Some(NoTarget::Full));
    }

    #[test]
    fn a_target_that_left_takes_nothing() {
        let one = targets(1);
        let mut stream = one[0].begin().unwrap();
        stream.becomes_stream();
        one[0].leave();
        assert!(one[0].begin().is_none());
        assert_eq!(one[0].in_flight(), (0, 1));
        drop(stream);
        assert_eq!(one[0].in_flight(), (0, 0));
    }
}
