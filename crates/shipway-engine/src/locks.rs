//! Who may change an app now, who waits, and behind whom. First come, first served.
//!
//! The operations' journal is what survives a crash; these queues are rebuilt from it.

use shipway_domain::{AppId, OperationId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Two locks per app: builds of one app go one after the other, and a config change need not wait for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lock {
    /// Held by a deploy from its build on.
    Deploy(AppId),
    /// Held by everything that makes a release or replaces dynos, from there to its switch.
    Release(AppId),
}

pub(crate) struct Locks {
    queues: Mutex<HashMap<Lock, VecDeque<OperationId>>>,
    changed: watch::Sender<()>,
}

impl Default for Locks {
    fn default() -> Self {
        Self { queues: Mutex::default(), changed: watch::channel(()).0 }
    }
}

/// A place in a queue; dropping it leaves the queue.
pub(crate) struct Place {
    locks: Arc<Locks>,
    lock: Lock,
    operation: OperationId,
}

impl Locks {
    /// Who is directly before an operation in any queue.
    pub(crate) fn behind(&self, operation: OperationId) -> Option<OperationId> {
        let queues = self.queues.lock().expect("no panic while queued");
        queues.values().find_map(|queue| {
            let at = queue.iter().position(|o| *o == operation)?;
            at.checked_sub(1).and_then(|i| queue.get(i).copied())
        })
    }

    /// Takes a place at the end of a queue.
    pub(crate) fn enqueue(self: &Arc<Self>, lock: Lock, operation: OperationId) -> Place {
        self.queues.lock().expect("no panic while queued").entry(lock).or_default().push_back(operation);
        Place { locks: Arc::clone(self), lock, operation }
    }
}

impl Place {
    /// Who is before this place: the one directly in front of it.
    pub(crate) fn behind(&self) -> Option<OperationId> {
        let queues = self.locks.queues.lock().expect("no panic while queued");
        let queue = queues.get(&self.lock)?;
        let at = queue.iter().position(|o| *o == self.operation)?;
        at.checked_sub(1).and_then(|i| queue.get(i).copied())
    }

    /// Waits until this place is the first.
    pub(crate) async fn first(&self) {
        let mut changed = self.locks.changed.subscribe();
        while self.behind().is_some() {
            // The sender lives as long as the queues.
            let _ = changed.changed().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.locks.queues.lock().expect("no panic while queued");
        if let Some(queue) = queues.get_mut(&self.lock) {
            queue.retain(|o| *o != self.operation);
            if queue.is_empty() {
                queues.remove(&self.lock);
            }
        }
        drop(queues);
        self.locks.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_come_first_served_and_everybody_knows_behind_whom() {
        let locks = Arc::new(Locks::default());
        let lock = Lock::Deploy(AppId(uuid::Uuid::nil()));
        let id = |n| OperationId(uuid::Uuid::from_u128(n));
        let (a, b, c) = (locks.enqueue(lock, id(1)), locks.enqueue(lock, id(2)), locks.enqueue(lock, id(3)));
        a.first().await;
        assert_eq!((a.behind(), b.behind(), c.behind()), (None, Some(id(1)), Some(id(2))));
        drop(b);
        assert_eq!(c.behind(), Some(id(1)));
        let waits = c.first();
        drop(a);
        waits.await;
    }
}
