//! One request: to its app, to a dyno, and back.

use crate::access::{AccessLog, Entry, Start};
use crate::answer::{Answer, Stream};
use crate::fault::{Cause, Fault};
use crate::headers::{self, Wanted};
use crate::page;
use crate::table::{App, Routes};
use crate::target::{InFlight, NoTarget, Target, pick};
use crate::tunnel::Tunnel;
use crate::upload::{Progress, Upload};
use crate::upstream::{AnswerPatience, MAX_IDLE, MAX_IDLE_UNREPEATABLE, SendError, Upstream};
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use shipway_domain::DynoId;
use shipway_domain::route::RouteMode;
use shipway_net::{ConnInfo, Lifecycle, RequestBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long things may take. The defaults are Heroku's.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To connect to a dyno (H19).
    pub connect: Duration,
    /// From the end of the request to the head of the answer (H12).
    pub first_byte: Duration,
    /// Without a byte either way, once the answer has begun (H15) or while the client sends (H28).
    pub idle: Duration,
    /// For the first dyno of an app to come up (H20).
    pub boot: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(55),
            boot: Duration::from_secs(75),
        }
    }
}

/// How many requests may be held at once. More are refused with H11: without a bound, one hanging app would use up the
/// router's descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    /// In flight at one dyno, streams included.
    pub at_dyno: usize,
    /// Waiting for an app to start, over all apps.
    pub waiting: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { at_dyno: 4096, waiting: 4096 }
    }
}

/// What every request needs.
pub struct Proxy {
    /// Where to send requests.
    pub routes: Arc<Routes>,
    /// Where their lines go.
    pub log: Arc<AccessLog>,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// How many of them may be held.
    pub backlog: Backlog,
    /// Of the listeners.
    pub lifecycle: Lifecycle,
    /// Requests that wait for an app to start.
    pub waiting: AtomicUsize,
    /// When the router started.
    pub started: Instant,
    /// In which second after that, from 1, it last said why a dyno could not be connected to.
    pub told: AtomicU64,
}

/// A request that may be sent, more than once if need be.
struct Sending {
    request: Request<Upload>,
    upload: Option<Arc<Progress>>,
    client: Option<OnUpgrade>,
    /// Sending it twice does no harm.
    repeatable: bool,
}

/// Why no dyno answered.
enum Unreached {
    /// It went wrong.
    Fault(Fault),
    /// The app left the table while the request waited: it was destroyed, or has another name now.
    NoSuchApp,
}

impl From<Fault> for Unreached {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A dyno's answer and everything that belongs to it.
struct Reached {
    response: Response<Incoming>,
    upstream: Upstream,
    in_flight: InFlight,
    upload: Option<Arc<Progress>>,
    client: Option<OnUpgrade>,
}

impl Proxy {
    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<RequestBody>, conn: ConnInfo) -> Response<Answer> {
        let started = Start::now();
        let head = (request.method(), request.uri(), request.version(), request.headers());
        let (host, special) = match headers::check(head.0, head.1, head.2, head.3) {
            Ok(checked) => checked,
            Err((status, text, next)) => {
                let mut response = own(page::refused(status, text, next, request.headers()));
                if request.version() < Version::HTTP_2 {
                    // Whoever sends such a request may mean its body to be the next one.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    response
                        .headers_mut()
                        .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
                }
                return response;
            }
        };
        let host_name = host.to_str().unwrap_or_default();
        let Some(app) = self.routes.app(host_name) else {
            return own(page::no_such_app(host_name, request.headers()));
        };

        if app.password.is_some() && !app.admits(request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes)) {
            return own(page::locked(&app.name, request.headers()));
        }

        let (mut parts, body) = request.into_parts();
        if app.password.is_some() {
            // It was for us: the app must not learn it.
            parts.headers.remove(AUTHORIZATION);
        }
        let client = parts.extensions.remove::<OnUpgrade>();
        let wanted = headers::clean(&mut parts, &special);
        let marks = headers::marks(&parts.headers, conn.peer.ip());
        let request_line = (&parts.method, &parts.uri, &host);
        let mut entry = Entry::new(self.log.clone(), app.id, started, request_line, &marks, conn.tls);
        let is_continue = |expected: &HeaderValue| expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if wanted.expects_continue && !parts.headers.get(EXPECT).is_some_and(is_continue) {
            return failed(entry, Fault::H26(Cause::Expectation), &app.name, &parts.headers);
        }

        let accepts = parts.headers.get(http::header::ACCEPT).cloned();
        headers::to_dyno(&mut parts, host.clone(), &wanted, marks, &conn, started.time_us);
        let sending = prepare(parts, body, &wanted, client);
        match self.reach(app.clone(), host_name, sending, &mut entry).await {
            Ok(reached) => self.answer(reached, entry),
            Err(unreached) => {
                let head = accepts.into_iter().map(|accepts| (http::header::ACCEPT, accepts)).collect();
                match unreached {
                    Unreached::Fault(fault) => failed(entry, fault, &app.name, &head),
                    Unreached::NoSuchApp => {
                        entry.forget();
                        own(page::no_such_app(host_name, &head))
                    }
                }
            }
        }
    }

    /// The app that has this host now.
    fn app(&self, host: &str) -> Result<Arc<App>, Unreached> {
        self.routes.app(host).ok_or(Unreached::NoSuchApp)
    }

    /// Finds a dyno that answers.
    async fn reach(
        &self,
        app: Arc<App>,
        host: &str,
        mut sending: Sending,
        entry: &mut Entry,
    ) -> Result<Reached, Unreached> {
        let mut app = app;
        let mut tried: Vec<DynoId> = Vec::new();
        let mut refusal = Fault::H99;
        // The usual first round needs no look at the clock.
        let mut now = Some(entry.started());
        loop {
            if app.mode != RouteMode::Serve {
                now = None;
                // Boxed, as the connect below: rare, and the future of every request would have room for it.
                app = Box::pin(self.wait_until_serving(app, host)).await?;
            }
            let target = match pick(&app.targets, &tried, self.backlog.at_dyno) {
                Ok(target) => target,
                Err(NoTarget::Full) => return Err(Fault::H11.into()),
                Err(NoTarget::None) if tried.is_empty() => return Err(Fault::H14.into()),
                Err(NoTarget::None) => {
                    if !Box::pin(self.hears_what_runs()).await? {
                        return Err(refusal.into());
                    }
                    tried.clear();
                    app = self.app(host)?;
                    continue;
                }
            };
            let Some(mut in_flight) = target.begin() else {
                // The table was swapped after we looked.
                app = self.app(host)?;
                continue;
            };
            let target = target.clone();
            let mut connect = Duration::ZERO;
            let now = now.take().unwrap_or_else(Instant::now);
            let age = if sending.repeatable { MAX_IDLE } else { MAX_IDLE_UNREPEATABLE };
            let idle = std::iter::from_fn(|| target.take_idle()).find(|idle| idle.is_fresh(now, age));
            let mut upstream = match idle {
                Some(idle) => idle,
                None => match Box::pin(self.connect(&target)).await {
                    Ok(Some(new)) => {
                        connect = now.elapsed();
                        new
                    }
                    Ok(None) => {
                        app = self.app(host)?;
                        continue;
                    }
                    Err(error) => {
                        entry.missed(&target, now.elapsed());
                        tried.push(target.dyno);
                        refusal = Fault::of_connect(&error);
                        if refusal == Fault::H99 {
                            self.tell_why(&app, &target, &error);
                        } else {
                            target.shun();
                        }
                        app = self.app(host)?;
                        continue;
                    }
                },
            };
            entry.reached(&target, connect);
            let reused = upstream.is_reused();
            let patience = AnswerPatience { first_byte: self.timeouts.first_byte, idle: self.timeouts.idle };
            let Sending { request, upload, repeatable, .. } = &mut sending;
            let request = std::mem::replace(request, Request::new(Upload::EMPTY));
            let sent = upstream.send(request, upload.as_deref(), *repeatable, patience, now + connect).await;
            if let (Err(_), Some(fault)) = (&sent, upload.as_ref().and_then(|upload| upload.fault())) {
                return Err(fault.into());
            }
            match sent {
                Ok(response) => {
                    if is_event_stream(response.headers()) {
                        in_flight.becomes_stream();
                    }
                    return Ok(Reached {
                        response,
                        upstream,
                        in_flight,
                        upload: sending.upload,
                        client: sending.client,
                    });
                }
                // The dyno closed an idle connection as we took it: nothing was sent.
                Err(SendError::Unsent(request)) => {
                    sending.request = *request;
                    if !reused {
                        tried.push(target.dyno);
                        refusal = Fault::H13;
                    }
                }
                Err(SendError::Closed) => {
                    // An idle connection may have met the dyno's keep-alive limit, and others of its age with it; or the
                    // dyno is gone, and another one is the better choice.
                    let again = if sending.repeatable { upstream.again() } else { None };
                    let Some((method, uri, headers)) = again else { return Err(Fault::H13.into()) };
                    if reused {
                        target.forget_idle();
                    }
                    if !reused || app.targets.len() > 1 {
                        tried.push(target.dyno);
                        refusal = Fault::H13;
                    }
                    let mut request = Request::new(Upload::EMPTY);
                    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
                    sending.request = request;
                    app = self.app(host)?;
                }
                Err(SendError::Malformed) => return Err(Fault::H17.into()),
                Err(SendError::Timeout) => return Err(Fault::H12.into()),
                Err(SendError::ClientIdle) => return Err(Fault::H28.into()),
            }
        }
    }

    /// Writes into our own log why there is no connection to a dyno, at most once a second: where descriptors are short,
    /// every request is told so.
    fn tell_why(&self, app: &App, target: &Target, error: &std::io::Error) {
        let now = self.started.elapsed().as_secs() + 1;
        if self.told.swap(now, Ordering::Relaxed) != now {
            tracing::error!(app.name = %app.name, dyno = %target.name, %error, "cannot connect to a dyno");
        }
    }

    /// A new connection. `None` when a server said meanwhile, for the first time, what runs: an address of the table
    /// that was kept over a restart of the machine may swallow packets for seconds.
    async fn connect(&self, target: &Target) -> std::io::Result<Option<Upstream>> {
        let connecting = Upstream::connect(target.address, self.timeouts.connect);
        if self.routes.are_confirmed() {
            return connecting.await.map(Some);
        }
        tokio::select! {
            connected = connecting => connected.map(Some),
            () = self.routes.confirmed() => Ok(None),
        }
    }

    /// Nobody is where the table leads. Before a server has said what runs that means little: waits for it, as long as
    /// an app may take to start. Whether there is something new to try.
    async fn hears_what_runs(&self) -> Result<bool, Fault> {
        if self.routes.are_confirmed() {
            return Ok(false);
        }
        let _place = self.place()?;
        Ok(tokio::time::timeout(self.timeouts.boot, self.routes.confirmed()).await.is_ok())
    }

    /// Waits while the app starts; the app once it serves.
    async fn wait_until_serving(&self, mut app: Arc<App>, host: &str) -> Result<Arc<App>, Unreached> {
        let deadline = tokio::time::Instant::now() + self.timeouts.boot;
        let mut place = None;
        loop {
            match app.mode {
                RouteMode::Serve => return Ok(app),
                RouteMode::Maintenance => return Err(Fault::H80.into()),
                RouteMode::NoWeb => return Err(Fault::H14.into()),
                RouteMode::Crashed => return Err(Fault::H10.into()),
                RouteMode::Blank => return Err(Fault::H81.into()),
                RouteMode::Starting => {}
            }
            if place.is_none() {
                place = Some(self.place()?);
            }
            let change = self.routes.change();
            app = self.app(host)?;
            if app.mode == RouteMode::Starting {
                tokio::time::timeout_at(deadline, change).await.map_err(|_| Fault::H20)?;
                app = self.app(host)?;
            }
        }
    }

    /// A place among those who wait.
    fn place(&self) -> Result<Place<'_>, Fault> {
        let place = Place(&self.waiting);
        let others = self.waiting.fetch_add(1, Ordering::Relaxed);
        if others < self.backlog.waiting { Ok(place) } else { Err(Fault::H11) }
    }

    /// Passes a dyno's answer on.
    fn answer(&self, reached: Reached, mut entry: Entry) -> Response<Answer> {
        let Reached { response, upstream, mut in_flight, upload, client } = reached;
        let status = response.status();
        entry.status(status.as_u16());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else {
                // The dyno switches without having been asked: nothing after this is HTTP.
                return failed(entry, Fault::H17, "", &HeaderMap::new());
            };
            let mut answer = Response::new(Answer::Page(None));
            *answer.status_mut() = status;
            *answer.headers_mut() = response.headers().clone();
            in_flight.becomes_stream();
            let guard = self.lifecycle.guard();
            let idle = self.timeouts.idle;
            tokio::spawn(Tunnel { client, upstream, in_flight, entry, guard, idle }.run());
            return answer;
        }
        let (mut parts, body) = response.into_parts();
        headers::from_dyno(&mut parts.headers);
        parts.extensions.clear();
        let stream = Stream::new(body, upstream, in_flight, entry, upload, self.timeouts.idle);
        Response::from_parts(parts, Answer::Stream(Box::new(stream)))
    }
}

/// Somebody who waits, counted until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare(mut parts: Parts, body: RequestBody, wanted: &Wanted, client: Option<OnUpgrade>) -> Sending {
    let body = Upload::new(body, wanted.expects_continue);
    let upload = body.progress();
    if upload.is_none() {
        if wanted.expects_continue {
            parts.headers.remove(EXPECT);
        }
        if parts.method == Method::GET || parts.method == Method::HEAD {
            parts.headers.remove(CONTENT_LENGTH);
        }
    }
    let repeatable = upload.is_none() && wanted.upgrade.is_none() && parts.method.is_idempotent();
    parts.extensions.clear();
    let mut request = Request::from_parts(parts, body);
    if let (true, Some(progress)) = (wanted.expects_continue, upload.clone()) {
        hyper::ext::on_informational(&mut request, move |informational| {
            if informational.status() == StatusCode::CONTINUE {
                progress.permit();
            }
        });
    }
    Sending { request, upload, client: client.filter(|_| wanted.upgrade.is_some()), repeatable }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

fn failed(entry: Entry, fault: Fault, name: &str, request: &HeaderMap) -> Response<Answer> {
    let response = page::fault_page(fault, name, request);
    // Who has left gets no page.
    let bytes = if fault == Fault::H27 { 0 } else { response.body().len() };
    entry.failed(fault, bytes as u64);
    own(response)
}

fn own(response: Response<Bytes>) -> Response<Answer> {
    response.map(|body| Answer::Page(Some(body)))
}
