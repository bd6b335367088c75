//! Who may change an app now, who waits, and behind whom. First come, first served, but for [`Turn`].
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

/// What an operation's place in a queue depends on besides when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    AsItCame,
    /// Its release gets its version when it has its turn. It lets those by whose release has one: the releases of an app
    /// come live in the order of their versions, so that the newest is the one that runs.
    Unnumbered,
    /// Its release has its version: it goes before those that wait for theirs. Only for operations that want one lock: of
    /// those that want several, one is before the other in every queue.
    Numbered,
}

pub(crate) struct Locks {
    queues: Mutex<HashMap<Lock, VecDeque<(OperationId, Turn)>>>,
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
        queues.values().find_map(|queue| before(queue, operation))
    }

    /// Who has a lock now.
    pub(crate) fn holder(&self, lock: Lock) -> Option<OperationId> {
        let queues = self.queues.lock().expect("no panic while queued");
        queues.get(&lock)?.front().map(|(operation, _)| *operation)
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
    pub(crate) fn enqueue(self: &Arc<Self>, wanted: Vec<Lock>, operation: OperationId, turn: Turn) -> Vec<Place> {
        let mut queues = self.queues.lock().expect("no panic while queued");
        for lock in &wanted {
            let queue = queues.entry(*lock).or_default();
            // Whoever is first has the lock, and keeps it.
            let lets_by = queue.iter().skip(1).position(|(_, turn)| *turn == Turn::Unnumbered).map(|at| at + 1);
            let at = lets_by.filter(|_| turn == Turn::Numbered && wanted.len() == 1);
            queue.insert(at.unwrap_or(queue.len()), (operation, turn));
        }
        drop(queues);
        wanted.into_iter().map(|lock| Place { locks: Arc::clone(self), lock, operation }).collect()
    }
}

impl Place {
    /// Who is before this place: the one directly in front of it.
    pub(crate) fn behind(&self) -> Option<OperationId> {
        let queues = self.locks.queues.lock().expect("no panic while queued");
        before(queues.get(&self.lock)?, self.operation)
    }

    /// Waits until this place is the first.
    pub(crate) async fn first(&self) {
        self.locks.until(|| self.behind().is_none()).await;
    }
}

/// Who is directly before an operation.
fn before(queue: &VecDeque<(OperationId, Turn)>, operation: OperationId) -> Option<OperationId> {
    let at = queue.iter().position(|(queued, _)| *queued == operation)?;
    at.checked_sub(1).and_then(|at| queue.get(at)).map(|(before, _)| *before)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.locks.queues.lock().expect("no panic while queued");
        if let Some(queue) = queues.get_mut(&self.lock) {
            queue.retain(|(queued, _)| *queued != self.operation);
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
        let mut places = (1..=3).flat_map(|n| locks.enqueue(vec![Lock::Deploy(app(0))], operation(n), Turn::AsItCame));
        let (a, b, c) = (places.next().unwrap(), places.next().unwrap(), places.next().unwrap());
        a.first().await;
        assert_eq!((a.behind(), b.behind(), c.behind()), (None, Some(operation(1)), Some(operation(2))));
        drop(b);
        assert_eq!(c.behind(), Some(operation(1)));
        let waits = c.first();
        drop(a);
        waits.await;
    }

    #[test]
    fn a_release_that_has_its_version_goes_before_those_that_wait_for_theirs() {
        let locks = Arc::new(Locks::default());
        let enqueue = |n, turn| locks.enqueue(vec![Lock::Release(app(0))], operation(n), turn).pop().unwrap();
        let (first, push) = (enqueue(1, Turn::Unnumbered), enqueue(2, Turn::Unnumbered));
        let (restart, rollback, config) =
            (enqueue(3, Turn::AsItCame), enqueue(4, Turn::Numbered), enqueue(5, Turn::Numbered));
        let behind = [&first, &rollback, &config, &push, &restart].map(Place::behind);
        assert_eq!(behind, [None, Some(operation(1)), Some(operation(4)), Some(operation(5)), Some(operation(2))]);
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
                let turns = [Turn::AsItCame, Turn::Unnumbered, Turn::Numbered];
                let places = locks.enqueue(wanted, operation(n), turns[n as usize % 3]);
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
