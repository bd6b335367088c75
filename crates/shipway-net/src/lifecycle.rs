//! The life of a set of listeners: accepting, retiring, closing, gone.
//!
//! Retiring comes before closing because a client may be sending its next request at the very moment an idle connection
//! is closed: it would see a reset. While retiring, every HTTP/1 answer says `Connection: close` and HTTP/2 clients get
//! GOAWAY, so clients leave by themselves; what is still idle a minute later is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// How far a set of listeners has come. Later phases include what earlier ones do; there is no way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// New connections are taken.
    Accepting = 0,
    /// No new connections; answers carry `Connection: close`, HTTP/2 gets GOAWAY.
    Retiring = 1,
    /// Connections without a request in flight are closed.
    Closing = 2,
    /// Everything is dropped.
    Aborting = 3,
}

/// A shared handle on the [`Phase`] and on the number of open connections. Cloning shares it.
#[derive(Clone, Default)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    open: AtomicUsize,
    advanced: Arc<Notify>,
    emptied: Notify,
}

impl Lifecycle {
    /// Starts in [`Phase::Accepting`] with no connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.shared.phase.load(Ordering::Acquire) {
            0 => Phase::Accepting,
            1 => Phase::Retiring,
            2 => Phase::Closing,
            _ => Phase::Aborting,
        }
    }

    /// Moves on to `phase`; an earlier phase than the present one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.shared.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.shared.advanced.notify_waiters();
    }

    /// Connections open now, upgraded ones included while their handler holds a [`ConnectionGuard`].
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Counts a connection until the guard is dropped.
    pub fn guard(&self) -> ConnectionGuard {
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard(self.clone())
    }

    /// Waits until the phase is at least `phase`.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let advanced = self.advanced();
            if self.phase() >= phase {
                return;
            }
            advanced.await;
        }
    }

    /// Waits until no connection is open.
    pub async fn empty(&self) {
        loop {
            let emptied = self.shared.emptied.notified();
            if self.open_connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Completes at the next [`advance`](Self::advance) after this call.
    pub(crate) fn advanced(&self) -> OwnedNotified {
        self.shared.advanced.clone().notified_owned()
    }
}

/// Keeps a connection counted as open.
pub struct ConnectionGuard(Lifecycle);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if self.0.shared.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.shared.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_go_forward() {
        let life = Lifecycle::new();
        life.advance(Phase::Closing);
        life.advance(Phase::Retiring);
        assert_eq!(life.phase(), Phase::Closing);
        life.reached(Phase::Retiring).await;
    }

    #[tokio::test]
    async fn empty_waits_for_the_last_guard() {
        let life = Lifecycle::new();
        let guard = life.guard();
        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        waiting.await.unwrap();
    }
}
