//! Who may do what with an app, and what belongs to it: add-ons with their backups, domains.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Pill, Shell};

/// Who has access to an app.
#[derive(Debug, Clone, Serialize)]
pub struct AccessPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// The team that owns it; none where a person does.
    pub team: Option<String>,
    /// Who was let in, the owner first.
    pub people: Vec<PersonRow>,
    /// Who asks to be; empty for those who cannot say yes.
    pub requests: Vec<RequestRow>,
    /// Whether the viewer may let people in.
    pub may_manage: bool,
    /// Whether the viewer has asked for more than they have; `None` where they need not.
    pub asked: Option<bool>,
}

/// Somebody with access.
#[derive(Debug, Clone, Serialize)]
pub struct PersonRow {
    /// Their address.
    pub email: String,
    /// What they may do: "owns it", "may change everything but who has access".
    pub may: String,
    /// Whether the viewer may take it from them.
    pub removable: bool,
}

/// Somebody who asks for access.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRow {
    /// Their address.
    pub email: String,
    /// Since when.
    pub at: Timestamp,
}

/// An app that the viewer was offered.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    /// The offer's id.
    pub id: String,
    /// The app.
    pub app: String,
    /// Who gives it.
    pub from: String,
    /// When.
    pub at: Timestamp,
}

/// What belongs to an app.
#[derive(Debug, Clone, Serialize)]
pub struct ResourcesPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// Its add-ons, and those of other apps that are attached to it.
    pub addons: Vec<AddonRow>,
    /// Backups of its databases, newest first.
    pub backups: Vec<BackupRow>,
    /// How many older ones are not shown.
    pub hidden_backups: usize,
    /// The names by which visitors reach it, its own first.
    pub domains: Vec<String>,
}

/// An add-on.
#[derive(Debug, Clone, Serialize)]
pub struct AddonRow {
    /// Its name.
    pub name: String,
    /// Its plan: `heroku-postgresql:essential-0`.
    pub plan: String,
    /// Its state.
    pub state: Pill,
    /// The app that owns it, where that is another one.
    pub of: Option<String>,
    /// The names under which it is attached here.
    pub attached: Vec<String>,
}

/// A backup.
#[derive(Debug, Clone, Serialize)]
pub struct BackupRow {
    /// `b012`.
    pub name: String,
    /// The database.
    pub database: String,
    /// How it went.
    pub state: Pill,
    /// When it was asked for.
    pub at: Timestamp,
    /// Its size, for people: `12.3 MB`.
    pub size: String,
}
