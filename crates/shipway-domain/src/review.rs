//! Review apps: which should be there, which are, and what is to be done about the difference.
//!
//! Events only change what is wanted; [`plan`] compares it with what is there. So an event that is lost, comes twice or
//! comes late costs nothing but time: the next look at the truth brings everything right.

use crate::ids::ReviewAppId;
use crate::lifecycle::states;
pub use crate::names::BranchName;
use crate::names::{AppName, CommitId, NameError};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

states! {
    /// A review app's state.
    /// Source: Heroku Platform API, "Review App".
    ReviewAppStatus {
        /// It waits: for CI, for a maintainer, for room.
        Pending = "pending",
        /// Its app is being made.
        Creating = "creating",
        /// Its app is there.
        Created = "created",
        /// Its app and all that it owned is being removed.
        Deleting = "deleting",
        /// Nothing of it is left.
        Deleted = "deleted",
        /// Its app could not be made; nothing of it is left but the reason.
        Errored = "errored",
    }
}

states! {
    /// What checks say of a commit.
    Checks {
        /// Nobody said anything.
        Unknown = "unknown",
        /// They run.
        Pending = "pending",
        /// All of them passed.
        Succeeded = "succeeded",
        /// One failed.
        Failed = "failed",
    }
}

impl Checks {
    /// What all checks of a commit say together: one that failed counts most, then one that runs.
    pub fn together(all: impl IntoIterator<Item = Self>) -> Self {
        let rank = |checks: &Self| match checks {
            Self::Unknown => 0,
            Self::Succeeded => 1,
            Self::Pending => 2,
            Self::Failed => 3,
        };
        all.into_iter().max_by_key(rank).unwrap_or(Self::Unknown)
    }

    /// What is said of a commit that has not passed: `CI failed for 3f9c2a1`. None where it has.
    pub fn wanting(self, commit: &CommitId) -> Option<String> {
        let short = commit.short();
        match self {
            Self::Succeeded => None,
            Self::Failed => Some(format!("CI failed for {short}")),
            Self::Pending => Some(format!("CI runs for {short}")),
            Self::Unknown => Some(format!("nothing was heard of CI for {short}")),
        }
    }
}

states! {
    /// The making of an app from a source.
    /// Source: Heroku Platform API, "App Setup".
    AppSetupStatus {
        /// Under way.
        Pending = "pending",
        /// The app runs, and its postdeploy script, if it has one, went well.
        Succeeded = "succeeded",
        /// There is no app; or there is, and its postdeploy script failed.
        Failed = "failed",
    }
}

/// What a review app is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A pull request, by its number.
    PullRequest(u64),
    /// A branch.
    Branch(BranchName),
}

/// A review app that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The commit that it should run.
    pub commit: CommitId,
    /// Whether it may be made when it is not there.
    pub make: bool,
    /// Whether the commit comes from a fork and no maintainer has allowed it.
    pub unallowed_fork: bool,
    /// What checks say of the commit.
    pub checks: Checks,
}

/// A review app that is there in some way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: ReviewAppId,
    /// Its state.
    pub status: ReviewAppStatus,
    /// Whether it has an app. One that errored may have: its postdeploy script failed.
    pub runs: bool,
    /// The commit that it was last asked to run.
    pub commit: CommitId,
    /// Why it waits, as it says now.
    pub message: Option<String>,
    /// When it was last asked to run another commit.
    pub deployed_at: Timestamp,
}

impl Seen {
    /// Whether its app takes other commits.
    fn live(&self) -> bool {
        self.status == ReviewAppStatus::Created || (self.status == ReviewAppStatus::Errored && self.runs)
    }

    /// Whether it counts for the quota. What is being removed still has its place: two apps must never share a name.
    pub fn has_place(&self) -> bool {
        self.live() || matches!(self.status, ReviewAppStatus::Creating | ReviewAppStatus::Deleting)
    }
}

/// What a pipeline's people decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether new ones are made. Where not, those that are there stay, under the rules that they had.
    pub makes: bool,
    /// Whether a commit waits until its checks have passed.
    pub wait_for_ci: bool,
    /// How long a review app may go without another commit.
    pub stale_after: Option<SignedDuration>,
    /// How many may have an app at once.
    pub quota: usize,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the app; `Some`: for the review app that is there.
    Create(Subject, Option<ReviewAppId>, CommitId),
    /// Run another commit.
    Deploy(ReviewAppId, CommitId),
    /// Note a review app that waits, and why.
    Hold(Subject, Option<ReviewAppId>, CommitId, String),
    /// Note that a newer commit waits, and why; what runs runs on.
    Say(ReviewAppId, String),
    /// Remove the app and all that it owned.
    Destroy(ReviewAppId),
    /// The same, because nobody has touched it for long: it is not made again for the same commit.
    Expire(ReviewAppId),
}

/// What is to be done for one pipeline. Repeating it while nothing has changed gives the same; carrying it out and
/// asking again gives nothing.
pub fn plan(
    wanted: &BTreeMap<Subject, Wanted>,
    seen: &BTreeMap<Subject, Seen>,
    policy: &Policy,
    now: Timestamp,
) -> Vec<Action> {
    use ReviewAppStatus::{Creating, Deleted, Deleting, Errored, Pending};
    let mut actions = Vec::new();
    for (subject, there) in seen {
        let stale = |s: &Seen| {
            let age = policy.stale_after.map(|limit| now.duration_since(s.deployed_at) > limit);
            s.live() && age == Some(true)
        };
        match there.status {
            Deleting | Deleted => {}
            _ if !wanted.contains_key(subject) => actions.push(Action::Destroy(there.id)),
            _ if stale(there) => actions.push(Action::Expire(there.id)),
            _ => {}
        }
    }
    let expiring: Vec<ReviewAppId> =
        actions.iter().filter_map(|a| if let Action::Expire(id) = a { Some(*id) } else { None }).collect();
    let mut places = seen.values().filter(|s| s.has_place()).count();
    for (subject, want) in wanted {
        let there = seen.get(subject).filter(|s| s.status != Deleted);
        let hold = hold(want, policy);
        match there {
            Some(s) if matches!(s.status, Creating | Deleting) || expiring.contains(&s.id) => {}
            Some(s) if s.live() => match (s.commit == want.commit, hold) {
                (true, _) => {}
                (false, Some(why)) if s.message.as_ref() == Some(&why) => {}
                (false, Some(why)) => actions.push(Action::Say(s.id, why)),
                (false, None) => actions.push(Action::Deploy(s.id, want.commit.clone())),
            },
            // It failed with this commit: it will fail again.
            Some(s) if s.status == Errored && s.commit == want.commit => {}
            None if !want.make => {}
            _ => {
                let id = there.map(|s| s.id);
                let disabled = (!policy.makes)
                    .then(|| "Waits until review apps are enabled: heroku reviewapps:enable".to_string());
                let full = (places >= policy.quota).then(|| {
                    format!("Waits for room: {} review apps are there, which is the most. Close one.", policy.quota)
                });
                match disabled.or(hold).or(full) {
                    Some(why) => {
                        let same = |s: &Seen| {
                            s.status == Pending && s.commit == want.commit && s.message.as_ref() == Some(&why)
                        };
                        if !there.is_some_and(same) {
                            actions.push(Action::Hold(subject.clone(), id, want.commit.clone(), why));
                        }
                    }
                    None => {
                        places += 1;
                        actions.push(Action::Create(subject.clone(), id, want.commit.clone()));
                    }
                }
            }
        }
    }
    actions
}

/// Why a commit has to wait; none: it need not.
pub fn hold(want: &Wanted, policy: &Policy) -> Option<String> {
    if want.unallowed_fork {
        return Some(
            "Waits for a maintainer: the commit comes from a fork. Look at it, then: shipway reviewapps allow".into(),
        );
    }
    match want.checks {
        Checks::Succeeded => None,
        _ if !policy.wait_for_ci => None,
        Checks::Failed => Some("Waits for CI: a check of this commit failed.".into()),
        Checks::Pending | Checks::Unknown => {
            Some("Waits for CI: the checks of this commit have not passed yet.".into())
        }
    }
}

/// The name of a review app's app: `acorn-pr-12`, `acorn-feature-login`. `suffix`: where that one is taken.
///
/// Bounds: 30 characters, as every app's; what the base or branch has too much is cut.
pub fn app_name(base: &str, subject: &Subject, suffix: Option<u64>) -> Result<AppName, NameError> {
    let end = match subject {
        Subject::PullRequest(number) => format!("pr-{number}"),
        Subject::Branch(branch) => match slug(branch.as_str()) {
            s if s.is_empty() => "branch".to_string(),
            s => s,
        },
    };
    let suffix = suffix.map_or(String::new(), |n| format!("-{:04}", n % 10_000));
    let room = 30 - suffix.len();
    let end: String = end.chars().take(room.saturating_sub(4)).collect();
    let base: String = slug(base).chars().take(room - end.len() - 1).collect();
    let base = base.trim_matches('-');
    let start = if base.is_empty() { "app" } else { base };
    let name = format!("{start}-{}{suffix}", end.trim_end_matches('-'));
    AppName::parse(&name)
}

/// Lower-case letters, digits, and single dashes for everything else.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => out.push(c),
            _ if !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.trim_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(n: u8) -> CommitId {
        CommitId::parse(&format!("{n:02x}").repeat(20)).unwrap()
    }

    fn wanted(n: u8) -> Wanted {
        Wanted { commit: commit(n), make: true, unallowed_fork: false, checks: Checks::Unknown }
    }

    fn seen(status: ReviewAppStatus, n: u8) -> Seen {
        let id = ReviewAppId(uuid::Uuid::from_u128(1));
        let runs = matches!(status, ReviewAppStatus::Created | ReviewAppStatus::Creating);
        Seen { id, status, runs, commit: commit(n), message: None, deployed_at: Timestamp::UNIX_EPOCH }
    }

    const POLICY: Policy = Policy { makes: true, wait_for_ci: false, stale_after: None, quota: 10 };
    const DAY: Timestamp = Timestamp::constant(86_400, 0);

    /// One subject, as words.
    fn check(want: Option<Wanted>, there: Option<Seen>, policy: Policy, expected: &str) {
        let wanted = want.map(|w| (Subject::PullRequest(7), w)).into_iter().collect();
        let seen = there.map(|s| (Subject::PullRequest(7), s)).into_iter().collect();
        let words: Vec<String> = plan(&wanted, &seen, &policy, DAY)
            .into_iter()
            .map(|a| match a {
                Action::Create(_, id, c) => {
                    format!("create {} {}", c.short(), if id.is_some() { "again" } else { "new" })
                }
                Action::Deploy(_, c) => format!("deploy {}", c.short()),
                Action::Hold(_, _, _, why) | Action::Say(_, why) => why.split(':').next().unwrap_or_default().into(),
                Action::Destroy(_) => "destroy".into(),
                Action::Expire(_) => "expire".into(),
            })
            .collect();
        assert_eq!(words.join(", "), expected);
    }

    #[test]
    fn every_state_against_what_is_wanted() {
        use ReviewAppStatus::*;
        for (status, same, newer, unwanted) in [
            (Pending, "create 0101010 again", "create 0202020 again", "destroy"),
            (Creating, "", "", "destroy"),
            (Created, "", "deploy 0202020", "destroy"),
            (Deleting, "", "", ""),
            (Deleted, "create 0101010 new", "create 0202020 new", ""),
            (Errored, "", "create 0202020 again", "destroy"),
        ] {
            check(Some(wanted(1)), Some(seen(status, 1)), POLICY, same);
            check(Some(wanted(2)), Some(seen(status, 1)), POLICY, newer);
            check(None, Some(seen(status, 1)), POLICY, unwanted);
        }
        let postdeploy_failed = || Some(Seen { runs: true, ..seen(Errored, 1) });
        check(Some(wanted(1)), postdeploy_failed(), POLICY, "");
        check(Some(wanted(2)), postdeploy_failed(), POLICY, "deploy 0202020");
        check(Some(wanted(1)), None, POLICY, "create 0101010 new");
        check(Some(Wanted { make: false, ..wanted(1) }), None, POLICY, "");
    }

    #[test]
    fn attack_27_a_fork_waits_for_a_maintainer() {
        let fork = |n| Some(Wanted { unallowed_fork: true, checks: Checks::Succeeded, ..wanted(n) });
        check(fork(1), None, POLICY, "Waits for a maintainer");
        check(fork(2), Some(seen(ReviewAppStatus::Created, 1)), POLICY, "Waits for a maintainer");
        check(fork(2), Some(seen(ReviewAppStatus::Errored, 1)), POLICY, "Waits for a maintainer");
        check(fork(1), Some(seen(ReviewAppStatus::Pending, 1)), POLICY, "Waits for a maintainer");
    }

    #[test]
    fn ci_age_and_room() {
        let ci = Policy { wait_for_ci: true, ..POLICY };
        let with = |checks| Some(Wanted { checks, ..wanted(1) });
        check(with(Checks::Unknown), None, ci, "Waits for CI");
        check(with(Checks::Failed), None, ci, "Waits for CI");
        check(with(Checks::Succeeded), None, ci, "create 0101010 new");
        check(with(Checks::Failed), None, POLICY, "create 0101010 new");
        let old = Policy { stale_after: Some(SignedDuration::from_hours(23)), ..POLICY };
        check(Some(wanted(1)), Some(seen(ReviewAppStatus::Created, 1)), old, "expire");
        check(Some(wanted(2)), Some(seen(ReviewAppStatus::Created, 1)), old, "expire");
        let young = Policy { stale_after: Some(SignedDuration::from_hours(25)), ..POLICY };
        check(Some(wanted(1)), Some(seen(ReviewAppStatus::Created, 1)), young, "");
        check(Some(wanted(1)), None, Policy { quota: 0, ..POLICY }, "Waits for room");
    }

    #[test]
    fn none_is_made_while_they_are_disabled_and_those_that_are_there_go_on() {
        use ReviewAppStatus::*;
        let disabled = Policy { makes: false, ..POLICY };
        check(Some(wanted(1)), Some(seen(Pending, 1)), disabled, "Waits until review apps are enabled");
        check(Some(wanted(2)), Some(seen(Errored, 1)), disabled, "Waits until review apps are enabled");
        check(Some(wanted(2)), Some(seen(Created, 1)), disabled, "deploy 0202020");
        check(None, Some(seen(Created, 1)), disabled, "destroy");
        let old = Policy { stale_after: Some(SignedDuration::from_hours(23)), ..disabled };
        check(Some(wanted(1)), Some(seen(Created, 1)), old, "expire");
    }

    #[test]
    fn what_waits_says_so_once() {
        let ci = Policy { wait_for_ci: true, ..POLICY };
        let message = hold(&wanted(1), &ci);
        check(Some(wanted(1)), Some(Seen { message, ..seen(ReviewAppStatus::Pending, 1) }), ci, "");
    }

    #[test]
    fn names_are_stable_and_fit() {
        let check = |base: &str, subject: Subject, suffix: Option<u64>, expected: &str| {
            assert_eq!(app_name(base, &subject, suffix).map_or_else(|e| e.to_string(), |n| n.to_string()), expected);
        };
        let branch = |b: &str| Subject::Branch(BranchName::parse(b).unwrap());
        check("acorn", Subject::PullRequest(12), None, "acorn-pr-12");
        check("acorn", Subject::PullRequest(12), Some(70_042), "acorn-pr-12-0042");
        check("acorn", branch("Feature/Login__Form"), None, "acorn-feature-login-form");
        check("a-very-long-pipeline-name-here", Subject::PullRequest(123), None, "a-very-long-pipeline-na-pr-123");
        check("a-very-long-pipeline-name-here", branch(&"x".repeat(90)), None, "a-v-xxxxxxxxxxxxxxxxxxxxxxxxxx");
        check("1-", branch("ä"), None, "app name \"1-branch\" must start with a letter");
        check("", Subject::PullRequest(1), None, "app-pr-1");
    }

    #[test]
    fn attack_01_branch_names() {
        for good in ["main", "feature/x-1", "main;curl-x|sh", "$(id)", "ä"] {
            assert!(BranchName::parse(good).is_ok(), "{good:?} is legal and only ever an argument");
        }
        for bad in
            ["", "-h", "--upload-pack=x", "a\nb", "a b", "../../x", "a..b", ".a", "a.lock", "a@{1}", "a//b", "a\0"]
        {
            assert!(BranchName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
