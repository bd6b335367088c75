//! Add-ons: what can be had, how it is named, and what becomes of it.

use crate::lifecycle::states;
use crate::names::{ADJECTIVES, NameError, name};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

name! {
    /// An add-on's name, unique on the platform: 2 to 60 letters, digits, dashes and underscores, starting with a letter.
    AddonName, |s| {
        let bad = |problem: &str| Err(NameError::new("add-on name", s, problem));
        if !(2..=60).contains(&s.len()) {
            return bad("must have between 2 and 60 characters");
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return bad("may only contain letters, digits, dashes and underscores");
        }
        if !s.as_bytes()[0].is_ascii_alphabetic() {
            return bad("must start with a letter");
        }
        Ok(s.to_string())
    }
}

name! {
    /// The name under which an app sees an add-on, which its config vars begin with: `DATABASE` gives `DATABASE_URL`.
    /// 2 to 100 of `A-Z`, `0-9` and `_`, starting with a letter; small letters are made large.
    AttachmentName, |s| {
        let bad = |problem: &str| Err(NameError::new("attachment name", s, problem));
        if !(2..=100).contains(&s.len()) {
            return bad("must have between 2 and 100 characters");
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return bad("may only contain letters, digits and underscores");
        }
        if !s.as_bytes()[0].is_ascii_alphabetic() {
            return bad("must start with a letter");
        }
        Ok(s.to_ascii_uppercase())
    }
}

states! {
    /// An add-on's state.
    AddonState {
        /// It is being made.
        Provisioning = "provisioning",
        /// It can be used.
        Provisioned = "provisioned",
        /// It is attached nowhere any more, and is being removed with its data.
        Deprovisioning = "deprovisioning",
        /// It is gone. Only an answer to who destroyed it says so.
        Deprovisioned = "deprovisioned",
    }
}

states! {
    /// What a transfer does.
    TransferKind {
        /// A database into a backup.
        Backup = "backup",
        /// A backup, or a dump at a URL, into a database.
        Restore = "restore",
        /// A database into another one.
        Copy = "copy",
    }
}

/// A service that add-ons are made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// `heroku-postgresql`.
    pub name: &'static str,
    /// What people call it.
    pub human_name: &'static str,
    /// What its add-ons' generated names begin with.
    pub prefix: &'static str,
    /// The attachment name of an app's first add-on of this service.
    pub first_attachment: &'static str,
    /// What the further ones' attachment names begin with; a colour follows.
    pub attachment_prefix: &'static str,
    /// What can be had; the first is the default.
    pub plans: &'static [Plan],
}

/// A plan of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Without its service: `essential-0`.
    pub name: &'static str,
    /// What people call it.
    pub human_name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Most connections at a time.
    pub connections: u32,
}

/// All services.
pub const SERVICES: &[Service] = &[Service {
    name: "heroku-postgresql",
    human_name: "PostgreSQL",
    prefix: "postgresql",
    first_attachment: "DATABASE",
    attachment_prefix: "HEROKU_POSTGRESQL",
    plans: &[Plan {
        name: "essential-0",
        human_name: "Essential 0",
        description: "A database of its own in this machine's shared PostgreSQL server",
        connections: 20,
    }],
}];

/// A service with one of its plans, written `heroku-postgresql:essential-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanName {
    /// The service.
    pub service: &'static Service,
    /// The plan.
    pub plan: &'static Plan,
}

/// Why there is no such plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No service of that name.
    #[error("There is no add-on service {given:?}; there is {there}.")]
    Service {
        /// What was asked for, cut to 80 characters.
        given: String,
        /// What there is.
        there: String,
    },
    /// The service has no such plan.
    #[error("{service} has no plan {given:?}; it has {there}.")]
    Plan {
        /// The service.
        service: &'static str,
        /// What was asked for, cut to 80 characters.
        given: String,
        /// What there is.
        there: String,
    },
}

/// Finds a service by name.
pub fn service(name: &str) -> Result<&'static Service, PlanError> {
    let all = || SERVICES.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    let missing = || PlanError::Service { given: name.chars().take(80).collect(), there: all() };
    SERVICES.iter().find(|s| s.name == name).ok_or_else(missing)
}

impl PlanName {
    /// Every plan of every service.
    pub fn all() -> impl Iterator<Item = Self> {
        SERVICES.iter().flat_map(|service| service.plans.iter().map(move |plan| Self { service, plan }))
    }
}

impl FromStr for PlanName {
    type Err = PlanError;
    /// Reads `service:plan`, or a service alone for its first plan.
    fn from_str(s: &str) -> Result<Self, PlanError> {
        let (name, plan) = s.split_once(':').map_or((s, None), |(name, plan)| (name, Some(plan)));
        let service = service(name)?;
        let Some(given) = plan else { return Ok(Self { service, plan: &service.plans[0] }) };
        let there = || service.plans.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let missing =
            || PlanError::Plan { service: service.name, given: given.chars().take(80).collect(), there: there() };
        service.plans.iter().find(|p| p.name == given).map(|plan| Self { service, plan }).ok_or_else(missing)
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service.name, self.plan.name)
    }
}

impl Serialize for PlanName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PlanName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl TransferKind {
    /// The letter before its number, as people name it: `b001`.
    pub fn letter(self) -> char {
        match self {
            Self::Backup => 'b',
            Self::Restore => 'r',
            Self::Copy => 'c',
        }
    }
}

/// A name like `postgresql-quiet-12345` from 64 bits of the caller's randomness.
pub fn generated_addon_name(service: &Service, random: u64) -> AddonName {
    let adjective = ADJECTIVES[(random & 0xff) as usize % ADJECTIVES.len()];
    let name = format!("{}-{adjective}-{:05}", service.prefix, (random >> 16) % 100_000);
    AddonName::parse(&name).expect("letters, dashes and digits")
}

/// The colours of attachments that got no name. Source: Heroku's own, as in `HEROKU_POSTGRESQL_AMBER_URL`.
const COLOURS: [&str; 32] = [
    "AMBER", "AQUA", "BLACK", "BLUE", "BRONZE", "BROWN", "CHARCOAL", "COBALT", "COPPER", "CRIMSON", "CYAN", "GOLD",
    "GRAY", "GREEN", "IVORY", "JADE", "MAROON", "MAUVE", "NAVY", "OLIVE", "ONYX", "ORANGE", "PINK", "PUCE", "PURPLE",
    "RED", "ROSE", "SILVER", "TEAL", "VIOLET", "WHITE", "YELLOW",
];

/// A name for an attachment that got none: `DATABASE` for the first, then `HEROKU_POSTGRESQL_<COLOUR>`, beginning at a
/// colour of the caller's choice. `taken` says whether a name cannot be had.
pub fn free_attachment_name(
    service: &Service,
    first: bool,
    random: u64,
    taken: impl Fn(&AttachmentName) -> bool,
) -> AttachmentName {
    let begin = (random % COLOURS.len() as u64) as usize;
    let colour = |i: usize| COLOURS[(begin + i) % COLOURS.len()];
    let coloured = (0..COLOURS.len()).map(|i| format!("{}_{}", service.attachment_prefix, colour(i)));
    let numbered = (2..).map(|n: u64| format!("{}_{}_{n}", service.attachment_prefix, colour(0)));
    let all = first.then(|| service.first_attachment.to_owned()).into_iter().chain(coloured).chain(numbered);
    let mut names = all.map(|name| AttachmentName::parse(&name).expect("letters, digits and underscores"));
    names.find(|name| !taken(name)).expect("numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_08_names_carry_no_metacharacters() {
        for bad in ["", "a", "1a", "a b", "a;drop", "a'b", "a\"b", "a\nb", "../x", "$(id)", "a--b;", &"a".repeat(101)] {
            assert!(AddonName::parse(bad).is_err(), "{bad:?}");
            assert!(AttachmentName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(AttachmentName::parse("main_db").unwrap().as_str(), "MAIN_DB");
        assert!(AttachmentName::parse("MAIN-DB").is_err());
    }

    #[test]
    fn plans_are_found_or_what_there_is_is_named() {
        let check = |given: &str, expected: &str| {
            let said = given.parse::<PlanName>().map_or_else(|e| e.to_string(), |plan| plan.to_string());
            assert_eq!(said, expected, "{given}");
        };
        check("heroku-postgresql", "heroku-postgresql:essential-0");
        check("heroku-postgresql:essential-0", "heroku-postgresql:essential-0");
        check("heroku-postgresql:premium-9", "heroku-postgresql has no plan \"premium-9\"; it has essential-0.");
        check("newrelic:wayne", "There is no add-on service \"newrelic\"; there is heroku-postgresql.");
    }

    #[test]
    fn attachments_without_a_name_get_a_free_one() {
        let service = &SERVICES[0];
        assert_eq!(free_attachment_name(service, true, 3, |_| false).as_str(), "DATABASE");
        assert_eq!(free_attachment_name(service, false, 3, |_| false).as_str(), "HEROKU_POSTGRESQL_BLUE");
        let blue_and_database = |n: &AttachmentName| n.as_str().ends_with("BLUE") || n.as_str() == "DATABASE";
        assert_eq!(free_attachment_name(service, true, 3, blue_and_database).as_str(), "HEROKU_POSTGRESQL_BRONZE");
        let numbered = |n: &AttachmentName| !n.as_str().ends_with("_3");
        assert_eq!(free_attachment_name(service, true, 3, numbered).as_str(), "HEROKU_POSTGRESQL_BLUE_3");
    }

    #[test]
    fn generated_names_are_names() {
        for r in (0..100_000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let name = generated_addon_name(&SERVICES[0], r);
            assert_eq!(AddonName::parse(name.as_str()).as_ref(), Ok(&name));
        }
    }
}
