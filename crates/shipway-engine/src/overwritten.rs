//! Last writer wins: what a deploy replaces, who is told, and the way back.
//!
//! Code is *overwritten* by code that lacks some of its commits; code that was built upon is not. Told is who deployed it,
//! when it was somebody else. What a forge's push deployed is theirs who pushed, though it runs in the owner's name.

use crate::error::Error;
use crate::plan::{Code, ReleasePlan};
use crate::ports::{Caller, Place, Spot};
use crate::{Platform, Result};
use jiff::{SignedDuration, Timestamp};
use shipway_domain::admission::Trigger;
use shipway_domain::lifecycle::ReleaseStatus;
use shipway_domain::triggers::RefKind;
use shipway_domain::{AccountId, AppId, CommitId, NoticeId, OperationId};
use shipway_store::{App, Conn, Notice, Release, Slug};

/// Notices that are shown.
const SHOWN: u32 = 50;

/// Code that ran, and the release that brought it.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The release.
    pub release: Release,
    /// Its code.
    pub slug: Slug,
    /// The account that it is of; none where a forge named somebody without one.
    pub account: Option<AccountId>,
    /// Who deployed it: an address, or the name that a forge gave.
    pub by: String,
    /// The tag that it was deployed by.
    pub tag: Option<String>,
    /// The branch that was heard to end at its commit, by a forge or a push.
    pub branch: Option<String>,
}

impl Deployed {
    /// The name that people know it by: its tag, else its branch.
    pub fn name(&self) -> Option<&str> {
        self.tag.as_deref().or(self.branch.as_deref())
    }

    /// It in words: `v12: v0.3.0, 3f9c0de`.
    pub fn words(&self) -> String {
        let commit = self.slug.commit.as_ref().map_or("code without a commit", |commit| commit.short());
        let name = self.name().map(|name| format!("{name}, ")).unwrap_or_default();
        format!("v{}: {name}{commit}", self.release.version)
    }

    /// For whoever replaces it, at the time `now`: two lines.
    pub fn replaced(&self, app: &App, now: Timestamp) -> [String; 2] {
        let ago = ago(self.release.created_at, now);
        [
            format!(" !     You replace what {} deployed {ago} ago: {}", self.by, self.words()),
            format!(" !     To bring it back afterwards: shipway previous -a {}", app.name),
        ]
    }
}

impl Platform {
    /// What a commit would overwrite of somebody else's on an app.
    pub async fn replaces(&self, caller: &Caller, app: &App, commit: &CommitId) -> Result<Option<Deployed>> {
        let Some(now) = self.deployed(app)?.filter(|now| now.account != Some(caller.actor.account)) else {
            return Ok(None);
        };
        Ok(self.lacks(app.id, commit, &now).await?.then_some(now))
    }

    /// Whether a commit lacks some of what was deployed.
    async fn lacks(&self, app: AppId, commit: &CommitId, before: &Deployed) -> Result<bool> {
        let Some(old) = &before.slug.commit else { return Ok(false) };
        let spot = |commit: &CommitId| Spot { place: Place::App(app), commit: commit.clone() };
        Ok(self.inner.parts.histories.commits(&spot(old), &spot(commit), 1).await?.behind_count > 0)
    }

    /// The code that an app runs, and the release that brought it.
    pub fn deployed(&self, app: &App) -> Result<Option<Deployed>> {
        Ok(self.store().read(|c| deployed(c, app.id, None))?)
    }

    /// The code that an app ran before its last deploy, if it is still kept.
    pub fn previous_code(&self, app: &App) -> Result<Option<Deployed>> {
        let found = self.store().read(|c| match deployed(c, app.id, None)? {
            Some(now) => deployed(c, app.id, Some(&now)),
            None => Ok(None),
        })?;
        Ok(found)
    }

    /// Brings back the code that the last deploy replaced, with today's config vars. Twice brings the newer one back.
    /// Errors: there is none.
    pub async fn bring_back(&self, caller: &Caller, app: &App) -> Result<(Release, Deployed, OperationId)> {
        self.admit(caller, Trigger::Rollback, app).await?;
        let before = self
            .previous_code(app)?
            .ok_or_else(|| Error::invalid(format!("{} ran no other code before that is still kept.", app.name)))?;
        let commit = before.slug.commit.as_ref().map_or("code", |commit| commit.short());
        let description = format!("Bring back v{} {commit}", before.release.version);
        let plan: ReleasePlan = self.release_plan(app, description, Code::Slug(before.slug.id));
        let (release, operation) = self.make_release(caller, app, Trigger::Rollback, plan).await?;
        Ok((release, before, operation))
    }

    /// The notice for whoever deployed what a release has just overwritten.
    pub(crate) async fn notice_of(&self, app: &App, release: &Release, slug: Option<&Slug>) -> Option<Notice> {
        let slug = slug?.clone();
        // A change of config, or the same once more, brings nothing: it was told when the code came.
        let brought = self.store().read(|c| deployed(c, app.id, None)).ok()??;
        if brought.release.id != release.id {
            return None;
        }
        let after = self.store().read(|c| brought_by(c, release.clone(), slug)).ok()?;
        let before = self.store().read(|c| deployed(c, app.id, Some(&after))).ok()??;
        let account = before.account.filter(|account| after.account != Some(*account))?;
        if before.slug.id == after.slug.id {
            return None;
        }
        let commit = after.slug.commit.as_ref()?;
        // What cannot be compared is not worth a deploy.
        if !self.lacks(app.id, commit, &before).await.unwrap_or(false) {
            return None;
        }
        let text = format!(
            "{} replaced what you had deployed to {} ({}) by {}. To bring it back: shipway previous -a {}",
            after.by,
            app.name,
            before.words(),
            after.words(),
            app.name
        );
        let created_at = self.now();
        // Named after the release: a second run of the step tells nobody twice.
        Some(Notice {
            id: NoticeId(release.id.0),
            account,
            app: app.id,
            text,
            replaced: true,
            read_at: None,
            created_at,
        })
    }

    /// What the caller is to be told, newest first; with `app`, what is unread about that one.
    pub fn notices(&self, caller: &Caller, app: Option<&App>) -> Result<Vec<Notice>> {
        if !caller.actor.scope.reads_widely() {
            return Ok(Vec::new());
        }
        let mut all = self.store().read(|c| c.notices(caller.actor.account, SHOWN))?;
        if let Some(app) = app {
            all.retain(|notice| notice.app == app.id && notice.read_at.is_none());
        }
        Ok(all)
    }

    /// Takes what the caller was told as read: about one app, or all.
    pub async fn notices_read(&self, caller: &Caller, app: Option<&App>) -> Result<()> {
        let (account, app, now) = (caller.actor.account, app.map(|app| app.id), self.now());
        Ok(self.store().write(move |c| c.read_notices(account, app, now)).await?)
    }
}

/// What runs on an app, with the release that brought it; or, `before` that, the last other code that is kept.
fn deployed(c: &Conn<'_>, app: AppId, before: Option<&Deployed>) -> shipway_store::Result<Option<Deployed>> {
    let row = c.app_by_id(app)?;
    let current = c.current_release(&row)?;
    let newest = before.map(|before| before.release.version).or(current.map(|release| release.version));
    let Some(newest) = newest else { return Ok(None) };
    let mut found: Option<(Release, Slug)> = None;
    for release in c.releases(app)?.into_iter().filter(|r| r.version <= newest && r.status == ReleaseStatus::Succeeded)
    {
        if let Some((oldest, of)) = &mut found
            && release.slug == Some(of.id)
        {
            // A release of config: boards ask all the time, and need not read the same code for each.
            *oldest = release;
            continue;
        }
        let Some(slug) = c.slug_of(&release)? else { continue };
        let same = |other: &Slug| other.digest == slug.digest && other.commit == slug.commit;
        match (&found, before) {
            // The oldest of a run of releases with the same code is the one that brought it.
            (Some((_, of)), _) if same(of) => found = Some((release, slug)),
            (Some(_), _) => break,
            (None, Some(before)) if same(&before.slug) => {}
            (None, _) => found = Some((release, slug)),
        }
    }
    found.map(|(release, slug)| brought_by(c, release, slug)).transpose()
}

/// Code with the release that brought it, and who did.
fn brought_by(c: &Conn<'_>, release: Release, slug: Slug) -> shipway_store::Result<Deployed> {
    let tag = tag_of(c, release.app, &slug)?;
    let branch = match (c.coupling_of(release.app)?, &slug.commit) {
        (Some(coupling), Some(commit)) => c.branch_of(coupling.pipeline, commit)?,
        _ => None,
    };
    let (account, by) = match c.triggered_deploy_of(release.app, release.id)? {
        Some(deploy) => (deploy.mover, deploy.by),
        None => (Some(release.account), c.address_of(release.account)?.to_string()),
    };
    Ok(Deployed { release, slug, account, by, tag, branch })
}

/// The tag by which an app's trigger has deployed this code.
fn tag_of(c: &Conn<'_>, app: AppId, slug: &Slug) -> shipway_store::Result<Option<String>> {
    let by_tag = c
        .triggered_deploys(app, SHOWN)?
        .into_iter()
        .find(|deploy| Some(&deploy.commit) == slug.commit.as_ref() && deploy.reference.kind() == RefKind::Tag);
    Ok(by_tag.map(|deploy| deploy.reference.name().to_string()))
}

/// How long ago, in words: `12 min`, `3 h`, `2 days`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(then).max(SignedDuration::ZERO).as_mins();
    match minutes {
        0..=99 => format!("{minutes} min"),
        100..=2879 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
