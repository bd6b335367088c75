//! Config vars.

use jiff::Timestamp;
use serde::Serialize;

use super::{AppHead, Shell};

/// The config vars of an app.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigPage {
    /// What every page has.
    pub shell: Shell,
    /// The app.
    pub app: AppHead,
    /// The vars, by name.
    pub vars: Vec<ConfigVar>,
    /// Why the last attempt to set one was refused, with what was typed, so that nothing is typed twice.
    pub refused: Option<RefusedVar>,
}

/// One config var.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigVar {
    /// Its name.
    pub name: String,
    /// What the page shows of its value.
    pub value: Shown,
    /// When it was last set; `None` when that is not known.
    pub set_at: Option<Timestamp>,
    /// Who set it.
    pub set_by: Option<String>,
}

/// What a page shows of a value.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "lowercase")]
pub enum Shown {
    /// Nothing, not even its length.
    Hidden,
    /// All of it, in a field that can be edited.
    Whole(String),
    /// Its beginning: too long to stand among others.
    Start(String),
}

impl Shown {
    /// Bytes of a value that may stand among others; a page with 60 such values holds its size.
    const AMONG_OTHERS: usize = 400;

    /// Shows `value`; `alone` when it is the only one that was asked for, and then always whole.
    pub fn of(value: &str, alone: bool) -> Self {
        if alone || value.len() <= Self::AMONG_OTHERS {
            Self::Whole(value.into())
        } else {
            Self::Start(value[..value.floor_char_boundary(Self::AMONG_OTHERS)].into())
        }
    }
}

/// A var that could not be set.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedVar {
    /// The name as typed.
    pub name: String,
    /// The value as typed.
    pub value: String,
    /// What is wrong and what is allowed.
    pub because: String,
}
