//! Sign-offs: stages that take only code which all parties have approved.
//!
//! A stage names its parties, each with the people who may sign for it. A sign-off is of a commit, for a stage; what it
//! keeps out is admission's to say, which is asked with what this file finds ([`Platform::sign_offs_wanted`]): at the door
//! where the code is known, and again before the switch. `docs/decisions/0005-sign-offs.md` says what is signed and why.

use crate::error::Error;
use crate::pipelines::Access;
use crate::ports::{Caller, Place, Spot};
use crate::{Event, Platform, Result};
use shipway_domain::compare::Commits;
use shipway_domain::sign_off::{Code, Given, Party, PartyName, SignOffs, Signer, and, each_can_have_its_own};
use shipway_domain::{AccountId, AppId, AppName, CommitId, Digest, NameOrId, SignOffId, Stage};
use shipway_store::{App, PartyRule, Pipeline, SignOff, TriggeredDeploy};
use std::collections::BTreeSet;

/// Parties of one stage.
const MOST_PARTIES: usize = 10;
/// People of one party.
const MOST_PEOPLE: usize = 20;
/// Characters of a comment.
const COMMENT: usize = 500;
/// Fewest digits of a commit that is signed: what fewer mean changes too soon.
const DIGITS: usize = 7;
/// Sign-offs of a pipeline that are listed.
const LISTED: u32 = 50;
/// Commits that are shown of what was not signed.
const UNSIGNED_SHOWN: usize = 10;

/// What a stage wants signed.
#[derive(Debug, Clone)]
pub struct StageRule {
    /// The stage.
    pub stage: Stage,
    /// Its parties, with those of their people who may sign now.
    pub parties: Vec<Party>,
}

/// Code that waits for a stage's parties.
#[derive(Debug, Clone)]
pub struct Waits {
    /// The deploy that a trigger asked for.
    pub deploy: TriggeredDeploy,
    /// The app that it waits to be deployed to.
    pub app: AppName,
    /// The app's stage.
    pub stage: Stage,
    /// The parties that have not signed.
    pub missing: Vec<Party>,
}

/// What an app's stage takes in the place of a commit that its parties have not signed.
#[derive(Debug, Clone)]
pub struct SignedInstead {
    /// The commit that all of them signed, the newest of these.
    pub commit: CommitId,
    /// What either has alone: `ahead` is what was not signed. None where no repository that the caller sees has the signed one.
    pub differs: Option<Commits>,
}

impl Platform {
    /// What the stages of a pipeline want signed; those that want nothing are not there.
    pub fn sign_off_rules(&self, pipeline: &Pipeline) -> Result<Vec<StageRule>> {
        let mut rules = Vec::new();
        for stage in Stage::ALL {
            let parties = self.parties(pipeline, stage)?;
            if !parties.is_empty() {
                rules.push(StageRule { stage, parties });
            }
        }
        Ok(rules)
    }

    /// A stage's parties, with those of their people who may sign now.
    fn parties(&self, pipeline: &Pipeline, stage: Stage) -> Result<Vec<Party>> {
        let rules = self.store().read(|c| c.sign_off_parties(pipeline.id, stage))?;
        let mut parties = Vec::with_capacity(rules.len());
        for rule in rules {
            let mut people = Vec::with_capacity(rule.people.len());
            for account in rule.people {
                // Who was removed is named still, for what they signed.
                let Some(account) = self.store().read(|c| c.account(&account.into()))? else { continue };
                if self.sees_pipeline(&account, pipeline)? {
                    people.push(Signer { account: account.id, email: account.email.to_string() });
                }
            }
            parties.push(Party { name: rule.party, people });
        }
        Ok(parties)
    }

    /// Names the parties of a stage, each with the addresses of who may sign for it, in the place of those before; none
    /// lifts the rule. What was signed stays signed.
    ///
    /// Errors: who does not own the pipeline; a stage whose apps come and go by themselves; a party twice or without
    /// people; somebody who is not there or cannot see the pipeline; parties that cannot have a person each; more than 10
    /// parties, or 20 people for one.
    pub async fn require_sign_offs(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        parties: &[(String, Vec<String>)],
    ) -> Result<()> {
        self.may(caller, pipeline, Access::Own)?;
        if stage.is_made_by_the_platform() && !parties.is_empty() {
            return Err(Error::invalid(format!(
                "Apps of {stage} come and go by themselves: development, staging and production can want sign-offs."
            )));
        }
        if parties.len() > MOST_PARTIES {
            return Err(Error::invalid(format!("A stage has at most {MOST_PARTIES} parties.")));
        }
        let mut rules: Vec<PartyRule> = Vec::with_capacity(parties.len());
        for (name, emails) in parties {
            let party = PartyName::parse(name)?;
            if rules.iter().any(|rule| rule.party == party) {
                return Err(Error::invalid(format!("{party} is named twice: give all of its people at once.")));
            }
            let mut people = Vec::with_capacity(emails.len().min(MOST_PEOPLE));
            for email in emails.iter().take(MOST_PEOPLE + 1) {
                let signer = self.signer(pipeline, email)?;
                if !people.contains(&signer) {
                    people.push(signer);
                }
            }
            if people.is_empty() || people.len() > MOST_PEOPLE {
                return Err(Error::invalid(format!(
                    "Name between one and {MOST_PEOPLE} people who may sign for {party}: --party {party}=ada@example.org"
                )));
            }
            rules.push(PartyRule { party, people });
        }
        let people: Vec<BTreeSet<AccountId>> = rules.iter().map(|rule| rule.people.iter().copied().collect()).collect();
        if !each_can_have_its_own(&people) {
            return Err(Error::invalid(format!(
                "{} cannot all sign: a person signs for one party only, and there are too few people among them.",
                and(rules.iter().map(|rule| &rule.party))
            )));
        }
        let detail = serde_json::json!({
            "pipeline": pipeline.name, "stage": stage,
            "parties": parties.iter().map(|(name, people)| (name.clone(), people.clone().into()))
                .collect::<serde_json::Map<String, serde_json::Value>>(),
        });
        let entry = self.entry(caller, None, "sign-offs-required", detail);
        let id = pipeline.id;
        self.write_with(entry, move |c| c.set_sign_off_parties(id, stage, &rules)).await?;
        self.sign_offs_changed(pipeline);
        Ok(())
    }

    /// Somebody who is to be named for a party. Errors: nobody of that address; somebody who cannot see the pipeline.
    fn signer(&self, pipeline: &Pipeline, email: &str) -> Result<AccountId> {
        let shown: String = email.chars().filter(|c| !c.is_control()).take(100).collect();
        let found = self.store().read(|c| {
            let account = c.account(&NameOrId::parse(email))?;
            // Teams have an account as well, and nobody signs in with it.
            match account {
                Some(account) if c.team(&account.id.into())?.is_none() => Ok(Some(account)),
                _ => Ok(None),
            }
        })?;
        let Some(account) = found else {
            return Err(Error::invalid(format!(
                "Nobody here has the address {shown}: shipway users add {shown}, then access to an app of {}.",
                pipeline.name
            )));
        };
        if !self.sees_pipeline(&account, pipeline)? {
            return Err(Error::invalid(format!(
                "{shown} cannot see {}, so could not look at what is to be signed: heroku access:add {shown} -a APP",
                pipeline.name
            )));
        }
        Ok(account.id)
    }

    /// Signs a commit off for a stage, for a party that the caller may sign for. Again: in the place of what the caller
    /// signed before. `commit`: seven digits of it or more.
    ///
    /// Errors: a stage that wants nothing signed; another party than the caller's, or one that the caller has not signed
    /// for while having signed for another; a commit that is not known, or not by that few digits.
    pub async fn sign_off(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        commit: &str,
        party: &str,
        comment: Option<&str>,
    ) -> Result<SignOff> {
        self.may_sign(caller)?;
        let parties = self.parties(pipeline, stage)?;
        let known = and(parties.iter().map(|party| &party.name));
        if parties.is_empty() {
            return Err(Error::invalid(format!("{stage} of {} wants no sign-offs.", pipeline.name)));
        }
        let Some(wanted) = parties.iter().find(|one| one.name.as_str() == party) else {
            let shown: String = party.chars().filter(|c| !c.is_control()).take(50).collect();
            return Err(Error::invalid(format!(
                "{shown:?} is no party of {stage} of {}, which names {known}.",
                pipeline.name
            )));
        };
        let me = caller.actor.account;
        let mine = |party: &&Party| party.people.iter().any(|person| person.account == me);
        if !mine(&wanted) {
            let own = and(parties.iter().filter(mine).map(|party| &party.name));
            let own = if own.is_empty() { "no party of it".to_string() } else { own };
            let people = wanted.people.iter().map(|person| person.email.as_str()).collect::<Vec<_>>().join(" or ");
            let people = if people.is_empty() { pipeline.owner_email.to_ask() } else { people };
            return Err(Error::forbidden(format!(
                "You ({}) sign for {own} in {stage} of {}, not for {party}. Ask {people}.",
                caller.actor.email, pipeline.name
            )));
        }
        let commit = self.commit_to_sign(pipeline, commit).await?;
        let comment = comment
            .map(|text| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMENT).collect::<String>());
        let sign_off = SignOff {
            id: self.id(SignOffId),
            pipeline: pipeline.id,
            stage,
            artifacts: self.artifacts_before(pipeline, stage, &commit)?,
            commit,
            party: wanted.name.clone(),
            account: me,
            email: shipway_domain::Email::parse(&caller.actor.email)?,
            comment: comment.map(|text| text.trim().to_string()).filter(|text| !text.is_empty()),
            created_at: self.now(),
        };
        let detail = serde_json::json!({
            "pipeline": pipeline.name, "stage": stage, "commit": sign_off.commit, "party": sign_off.party,
            "artifacts": sign_off.artifacts, "comment": sign_off.comment,
        });
        let entry = self.entry(caller, None, "signed-off", detail);
        let row = sign_off.clone();
        let written =
            self.store().write(move |c| match c.sign_off_by(row.pipeline, row.stage, &row.commit, row.account)? {
                Some(there) if there.party != row.party => Ok(Some(there)),
                _ => {
                    c.put_sign_off(&row)?;
                    c.record(&entry)?;
                    Ok(None)
                }
            });
        if let Some(there) = written.await? {
            return Err(Error::conflict(format!(
                "You ({}) have signed {} for {} already, and a person signs for one party only. Take that back first: \
                 shipway sign-off {} {stage} {1} --withdraw",
                caller.actor.email,
                there.commit.short(),
                there.party,
                pipeline.name
            )));
        }
        self.sign_offs_changed(pipeline);
        Ok(sign_off)
    }

    /// Takes back what the caller signed. What runs because of it runs on. Errors: the caller has not signed it.
    pub async fn withdraw_sign_off(
        &self,
        caller: &Caller,
        pipeline: &Pipeline,
        stage: Stage,
        commit: &str,
    ) -> Result<SignOff> {
        self.may_sign(caller)?;
        let commit = self.commit_to_sign(pipeline, commit).await?;
        let account = caller.actor.account;
        let found = self.store().read(|c| c.sign_off_by(pipeline.id, stage, &commit, account))?;
        let there = found.ok_or_else(|| {
            Error::invalid(format!("You have not signed {} for {stage} of {}.", commit.short(), pipeline.name))
        })?;
        let detail = serde_json::json!({
            "pipeline": pipeline.name, "stage": stage, "commit": there.commit, "party": there.party,
        });
        let entry = self.entry(caller, None, "sign-off-withdrawn", detail);
        let id = there.id;
        self.write_with(entry, move |c| c.delete_sign_off(id)).await?;
        self.sign_offs_changed(pipeline);
        Ok(there)
    }

    fn may_sign(&self, caller: &Caller) -> Result<()> {
        if caller.actor.scope.writes() {
            return Ok(());
        }
        Err(self.out_of_scope(caller, "sign anything"))
    }

    /// The newest sign-offs of a pipeline, newest first.
    pub fn sign_offs(&self, pipeline: &Pipeline) -> Result<Vec<SignOff>> {
        Ok(self.store().read(|c| c.sign_offs(pipeline.id, LISTED))?)
    }

    /// The sign-offs of a commit for a stage, oldest first.
    pub fn sign_offs_of(&self, pipeline: &Pipeline, stage: Stage, commit: &CommitId) -> Result<Vec<SignOff>> {
        Ok(self.store().read(|c| c.sign_offs_of(pipeline.id, stage, commit))?)
    }

    /// The commit that somebody means to sign: one that waits, or that a repository of the pipeline has; a whole one need
    /// not be here yet. No branch and no tag: they move. Errors: fewer than seven digits; none, or several, of that beginning.
    async fn commit_to_sign(&self, pipeline: &Pipeline, text: &str) -> Result<CommitId> {
        if let Ok(whole) = CommitId::parse(text) {
            return Ok(whole);
        }
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_hex || !(DIGITS..40).contains(&text.len()) {
            return Err(Error::invalid(format!(
                "{shown:?} is no commit: give the first {DIGITS} digits of it, or more. A branch or tag moves, so it is not signed."
            )));
        }
        let (apps, waiting, signed) = self.store().read(|c| {
            let apps: Vec<_> = c.couplings(pipeline.id)?.into_iter().map(|coupling| coupling.app).collect();
            Ok((apps, c.waiting_deploys()?, c.sign_offs(pipeline.id, LISTED)?))
        })?;
        let waiting = waiting.into_iter().filter(|deploy| apps.contains(&deploy.app)).map(|deploy| deploy.commit);
        let known = waiting.chain(signed.into_iter().map(|signed| signed.commit));
        let mut found: BTreeSet<CommitId> = known.filter(|commit| commit.as_str().starts_with(text)).collect();
        for place in apps.into_iter().map(Place::App).chain([Place::Upstream(pipeline.id)]) {
            let there = self.inner.parts.histories.find(place, text).await?;
            // A branch may be called like a commit.
            found.extend(there.filter(|commit| commit.as_str().starts_with(text)));
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("{shown} is the beginning of several commits: give more digits.")))
            }
            (None, _) => Err(Error {
                message: format!("No repository of {} has a commit {shown}.", pipeline.name),
                ..Error::missing("commit")
            }),
        }
    }

    /// The builds of a commit in the last stage before this one that has apps.
    fn artifacts_before(&self, pipeline: &Pipeline, stage: Stage, commit: &CommitId) -> Result<Vec<Digest>> {
        let artifacts = self.store().read(|c| {
            let earlier = c.couplings(pipeline.id)?.into_iter().map(|coupling| coupling.stage);
            let before = earlier.filter(|it| *it < stage && !it.is_made_by_the_platform()).max();
            before.map_or(Ok(Vec::new()), |before| c.artifacts_in(pipeline.id, before, commit))
        })?;
        Ok(artifacts)
    }

    /// What a stage wants of code, and what the code has; none where it wants nothing. `artifact`: a build that is taken as it
    /// is; none where the app builds the commit, or has built it, itself.
    pub(crate) fn sign_offs_wanted(
        &self,
        pipeline: &Pipeline,
        stage: Stage,
        commit: Option<&CommitId>,
        artifact: Option<&Digest>,
    ) -> Result<Option<SignOffs>> {
        if self.store().read(|c| c.sign_off_parties(pipeline.id, stage))?.is_empty() {
            return Ok(None);
        }
        let code = Code { commit: commit.cloned(), artifact: artifact.cloned() };
        self.sign_offs_in(pipeline, stage, code).map(Some)
    }

    fn sign_offs_in(&self, pipeline: &Pipeline, stage: Stage, code: Code) -> Result<SignOffs> {
        let given = match &code.commit {
            Some(commit) => self.sign_offs_of(pipeline, stage, commit)?,
            None => Vec::new(),
        };
        let given = self.store().read(|c| {
            let rules = c.sign_off_parties(pipeline.id, stage)?;
            let named = |it: &SignOff| rules.iter().any(|r| r.party == it.party && r.people.contains(&it.account));
            let given = given.into_iter().map(|it| {
                let left = named(&it) && c.has_left(it.account)?;
                Ok(Given { party: it.party, account: it.account, left, artifacts: it.artifacts })
            });
            given.collect()
        })?;
        Ok(SignOffs {
            stage,
            parties: self.parties(pipeline, stage)?,
            code,
            given,
            owner_email: pipeline.owner_email.to_ask(),
            pipeline: pipeline.name.to_string(),
        })
    }

    /// The parties of a stage that have not signed a commit.
    pub fn unsigned_by(&self, pipeline: &Pipeline, stage: Stage, commit: &CommitId) -> Result<Vec<Party>> {
        let wanted = self.sign_offs_in(pipeline, stage, Code { commit: Some(commit.clone()), artifact: None })?;
        Ok(wanted.missing().into_iter().map(|one| one.party.clone()).collect())
    }

    /// The parties whose sign-off a commit lacks for the stage of an app that would build it.
    pub fn unsigned(&self, app: &App, commit: &CommitId) -> Result<Vec<Party>> {
        let at = self.stage_of(app)?;
        at.map_or(Ok(Vec::new()), |(stage, pipeline)| self.unsigned_by(&pipeline, stage, commit))
    }

    /// What an app's stage would take in the place of a commit that lies in the app's repository, as far as the caller sees.
    /// None where nothing is missing, or no other commit has all sign-offs.
    pub async fn signed_instead(&self, caller: &Caller, app: &App, commit: &CommitId) -> Result<Option<SignedInstead>> {
        if self.unsigned(app, commit)?.is_empty() {
            return Ok(None);
        }
        let coupling = self.coupling_of(app)?;
        let (signed, apps) = self.store().read(|c| {
            let apps = c.couplings(coupling.pipeline)?.into_iter().map(|other| other.app);
            let apps: Vec<AppId> = [app.id].into_iter().chain(apps).collect();
            Ok((c.sign_offs(coupling.pipeline, LISTED)?, apps))
        })?;
        let here = signed.into_iter().filter(|given| given.stage == coupling.stage);
        let mut commits: Vec<CommitId> = here.map(|given| given.commit).collect();
        commits.dedup();
        let mut signed = None;
        for candidate in commits {
            if self.unsigned(app, &candidate)?.is_empty() {
                signed = Some(candidate);
                break;
            }
        }
        let Some(signed) = signed else { return Ok(None) };
        let apps = apps.into_iter().filter(|other| self.app(caller, &other.into()).is_ok());
        let head = Spot { place: Place::App(app.id), commit: commit.clone() };
        let histories = &self.inner.parts.histories;
        for place in apps.map(Place::App).chain([Place::Upstream(coupling.pipeline)]) {
            if histories.find(place, signed.as_str()).await?.as_ref() == Some(&signed) {
                let base = Spot { place, commit: signed.clone() };
                let differs = Some(histories.commits(&base, &head, UNSIGNED_SHOWN).await?);
                return Ok(Some(SignedInstead { commit: signed, differs }));
            }
        }
        Ok(Some(SignedInstead { commit: signed, differs: None }))
    }

    /// What triggers asked for in a pipeline and its parties have not signed, in the order of the stages.
    pub fn waiting_for_sign_offs(&self, caller: &Caller, pipeline: &Pipeline) -> Result<Vec<Waits>> {
        let waiting = self.store().read(|c| c.waiting_deploys())?;
        let mut all = Vec::new();
        for (coupling, app) in self.pipeline_apps(caller, pipeline)? {
            for deploy in waiting.iter().filter(|deploy| deploy.app == app.id) {
                let missing = self.unsigned(&app, &deploy.commit)?;
                if !missing.is_empty() {
                    all.push(Waits { deploy: deploy.clone(), app: app.name.clone(), stage: coupling.stage, missing });
                }
            }
        }
        Ok(all)
    }

    /// Has what waited looked at again.
    fn sign_offs_changed(&self, pipeline: &Pipeline) {
        self.inner.triggers_wanted.notify_one();
        self.tell(Event::Pipeline(pipeline.id));
    }
}
