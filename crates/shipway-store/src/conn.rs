//! What all nouns' queries are made of: statements run, rows found, columns read.

use crate::{Keys, Result, StoreError};
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row};
use shipway_domain::NameOrId;
use std::str::FromStr;

/// A connection inside a read or a write, with the typed queries of all nouns on it.
pub struct Conn<'a> {
    pub(crate) sql: &'a Connection,
    pub(crate) keys: &'a Keys,
}

impl Conn<'_> {
    /// Runs a statement and returns how many rows it changed. Errors are SQLite's own, for [`unique`] to look at.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.sql.prepare_cached(sql)?.execute(params)
    }

    /// All rows that a query finds.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        Ok(self.sql.prepare_cached(sql)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The first row that a query finds, if it finds one.
    pub(crate) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.sql.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    /// The one value that a query always finds: a count, a maximum, whether something exists.
    pub(crate) fn value<T: FromSql>(&self, sql: &str, params: impl Params) -> Result<T> {
        Ok(self.sql.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
    }

    /// What `select` finds of this id or name in a table.
    pub(crate) fn named<T>(
        &self,
        select: &str,
        table: &str,
        which: &NameOrId,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let (column, value) = match which {
            NameOrId::Id(id) => ("id", id.to_string()),
            NameOrId::Name(name) => ("name", name.clone()),
        };
        self.row(&format!("{select} WHERE {table}.{column} = ?"), [value], read)
    }
}

pub(crate) fn micros(t: Timestamp) -> i64 {
    t.as_microsecond()
}

pub(crate) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    let us: i64 = row.get(column)?;
    Timestamp::from_microsecond(us).map_err(bad_column)
}

pub(crate) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let us: Option<i64> = row.get(column)?;
    us.map(|us| Timestamp::from_microsecond(us).map_err(bad_column)).transpose()
}

/// Reads a text column as something that parses.
pub(crate) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get_ref(column)? {
        ValueRef::Text(t) => String::from_utf8_lossy(t).parse().map_err(bad_column),
        _ => Err(bad_column(FromSqlError::InvalidType)),
    }
}

/// The same for a column that may be null.
pub(crate) fn optional<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => parsed(row, column).map(Some),
    }
}

/// Reads a text column as JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(bad_column)
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(e))))
}

fn bad_column<E: std::error::Error + Send + Sync + 'static>(e: E) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
}

/// Turns a violated UNIQUE into [`StoreError::Taken`].
pub(crate) fn unique(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |e| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Taken(what),
        _ => StoreError::Sqlite(e),
    }
}

/// An unknown word in a column that holds one of a closed set.
#[derive(Debug, thiserror::Error)]
#[error("unknown word in the database: {0:?}")]
struct UnknownWord(String);

/// Reads a text column as one of a closed set of words.
pub(crate) fn word<T>(row: &Row<'_>, column: &str, read: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    read(&text).ok_or_else(|| bad_column(UnknownWord(text)))
}
