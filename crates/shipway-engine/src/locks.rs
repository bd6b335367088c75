//! Who may change an app now, who waits, and behind whom. First come, first served.
//!
//! The operations' journal is what survives a crash; these queues are rebuilt from it.

use shipway_domain::{AddonId, AppId, OperationId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Two locks per app (builds of one app go one after the other, and a config change need not wait for a build) and one
/// per database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lock {
    /// Held by a deploy from its build on, and by the end of an app.
    Deploy(AppId),
    /// Held by everything that makes a release or replaces dynos, from there to its switch.
    Release(AppId),
    /// Held by whatever moves a database's data: nobody waits for a backup with a deploy.
    Data(AddonId),
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

    /// Who has a lock now.
    pub(crate) fn holder(&self, lock: Lock) -> Option<OperationId> {
        let queues = self.queues.lock().expect("no panic while queued");
        queues.get(&lock)?.front().copied()
    }

    /// Waits until `holds`, which is asked again whenever a lock has another holder.
    pub(crate) async fn until(&self, mut holds: impl FnMut() -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds() {
            // The sender lives as long as the queues.
            let _ = changed.changed().await;
        }
    }

    /// Takes a place at the end of each queue, in all of them at one moment: of two operations that want the same locks
    /// one is before the other in every queue, so they never wait for each other.
    pub(crate) fn enqueue(self: &Arc<Self>, wanted: Vec<Lock>, operation: OperationId) -> Vec<Place> {
        let mut queues = self.queues.lock().expect("no panic while queued");
        for lock in &wanted {
            queues.entry(*lock).or_default().push_back(operation);
        }
        drop(queues);
        wanted.into_iter().map(|lock| Place { locks: Arc::clone(self), lock, operation }).collect()
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
        self.locks.until(|| self.behind().is_none()).await;
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

    fn app(n: u128) -> AppId {
        AppId(uuid::Uuid::from_u128(n))
    }

    fn operation(n: u128) -> OperationId {
        OperationId(uuid::Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn first_come_first_served_and_everybody_knows_behind_whom() {
        let locks = Arc::new(Locks::default());
        let mut places = (1..=3).flat_map(|n| locks.enqueue(vec![Lock::Deploy(app(0))], operation(n)));
        let (a, b, c) = (places.next().unwrap(), places.next().unwrap(), places.next().unwrap());
        a.first().await;
        assert_eq!((a.behind(), b.behind(), c.behind()), (None, Some(operation(1)), Some(operation(2))));
        drop(b);
        assert_eq!(c.behind(), Some(operation(1)));
        let waits = c.first();
        drop(a);
        waits.await;
    }

    #[tokio::test]
    async fn operations_on_several_apps_never_wait_for_each_other() {
        let locks = Arc::new(Locks::default());
        let tasks = (0..64).map(|n| {
            let locks = locks.clone();
            tokio::spawn(async move {
                // Two of four apps, in whatever order.
                let wanted = [n % 4, n / 4 % 4].map(|i| Lock::Release(app(i)));
                let wanted = if wanted[0] == wanted[1] { vec![wanted[0]] } else { wanted.to_vec() };
                let places = locks.enqueue(wanted, operation(n));
                for place in &places {
                    place.first().await;
                }
                tokio::task::yield_now().await;
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}
