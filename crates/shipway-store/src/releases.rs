//! Slugs and releases.

use crate::{
    App, ConfigVars, Conn, ReleaseAttachment, Result, StoreError, json, micros, optional, parsed, time, to_json, word,
};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::app_json::About;
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_domain::{AccountId, AppId, CommitId, Digest, ReleaseId, SlugId};

/// What a build made: an artifact with the commit it came from.
#[derive(Debug, Clone)]
pub struct Slug {
    /// Its id.
    pub id: SlugId,
    /// Whose.
    pub app: AppId,
    /// The digest of its manifest: its identity.
    pub digest: Digest,
    /// The manifest: layers, process types, default environment. Its shape is the builder's.
    pub manifest: serde_json::Value,
    /// The commit.
    pub commit: Option<CommitId>,
    /// The commit's subject.
    pub commit_description: Option<String>,
    /// Bytes of its layers.
    pub size_bytes: u64,
    /// The stack it was built on.
    pub stack: String,
    /// What the host was then (distribution, versions of languages); empty where that is not known.
    pub stack_fingerprint: String,
    /// What the buildpacks said they found.
    pub language: Option<String>,
    /// The buildpacks that made it, by name or URL, in order; empty where that is not known.
    pub buildpacks: Vec<String>,
    /// What its app.json says to people.
    pub about: About,
    /// Digest of everything that went into it; equal inputs need no second build.
    pub inputs: String,
    /// The same but for what every app has for itself; empty where the build is not shared.
    pub shared_inputs: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A release. Never changes, but for its status while it is pending.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Whose.
    pub app: AppId,
    /// Its number, from 1, without gaps.
    pub version: u64,
    /// Its state.
    pub status: ReleaseStatus,
    /// What it was: `Deploy 7c1f0de`, `Set FOO config vars`.
    pub description: String,
    /// Who made it.
    pub account: AccountId,
    /// What runs; none before the first deploy.
    pub slug: Option<SlugId>,
    /// The add-ons that it was made with; the store fills this in.
    pub attachments: Vec<ReleaseAttachment>,
    /// HMAC of its config vars.
    pub config_hash: String,
    /// Whether a release phase ran, so that there is output to read.
    pub has_output: bool,
    /// Why it did not come to run.
    pub failure: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

fn slug(row: &Row<'_>) -> rusqlite::Result<Slug> {
    Ok(Slug {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        digest: parsed(row, "digest")?,
        manifest: json(row, "manifest")?,
        commit: optional(row, "commit_id")?,
        commit_description: row.get("commit_description")?,
        size_bytes: row.get("size_bytes")?,
        stack: row.get("stack")?,
        stack_fingerprint: row.get("stack_fingerprint")?,
        language: row.get("language")?,
        buildpacks: json(row, "buildpacks")?,
        about: json(row, "about")?,
        inputs: row.get("inputs")?,
        shared_inputs: row.get("shared_inputs")?,
        created_at: time(row, "created_at")?,
    })
}

fn release(row: &Row<'_>) -> rusqlite::Result<Release> {
    Ok(Release {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        version: row.get("version")?,
        status: word(row, "status", ReleaseStatus::from_text)?,
        description: row.get("description")?,
        account: parsed(row, "account_id")?,
        slug: optional(row, "slug_id")?,
        attachments: json(row, "attachments")?,
        config_hash: row.get("config_hash")?,
        has_output: row.get("has_output")?,
        failure: row.get("failure")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn release_context(id: ReleaseId) -> String {
    format!("config vars of release {id}")
}

impl Conn<'_> {
    /// Adds a slug; a second time does nothing.
    pub fn insert_slug(&self, s: &Slug) -> Result<()> {
        self.execute(
            "INSERT OR IGNORE INTO slugs (id, app_id, digest, manifest, commit_id, commit_description, size_bytes,
             stack, stack_fingerprint, language, buildpacks, about, inputs, shared_inputs, created_at)
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                s.id.to_string(),
                s.app.to_string(),
                s.digest.as_str(),
                to_json(&s.manifest)?,
                s.commit.as_ref().map(|c| c.as_str()),
                s.commit_description,
                s.size_bytes,
                s.stack,
                s.stack_fingerprint,
                s.language,
                to_json(&s.buildpacks)?,
                to_json(&s.about)?,
                s.inputs,
                s.shared_inputs,
                micros(s.created_at)
            ],
        )?;
        Ok(())
    }

    /// A slug by id.
    pub fn slug(&self, id: SlugId) -> Result<Option<Slug>> {
        self.row("SELECT * FROM slugs WHERE id = ?", [id.to_string()], slug)
    }

    /// The newest slug of an app that was built from these inputs.
    pub fn slug_by_inputs(&self, app: AppId, inputs: &str) -> Result<Option<Slug>> {
        self.row(
            "SELECT * FROM slugs WHERE app_id = ? AND inputs = ? ORDER BY created_at DESC LIMIT 1",
            [app.to_string(), inputs.to_string()],
            slug,
        )
    }

    /// The newest slugs of any app that were built from these shared inputs, newest first.
    pub fn slugs_by_shared_inputs(&self, inputs: &str, limit: u32) -> Result<Vec<Slug>> {
        self.rows(
            "SELECT * FROM slugs WHERE shared_inputs = ? AND shared_inputs <> '' ORDER BY created_at DESC LIMIT ?",
            params![inputs, limit],
            slug,
        )
    }

    /// The newest slug of an app with this digest.
    pub fn slug_by_digest(&self, app: AppId, digest: &Digest) -> Result<Option<Slug>> {
        self.row(
            "SELECT * FROM slugs WHERE app_id = ? AND digest = ? ORDER BY created_at DESC LIMIT 1",
            [app.to_string(), digest.to_string()],
            slug,
        )
    }

    /// The newest slug of an app, whatever came of it: what an unpinned app's versions are kept from.
    pub fn latest_slug(&self, app: AppId) -> Result<Option<Slug>> {
        self.row("SELECT * FROM slugs WHERE app_id = ? ORDER BY created_at DESC LIMIT 1", [app.to_string()], slug)
    }

    /// All slugs of the platform, for collection.
    pub fn slugs(&self) -> Result<Vec<Slug>> {
        self.rows("SELECT * FROM slugs ORDER BY created_at", [], slug)
    }

    /// Removes a slug. Its blobs are the collector's business.
    pub fn delete_slug(&self, id: SlugId) -> Result<()> {
        self.execute("DELETE FROM slugs WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Adds a release with the next version and its config vars, and returns the version. A second time for the same
    /// id changes nothing and returns the version that it got.
    pub fn insert_release(&self, r: &Release, config: &ConfigVars) -> Result<u64> {
        if let Some(there) = self.release(r.id)? {
            return Ok(there.version);
        }
        let version: u64 =
            self.value("SELECT coalesce(max(version), 0) + 1 FROM releases WHERE app_id = ?", [r.app.to_string()])?;
        let plain = to_json(config)?;
        self.execute(
            "INSERT INTO releases (id, app_id, version, status, description, account_id, slug_id, attachments,
             config_sealed,
             config_hash, has_output, failure, created_at, updated_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            params![
                r.id.to_string(),
                r.app.to_string(),
                version,
                r.status.as_str(),
                r.description,
                r.account.to_string(),
                r.slug.map(|s| s.to_string()),
                to_json(&self.attachments_now(r.app)?)?,
                self.keys.seal(&release_context(r.id), plain.as_bytes()),
                self.keys.keyed_hash(plain.as_bytes()),
                r.has_output,
                r.failure,
                micros(r.created_at),
                micros(r.updated_at)
            ],
        )?;
        Ok(version)
    }

    /// Has a release that was pending be what runs, or have run.
    pub fn succeed_release(&self, id: ReleaseId, at: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE releases SET status = 'succeeded', updated_at = ? WHERE id = ?",
            params![micros(at), id.to_string()],
        )?;
        Ok(())
    }

    /// Ends a pending release that does not come to run, as failed or expired. One that is over stays as it is.
    pub fn fail_release(&self, id: ReleaseId, status: ReleaseStatus, failure: &str, at: Timestamp) -> Result<()> {
        self.execute(
            "UPDATE releases SET status = ?, failure = ?, updated_at = ? WHERE id = ? AND status = 'pending'",
            params![status.as_str(), failure, micros(at), id.to_string()],
        )?;
        Ok(())
    }

    /// Says which code a pending release runs, once its turn has come.
    pub fn set_release_slug(&self, id: ReleaseId, slug: Option<SlugId>) -> Result<()> {
        self.execute(
            "UPDATE releases SET slug_id = ? WHERE id = ? AND status = 'pending'",
            params![slug.map(|s| s.to_string()), id.to_string()],
        )?;
        Ok(())
    }

    /// Notes that a release has output.
    pub fn set_release_output(&self, id: ReleaseId) -> Result<()> {
        self.execute("UPDATE releases SET has_output = 1 WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// A release by id.
    pub fn release(&self, id: ReleaseId) -> Result<Option<Release>> {
        self.row("SELECT * FROM releases WHERE id = ?", [id.to_string()], release)
    }

    /// The release with this id. Errors: `Missing`.
    pub fn release_by_id(&self, id: ReleaseId) -> Result<Release> {
        self.release(id)?.ok_or(StoreError::Missing("release"))
    }

    /// The release that an app runs.
    pub fn current_release(&self, app: &App) -> Result<Option<Release>> {
        app.current_release.map_or(Ok(None), |id| self.release(id))
    }

    /// The code of a release, where it has any that is kept.
    pub fn slug_of(&self, release: &Release) -> Result<Option<Slug>> {
        release.slug.map_or(Ok(None), |id| self.slug(id))
    }

    /// The release that an app runs with its code.
    pub fn running(&self, app: &App) -> Result<Option<(Release, Slug)>> {
        let Some(release) = self.current_release(app)? else { return Ok(None) };
        Ok(self.slug_of(&release)?.map(|slug| (release, slug)))
    }

    /// A release of an app by its version.
    pub fn release_by_version(&self, app: AppId, version: u64) -> Result<Option<Release>> {
        self.row("SELECT * FROM releases WHERE app_id = ? AND version = ?", params![app.to_string(), version], release)
    }

    /// All releases of an app, newest first.
    pub fn releases(&self, app: AppId) -> Result<Vec<Release>> {
        self.rows("SELECT * FROM releases WHERE app_id = ? ORDER BY version DESC", [app.to_string()], release)
    }

    /// The code of an app's newest release that has any, whatever became of that release.
    pub fn newest_code(&self, app: AppId) -> Result<Option<Slug>> {
        self.row(
            "SELECT slugs.* FROM releases JOIN slugs ON slugs.id = releases.slug_id WHERE releases.app_id = ?
             ORDER BY releases.version DESC LIMIT 1",
            [app.to_string()],
            slug,
        )
    }

    /// The config vars of a release, opened.
    pub fn release_config(&self, id: ReleaseId) -> Result<ConfigVars> {
        let sealed: Vec<u8> = self
            .row("SELECT config_sealed FROM releases WHERE id = ?", [id.to_string()], |r| r.get(0))?
            .ok_or(StoreError::Missing("release"))?;
        self.open_config(&release_context(id), &sealed)
    }
}
