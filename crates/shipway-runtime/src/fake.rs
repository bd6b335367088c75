//! A runtime in memory, for tests of whatever drives one: no processes, real loopback ports.
//!
//! A command is a list of steps, separated by `;`:
//!
//! | step | does |
//! |---|---|
//! | `listen` | listens on `PORT` and answers every request with `<DYNO> <HEROKU_RELEASE_VERSION>`; `/sleep/<ms>` waits first; `/env/<NAME>` shows a variable |
//! | `listen-after 50ms` | waits, then `listen` |
//! | `listen-elsewhere` | listens on another port than `PORT`, at every address |
//! | `listen-status 503` | `listen`, but answers with this status |
//! | `listen-strict a.example` | `listen`, but answers 400 when asked for another host, 301 when not by HTTPS |
//! | `echo <text>` | writes a line |
//! | `env <NAME>` | writes a variable's value |
//! | `cat` | copies its input to its output until the end of input |
//! | `ignore-term` | from now on SIGTERM does nothing |
//! | `sleep`, `sleep 50ms` | waits for ever, or that long |
//! | `exit 3` | ends |
//!
//! A program that listens and reaches its end goes on for ever, one that does not listen exits with 0. An unknown step
//! exits with 127, as a shell would. [`Fault`]s make calls fail and dynos die at the test's word.

mod page;

use crate::{
    Capabilities, DynoPlan, Exit, ExitCause, Io, MemoryLimit, Observation, Runtime, RuntimeError, Stream, Usage,
};
use async_trait::async_trait;
use page::{Answers, Page, answer};
use shipway_domain::DynoId;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much output an attached dyno may be ahead of its reader, in bytes.
const HELD_OUTPUT_BYTES: usize = 64 * 1024;

/// The in-memory driver. Clones share their dynos, so a "restarted server" in a test finds them again.
#[derive(Clone, Default)]
pub struct Fake {
    state: Arc<Mutex<State>>,
}

/// Something that goes wrong at the test's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The next [`Runtime::start`] fails with this text as the machine's answer, before anything was started.
    FailStart(String),
    /// The next [`Runtime::start`] starts the dyno, and then answers with an error all the same.
    LoseAnswerOfStart,
    /// The next [`Runtime::stop`] fails.
    FailStop(String),
    /// The next [`Runtime::remove`] fails.
    FailRemove(String),
}

/// A call that a test can look at afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Runtime::start`] with the dyno's name.
    Start(String),
    /// [`Runtime::stop`].
    Stop(String),
    /// [`Runtime::remove`].
    Remove(String),
}

#[derive(Default)]
struct State {
    dynos: BTreeMap<DynoId, Dyno>,
    faults: VecDeque<Fault>,
    calls: Vec<Call>,
}

struct Dyno {
    plan: DynoPlan,
    endpoints: Vec<SocketAddr>,
    listeners: Listeners,
    lines: Lines,
    order: watch::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
    usage: Usage,
    stream: Arc<Mutex<Option<DuplexStream>>>,
    size: Option<(u16, u16)>,
}

type Lines = Arc<Mutex<Vec<String>>>;
type Listeners = Arc<Mutex<Vec<SocketAddr>>>;

/// What the outside wants of a dyno; only ever gets stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Terminate,
    End(Exit),
}

impl Fake {
    /// A runtime without dynos.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms a fault. Faults of one kind happen in the order in which they were armed.
    pub fn arm(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// The calls so far that changed something, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The lines that a dyno wrote to its log so far; empty for an unknown one.
    pub fn lines(&self, dyno: DynoId) -> Vec<String> {
        self.state().dynos.get(&dyno).map_or_else(Vec::new, |d| lock(&d.lines).clone())
    }

    /// The plan that a dyno was started with.
    pub fn plan(&self, dyno: DynoId) -> Option<DynoPlan> {
        self.state().dynos.get(&dyno).map(|d| d.plan.clone())
    }

    /// Ends a dyno from inside: a crash, a broken memory limit, a lost machine. Does nothing to an ended one.
    pub fn end(&self, dyno: DynoId, exit: Exit) {
        if let Some(dyno) = self.state().dynos.get(&dyno) {
            dyno.order.send_replace(Order::End(exit));
        }
    }

    /// Sets what [`Runtime::usage`] answers for a dyno.
    pub fn set_usage(&self, dyno: DynoId, usage: Usage) {
        if let Some(dyno) = self.state().dynos.get_mut(&dyno) {
            dyno.usage = usage;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn spawn(&self, plan: &DynoPlan) -> Result<Observation, RuntimeError> {
        let mut state = self.state();
        if let Some(dyno) = state.dynos.get(&plan.dyno) {
            return Ok(dyno.observe());
        }
        state.calls.push(Call::Start(plan.name.clone()));
        if let Some(Fault::FailStart(why)) = state.take(|f| matches!(f, Fault::FailStart(_))) {
            return Err(failed(format!("starting dyno {}", plan.name), why));
        }
        let socket = if plan.port { Some(reserve_port(&plan.name)?) } else { None };
        let endpoints = socket.iter().map(|(_, address)| *address).collect::<Vec<_>>();
        let mut env = plan.env.clone();
        if let Some(address) = endpoints.first() {
            env.insert("PORT".into(), address.port().to_string());
        }
        let (order, orders) = watch::channel(Order::Run);
        let (exit, exits) = watch::channel(None);
        let (outside, inside) = tokio::io::duplex(HELD_OUTPUT_BYTES);
        let lines = Lines::default();
        let listeners = Listeners::default();
        let attached = plan.io != Io::Log;
        let program = Program {
            name: plan.name.clone(),
            steps: plan.command.split(';').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect(),
            env,
            socket: socket.map(|(socket, _)| socket),
            stream: attached.then_some(inside),
            lines: lines.clone(),
            listeners: listeners.clone(),
            ignores_term: Arc::default(),
            serving: JoinSet::new(),
        };
        let limits = Limits {
            grace: Duration::from_secs(plan.grace_seconds.into()),
            time: plan.time_limit_seconds.map(|s| Duration::from_secs(s.into())),
        };
        let size = match plan.io {
            Io::Pty { columns, lines } => Some((columns, lines)),
            _ => None,
        };
        tokio::spawn({
            let listeners = listeners.clone();
            async move {
                let ended = live(program, orders, limits).await;
                lock(&listeners).clear();
                exit.send_replace(Some(ended));
            }
        });
        let dyno = Dyno {
            plan: plan.clone(),
            endpoints,
            listeners,
            lines,
            order,
            exit: exits,
            usage: Usage { memory_bytes: 10 * 1024 * 1024, cpu_us: 1_000, pids: 1 },
            stream: Arc::new(Mutex::new(attached.then_some(outside))),
            size,
        };
        let observation = dyno.observe();
        state.dynos.insert(plan.dyno, dyno);
        match state.take(|f| *f == Fault::LoseAnswerOfStart) {
            Some(_) => Err(failed(format!("starting dyno {}", plan.name), "the answer was lost".into())),
            None => Ok(observation),
        }
    }
}

impl State {
    fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.faults.iter().position(wanted)?;
        self.faults.remove(at)
    }

    fn dyno(&self, id: DynoId) -> Result<&Dyno, RuntimeError> {
        self.dynos.get(&id).ok_or(RuntimeError::Unknown(id))
    }
}

impl Dyno {
    fn observe(&self) -> Observation {
        Observation {
            dyno: self.plan.dyno,
            app: self.plan.app,
            name: self.plan.name.clone(),
            endpoints: self.endpoints.clone(),
            exit: *self.exit.borrow(),
        }
    }
}

#[async_trait]
impl Runtime for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tier: "fake",
            own_network: false,
            neighbours_blocked: false,
            memory: MemoryLimit::None,
            pids: false,
            disk: false,
            uid_per_app: false,
            cpu: false,
            pty: true,
            files_hidden: false,
        }
    }

    async fn start(&self, plan: &DynoPlan) -> Result<Observation, RuntimeError> {
        self.spawn(plan)
    }

    async fn list(&self) -> Result<Vec<Observation>, RuntimeError> {
        Ok(self.state().dynos.values().map(Dyno::observe).collect())
    }

    async fn observe(&self, dyno: DynoId) -> Result<Observation, RuntimeError> {
        self.state().dyno(dyno).map(Dyno::observe)
    }

    async fn wait(&self, dyno: DynoId) -> Result<Exit, RuntimeError> {
        let mut exit = self.state().dyno(dyno)?.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        ended.ok_or(RuntimeError::Unknown(dyno))
    }

    async fn stop(&self, id: DynoId) -> Result<(), RuntimeError> {
        let mut state = self.state();
        let name = state.dyno(id)?.plan.name.clone();
        state.calls.push(Call::Stop(name.clone()));
        if let Some(Fault::FailStop(why)) = state.take(|f| matches!(f, Fault::FailStop(_))) {
            return Err(failed(format!("stopping dyno {name}"), why));
        }
        state.dyno(id)?.order.send_if_modified(|order| {
            let runs = *order == Order::Run;
            if runs {
                *order = Order::Terminate;
            }
            runs
        });
        Ok(())
    }

    async fn remove(&self, id: DynoId) -> Result<(), RuntimeError> {
        let mut exit = {
            let mut state = self.state();
            let Ok(dyno) = state.dyno(id) else { return Ok(()) };
            let name = dyno.plan.name.clone();
            let exit = dyno.exit.clone();
            state.calls.push(Call::Remove(name.clone()));
            if let Some(Fault::FailRemove(why)) = state.take(|f| matches!(f, Fault::FailRemove(_))) {
                return Err(failed(format!("removing dyno {name}"), why));
            }
            let killed = Exit { status: 137, cause: ExitCause::Killed };
            state.dyno(id)?.order.send_replace(Order::End(killed));
            exit
        };
        // Its port is free only when its task is gone.
        let _ = exit.wait_for(Option::is_some).await;
        self.state().dynos.remove(&id);
        Ok(())
    }

    async fn listeners(&self, dyno: DynoId) -> Result<Vec<SocketAddr>, RuntimeError> {
        self.state().dyno(dyno).map(|d| lock(&d.listeners).clone())
    }

    async fn usage(&self, dyno: DynoId) -> Result<Usage, RuntimeError> {
        self.state().dyno(dyno).map(|d| if d.exit.borrow().is_some() { Usage::default() } else { d.usage })
    }

    async fn attach(&self, id: DynoId) -> Result<Box<dyn Stream>, RuntimeError> {
        let state = self.state();
        let dyno = state.dyno(id)?;
        let stream = lock(&dyno.stream).take();
        match stream {
            Some(stream) => Ok(Box::new(Attached { stream: Some(stream), slot: dyno.stream.clone() })),
            None if dyno.plan.io == Io::Log => Err(failed(
                format!("attaching to dyno {}", dyno.plan.name),
                "its output goes to the log, it has no stream".into(),
            )),
            None => Err(failed(format!("attaching to dyno {}", dyno.plan.name), "somebody is attached to it".into())),
        }
    }

    async fn resize(&self, id: DynoId, columns: u16, lines: u16) -> Result<(), RuntimeError> {
        let mut state = self.state();
        let dyno = state.dynos.get_mut(&id).ok_or(RuntimeError::Unknown(id))?;
        match &mut dyno.size {
            Some(size) => *size = (columns, lines),
            None => {
                return Err(failed(format!("resizing the terminal of dyno {}", dyno.plan.name), "it has none".into()));
            }
        }
        Ok(())
    }
}

struct Limits {
    grace: Duration,
    time: Option<Duration>,
}

/// Runs a program to its end, whoever brings it about.
async fn live(mut program: Program, mut orders: watch::Receiver<Order>, limits: Limits) -> Exit {
    let ignores_term = program.ignores_term.clone();
    let orders_end = async {
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Order::End(exit) => return exit,
                Order::Terminate if !ignores_term.load(Ordering::SeqCst) => {
                    return Exit { status: 143, cause: ExitCause::Stopped };
                }
                Order::Terminate => {
                    return match tokio::time::timeout(limits.grace, orders.changed()).await {
                        Ok(Ok(())) => match *orders.borrow() {
                            Order::End(exit) => exit,
                            _ => continue,
                        },
                        _ => Exit { status: 137, cause: ExitCause::Killed },
                    };
                }
                Order::Run => {}
            }
            if orders.changed().await.is_err() {
                return Exit { status: 137, cause: ExitCause::Lost };
            }
        }
    };
    let time_is_up = async {
        match limits.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // A dyno that was stopped before its first step never takes one.
        biased;
        exit = orders_end => exit,
        status = program.run() => Exit { status, cause: ExitCause::Exited },
        () = time_is_up => Exit { status: 137, cause: ExitCause::Time },
    }
}

struct Program {
    name: String,
    steps: Vec<String>,
    env: BTreeMap<String, String>,
    socket: Option<TcpSocket>,
    stream: Option<DuplexStream>,
    lines: Lines,
    listeners: Listeners,
    ignores_term: Arc<AtomicBool>,
    serving: JoinSet<()>,
}

impl Program {
    async fn run(&mut self) -> i32 {
        for step in std::mem::take(&mut self.steps) {
            let (word, rest) = step.split_once(' ').unwrap_or((&step, ""));
            let ended = match word {
                "listen" => self.listen(Answers::Always(200)),
                "listen-after" => {
                    tokio::time::sleep(duration(rest).unwrap_or_default()).await;
                    self.listen(Answers::Always(200))
                }
                "listen-status" => self.listen(Answers::Always(rest.parse().unwrap_or(500))),
                "listen-strict" => self.listen(Answers::Strictly(rest.to_owned())),
                "listen-elsewhere" => self.listen_elsewhere().await,
                "echo" => self.line(rest.to_owned()).await,
                "env" => self.line(self.env.get(rest).cloned().unwrap_or_default()).await,
                "cat" => self.cat().await,
                "ignore-term" => {
                    self.ignores_term.store(true, Ordering::SeqCst);
                    None
                }
                "sleep" => {
                    match duration(rest) {
                        Some(time) => tokio::time::sleep(time).await,
                        None => std::future::pending().await,
                    }
                    None
                }
                "exit" => Some(rest.parse().unwrap_or(2)),
                _ => {
                    self.line(format!("bash: line 1: {word}: command not found")).await;
                    Some(127)
                }
            };
            if let Some(status) = ended {
                return status;
            }
        }
        if !self.serving.is_empty() {
            std::future::pending::<()>().await;
        }
        0
    }

    async fn line(&mut self, text: String) -> Option<i32> {
        match &mut self.stream {
            // Nobody reading any more is what SIGPIPE is for.
            Some(stream) => stream.write_all(format!("{text}\n").as_bytes()).await.is_err().then_some(141),
            None => {
                lock(&self.lines).push(text);
                None
            }
        }
    }

    async fn cat(&mut self) -> Option<i32> {
        let (mut input, mut output) = tokio::io::split(self.stream.take()?);
        let copied = tokio::io::copy(&mut input, &mut output).await;
        self.stream = Some(input.unsplit(output));
        copied.is_err().then_some(141)
    }

    fn listen(&mut self, answers: Answers) -> Option<i32> {
        // A second `listen` finds the port taken, as a real program would.
        let listener = self.socket.take().and_then(|socket| socket.listen(1024).ok());
        let Some(listener) = listener else { return Some(98) };
        self.serve(listener, answers)
    }

    async fn listen_elsewhere(&mut self) -> Option<i32> {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => self.serve(listener, Answers::Always(200)),
            Err(_) => Some(98),
        }
    }

    fn serve(&mut self, listener: TcpListener, answers: Answers) -> Option<i32> {
        lock(&self.listeners).extend(listener.local_addr());
        let page = Arc::new(Page { name: self.name.clone(), env: self.env.clone(), answers });
        self.serving.spawn(async move {
            // Owned by this task, so that connections are cut when the dyno ends.
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(answer(connection, page.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        None
    }
}

/// An attached stream; the dyno can be attached to again once it is dropped.
struct Attached {
    stream: Option<DuplexStream>,
    slot: Arc<Mutex<Option<DuplexStream>>>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        *lock(&self.slot) = self.stream.take();
    }
}

impl Attached {
    fn stream(&mut self) -> std::io::Result<Pin<&mut DuplexStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Attached {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.get_mut().stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Attached {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}

/// Binds a loopback port without listening on it: connections are refused until the program says `listen`.
fn reserve_port(name: &str) -> Result<(TcpSocket, SocketAddr), RuntimeError> {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    bind().map_err(|source| RuntimeError::Io { doing: format!("reserving a port for dyno {name}"), source })
}

fn failed(doing: String, why: String) -> RuntimeError {
    RuntimeError::Io { doing, source: std::io::Error::other(why) }
}

/// Reads `50ms` or `2s`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit): (_, fn(u64) -> Duration) = match text.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis),
        None => (text.strip_suffix('s')?, Duration::from_secs),
    };
    number.parse().ok().map(unit)
}

/// No holder of these locks runs code that can panic half way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
