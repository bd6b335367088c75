//! Sign-offs: the parties that have to approve code before a stage of a pipeline takes it.
//!
//! A sign-off is given over a commit for one stage of one pipeline, by a person, for a party that the stage names.
//! Whether code may come in is [`SignOffs::missing`]'s to say; `admission` asks it.

use crate::admission::Actor;
use crate::ids::AccountId;
use crate::names::{CommitId, Digest, check_label, name};
use crate::pipeline::Stage;
use std::collections::BTreeSet;

name! {
    /// A party's name, a role such as `qa`: 1 to 30 characters, `a-z`, `0-9` and `-`, starting with a letter.
    PartyName, |s| {
        check_label("party", s, 1..=30)?;
        Ok(s.to_string())
    }
}

/// Somebody who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The account.
    pub account: AccountId,
    /// Its address.
    pub email: String,
}

/// A party that a stage names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its name.
    pub name: PartyName,
    /// Who may sign for it now. Somebody who lost sight of the pipeline is not among them, and what they signed counts
    /// no more.
    pub people: Vec<Signer>,
}

/// One sign-off of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// For which party.
    pub party: PartyName,
    /// By whom.
    pub account: AccountId,
    /// Whether they have left the platform since, and might sign for the party until then: what they signed stays signed.
    pub left: bool,
    /// The builds of the commit that the stage before had then; none: nothing was built of it there yet.
    pub artifacts: Vec<Digest>,
}

/// The code that a stage is asked to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Its commit; code without one cannot be signed.
    pub commit: Option<CommitId>,
    /// The build that is taken as it is: a promotion's. None where the app builds the commit, or has built it, itself.
    pub artifact: Option<Digest>,
}

/// What a stage wants of code, and what the code has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOffs {
    /// The pipeline.
    pub pipeline: String,
    /// Its owner, who can change what the stage wants.
    pub owner_email: String,
    /// The stage.
    pub stage: Stage,
    /// The parties, all of which have to sign.
    pub parties: Vec<Party>,
    /// The code.
    pub code: Code,
    /// The sign-offs of its commit for this stage.
    pub given: Vec<Given>,
}

/// A party whose sign-off is wanting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing<'a> {
    /// The party.
    pub party: &'a Party,
    /// Whether it has signed, but another build of the same commit.
    pub other_build: bool,
}

impl SignOffs {
    /// The parties whose sign-off the code lacks, in the stage's order.
    ///
    /// A sign-off counts while its giver may sign for that party, or might when they left the platform. Where a build is taken as it is, one that was given when
    /// the stage before had builds of the commit is of those; else it is of whatever is built of the commit.
    pub fn missing(&self) -> Vec<Missing<'_>> {
        let of = |party: &Party| -> Vec<&Given> {
            let may = |given: &&Given| given.left || party.people.iter().any(|person| person.account == given.account);
            self.given.iter().filter(|given| given.party == party.name).filter(may).collect()
        };
        let covers = |given: &Given| match &self.code.artifact {
            Some(artifact) => given.artifacts.is_empty() || given.artifacts.contains(artifact),
            None => true,
        };
        let mut missing = Vec::new();
        for party in &self.parties {
            let given = of(party);
            if self.code.commit.is_none() || !given.iter().any(|given| covers(given)) {
                missing.push(Missing { party, other_build: self.code.commit.is_some() && !given.is_empty() });
            }
        }
        missing
    }

    /// The reason for a refusal, and what the actor can do about it, each a sentence; none where nothing is missing.
    pub fn refusal(&self, actor: &Actor) -> Option<(String, String)> {
        let missing = self.missing();
        let first = missing.first()?;
        let Self { pipeline, stage, owner_email, .. } = self;
        let rule = format!("{stage} of {pipeline} takes only code that its parties have signed off");
        let owner = match actor.owns(owner_email) {
            true => {
                format!("You can say who signs: shipway sign-offs require {pipeline} {stage} --party NAME=PEOPLE")
            }
            false => format!("Ask {owner_email}, who owns the pipeline."),
        };
        let Some(commit) = &self.code.commit else {
            return Some((format!("{rule}, and this has no commit that they could sign."), owner));
        };
        let others = and(missing.iter().filter(|one| one.other_build).map(|one| &one.party.name));
        let others = match others.as_str() {
            "" => String::new(),
            others => format!(" What {others} signed is another build of it."),
        };
        let because = format!(
            "{rule}, and {} lacks the sign-off of {} (shipway sign-off {pipeline} {stage} {0} --as {}).{others}",
            commit.short(),
            and(missing.iter().map(|one| &one.party.name)),
            first.party.name,
        );
        // A person signs for one party only: the others are others' to sign.
        let is_actor = |person: &Signer| person.account == actor.account;
        let own = missing.iter().position(|one| one.party.people.iter().any(is_actor));
        let (mut ask, mut nobody) = (Vec::new(), Vec::new());
        for (_, Missing { party, .. }) in missing.iter().enumerate().filter(|(at, _)| own != Some(*at)) {
            let people: Vec<&str> = party.people.iter().map(|person| person.email.as_str()).collect();
            match people.as_slice() {
                [] => nobody.push(&party.name),
                people => ask.push(format!("{} ({})", people.join(" or "), party.name)),
            }
        }
        let own = own.map(|at| format!("You may sign for {}.", missing[at].party.name));
        let ask = (!ask.is_empty()).then(|| format!("Ask {}.", and(ask.iter())));
        let nobody =
            (!nobody.is_empty()).then(|| format!("Nobody may sign for {} any more. {owner}", and(nobody.iter())));
        let ways: Vec<String> = [own, ask, nobody].into_iter().flatten().collect();
        Some((because, ways.join(" ")))
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn and<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let mut items: Vec<String> = items.map(|item| item.to_string()).collect();
    match items.pop() {
        None => String::new(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}

/// Whether each party can have a signer of its own, since a person signs for one party only. `parties`: who may sign for
/// each.
pub fn each_can_have_its_own(parties: &[BTreeSet<AccountId>]) -> bool {
    // Who signs for whom as far as it is settled; a party that comes later may have somebody moved to another party.
    fn find(
        party: usize,
        parties: &[BTreeSet<AccountId>],
        settled: &mut Vec<(AccountId, usize)>,
        asked: &mut BTreeSet<AccountId>,
    ) -> bool {
        for person in &parties[party] {
            if !asked.insert(*person) {
                continue;
            }
            match settled.iter().position(|(of, _)| of == person) {
                None => settled.push((*person, party)),
                Some(at) if find(settled[at].1, parties, settled, asked) => settled[at].1 = party,
                Some(_) => continue,
            }
            return true;
        }
        false
    }
    let mut settled = Vec::new();
    (0..parties.len()).all(|party| find(party, parties, &mut settled, &mut BTreeSet::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u128) -> AccountId {
        AccountId(uuid::Uuid::from_u128(n))
    }

    fn signer(n: u128, name: &str) -> Signer {
        Signer { account: account(n), email: format!("{name}@example.org") }
    }

    fn party(name: &str, people: Vec<Signer>) -> Party {
        Party { name: PartyName::parse(name).unwrap(), people }
    }

    fn digest(n: u8) -> Digest {
        Digest::parse(&format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
    }

    fn actor(n: u128, name: &str) -> Actor {
        let email = format!("{name}@example.org");
        Actor { account: account(n), email, admin: false, scope: crate::admission::Scope::Global }
    }

    fn given(party: &str, by: u128, artifacts: Vec<Digest>) -> Given {
        Given { party: PartyName::parse(party).unwrap(), account: account(by), left: false, artifacts }
    }

    fn wanted(artifact: Option<Digest>, given: Vec<Given>) -> SignOffs {
        SignOffs {
            pipeline: "shop".into(),
            owner_email: "ida@example.org".into(),
            stage: Stage::Production,
            parties: vec![
                party("qa", vec![signer(1, "ada"), signer(2, "bob")]),
                party("product", vec![signer(3, "carol"), signer(1, "ada")]),
            ],
            code: Code { commit: Some(CommitId::parse(&"3f".repeat(20)).unwrap()), artifact },
            given,
        }
    }

    #[test]
    fn all_parties_have_to_sign_and_only_their_people_count() {
        let check = |given: Vec<Given>, expected: &[&str]| {
            let wanted = wanted(None, given);
            let missing: Vec<&str> = wanted.missing().iter().map(|one| one.party.name.as_str()).collect();
            assert_eq!(missing, expected);
        };
        check(vec![], &["qa", "product"]);
        check(vec![given("qa", 2, vec![])], &["product"]);
        check(vec![given("qa", 2, vec![]), given("product", 3, vec![])], &[]);
        // For a party that is not theirs, or by somebody who may sign for none any more.
        check(vec![given("product", 2, vec![]), given("qa", 9, vec![])], &["qa", "product"]);
        // For a party that the stage does not name any more.
        check(vec![given("design", 1, vec![])], &["qa", "product"]);
    }

    #[test]
    fn a_build_that_came_after_the_sign_off_is_another_one() {
        let check = |artifact: Option<u8>, signed: Vec<u8>, expected: bool| {
            let artifacts: Vec<Digest> = signed.into_iter().map(digest).collect();
            let both = vec![given("qa", 1, artifacts.clone()), given("product", 3, artifacts)];
            let wanted = wanted(artifact.map(digest), both);
            assert_eq!(wanted.missing().is_empty(), expected);
            assert!(wanted.missing().iter().all(|one| one.other_build));
        };
        check(Some(1), vec![1, 2], true);
        check(Some(2), vec![1, 2], true);
        check(Some(3), vec![1, 2], false);
        // Signed before anything was built, or to be built here.
        check(Some(3), vec![], true);
        check(None, vec![1, 2], true);
    }

    #[test]
    fn code_without_a_commit_is_never_signed() {
        let both = vec![given("qa", 1, vec![]), given("product", 3, vec![])];
        let none = SignOffs { code: Code { commit: None, artifact: Some(digest(1)) }, ..wanted(None, both) };
        assert_eq!(none.missing().len(), 2);
        let (because, who) = none.refusal(&actor(9, "eve")).unwrap();
        assert_eq!(
            because,
            "production of shop takes only code that its parties have signed off, and this has no commit that they could \
             sign."
        );
        assert_eq!(who, "Ask ida@example.org, who owns the pipeline.");
    }

    #[test]
    fn a_refusal_says_whose_sign_off_is_wanting_and_how_it_is_given() {
        let check = |wanted: SignOffs, expected_because: &str, expected_who: &str| {
            let (because, who) = wanted.refusal(&actor(9, "eve")).unwrap();
            assert_eq!((because.as_str(), who.as_str()), (expected_because, expected_who));
        };
        let rule =
            "production of shop takes only code that its parties have signed off, and 3f3f3f3 lacks the sign-off of";
        check(
            wanted(None, vec![]),
            &format!("{rule} qa and product (shipway sign-off shop production 3f3f3f3 --as qa)."),
            "Ask ada@example.org or bob@example.org (qa) and carol@example.org or ada@example.org (product).",
        );
        let another = wanted(Some(digest(3)), vec![given("qa", 1, vec![digest(1)]), given("product", 3, vec![])]);
        check(
            another,
            &format!(
                "{rule} qa (shipway sign-off shop production 3f3f3f3 --as qa). What qa signed is another build of it."
            ),
            "Ask ada@example.org or bob@example.org (qa).",
        );
        let alone = SignOffs { parties: vec![party("qa", vec![])], ..wanted(None, vec![]) };
        check(
            alone,
            &format!("{rule} qa (shipway sign-off shop production 3f3f3f3 --as qa)."),
            "Nobody may sign for qa any more. Ask ida@example.org, who owns the pipeline.",
        );
        let all = vec![given("qa", 1, vec![]), given("product", 3, vec![])];
        assert_eq!(wanted(None, all).refusal(&actor(9, "eve")), None);
    }

    #[test]
    fn nobody_is_told_to_ask_himself() {
        let check = |wanted: SignOffs, actor: Actor, expected: &str| {
            assert_eq!(wanted.refusal(&actor).unwrap().1, expected);
        };
        let product = "Ask carol@example.org or ada@example.org (product).";
        check(wanted(None, vec![]), actor(2, "bob"), &format!("You may sign for qa. {product}"));
        let qa = vec![given("qa", 2, vec![])];
        check(wanted(None, qa.clone()), actor(2, "bob"), product);
        check(wanted(None, qa), actor(3, "carol"), "You may sign for product.");
        let alone = SignOffs { parties: vec![party("qa", vec![])], ..wanted(None, vec![]) };
        check(
            alone,
            actor(4, "ida"),
            "Nobody may sign for qa any more. You can say who signs: shipway sign-offs require shop production --party \
             NAME=PEOPLE",
        );
    }

    #[test]
    fn each_party_has_somebody_of_its_own() {
        let check = |parties: &[&[u128]], expected: bool| {
            let parties: Vec<BTreeSet<AccountId>> =
                parties.iter().map(|people| people.iter().map(|n| account(*n)).collect()).collect();
            assert_eq!(each_can_have_its_own(&parties), expected, "{parties:?}");
        };
        check(&[], true);
        check(&[&[1]], true);
        check(&[&[]], false);
        check(&[&[1], &[1]], false);
        check(&[&[1, 2], &[1]], true);
        check(&[&[1], &[1, 2]], true);
        check(&[&[1, 2], &[1, 3], &[1]], true);
        check(&[&[1, 2], &[1, 2], &[1, 2]], false);
        check(&[&[1, 2], &[2, 3], &[1, 3], &[3, 4]], true);
    }

    #[test]
    fn names_say_what_is_allowed() {
        assert_eq!(PartyName::parse("qa-2").unwrap().as_str(), "qa-2");
        for bad in ["", "QA", "2nd", "a b", "qa=ada"] {
            assert!(PartyName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
