//! Upstreams: the lines that teams work on.

use crate::{Conn, Result, StoreError, micros, optional, optional_time, parsed, time};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::{BranchName, CommitId, PipelineId};

/// The line that a pipeline's team works on.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Whose.
    pub pipeline: PipelineId,
    /// Its branch.
    pub branch: BranchName,
    /// Where it is fetched from; none when its pipeline's forge is asked or it is only pushed to us. Secret: there may be a token in it.
    pub url: Option<String>,
    /// Where it ended when it was last heard of; none before the first time.
    pub tip: Option<CommitId>,
    /// When it was last heard of.
    pub heard_at: Option<Timestamp>,
    /// Why the last fetch failed; none when it did not.
    pub failure: Option<String>,
    /// When it was first told.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn context(pipeline: PipelineId) -> String {
    format!("upstream of pipeline {pipeline}")
}

impl Conn<'_> {
    /// A pipeline's upstream.
    pub fn upstream(&self, pipeline: PipelineId) -> Result<Option<Upstream>> {
        let found = self.row("SELECT * FROM upstreams WHERE pipeline_id = ?", [pipeline.to_string()], row)?;
        found.map(|found| self.open_upstream(found)).transpose()
    }

    /// All of them that are fetched: from an address of their own, or from their pipeline's forge.
    pub fn fetched_upstreams(&self) -> Result<Vec<Upstream>> {
        let found = self.rows(
            "SELECT * FROM upstreams WHERE url_sealed IS NOT NULL
             OR pipeline_id IN (SELECT pipeline_id FROM forge_connections) ORDER BY pipeline_id",
            [],
            row,
        )?;
        found.into_iter().map(|found| self.open_upstream(found)).collect()
    }

    fn open_upstream(&self, (mut upstream, sealed): (Upstream, Option<Vec<u8>>)) -> Result<Upstream> {
        let context = context(upstream.pipeline);
        if let Some(sealed) = sealed {
            let plain = self.keys.open(&context, &sealed)?;
            upstream.url = Some(String::from_utf8(plain.to_vec()).map_err(|_| StoreError::Unsealable { context })?);
        }
        Ok(upstream)
    }

    /// Writes a pipeline's upstream, whether there was one or not.
    pub fn put_upstream(&self, u: &Upstream) -> Result<()> {
        let sealed = u.url.as_ref().map(|url| self.keys.seal(&context(u.pipeline), url.as_bytes()));
        self.execute(
            "INSERT INTO upstreams (pipeline_id, branch, url_sealed, tip, heard_at, failure, created_at, updated_at)
             VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (pipeline_id) DO UPDATE SET branch = excluded.branch,
             url_sealed = excluded.url_sealed, tip = excluded.tip, heard_at = excluded.heard_at,
             failure = excluded.failure, updated_at = excluded.updated_at",
            params![
                u.pipeline.to_string(),
                u.branch.as_str(),
                sealed,
                u.tip.as_ref().map(CommitId::as_str),
                u.heard_at.map(micros),
                u.failure,
                micros(u.created_at),
                micros(u.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Forgets a pipeline's upstream; a second time does nothing.
    pub fn delete_upstream(&self, pipeline: PipelineId) -> Result<()> {
        self.execute("DELETE FROM upstreams WHERE pipeline_id = ?", [pipeline.to_string()])?;
        Ok(())
    }
}

/// A row, its address still sealed.
fn row(row: &Row<'_>) -> rusqlite::Result<(Upstream, Option<Vec<u8>>)> {
    let upstream = Upstream {
        pipeline: parsed(row, "pipeline_id")?,
        branch: parsed(row, "branch")?,
        url: None,
        tip: optional(row, "tip")?,
        heard_at: optional_time(row, "heard_at")?,
        failure: row.get("failure")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    };
    Ok((upstream, row.get("url_sealed")?))
}
