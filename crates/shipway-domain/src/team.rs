//! Teams: groups of people that own apps and pipelines together.

use crate::admission::Permission;
use crate::lifecycle::states;
use crate::names::{Email, NameError, check_label, name};

/// The host of the addresses by which teams own things. The official CLI tells a team's apps by it.
const HOST: &str = "herokumanager.com";

name! {
    /// A team's name: like a pipeline's.
    TeamName, |s| {
        check_label("team name", s, 3..=30)?;
        // All are words of the API's paths.
        if ["apps", "permissions", "invitations"].contains(&s) {
            return Err(NameError::new("team name", s, "is reserved for the platform"));
        }
        Ok(s.to_string())
    }
}

impl TeamName {
    /// The address of the team's account. Nobody reads mail there.
    pub fn address(&self) -> Email {
        Email::parse(&format!("{self}@{HOST}")).expect("a team's name is the left part of an address")
    }
}

impl Email {
    /// The team whose address it is; none is a person's.
    pub fn team(&self) -> Option<&str> {
        self.as_str().strip_suffix(HOST)?.strip_suffix('@')
    }

    /// Whom to ask, in words: a person's address, or the admins of a team.
    pub fn to_ask(&self) -> String {
        match self.team() {
            Some(team) => format!("an admin of the team {team}"),
            None => self.to_string(),
        }
    }
}

states! {
    /// What somebody is in a team. Source: Heroku Platform API, "Team Member".
    Role {
        /// Does everything with everything of the team's, and says who is in it.
        Admin = "admin",
        /// Works on all apps that are not locked, and makes new ones.
        Member = "member",
        /// Looks.
        Viewer = "viewer",
        /// Has what single apps give.
        Collaborator = "collaborator",
    }
}

impl Role {
    /// Reads a role. Errors: none of the four.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let bad = || NameError::new("role", s, "must be one of admin, member, viewer, collaborator");
        Self::from_text(s).ok_or_else(bad)
    }

    /// What it allows with an app of the team's.
    pub fn permission(self, locked: bool) -> Option<Permission> {
        match self {
            Self::Admin => Some(Permission::Manage),
            Self::Member if !locked => Some(Permission::Operate),
            Self::Member | Self::Viewer => Some(Permission::View),
            Self::Collaborator => None,
        }
    }

    /// Whether it may give the team apps and pipelines.
    pub fn contributes(self) -> bool {
        matches!(self, Self::Admin | Self::Member)
    }
}

states! {
    /// The state of an app on its way to another owner. Source: Heroku Platform API, "App Transfer".
    TransferState {
        /// The recipient has not answered.
        Pending = "pending",
        /// The app is the recipient's.
        Accepted = "accepted",
        /// The recipient does not want it.
        Declined = "declined",
    }
}

impl TransferState {
    /// Reads a state. Errors: none of the three.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        let bad = || NameError::new("state", s, "must be one of pending, accepted, declined");
        Self::from_text(s).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_owns_by_an_address_that_no_person_has() {
        let team = TeamName::parse("acme").unwrap();
        assert_eq!(team.address().team(), Some("acme"));
        assert_eq!(team.address().to_ask(), "an admin of the team acme");
        let person = Email::parse("ida@example.org").unwrap();
        assert_eq!((person.team(), person.to_ask().as_str()), (None, "ida@example.org"));
        assert_eq!(Email::parse("ida@notherokumanager.com").unwrap().team(), None);
        assert!(TeamName::parse("apps").is_err() && TeamName::parse("Acme").is_err());
    }

    #[test]
    fn roles_allow_what_they_say() {
        let check = |role: Role, open: Option<Permission>, locked: Option<Permission>| {
            assert_eq!((role.permission(false), role.permission(true)), (open, locked), "{role}");
        };
        check(Role::Admin, Some(Permission::Manage), Some(Permission::Manage));
        check(Role::Member, Some(Permission::Operate), Some(Permission::View));
        check(Role::Viewer, Some(Permission::View), Some(Permission::View));
        check(Role::Collaborator, None, None);
    }
}
