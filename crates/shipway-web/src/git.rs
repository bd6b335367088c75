//! The git door: fetches, and pushes that deploy.
//!
//! `main` and `master` are one branch under two names: what runs. A push to either is built and released, and its
//! transcript is what the pusher's git shows as `remote:`; the ref is accepted when the new code serves, and refused
//! with the reason when it does not. A tag or another branch that a trigger of the app names deploys like it, or is kept until
//! the parties of the app's stage have signed it. Other tags are kept; other branches are kept or refused as the app's settings say.

use crate::Web;
use crate::auth::{authenticate, credentials};
use crate::routes::table;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use shipway_domain::admission::{Scope, Trigger};
use shipway_domain::triggers::RefName;
use shipway_domain::{CommitId, NameOrId, minute};
use shipway_engine::ports::Caller;
use shipway_engine::{Holder, Outcome, OutputReader, Platform, RefNews, RefOrigin, SetOff};
use shipway_git::{
    Access, Call, GitHttp, Push, PushHandler, PushOutput, RefResult, RefUpdate, Repo, token_refused, unauthorized,
};
use shipway_store::{App, RefTrigger};
use std::sync::Arc;

/// A line of a transcript that is longer than this is shown in pieces.
const LINE_LIMIT: usize = 64 * 1024;

/// Missing commits that a pusher is told of.
const LACKING: usize = 10;

/// The routes of this door.
pub fn routes(_: &Web) -> Router<Web> {
    declared()
}

table! { Git:
    GET "/{repository}/info/refs" => door;
    POST "/{repository}/git-upload-pack" => door;
    POST "/{repository}/git-receive-pack" => door;
}

async fn door(State(web): State<Web>, request: Request) -> Response<Body> {
    let (Some(git), Some(call)) = (web.git(), Call::parse(request.method(), request.uri())) else {
        return text(StatusCode::NOT_FOUND, "This address is for git clients that speak smart HTTP.\n");
    };
    let Ok((caller, holder)) = authenticate(&web, request.headers(), "git") else {
        let refused = credentials(request.headers()).map_or_else(unauthorized, |_| token_refused());
        return refused.map(Body::new);
    };
    answer(git, web.platform(), &call, (caller, holder), request)
        .await
        .unwrap_or_else(|message| call.refuse(&message).map(Body::new))
}

/// Carries a request out. Errors: what git is to print.
async fn answer(
    git: &GitHttp,
    platform: &Platform,
    call: &Call,
    (caller, holder): (Caller, Holder),
    request: Request,
) -> Result<Response<Body>, String> {
    let name = &call.repository;
    let app = platform.app(&caller, &NameOrId::parse(name)).map_err(|e| match e.kind {
        shipway_engine::Kind::NotFound if matches!(caller.actor.scope, Scope::Deploy { .. }) => {
            platform.out_of_scope(&caller, &format!("see an app {name}")).message
        }
        shipway_engine::Kind::NotFound => {
            format!(
                "there is no app `{name}` here that you ({}) can see; `heroku apps` lists yours",
                caller.actor.email
            )
        }
        _ => e.message,
    })?;
    let may_push = match call.service {
        shipway_git::Service::UploadPack => false,
        // At the door, before anything is sent or built; the engine asks again before the switch.
        shipway_git::Service::ReceivePack => {
            platform.admit(&caller, Trigger::Push, &app).await.map_err(|refused| refused.message)?;
            true
        }
    };
    let path = platform.settings().home.join("repos").join(format!("{}.git", app.id));
    let repo = match path.join("HEAD").exists() {
        true => Repo::open(git.git(), &path),
        false => Repo::create(git.git(), &path).await.map_err(|error| {
            tracing::error!(app.name = %app.name, %error, "an app's repository could not be made");
            format!("the repository of {} could not be made; the reason is in the server's log", app.name)
        })?,
    };
    let access = Access { app: app.id, actor: caller.actor.account, may_push };
    let handler = Arc::new(Deployer { platform: platform.clone(), caller, holder, app });
    Ok(git.handle(call, request, &repo, access, handler).await.map(Body::new))
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Carries one push out.
struct Deployer {
    platform: Platform,
    caller: Caller,
    holder: Holder,
    app: App,
}

#[async_trait]
impl PushHandler for Deployer {
    async fn push(&self, push: Push, output: PushOutput) -> Vec<RefResult> {
        let mut results = Vec::with_capacity(push.commands.len());
        let mut running = Vec::new();
        for (at, update) in push.commands.iter().enumerate() {
            match self.runs(&push.repo, update).await {
                true => running.push((at, update)),
                false => results.push((at, self.keep(&push.repo, update, &output).await)),
            }
        }
        if !running.is_empty() {
            // One deploy, however many refs were pushed that ask for it.
            let updates: Vec<&RefUpdate> = running.iter().map(|(_, update)| *update).collect();
            let deployed = match self.wanted(&push.repo, &updates).await {
                Ok(commit) if self.is_there(&push.repo, &updates, &commit).await => {
                    let app = &self.app.name;
                    output.line(&format!(
                        "       {app} runs {} already. To release it again: shipway redeploy -a {app}",
                        commit.short()
                    ));
                    Ok(())
                }
                Ok(commit) => self.deploy(commit, &updates, &output).await,
                Err(reason) => Err(reason),
            };
            for (at, update) in running {
                let result = match &deployed {
                    Ok(()) if update.is_running_branch() => RefResult::Accepted,
                    Ok(()) => self.keep(&push.repo, update, &output).await,
                    Err(reason) => RefResult::rejected(reason),
                };
                results.push((at, result));
            }
        }
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

impl Deployer {
    /// Whether this app runs what a ref is to point at, now.
    async fn runs(&self, repo: &Repo, update: &RefUpdate) -> bool {
        let at_once = || self.trigger(update).is_some_and(|(trigger, _)| !trigger.wait_for_ci);
        update.is_running_branch() || (at_once() && self.is_signed(repo, update).await)
    }

    /// Whether nothing waits for parties of the app's stage. What cannot be read is asked of admission.
    async fn is_signed(&self, repo: &Repo, update: &RefUpdate) -> bool {
        let Some(object) = &update.new else { return true };
        match repo.peel(object).await {
            Ok(Some(commit)) => self.platform.unsigned(&self.app, &commit).unwrap_or_default().is_empty(),
            _ => true,
        }
    }

    /// The trigger of this app that a ref sets off.
    fn trigger(&self, update: &RefUpdate) -> Option<(RefTrigger, RefName)> {
        let reference = moved(update)?;
        let found = self.platform.trigger_for(&self.app, &reference).unwrap_or_else(|error| {
            tracing::error!(app.name = %self.app.name, %error, cause = ?error.cause, "triggers could not be read");
            None
        });
        Some((found?, reference))
    }

    /// Stores a tag or another branch, or hears of an upstream. What runs because of it is the review app of the branch,
    /// if it has one, and the apps whose triggers it sets off.
    async fn keep(&self, repo: &Repo, update: &RefUpdate, output: &PushOutput) -> RefResult {
        if let Some(branch) = update.upstream() {
            return self.hear(repo, branch, update).await.map_or_else(RefResult::rejected, |()| RefResult::Accepted);
        }
        if let Some(branch) = update.branch()
            && update.new.is_some()
            && !self.app.settings.store_other_branches
            && !self.platform.reviews_branch_of(&self.app, branch).unwrap_or(false)
            && !moved(update).is_some_and(|r| self.platform.sets_off_something(&self.app, &r).unwrap_or(false))
        {
            // Which local ref it came from is not told.
            let commit = update.new.as_ref().map_or("HEAD", |object| object.short());
            return RefResult::rejected(format!(
                "pushed to {branch}, which does not deploy; push it to main: git push heroku {commit}:main"
            ));
        }
        match repo.store(std::slice::from_ref(update)).await {
            Ok(()) => {
                // A branch of a review app may have moved.
                self.platform.review_soon();
                self.set_off(repo, update, output).await.map_or_else(RefResult::rejected, |()| RefResult::Accepted)
            }
            Err(shipway_git::GitError::Moved { .. }) => RefResult::rejected("it has moved meanwhile; fetch first"),
            Err(error) => RefResult::rejected(error.to_string()),
        }
    }

    /// Sets off the triggers of the app's pipeline, and says which. Errors: the reason in one line.
    async fn set_off(&self, repo: &Repo, update: &RefUpdate, output: &PushOutput) -> Result<(), String> {
        let (Some(reference), Some(object)) = (moved(update), &update.new) else { return Ok(()) };
        // A tag may be of something else.
        let Some(commit) = repo.peel(object).await.map_err(|e| e.to_string())? else { return Ok(()) };
        let actor = self.caller.actor.clone();
        let (origin, by) = (RefOrigin::App { app: self.app.id, actor }, self.caller.actor.email.clone());
        let told = self.platform.ref_moved(RefNews { origin, reference: reference.clone(), commit, by }).await;
        let deployed = self.runs(repo, update).await;
        for SetOff { app: name, waits, .. } in told.map_err(|e| first_line(&e.message))? {
            match waits {
                Some(waits) => {
                    output.line(&format!("-----> {reference} deploys {name} once it is signed off: {waits}"))
                }
                None if deployed && name == self.app.name => {}
                None => output.line(&format!("-----> {reference} deploys {name}: shipway triggers -a {name}")),
            }
        }
        Ok(())
    }

    /// Takes the end of the line that the team works on. Errors: the reason in one line.
    async fn hear(&self, repo: &Repo, branch: &str, update: &RefUpdate) -> Result<(), String> {
        let object = update.new.as_ref().ok_or("an upstream is not deleted by a push: shipway upstream unset")?;
        let commit = repo.peel(object).await.map_err(|e| e.to_string())?;
        let commit = commit.ok_or_else(|| format!("{object} is not a commit"))?;
        self.platform.push_upstream(&self.caller, &self.app, branch, &commit).await.map_err(|e| first_line(&e.message))
    }

    /// Says what the code lacks of the line that the team works on, before it deploys.
    async fn say_what_it_lacks(&self, commit: &CommitId, output: &PushOutput) {
        let beside = match self.platform.beside_commit(&self.app, commit).await {
            Ok(Some(beside)) if beside.standing.behind_count > 0 => beside,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(app.name = %self.app.name, %error, cause = ?error.cause, "upstream could not be compared");
                return;
            }
        };
        let (branch, count) = (&beside.branch, beside.standing.behind_count);
        let noun = if count == 1 { "commit" } else { "commits" };
        let heard = minute(beside.heard_at);
        output.line(&format!(" !     This lacks {count} {noun} of {branch}, as of {heard}:"));
        for missing in beside.standing.behind.iter().take(LACKING) {
            output.line(&format!(" !       {} {}", missing.id.short(), missing.subject));
        }
        if count > LACKING {
            output.line(&format!(" !       and {} more", count - LACKING));
        }
    }

    /// Says what is signed off in the place of code that is not, what either has alone, and how to release it.
    async fn say_what_is_signed(&self, commit: &CommitId, output: &PushOutput) {
        let signed = match self.platform.signed_instead(&self.caller, &self.app, commit).await {
            Ok(Some(signed)) => signed,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(app.name = %self.app.name, %error, cause = ?error.cause, "what is signed off could not be read");
                return;
            }
        };
        let short = signed.commit.short();
        output.line(&format!(" !     Signed off is {short}: git push heroku {short}:main"));
        let Some(differs) = signed.differs else { return };
        for (what, commits, count) in [
            (format!("{} has, and it has not", commit.short()), &differs.ahead, differs.ahead_count),
            (format!("It has, and {} has not", commit.short()), &differs.behind, differs.behind_count),
        ] {
            if count > 0 {
                output.line(&format!(" !     {what}:"));
            }
            for missing in commits {
                output.line(&format!(" !       {} {}", missing.id.short(), missing.subject));
            }
            if count > commits.len() {
                output.line(&format!(" !       and {} more", count - commits.len()));
            }
        }
    }

    /// Says what CI says of the code, where it has not passed.
    fn say_what_ci_says(&self, commit: &CommitId, output: &PushOutput) {
        match self.platform.checks_of(&self.app, commit) {
            Ok(checks) => {
                let words = checks.and_then(|checks| checks.wanting(commit));
                words.into_iter().for_each(|words| output.line(&format!(" !     {words}")));
            }
            Err(error) => {
                tracing::warn!(app.name = %self.app.name, %error, cause = ?error.cause, "checks could not be told");
            }
        }
    }

    /// Says what of somebody else's is replaced, and what the pusher is to be told.
    async fn say_what_it_replaces(&self, commit: &CommitId, output: &PushOutput) {
        let told = async {
            for notice in self.platform.notices(&self.caller, Some(&self.app))? {
                output.line(&format!(" !     {}", notice.text));
            }
            self.platform.notices_read(&self.caller, Some(&self.app)).await?;
            if let Some(there) = self.platform.replaces(&self.caller, &self.app, commit).await? {
                there.replaced(&self.app, self.platform.now()).iter().for_each(|line| output.line(line));
            }
            Ok(())
        };
        let told: shipway_engine::Result<()> = told.await;
        if let Err(error) = told {
            tracing::warn!(app.name = %self.app.name, %error, cause = ?error.cause, "what a push replaces could not be told");
        }
    }

    /// Whether a branch that runs is at this commit already: an annotated tag of it is pushed as something new.
    async fn is_there(&self, repo: &Repo, updates: &[&RefUpdate], commit: &CommitId) -> bool {
        let [update] = updates else { return false };
        let at = repo.resolve(&update.refname).await.ok().flatten();
        update.is_running_branch() && at.is_some_and(|at| at.as_str() == commit.as_str())
    }

    /// The one commit that is to run. Errors: why there is none.
    async fn wanted(&self, repo: &Repo, updates: &[&RefUpdate]) -> Result<CommitId, String> {
        let mut wanted: Option<CommitId> = None;
        for update in updates {
            let Some(object) = &update.new else {
                return Err("what runs cannot be deleted".into());
            };
            let running = repo.resolve(&update.refname).await.map_err(|e| e.to_string())?;
            if running != update.old {
                return Err("another push was faster; look at it with `git fetch`, then push again".into());
            }
            let commit = repo.peel(object).await.map_err(|e| e.to_string())?;
            let commit = commit.ok_or_else(|| format!("{object} is not a commit, so it cannot run"))?;
            if wanted.replace(commit.clone()).is_some_and(|other| other != commit) {
                return Err(match updates.iter().all(|update| update.is_running_branch()) {
                    true => {
                        "main and master are one branch here, and different commits were pushed to them; push one of \
                             them: git push heroku main"
                            .into()
                    }
                    false => {
                        format!("different commits were pushed that {} would run; push one of them", self.app.name)
                    }
                });
            }
        }
        wanted.ok_or_else(|| "nothing to deploy".into())
    }

    /// Deploys and shows the transcript. Errors: the reason in one line.
    async fn deploy(&self, commit: CommitId, updates: &[&RefUpdate], output: &PushOutput) -> Result<(), String> {
        self.say_what_it_lacks(&commit, output).await;
        self.say_what_ci_says(&commit, output);
        self.say_what_it_replaces(&commit, output).await;
        let triggered = updates.iter().find_map(|update| self.trigger(update));
        let begun = match triggered.filter(|_| !updates.iter().any(|update| update.is_running_branch())) {
            Some((trigger, reference)) => {
                self.platform.deploy_ref(&self.caller, &self.app, &trigger, reference, commit.clone()).await
            }
            None => self.platform.deploy(&self.caller, &self.app, commit.clone()).await,
        };
        let (build, operation) = match begun {
            Ok(begun) => begun,
            Err(refused) => {
                self.say_what_is_signed(&commit, output).await;
                return Err(refused.message);
            }
        };
        output.line(&format!("Ctrl-C leaves it running; this ends it: shipway ops {operation} --cancel"));
        let carried_out = async {
            show(self.platform.read_output(build.id.0), output).await;
            match self.platform.live(operation).await {
                Ok(Outcome::Live { .. }) => Ok(()),
                Ok(Outcome::Failed { message }) => Err(first_line(&message)),
                Err(error) => Err(error.message),
            }
        };
        let ended = match self.platform.stand_before(self.holder.clone(), "git", self.app.id) {
            Ok(mut standing) => tokio::select! {
                biased;
                ended = standing.ended() => ended,
                done = carried_out => return done,
            },
            Err(ended) => ended,
        };
        output.line(&format!(" !     {}", ended.words()));
        Err(format!("no more of it is shown; what was begun goes on: shipway ops {operation}"))
    }
}

/// The branch or tag that an update moves; none for one that is deleted, and for the branch that runs.
fn moved(update: &RefUpdate) -> Option<RefName> {
    let there = update.new.is_some() && !update.is_running_branch();
    there.then(|| RefName::from_full(&update.refname)).flatten()?.ok()
}

/// Copies a transcript line by line until it ends.
async fn show(mut transcript: OutputReader, output: &PushOutput) {
    let mut held = Vec::new();
    while let Ok(Some(bytes)) = transcript.next().await {
        held.extend_from_slice(&bytes);
        let whole = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if held.len() > LINE_LIMIT => held.len(),
            None => continue,
        };
        print(&held[..whole], output);
        held.drain(..whole);
    }
    print(&held, output);
}

fn print(lines: &[u8], output: &PushOutput) {
    String::from_utf8_lossy(lines).split_terminator('\n').for_each(|line| output.line(line));
}

fn first_line(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("the deploy failed; `shipway ops` says where").to_string()
}
