//! Sign-offs: what a stage wants signed, and what was.

use crate::{Conn, Result, json, micros, parsed, time, to_json, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::sign_off::PartyName;
use shipway_domain::{AccountId, CommitId, Digest, Email, PipelineId, SignOffId, Stage};

/// A party that a stage names, as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartyRule {
    /// The party.
    pub party: PartyName,
    /// Who was named for it, at least one.
    pub people: Vec<AccountId>,
}

/// A sign-off.
#[derive(Debug, Clone)]
pub struct SignOff {
    /// Its id.
    pub id: SignOffId,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The stage that may take the code because of it.
    pub stage: Stage,
    /// The code.
    pub commit: CommitId,
    /// For which party.
    pub party: PartyName,
    /// Who signed.
    pub account: AccountId,
    /// Their address; the store fills this in.
    pub email: Email,
    /// The builds of the commit that the stage before had then.
    pub artifacts: Vec<Digest>,
    /// What they said.
    pub comment: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

const SIGN_OFF: &str = "SELECT sign_offs.*, people.email FROM sign_offs JOIN people ON people.id = account_id";

fn sign_off(row: &Row<'_>) -> rusqlite::Result<SignOff> {
    Ok(SignOff {
        id: parsed(row, "id")?,
        pipeline: parsed(row, "pipeline_id")?,
        stage: word(row, "stage", Stage::from_text)?,
        commit: parsed(row, "commit_id")?,
        party: parsed(row, "party")?,
        account: parsed(row, "account_id")?,
        email: parsed(row, "email")?,
        artifacts: json(row, "artifacts")?,
        comment: row.get("comment")?,
        created_at: time(row, "created_at")?,
    })
}

impl Conn<'_> {
    /// The parties that a stage names, in their order; none: it wants nothing signed.
    pub fn sign_off_parties(&self, pipeline: PipelineId, stage: Stage) -> Result<Vec<PartyRule>> {
        let rule = |row: &Row<'_>| Ok(PartyRule { party: parsed(row, "party")?, people: json(row, "people")? });
        self.rows(
            "SELECT * FROM sign_off_parties WHERE pipeline_id = ? AND stage = ? ORDER BY place",
            params![pipeline.to_string(), stage.as_str()],
            rule,
        )
    }

    /// Names a stage's parties in the place of those before. What was signed stays.
    pub fn set_sign_off_parties(&self, pipeline: PipelineId, stage: Stage, parties: &[PartyRule]) -> Result<()> {
        self.execute(
            "DELETE FROM sign_off_parties WHERE pipeline_id = ? AND stage = ?",
            params![pipeline.to_string(), stage.as_str()],
        )?;
        for (place, rule) in parties.iter().enumerate() {
            self.execute(
                "INSERT INTO sign_off_parties (pipeline_id, stage, party, place, people) VALUES (?,?,?,?,?)",
                params![
                    pipeline.to_string(),
                    stage.as_str(),
                    rule.party.as_str(),
                    place as i64,
                    to_json(&rule.people)?
                ],
            )?;
        }
        Ok(())
    }

    /// Writes a sign-off down in the place of its person's one of the same commit and stage. Errors: the person was removed.
    pub fn put_sign_off(&self, s: &SignOff) -> Result<()> {
        self.account_by_id(s.account)?;
        self.execute(
            "INSERT OR REPLACE INTO sign_offs (id, pipeline_id, stage, commit_id, party, account_id, artifacts,
             comment, created_at) VALUES (?,?,?,?,?,?,?,?,?)",
            params![
                s.id.to_string(),
                s.pipeline.to_string(),
                s.stage.as_str(),
                s.commit.as_str(),
                s.party.as_str(),
                s.account.to_string(),
                to_json(&s.artifacts)?,
                s.comment,
                micros(s.created_at)
            ],
        )?;
        Ok(())
    }

    /// Names somebody no more for the parties of a stage.
    pub fn leave_parties(&self, pipeline: PipelineId, stage: Stage, account: AccountId) -> Result<()> {
        let mut rules = self.sign_off_parties(pipeline, stage)?;
        rules.iter_mut().for_each(|rule| rule.people.retain(|person| *person != account));
        self.set_sign_off_parties(pipeline, stage, &rules)
    }

    /// Takes a sign-off back; a second time does nothing.
    pub fn delete_sign_off(&self, id: SignOffId) -> Result<()> {
        self.execute("DELETE FROM sign_offs WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// The sign-offs of a commit for a stage, oldest first.
    pub fn sign_offs_of(&self, pipeline: PipelineId, stage: Stage, commit: &CommitId) -> Result<Vec<SignOff>> {
        let of = params![pipeline.to_string(), stage.as_str(), commit.as_str()];
        self.rows(
            &format!(
                "{SIGN_OFF} WHERE pipeline_id = ? AND stage = ? AND commit_id = ?
             ORDER BY sign_offs.created_at, sign_offs.rowid"
            ),
            of,
            sign_off,
        )
    }

    /// A person's sign-off of a commit for a stage.
    pub fn sign_off_by(
        &self,
        pipeline: PipelineId,
        stage: Stage,
        commit: &CommitId,
        account: AccountId,
    ) -> Result<Option<SignOff>> {
        let of = params![pipeline.to_string(), stage.as_str(), commit.as_str(), account.to_string()];
        self.row(
            &format!("{SIGN_OFF} WHERE pipeline_id = ? AND stage = ? AND commit_id = ? AND account_id = ?"),
            of,
            sign_off,
        )
    }

    /// The newest sign-offs of a pipeline, newest first.
    pub fn sign_offs(&self, pipeline: PipelineId, limit: u32) -> Result<Vec<SignOff>> {
        self.rows(
            &format!(
                "{SIGN_OFF} WHERE pipeline_id = ? ORDER BY sign_offs.created_at DESC, sign_offs.rowid DESC LIMIT ?"
            ),
            params![pipeline.to_string(), limit],
            sign_off,
        )
    }

    /// The builds of a commit that the apps of a stage have: digests, each once.
    pub fn artifacts_in(&self, pipeline: PipelineId, stage: Stage, commit: &CommitId) -> Result<Vec<Digest>> {
        let of = params![pipeline.to_string(), stage.as_str(), commit.as_str()];
        let digest = |row: &Row<'_>| parsed(row, "digest");
        self.rows(
            "SELECT DISTINCT digest FROM slugs JOIN couplings ON couplings.app_id = slugs.app_id
             WHERE couplings.pipeline_id = ? AND couplings.stage = ? AND slugs.commit_id = ? ORDER BY digest",
            of,
            digest,
        )
    }
}
