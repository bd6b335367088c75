//! Builds and uploaded sources.

use crate::{Conn, Result, json, micros, optional, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::lifecycle::BuildStatus;
use shipway_domain::{AccountId, AppId, BuildId, CommitId, OperationId, ReleaseId, SlugId, SourceId};

/// One build.
#[derive(Debug, Clone)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// Whose.
    pub app: AppId,
    /// Who started it.
    pub account: AccountId,
    /// The operation that it is part of.
    pub operation: OperationId,
    /// Its state.
    pub status: BuildStatus,
    /// What is built.
    pub commit: Option<CommitId>,
    /// Where its source came from, for builds by API.
    pub source_url: Option<String>,
    /// What the caller called the source's version.
    pub source_version: Option<String>,
    /// Buildpacks as asked for; after it, those that were used.
    pub buildpacks: Vec<String>,
    /// The stack.
    pub stack: String,
    /// What it made.
    pub slug: Option<SlugId>,
    /// The release that followed.
    pub release: Option<ReleaseId>,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A source blob that was or will be uploaded.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// Who asked for it.
    pub account: AccountId,
    /// When it was asked for.
    pub created_at: Timestamp,
}

fn build(row: &Row<'_>) -> rusqlite::Result<Build> {
    Ok(Build {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        account: parsed(row, "account_id")?,
        operation: parsed(row, "operation_id")?,
        status: word(row, "status", BuildStatus::from_text)?,
        commit: optional(row, "commit_id")?,
        source_url: row.get("source_url")?,
        source_version: row.get("source_version")?,
        buildpacks: json(row, "buildpacks")?,
        stack: row.get("stack")?,
        slug: optional(row, "slug_id")?,
        release: optional(row, "release_id")?,
        failure: row.get("failure")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a build, or writes all of it again.
    pub fn put_build(&self, b: &Build) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO builds (id, app_id, account_id, operation_id, status, commit_id, source_url,
             source_version, buildpacks, stack, slug_id, release_id, failure, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                b.id.to_string(),
                b.app.to_string(),
                b.account.to_string(),
                b.operation.to_string(),
                b.status.as_str(),
                b.commit.as_ref().map(|c| c.as_str()),
                b.source_url,
                b.source_version,
                to_json(&b.buildpacks)?,
                b.stack,
                b.slug.map(|s| s.to_string()),
                b.release.map(|r| r.to_string()),
                b.failure,
                micros(b.created_at),
                micros(b.updated_at)
            ],
        )?;
        Ok(())
    }

    /// A build by id.
    pub fn build(&self, id: BuildId) -> Result<Option<Build>> {
        self.row("SELECT * FROM builds WHERE id = ?", [id.to_string()], build)
    }

    /// The build of an app that made a slug, or took it over.
    pub fn build_of_slug(&self, app: AppId, slug: SlugId) -> Result<Option<Build>> {
        self.row(
            "SELECT * FROM builds WHERE app_id = ? AND slug_id = ? ORDER BY created_at, id LIMIT 1",
            [app.to_string(), slug.to_string()],
            build,
        )
    }

    /// The builds of an app, oldest first.
    pub fn builds(&self, app: AppId) -> Result<Vec<Build>> {
        self.rows("SELECT * FROM builds WHERE app_id = ? ORDER BY created_at, id", [app.to_string()], build)
    }

    /// Adds a source.
    pub fn insert_source(&self, s: &Source) -> Result<()> {
        self.execute(
            "INSERT INTO sources (id, account_id, created_at) VALUES (?,?,?)",
            params![s.id.to_string(), s.account.to_string(), micros(s.created_at)],
        )?;
        Ok(())
    }

    /// A source by id.
    pub fn source(&self, id: SourceId) -> Result<Option<Source>> {
        self.row("SELECT * FROM sources WHERE id = ?", [id.to_string()], |row| {
            Ok(Source {
                id: parsed(row, "id")?,
                account: parsed(row, "account_id")?,
                created_at: time(row, "created_at")?,
            })
        })
    }

    /// Removes sources from before `then` and returns which they were.
    pub fn delete_sources_before(&self, then: Timestamp) -> Result<Vec<SourceId>> {
        self.rows("DELETE FROM sources WHERE created_at < ? RETURNING id", [micros(then)], |row| parsed(row, "id"))
    }
}
