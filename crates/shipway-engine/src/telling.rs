//! Keeps forges told: review apps on their pull requests, verdicts on commits, what each app runs, and the deploy that failed
//! since.
//!
//! What a forge should know is computed from the store alone and compared with what it was told last; the difference is
//! said. So nothing is lost by a restart or a forge that is down, nothing is said twice, and no deploy waits for a forge.

use crate::deployments::deployed;
use crate::forge_news::OWN_CONTEXT;
use crate::plan::{Code, Plan};
use crate::{Platform, Result};
use jiff::{SignedDuration, Timestamp};
use shipway_domain::forge::{DeploymentState, Message, Verdict};
use shipway_domain::lifecycle::OperationStatus;
use shipway_domain::review::ReviewAppStatus;
use shipway_domain::triggers::TriggeredStatus;
use shipway_domain::{AppId, CommitId, OperationId, Stage};
use shipway_store::{App, Conn, ForgeConnection, ForgeMessage, Pipeline, Release, ReviewApp, Slug};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How often is looked without a reason.
const EVERY: Duration = Duration::from_secs(30);
/// Changes come in bursts: one look for all of them.
const BURST: Duration = Duration::from_millis(300);
/// After a first failure; doubled with each further one.
const AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// The longest wait after a failure.
const LONGEST: SignedDuration = SignedDuration::from_mins(30);
/// Operations of an app among which its last deploy is looked for.
const OPERATIONS: u32 = 20;
/// What forges take of a status.
const DESCRIPTION: usize = 140;

impl Platform {
    pub(crate) async fn keep_forges_told(self) {
        let mut events = self.events();
        loop {
            if let Err(e) = self.tell_forges().await {
                tracing::error!(error = %e, cause = ?e.cause, "forges could not be told");
            }
            let _ = tokio::time::timeout(EVERY, async {
                // Missed ones are as good a reason as one that came.
                if let Err(RecvError::Closed) = events.recv().await {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(BURST).await;
            })
            .await;
            events = events.resubscribe();
        }
    }

    /// Tells each forge what it does not know yet and what is due. One that is down keeps no other one waiting.
    pub async fn tell_forges(&self) -> Result<()> {
        let _turn = self.inner.telling.lock().await;
        let mut all = tokio::task::JoinSet::new();
        for forge in self.store().read(|c| c.forges())? {
            let platform = self.clone();
            all.spawn(async move {
                if let Err(e) = platform.tell_forge(&forge).await {
                    tracing::error!(repository = %forge.repository, error = %e, cause = ?e.cause, "a forge could not be told");
                }
            });
        }
        all.join_all().await;
        Ok(())
    }

    async fn tell_forge(&self, forge: &ForgeConnection) -> Result<()> {
        // Without a token there is nothing that we may say.
        if !forge.credentials.may_tell() {
            return Ok(());
        }
        let known: BTreeMap<String, ForgeMessage> = self
            .store()
            .read(|c| c.forge_messages(forge.id))?
            .into_iter()
            .map(|message| (message.subject.clone(), message))
            .collect();
        let now = self.now();
        if known.values().any(|message| rests(message, now)) {
            return Ok(());
        }
        for wanted in self.what_a_forge_should_know(forge, &known)? {
            let subject = wanted.subject();
            let before = known.get(&subject);
            if before.is_some_and(|m| m.told.as_ref() == Some(&wanted)) {
                continue;
            }
            if before.is_some_and(|m| m.due_at > now && m.attempts > 0) {
                continue;
            }
            if !self.say(forge, wanted, before.cloned()).await? {
                // The rest would fare no better.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says one thing and writes down whether it was heard.
    async fn say(&self, forge: &ForgeConnection, wanted: Message, before: Option<ForgeMessage>) -> Result<bool> {
        let begun = before.as_ref().is_some_and(|message| message.told.as_ref() != Some(&message.wanted));
        let mut message = before.unwrap_or_else(|| ForgeMessage {
            subject: wanted.subject(),
            wanted: wanted.clone(),
            told: None,
            remote: None,
            failure: None,
            attempts: 0,
            due_at: self.now(),
        });
        // Written down before it is said: who finds it so after a crash knows that it may have been heard.
        let maybe_heard = begun && message.wanted == wanted;
        message.wanted = wanted;
        if !maybe_heard {
            self.note(forge, message.clone(), None).await?;
        }
        let told = self.inner.parts.forges.tell(forge, &message.wanted, message.remote.as_ref(), maybe_heard).await;
        match &told {
            Ok(remote) => {
                message.remote = remote.clone();
                message.told = Some(message.wanted.clone());
                (message.failure, message.attempts) = (None, 0);
            }
            Err(e) => {
                tracing::warn!(repository = %forge.repository, subject = message.subject, error = %e, "a forge was not told");
                message.due_at = self.now() + again(message.attempts);
                message.attempts += 1;
                message.failure = Some(e.to_string());
            }
        }
        let failure = message.failure.clone();
        self.note(forge, message, Some(failure)).await?;
        Ok(told.is_ok())
    }

    /// Writes down what a forge is to know and knows, and with `failure` how it went with that forge last.
    async fn note(
        &self,
        forge: &ForgeConnection,
        message: ForgeMessage,
        failure: Option<Option<String>>,
    ) -> Result<()> {
        let (id, now) = (forge.id, self.now());
        let written = self.store().write(move |c| {
            // Disconnected meanwhile.
            if c.forge(id)?.is_none() {
                return Ok(());
            }
            if let Some(failure) = failure {
                c.forge_failed(id, failure.as_deref())?;
            }
            c.put_forge_message(id, &message, now)
        });
        Ok(written.await?)
    }

    /// Everything that a forge should know, oldest subjects first.
    fn what_a_forge_should_know(
        &self,
        forge: &ForgeConnection,
        known: &BTreeMap<String, ForgeMessage>,
    ) -> Result<Vec<Message>> {
        let (pipeline, reviews, couplings) = self.store().read(|c| {
            Ok((c.pipeline_by_id(forge.pipeline)?, c.review_apps(forge.pipeline)?, c.couplings(forge.pipeline)?))
        })?;
        let mut all = Vec::new();
        let (mut environments, mut failures) = (BTreeSet::new(), Vec::new());
        for coupling in couplings {
            let Some(app) = self.store().read(|c| c.app(&coupling.app.into()))? else { continue };
            let review = reviews.iter().find(|r| r.app == Some(app.id));
            if let Some(message) = self.runs_there(forge, &app, coupling.stage, review)? {
                environments.insert(message.subject());
                all.push(message);
            }
            failures.extend(self.failed_there(forge, &app, coupling.stage)?);
        }
        for (subject, message) in known {
            match &message.wanted {
                // It is over by itself.
                Message::Deployment { state: DeploymentState::Failure, .. } => {}
                Message::Deployment { .. } if !environments.contains(subject) => {
                    all.push(inactive(message.wanted.clone()));
                }
                _ => {}
            }
        }
        for review in newest_of_each_pull_request(&reviews) {
            all.extend(self.about(forge, &pipeline, review, known)?);
        }
        // Last: the commit may be one that the forge does not have.
        all.extend(failures);
        Ok(all)
    }

    /// The comment on a pull request, and the verdict on its commit.
    fn about(
        &self,
        forge: &ForgeConnection,
        pipeline: &Pipeline,
        review: &ReviewApp,
        known: &BTreeMap<String, ForgeMessage>,
    ) -> Result<Vec<Message>> {
        let Some(number) = review.pr_number else { return Ok(Vec::new()) };
        let state = self.review_state(review)?;
        let comment = Message::Comment { number, body: self.comment(forge, number, review, &state) };
        if state.gone {
            // Only where it was spoken of before.
            let spoken = known.contains_key(&comment.subject());
            return Ok(spoken.then_some(comment).into_iter().collect());
        }
        let status = Message::Status {
            commit: review.commit.clone(),
            branch: review.branch.clone(),
            context: format!("{OWN_CONTEXT}{}", pipeline.name),
            verdict: state.verdict,
            url: state.url,
            description: state.words.chars().take(DESCRIPTION).collect(),
        };
        Ok(vec![comment, status])
    }

    fn review_state(&self, review: &ReviewApp) -> Result<ReviewState> {
        let url = review.app_name.as_ref().map(|name| self.web_url(name.as_str()));
        let reason = review.message.as_deref().and_then(|m| m.lines().next()).unwrap_or_default().to_string();
        let say = |verdict, words: String, url| ReviewState { verdict, words, url, gone: false };
        Ok(match review.status {
            ReviewAppStatus::Pending => say(Verdict::Pending, or(reason, "It waits."), None),
            ReviewAppStatus::Creating => say(Verdict::Pending, "The review app is being made.".into(), None),
            ReviewAppStatus::Errored => say(Verdict::Failure, or(reason, "There is no review app."), None),
            ReviewAppStatus::Created => match self.runs(review)? {
                Running::Wanted => say(Verdict::Success, "The review app is deployed.".into(), url),
                Running::UnderWay => say(Verdict::Pending, "The review app is being deployed.".into(), url),
                Running::Other => {
                    let words = or(reason, "This commit could not be deployed; the one before it runs.");
                    say(Verdict::Failure, words, url)
                }
            },
            ReviewAppStatus::Deleting | ReviewAppStatus::Deleted => {
                ReviewState { gone: true, ..say(Verdict::Success, "The review app was removed.".into(), None) }
            }
        })
    }

    /// Whether a review app runs the commit that it was asked to run.
    fn runs(&self, review: &ReviewApp) -> Result<Running> {
        let Some(app) = review.app.map(|id| self.store().read(|c| c.app(&id.into()))).transpose()?.flatten() else {
            return Ok(Running::Other);
        };
        if self.code_of(&app)?.is_some_and(|(_, slug)| slug.commit.as_ref() == Some(&review.commit)) {
            return Ok(Running::Wanted);
        }
        let busy = self.store().read(|c| c.open_operations())?.iter().any(|o| o.apps.contains(&app.id));
        Ok(if busy { Running::UnderWay } else { Running::Other })
    }

    /// What an app runs.
    fn code_of(&self, app: &App) -> Result<Option<(Release, Slug)>> {
        Ok(self.store().read(|c| c.running(app))?)
    }

    fn comment(&self, forge: &ForgeConnection, number: u64, review: &ReviewApp, state: &ReviewState) -> String {
        let commit = review.commit.short();
        let head = match (&state.url, &review.app_name, state.verdict) {
            (Some(url), Some(name), Verdict::Success) => format!("**[{name}]({url})** runs `{commit}`."),
            (Some(url), Some(name), _) => format!("**[{name}]({url})** does not run `{commit}` yet."),
            (_, _, _) if state.gone => String::new(),
            _ => format!("Review app of `{commit}`:"),
        };
        let words = match state.verdict {
            Verdict::Success if !state.gone => String::new(),
            _ => quoted(&state.words),
        };
        let mark = self.comment_mark(forge, number);
        [head, words, mark].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }

    /// A hidden line by which the comment is found again.
    fn comment_mark(&self, forge: &ForgeConnection, number: u64) -> String {
        let hash = self.store().keys().keyed_hash(format!("comment on {number} by {}", forge.id).as_bytes());
        format!("<!-- shipway {} -->", &hash[..32])
    }

    /// What an app runs, as a deployment. None before the first commit.
    fn runs_there(
        &self,
        forge: &ForgeConnection,
        app: &App,
        stage: Stage,
        review: Option<&ReviewApp>,
    ) -> Result<Option<Message>> {
        let Some((release, slug)) = self.code_of(app)? else { return Ok(None) };
        let Some(commit) = slug.commit.clone() else { return Ok(None) };
        let size = self.settings().sizes.default_size();
        let runnable = self.inner.parts.builder.runnable(&slug.manifest, size)?;
        let payload = deployed(app, &release, &slug, runnable.process_types.keys());
        Ok(Some(Message::Deployment {
            environment: app.name.to_string(),
            commit,
            branch: review.map(|r| r.branch.clone()),
            state: DeploymentState::Success,
            url: self.web_url(app.name.as_str()),
            log_url: Some(format!("{}/dashboard/apps/{}/releases/v{}", forge.home_url, app.name, release.version)),
            transient: review.is_some(),
            production: stage == Stage::Production,
            payload,
        }))
    }

    /// The last deploy of an app, where it failed, as a deployment beside what runs there. None for review apps, whose commit
    /// has a verdict, and where the commit runs all the same.
    fn failed_there(&self, forge: &ForgeConnection, app: &App, stage: Stage) -> Result<Option<Message>> {
        if stage.is_made_by_the_platform() {
            return Ok(None);
        }
        let failed = self.store().read(|c| last_deploy_failed(c, app.id))?;
        let Some((operation, commit)) = failed else { return Ok(None) };
        if self.code_of(app)?.is_some_and(|(_, slug)| slug.commit.as_ref() == Some(&commit)) {
            return Ok(None);
        }
        Ok(Some(Message::Deployment {
            environment: app.name.to_string(),
            commit,
            branch: None,
            state: DeploymentState::Failure,
            url: self.web_url(app.name.as_str()),
            log_url: Some(format!("{}/dashboard/operations/{operation}", forge.home_url)),
            transient: false,
            production: stage == Stage::Production,
            payload: serde_json::json!({}),
        }))
    }
}

/// The operation of an app's last deploy and the commit that it was of, where it failed. Not one that was cancelled, or whose
/// trigger waits again.
fn last_deploy_failed(c: &Conn<'_>, app: AppId) -> shipway_store::Result<Option<(OperationId, CommitId)>> {
    for operation in c.operations(Some(app), OPERATIONS)? {
        let Ok(plan) = Plan::of(&operation) else { continue };
        let part = plan.parts.into_iter().find(|part| part.app == app && part.release.is_some());
        let Some(part) = part.filter(|_| plan.trigger.brings_new_code()) else { continue };
        let triggered = c.triggered_deploy_by(app, operation.id)?;
        let waits = triggered.is_some_and(|deploy| deploy.status == TriggeredStatus::Waiting);
        if operation.status != OperationStatus::Failed || operation.cancel || waits {
            return Ok(None);
        }
        let slug = match part.release.map(|release| release.code) {
            Some(Code::Slug(slug) | Code::Promoted { of: slug, .. }) => c.slug(slug)?,
            _ => None,
        };
        let commit = part.build.map(|build| build.commit).or(slug.and_then(|slug| slug.commit));
        return Ok(commit.map(|commit| (operation.id, commit)));
    }
    Ok(None)
}

/// How a review app is, for people.
struct ReviewState {
    verdict: Verdict,
    words: String,
    url: Option<String>,
    gone: bool,
}

enum Running {
    /// What it was asked to.
    Wanted,
    /// Something else, and it is being changed.
    UnderWay,
    /// Something else, or nothing.
    Other,
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_string() } else { text }
}

/// Text of anybody's, so that it mentions nobody and marks nothing up.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c == '`' || c.is_control() { ' ' } else { c }).collect();
    format!("```text\n{}\n```", plain.trim())
}

fn inactive(message: Message) -> Message {
    match message {
        Message::Deployment { environment, commit, branch, url, log_url, transient, production, payload, .. } => {
            let state = DeploymentState::Inactive;
            Message::Deployment { environment, commit, branch, state, url, log_url, transient, production, payload }
        }
        other => other,
    }
}

/// The review app that counts of each pull request: the one that is there, else the one that went last.
fn newest_of_each_pull_request(reviews: &[ReviewApp]) -> Vec<&ReviewApp> {
    let mut newest: BTreeMap<u64, &ReviewApp> = BTreeMap::new();
    for review in reviews {
        let Some(number) = review.pr_number else { continue };
        let rank = |r: &ReviewApp| (r.status != ReviewAppStatus::Deleted, r.created_at);
        match newest.get(&number) {
            Some(other) if rank(other) > rank(review) => {}
            _ => _ = newest.insert(number, review),
        }
    }
    newest.into_values().collect()
}

/// Whether a failure is so fresh that its forge is left alone. One thing that fails for ever delays the others that long
/// and no longer.
fn rests(message: &ForgeMessage, now: Timestamp) -> bool {
    message.attempts > 0 && message.due_at - again(message.attempts - 1) + AGAIN > now
}

fn again(attempts: u32) -> SignedDuration {
    (AGAIN * 2_i32.pow(attempts.min(10))).min(LONGEST)
}
