//! The names of branches, by the commits that they were heard to end at.

use crate::{Conn, Result, micros};
use jiff::Timestamp;
use rusqlite::params;
use shipway_domain::{CommitId, PipelineId};

/// How many are kept of a pipeline; the oldest go.
const KEPT: u32 = 5_000;

impl Conn<'_> {
    /// Writes down that a branch ends at a commit. What was heard before stays: an app may run what the branch has left
    /// behind.
    pub fn put_branch_tip(&self, pipeline: PipelineId, branch: &str, commit: &CommitId, at: Timestamp) -> Result<()> {
        let pipeline = pipeline.to_string();
        let new = self.execute(
            "INSERT OR IGNORE INTO branch_tips (pipeline_id, commit_id, branch, heard_at) VALUES (?,?,?,?)",
            params![pipeline, commit.as_str(), branch, micros(at)],
        )?;
        if new == 0 {
            return Ok(());
        }
        self.execute(
            "DELETE FROM branch_tips WHERE pipeline_id = ?1 AND heard_at <= (SELECT heard_at FROM branch_tips
             WHERE pipeline_id = ?1 ORDER BY heard_at DESC LIMIT 1 OFFSET ?2)",
            params![pipeline, KEPT],
        )?;
        Ok(())
    }

    /// The branch that was the first to end at a commit: the one that it was made on, before it was merged.
    pub fn branch_of(&self, pipeline: PipelineId, commit: &CommitId) -> Result<Option<String>> {
        self.row(
            "SELECT branch FROM branch_tips WHERE pipeline_id = ? AND commit_id = ? ORDER BY heard_at, rowid LIMIT 1",
            [pipeline.to_string().as_str(), commit.as_str()],
            |row| row.get("branch"),
        )
    }
}
