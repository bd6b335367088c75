//! Trials: an operation is killed, failed and repeated at every moment of every step, and must come out the same.
//!
//! A [`Trial`] is three closures: what stands before, what asks for the operation, and (where the default does not show
//! it) what to look at afterwards. What is right is measured, not written down: the screen before, and the screen after
//! an undisturbed run. An operation that was disturbed has to end with one of the two, and which one is decided by where
//! it was disturbed.
//!
//! ```text
//! Trial::of(|server| async move { server.push(&server.app("acorn"), "web: listen").await.unwrap(); })
//!     .on(|server| async move { server.create("acorn").await; })
//!     .holds()
//!     .await;
//! ```

use crate::{Ground, Server};
use futures::StreamExt;
use shipway_engine::{Fault, Faults, Moment};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Act<T> = Box<dyn Fn(Arc<Server>) -> Boxed<T> + Send + Sync>;

/// An operation on trial.
pub struct Trial {
    prepare: Act<()>,
    ask: Act<()>,
    look: Act<String>,
}

/// A step by name, and a moment of it.
pub type Point = (String, Moment);

/// What an undisturbed run showed.
pub struct Undisturbed {
    /// The screen before it.
    pub before: String,
    /// The screen after it.
    pub after: String,
    /// The moments that it passed, in order.
    pub points: Vec<Point>,
}

impl Trial {
    /// A trial of what `ask` asks for. It may return when the operation is written down, or later; it must not mind
    /// that the operation fails.
    pub fn of<F, Fut>(ask: F) -> Self
    where
        F: Fn(Arc<Server>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self {
            prepare: Box::new(|_| Box::pin(async {})),
            ask: Box::new(move |server| Box::pin(ask(server))),
            look: Box::new(|_| Box::pin(async { String::new() })),
        }
    }

    /// What stands before it.
    pub fn on<F, Fut>(mut self, prepare: F) -> Self
    where
        F: Fn(Arc<Server>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.prepare = Box::new(move |server| Box::pin(prepare(server)));
        self
    }

    /// What else belongs to the state that must be the same, as text without ids and times.
    pub fn looking_at<F, Fut>(mut self, look: F) -> Self
    where
        F: Fn(Arc<Server>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = String> + Send + 'static,
    {
        self.look = Box::new(move |server| Box::pin(look(server)));
        self
    }

    /// All of it: [`Self::survives_death`], [`Self::repeats`], [`Self::undoes`]. Returns what the undisturbed run showed.
    pub async fn holds(&self) -> Undisturbed {
        let undisturbed = self.undisturbed().await;
        self.survives_death(&undisturbed).await;
        self.repeats(&undisturbed).await;
        self.undoes(&undisturbed).await;
        undisturbed
    }

    /// Runs it with nothing in its way.
    pub async fn undisturbed(&self) -> Undisturbed {
        let points = Arc::new(Mutex::new(Vec::new()));
        let seen = points.clone();
        let (before, after, _) = self
            .run("undisturbed", move |step, moment| {
                seen.lock().unwrap().push((step.to_string(), moment));
                None
            })
            .await;
        let points = std::mem::take(&mut *points.lock().unwrap());
        assert!(!points.is_empty(), "nothing was asked for that is an operation");
        Undisturbed { before, after, points }
    }

    /// The server is killed at each moment of each step and undo, and the next one brings the operation to the same
    /// end. (A step that was killed after it worked runs twice.)
    pub async fn survives_death(&self, expected: &Undisturbed) {
        self.survives_death_at(expected, |_| true).await;
    }

    /// The same at some of the moments alone: for operations on several apps, whose steps are many and alike.
    pub async fn survives_death_at(&self, expected: &Undisturbed, chosen: fn(Moment) -> bool) {
        let points = expected.points.iter().enumerate().filter(|(_, point)| chosen(point.1));
        side_by_side(points.map(|(n, (step, moment))| async move {
            let count = Mutex::new(0..);
            let what = format!("killed at {step} {moment:?}");
            let (_, after, died) =
                self.run(&what, move |_, _| (count.lock().unwrap().next() == Some(n)).then_some(Fault::Die)).await;
            assert!(died, "{what}: it was not reached");
            assert_eq!(after, expected.after, "{what}");
        }))
        .await;
    }

    /// Each step, and each undo, runs twice in a row: the same end.
    pub async fn repeats(&self, expected: &Undisturbed) {
        let (_, after, _) = self.run("every step twice", repeat_once()).await;
        assert_eq!(after, expected.after, "every step twice");
    }

    /// Each step fails after it worked. Before the switch everything is as it was, each undo having run twice; after it
    /// the step is tried again. The server is killed at each moment of the longest undo too.
    pub async fn undoes(&self, expected: &Undisturbed) {
        let switch = expected.points.iter().position(|p| *p == ("switch".to_string(), Moment::Worked));
        let mut worked = expected.points.iter().enumerate().filter(|(_, p)| p.1 == Moment::Worked);
        let undone = |n: usize| switch.is_some_and(|switch| n <= switch);
        side_by_side(worked.clone().map(|(n, (step, _))| async move {
            let what = format!("{step} fails");
            let (failing, repeating) = (fail_at(n), repeat_once());
            let undos =
                move |step: &str, moment| (moment == Moment::TakenBack).then(|| repeating(step, moment)).flatten();
            let both = move |step: &str, moment| failing(step, moment).or_else(|| undos(step, moment));
            let (before, after, _) = self.run(&what, both).await;
            assert_eq!(after, if undone(n) { before } else { expected.after.clone() }, "{what}, each undo twice");
        }))
        .await;
        if let Some((failing, (step, _))) = worked.rfind(|(n, _)| undone(*n)) {
            self.survives_death_in_undo(failing, step).await;
        }
    }

    async fn survives_death_in_undo(&self, failing: usize, step: &str) {
        for n in 0.. {
            let failing = fail_at(failing);
            let count = Mutex::new(0..);
            let what = format!("{step} fails and the server is killed at moment {n} of its undo");
            let dying = move |_: &str, moment| {
                let undo = matches!(moment, Moment::TakenBack | Moment::Undone);
                (undo && count.lock().unwrap().next() == Some(n)).then_some(Fault::Die)
            };
            let both = move |step: &str, moment| failing(step, moment).or_else(|| dying(step, moment));
            let (before, after, died) = self.run(&what, both).await;
            assert_eq!(after, before, "{what}");
            if !died {
                assert!(n > 0, "{step} has nothing to undo");
                return;
            }
        }
    }

    /// One run on fresh ground: the screens before and after, and whether the server was killed.
    async fn run<F>(&self, what: &str, faults: F) -> (String, String, bool)
    where
        F: Fn(&str, Moment) -> Option<Fault> + Send + Sync + 'static,
    {
        let ground = Ground::new();
        let server = Arc::new(ground.server(None).await);
        (self.prepare)(server.clone()).await;
        server.quiet().await;
        let before = self.screen(&server).await;
        let names: Vec<String> = server.apps().iter().map(|a| a.name.to_string()).collect();
        end(server).await;

        let dead = CancellationToken::new();
        let dies = dead.clone();
        let faults: Faults = Arc::new(move |step, moment| {
            let fault = faults(step, moment);
            if fault == Some(Fault::Die) {
                dies.cancel();
            }
            fault
        });
        let server = Arc::new(ground.server(Some(faults)).await);
        let asked = async {
            (self.ask)(server.clone()).await;
            server.quiet().await;
        };
        let died = tokio::select! {
            biased;
            () = dead.cancelled() => true,
            () = asked => false,
        };
        end(server).await;

        let server = Arc::new(ground.server(None).await);
        server.quiet().await;
        let after = self.screen(&server).await;
        server.whole(what).await;
        server.takes_pushes(&names, what).await;
        end(server).await;
        (before, after, died)
    }

    async fn screen(&self, server: &Arc<Server>) -> String {
        server.screen().await + &(self.look)(server.clone()).await
    }
}

/// Runs of a trial share nothing and wait much: several go on at once.
async fn side_by_side<F: Future<Output = ()>>(runs: impl Iterator<Item = F>) {
    futures::stream::iter(runs).for_each_concurrent(8, |run| run).await;
}

/// Ends a server; its store is closed when this returns.
async fn end(server: Arc<Server>) {
    server.platform.stop().await;
}

/// Lets the step fail whose moment comes as the n-th of all: the apps in its name are others in each run.
fn fail_at(n: usize) -> impl Fn(&str, Moment) -> Option<Fault> + Send + Sync {
    let count = Mutex::new(0..);
    move |_, _| (count.lock().unwrap().next() == Some(n)).then_some(Fault::Fail)
}

/// Lets each step and each undo run a second time.
fn repeat_once() -> impl Fn(&str, Moment) -> Option<Fault> + Send + Sync {
    let repeated = Mutex::new(HashSet::new());
    move |step, moment| {
        let repeatable = matches!(moment, Moment::Worked | Moment::TakenBack);
        (repeatable && repeated.lock().unwrap().insert((step.to_string(), moment))).then_some(Fault::Repeat)
    }
}
