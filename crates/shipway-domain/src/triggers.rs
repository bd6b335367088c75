//! Triggers: which branches and tags deploy an app by themselves, and what becomes of the deploys that they ask for.
//!
//! A ref that moves only writes down what is wanted; [`plan`] says what is to be done about all that waits. So a server
//! that was killed in between, or news that come twice, cost nothing.

use crate::ids::TriggeredDeployId;
use crate::lifecycle::states;
use crate::names::{BranchName, CommitId, NameError, TagName, check_ref_name};
use crate::review::Checks;
use crate::sign_off::{PartyName, and};
use serde::{Deserialize, Serialize};

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefName {
    /// `refs/heads/…`
    Branch(BranchName),
    /// `refs/tags/…`
    Tag(TagName),
}

impl RefName {
    /// Reads a full name, `refs/heads/main` or `refs/tags/v1`. None for other refs; an error for a name git does not allow.
    pub fn from_full(full: &str) -> Option<Result<Self, NameError>> {
        match (full.strip_prefix("refs/heads/"), full.strip_prefix("refs/tags/")) {
            (Some(branch), _) => Some(BranchName::parse(branch).map(Self::Branch)),
            (_, Some(tag)) => Some(TagName::parse(tag).map(Self::Tag)),
            _ => None,
        }
    }

    /// Its sort.
    pub fn kind(&self) -> RefKind {
        match self {
            Self::Branch(_) => RefKind::Branch,
            Self::Tag(_) => RefKind::Tag,
        }
    }

    /// Its name alone.
    pub fn name(&self) -> &str {
        match self {
            Self::Branch(name) => name.as_str(),
            Self::Tag(name) => name.as_str(),
        }
    }

    /// Puts the two together again. Errors: a name that git does not allow.
    pub fn new(kind: RefKind, name: &str) -> Result<Self, NameError> {
        Ok(match kind {
            RefKind::Branch => Self::Branch(BranchName::parse(name)?),
            RefKind::Tag => Self::Tag(TagName::parse(name)?),
        })
    }
}

impl std::fmt::Display for RefName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

states! {
    /// What sort of ref.
    RefKind {
        /// A branch.
        Branch = "branch",
        /// A tag.
        Tag = "tag",
    }
}

/// Which refs: those of one sort whose name is the pattern, where `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RefPattern {
    kind: RefKind,
    glob: String,
}

impl RefPattern {
    /// Checks a pattern. Errors: what could not be the name of a ref with something in the place of each `*`.
    pub fn parse(kind: RefKind, glob: &str) -> Result<Self, NameError> {
        let filled = glob.replace('*', "x");
        check_ref_name(kind.as_str(), &filled)
            .map_err(|e| NameError { given: glob.chars().take(80).collect(), ..e })?;
        if glob.matches('*').count() > 8 {
            return Err(NameError::new(kind.as_str(), glob, "may have at most eight `*`"));
        }
        Ok(Self { kind, glob: glob.to_string() })
    }

    /// Its sort of ref.
    pub fn kind(&self) -> RefKind {
        self.kind
    }

    /// The pattern as it was given.
    pub fn glob(&self) -> &str {
        &self.glob
    }

    /// Whether a ref is one of them.
    pub fn matches(&self, reference: &RefName) -> bool {
        reference.kind() == self.kind && glob_matches(&self.glob, reference.name())
    }
}

impl std::fmt::Display for RefPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.glob)
    }
}

/// The pieces between the stars, found one after the other: the first at the beginning, the last at the end.
fn glob_matches(glob: &str, name: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

states! {
    /// What became of a deploy that a trigger asked for.
    TriggeredStatus {
        /// It waits, for CI or for sign-offs.
        Waiting = "waiting",
        /// It is an operation, which says the rest.
        Begun = "begun",
        /// A newer one took its place while it waited.
        Superseded = "superseded",
        /// It was refused.
        Refused = "refused",
    }
}

/// A deploy that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: TriggeredDeployId,
    /// The ref that moved.
    pub reference: RefName,
    /// What it would run.
    pub commit: CommitId,
    /// Where the ref was before, and before that, as far as pushes were heard of ([`line_before`]).
    pub line: Vec<CommitId>,
    /// Whether its trigger waits for CI.
    pub wait_for_ci: bool,
    /// What checks say of the commit.
    pub checks: Checks,
    /// The parties of the app's stage that have not signed the commit.
    pub unsigned: Vec<PartyName>,
    /// What the app was asked to run since then, if anything.
    pub overtaken_by: Option<CommitId>,
    /// Why it waits, as it says now.
    pub message: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deploy.
    Deploy(TriggeredDeployId),
    /// Say why it waits.
    Say(TriggeredDeployId, String),
    /// Give up in favour of what came later, and say so.
    Supersede(TriggeredDeployId, String),
}

/// Where a ref was, newest first, before it moved away from `before`: `pushes` are those that were heard of, each with where
/// the ref was before it, in any order. A ref that came back to where it was before ends the line.
pub fn line_before(before: Option<&CommitId>, pushes: &[(Option<CommitId>, CommitId)]) -> Vec<CommitId> {
    let mut line: Vec<CommitId> = Vec::new();
    let mut next = before;
    while let Some(at) = next.filter(|at| !line.contains(at)) {
        line.push(at.clone());
        next = pushes.iter().find(|(_, after)| after == at).and_then(|(before, _)| before.as_ref());
    }
    line
}

/// The deploy that counts of those that wait, in the order in which they were heard of: the last one, unless it is of a
/// push that another one's ref had behind it already. Forges repeat deliveries that failed, so an older one may come late.
fn newest(waiting: &[Waiting]) -> Option<&Waiting> {
    let (last, earlier) = waiting.split_last()?;
    let later = |one: &Waiting, other: &Waiting| {
        one.reference == other.reference && one.line.contains(&other.commit) && !other.line.contains(&one.commit)
    };
    Some(earlier.iter().rev().fold(last, |newest, one| if later(one, newest) { one } else { newest }))
}

/// What is to be done about the deploys of one app that wait, in the order in which they were heard of: the newest counts,
/// the others have had their time. Nothing where everything is as it says.
pub fn plan(waiting: &[Waiting]) -> Vec<Action> {
    let mut actions = Vec::new();
    let Some(newest) = newest(waiting) else { return actions };
    let others = waiting.iter().filter(|one| one.id != newest.id);
    actions.extend(others.map(|other| Action::Supersede(other.id, superseded(&newest.commit))));
    if let Some(later) = &newest.overtaken_by {
        actions.push(Action::Supersede(newest.id, superseded(later)));
        return actions;
    }
    let short = newest.commit.short();
    let reason = match newest.checks {
        _ if !newest.wait_for_ci => waits_for(&newest.unsigned),
        Checks::Succeeded => waits_for(&newest.unsigned),
        Checks::Failed => Some(format!("CI failed for {short}: it deploys when a run of it passes")),
        Checks::Pending => Some(format!("waits for CI: checks of {short} run")),
        Checks::Unknown => Some(format!("waits for CI: nothing was heard of {short} yet")),
    };
    match reason {
        None => actions.push(Action::Deploy(newest.id)),
        Some(reason) if newest.message.as_ref() != Some(&reason) => actions.push(Action::Say(newest.id, reason)),
        Some(_) => {}
    }
    actions
}

/// What is said of a deploy whose commit these parties have not signed; none where there are none.
pub fn waits_for(unsigned: &[PartyName]) -> Option<String> {
    (!unsigned.is_empty()).then(|| format!("waits for the sign-off of {}", and(unsigned.iter())))
}

fn superseded(by: &CommitId) -> String {
    format!("{} took its place", by.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_the_refs_that_they_mean() {
        let check = |kind, glob: &str, full: &str, expected: bool| {
            let reference = RefName::from_full(full).unwrap().unwrap();
            let pattern = RefPattern::parse(kind, glob).unwrap();
            assert_eq!(pattern.matches(&reference), expected, "{pattern} and {reference}");
        };
        use RefKind::{Branch, Tag};
        check(Tag, "v*", "refs/tags/v0.3.1", true);
        check(Tag, "v*", "refs/tags/v", true);
        check(Tag, "v*", "refs/tags/dev", false);
        check(Tag, "v*", "refs/heads/v1", false);
        check(Branch, "main", "refs/heads/main", true);
        check(Branch, "main", "refs/heads/main2", false);
        check(Branch, "release/*", "refs/heads/release/2/hot", true);
        check(Branch, "*-rc*", "refs/heads/v1-rc2", true);
        check(Branch, "*-rc*", "refs/heads/v1", false);
        check(Branch, "a*a", "refs/heads/a", false);
        check(Branch, "a*b*a", "refs/heads/a-b-a", true);
        check(Branch, "a*b*a", "refs/heads/ab", false);
        check(Branch, "*", "refs/heads/anything/at/all", true);
    }

    #[test]
    fn what_is_no_pattern_of_a_ref_is_refused() {
        for bad in ["", "a b", "../x", "x..y", "-v*", "v*.lock", "a\nb", "*********"] {
            assert!(RefPattern::parse(RefKind::Tag, bad).is_err(), "{bad:?}");
        }
        let refused = RefPattern::parse(RefKind::Branch, "a b*").unwrap_err().to_string();
        assert_eq!(refused, "branch \"a b*\" is not a branch name that git allows");
    }

    fn commit(n: u128) -> CommitId {
        CommitId::parse(&format!("{n:02x}").repeat(20)).unwrap()
    }

    fn waiting(n: u128, checks: Checks) -> Waiting {
        Waiting {
            id: TriggeredDeployId(uuid::Uuid::from_u128(n)),
            reference: RefName::new(RefKind::Branch, "main").unwrap(),
            commit: commit(n),
            line: Vec::new(),
            wait_for_ci: true,
            checks,
            unsigned: Vec::new(),
            overtaken_by: None,
            message: None,
        }
    }

    fn check(waiting: &[Waiting], expected: &str) {
        let line = |action: &Action| match action {
            Action::Deploy(id) => format!("{} deploys", id.0.as_u128()),
            Action::Say(id, why) => format!("{} {why}", id.0.as_u128()),
            Action::Supersede(id, why) => format!("{} ends: {why}", id.0.as_u128()),
        };
        assert_eq!(plan(waiting).iter().map(line).collect::<Vec<_>>().join(", "), expected);
    }

    #[test]
    fn the_newest_commit_wins_and_waits_for_ci() {
        check(&[], "");
        check(&[Waiting { wait_for_ci: false, ..waiting(1, Checks::Failed) }], "1 deploys");
        check(&[waiting(1, Checks::Succeeded)], "1 deploys");
        check(
            &[waiting(1, Checks::Succeeded), waiting(2, Checks::Succeeded)],
            "1 ends: 0202020 took its place, 2 deploys",
        );
        check(&[waiting(1, Checks::Unknown)], "1 waits for CI: nothing was heard of 0101010 yet");
        check(&[waiting(1, Checks::Pending)], "1 waits for CI: checks of 0101010 run");
        let failed = "CI failed for 0101010: it deploys when a run of it passes";
        check(&[waiting(1, Checks::Failed)], &format!("1 {failed}"));
        check(&[Waiting { message: Some(failed.into()), ..waiting(1, Checks::Failed) }], "");
        let overtaken =
            Waiting { overtaken_by: Some(waiting(9, Checks::Unknown).commit), ..waiting(1, Checks::Succeeded) };
        check(&[overtaken], "1 ends: 0909090 took its place");
    }

    #[test]
    fn the_newest_commit_waits_for_all_parties() {
        let unsigned = |n: u128, parties: &[&str]| Waiting {
            wait_for_ci: false,
            unsigned: parties.iter().map(|name| PartyName::parse(name).unwrap()).collect(),
            ..waiting(n, Checks::Unknown)
        };
        check(&[unsigned(1, &["qa", "product"])], "1 waits for the sign-off of qa and product");
        check(&[unsigned(1, &["product"])], "1 waits for the sign-off of product");
        check(&[unsigned(1, &[])], "1 deploys");
        // What was signed and what was not: a newer commit takes the place of either.
        let newer = "1 ends: 0202020 took its place, 2 waits for the sign-off of qa";
        check(&[unsigned(1, &["qa"]), unsigned(2, &["qa"])], newer);
        check(&[unsigned(1, &[]), unsigned(2, &["qa"])], newer);
        // CI comes first, and is said first.
        let both = Waiting { wait_for_ci: true, checks: Checks::Pending, ..unsigned(1, &["qa"]) };
        check(std::slice::from_ref(&both), "1 waits for CI: checks of 0101010 run");
        check(&[Waiting { checks: Checks::Succeeded, ..both }], "1 waits for the sign-off of qa");
    }

    #[test]
    fn a_push_that_comes_late_takes_nothings_place() {
        // Pushes from 1 to 2 to 3 to 4; that to 3 has had its turn.
        let pushes = [(Some(commit(3)), commit(4)), (Some(commit(1)), commit(2)), (Some(commit(2)), commit(3))];
        let of =
            |n: u128| Waiting { line: line_before(Some(&commit(n - 1)), &pushes), ..waiting(n, Checks::Succeeded) };
        assert_eq!(of(4).line, [commit(3), commit(2), commit(1)]);
        check(&[of(4), of(2)], "2 ends: 0404040 took its place, 4 deploys");
        check(&[of(2), of(4)], "2 ends: 0404040 took its place, 4 deploys");
        check(&[of(3), of(4), of(2)], "3 ends: 0404040 took its place, 2 ends: 0404040 took its place, 4 deploys");
        // Of another ref: what was heard of last.
        let tag = Waiting { reference: RefName::new(RefKind::Tag, "v1").unwrap(), line: vec![], ..of(2) };
        check(&[of(4), tag], "4 ends: 0202020 took its place, 2 deploys");
        // Pushed away and forced back: what was heard of last.
        let forced = [(Some(commit(1)), commit(2)), (Some(commit(2)), commit(1))];
        let there = Waiting { line: line_before(Some(&commit(1)), &forced), ..waiting(2, Checks::Succeeded) };
        let back = Waiting { line: line_before(Some(&commit(2)), &forced), ..waiting(1, Checks::Succeeded) };
        assert_eq!(back.line, [commit(2), commit(1)]);
        check(&[there, back], "2 ends: 0101010 took its place, 1 deploys");
    }
}
