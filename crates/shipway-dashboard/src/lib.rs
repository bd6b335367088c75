//! The pages: view models in, HTML out.
//!
//! Each page is one plain struct of [`model`] and one function here that turns it into a whole document. Nothing is
//! read from anywhere: the time, the viewer and every fact come in with the model, so the same model gives the same
//! bytes. Handlers parse, authorize, ask the engine, fill a model and answer with what these functions return.
//!
//! # What a handler does
//!
//! * **Routes**: [`ROUTES`] is the whole table: name, method, path (in axum's syntax), form fields, page. [`path`] makes
//!   a path from a route's name; templates use the same function, so a path is written once.
//! * **Headers**: [`HEADERS`] go on every page. Pages are private: add `Cache-Control: no-store`.
//!   Assets ([`asset`]) have their hash in their name: [`Asset::CACHE_CONTROL`].
//! * **CSRF**: every form has a hidden field [`CSRF_FIELD`]; a POST without the session's token is refused with
//!   [`problem`] 403. [`form_text`] undoes what browsers do to line ends in a text area.
//! * **Confirmation**: what changes something opens a `GET …/confirm`-like page first ([`confirm`]), which shows the
//!   difference and holds the form that acts. It works without scripts; with scripts it opens in a dialog.
//! * **Live pages**: an event stream (`text/event-stream`) per page, named in the table. `event: changed` (data empty) makes the
//!   script fetch the page again and replace only the regions that differ, so a page has one way to be made. Send at
//!   most four a second. `event: line` carries [`log_event`], `event: text` carries [`text_event`], `event: end`
//!   (data empty) says that nothing follows: the page is fetched once more and the stream closed.
//!   Give every `line` and `text` event an `id:`; browsers send it back as `Last-Event-ID`.
//!
//! # What cannot happen
//!
//! Text is escaped by the one formatter of all templates, which also takes out terminal escapes and makes control and
//! direction characters visible ([`text::plain`]). Links from data are made by [`text::href`] only, which lets through
//! `http`, `https` and our own paths. There is no inline script or style, and the policy in [`HEADERS`] forbids both.

mod assets;
pub mod model;
mod render;
mod routes;
pub mod text;

pub use assets::{Asset, asset};
pub use render::{
    access, activity, app_overview, apps, board, build, cli_login, config, confirm, deploys, dynos, log_event, logs,
    operation, operations, pipelines, problem, release, releases, resources, sign_in, text_event,
};
pub use routes::{Method, ROUTES, Route, page_of_form, path};
pub use text::form_text;

/// Name of the hidden form field that carries the session's CSRF token.
pub const CSRF_FIELD: &str = "csrf";

/// Headers for every page, error pages included.
///
/// The policy allows our own files and nothing else: no inline code, no framing, no foreign form target.
pub const HEADERS: &[(&str, &str)] = &[
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
