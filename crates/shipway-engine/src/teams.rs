//! Teams: make, rename, end; who is in them and as what.
//!
//! A team owns by an account of its own, so that an app's owner is one thing wherever it matters. What its people may do
//! with its apps follows from their roles (`domain/team.rs`); who administers the platform is an admin of every team.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use shipway_domain::team::{Role, TeamName};
use shipway_domain::{AccountId, Email, NameOrId, TeamMemberId};
use shipway_store::{Account, App, Team, TeamMember};

impl Platform {
    /// The teams that the caller is in, by name, with what they are there; all for administrators of the platform.
    pub fn teams(&self, caller: &Caller) -> Result<Vec<(Team, Role)>> {
        if !caller.actor.scope.reads_widely() {
            return Ok(Vec::new());
        }
        let mut mine = Vec::new();
        for team in self.store().read(|c| c.teams())? {
            if let Some(role) = self.role(caller, team.id)? {
                mine.push((team, role));
            }
        }
        Ok(mine)
    }

    /// A team that the caller is in, and as what. To others it does not exist.
    pub fn team(&self, caller: &Caller, which: &NameOrId) -> Result<(Team, Role)> {
        let found = self.store().read(|c| c.team(which))?.filter(|_| caller.actor.scope.reads_widely());
        let missing = || Error::missing_named("team", which, "`heroku teams` lists those that you are in.");
        let team = found.ok_or_else(missing)?;
        let role = self.role(caller, team.id)?.ok_or_else(missing)?;
        Ok((team, role))
    }

    fn role(&self, caller: &Caller, team: AccountId) -> Result<Option<Role>> {
        match caller.actor.admin {
            true => Ok(Some(Role::Admin)),
            false => Ok(self.store().read(|c| c.role(team, caller.actor.account))?),
        }
    }

    /// The account by which a team owns. Errors: the caller is not in it, or may not give it anything.
    pub fn team_account(&self, caller: &Caller, which: &NameOrId) -> Result<Account> {
        let (team, role) = self.team(caller, which)?;
        if !role.contributes() {
            return Err(Error::forbidden(format!(
                "You ({}) are a {role} of the team {}; its admins and members make and bring its apps. Ask {}.",
                caller.actor.email,
                team.name,
                team.name.address().to_ask()
            )));
        }
        Ok(self.store().read(|c| c.account_by_id(team.id))?)
    }

    /// Makes a team with the caller as its admin. Errors: an illegal or taken name; a token that changes nothing.
    pub async fn create_team(&self, caller: &Caller, name: &str) -> Result<Team> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "create teams"));
        }
        let name = TeamName::parse(name)?;
        let now = self.now();
        let account = self.account_record(&name.address(), None, false);
        let team = Team { id: account.id, name, created_at: now, updated_at: now };
        let first = TeamMember {
            id: self.id(TeamMemberId),
            account: caller.actor.account,
            email: Email::parse(&caller.actor.email)?,
            role: Role::Admin,
            created_at: now,
            updated_at: now,
        };
        let entry = self.entry(caller, None, "team-created", serde_json::json!({ "team": team.name }));
        let row = team.clone();
        let written = self.write_with(entry, move |c| {
            c.insert_account(&account)?;
            c.put_team(&row)?;
            c.put_team_member(row.id, &first)
        });
        written.await.map_err(Error::if_taken("team", &team.name))?;
        Ok(team)
    }

    /// Renames a team. Errors: an illegal or taken name; the caller is no admin of it.
    pub async fn rename_team(&self, caller: &Caller, team: &Team, name: &str) -> Result<Team> {
        self.may_lead(caller, team)?;
        let renamed = Team { name: TeamName::parse(name)?, updated_at: self.now(), ..team.clone() };
        let detail = serde_json::json!({ "team": team.name, "name": renamed.name });
        let entry = self.entry(caller, None, "team-renamed", detail);
        let row = renamed.clone();
        let written = self.write_with(entry, move |c| c.put_team(&row));
        written.await.map_err(Error::if_taken("team", &renamed.name))?;
        self.tell(Event::Apps);
        Ok(renamed)
    }

    /// Ends a team. Errors: it owns something; the caller is no admin of it.
    pub async fn destroy_team(&self, caller: &Caller, team: &Team) -> Result<()> {
        self.may_lead(caller, team)?;
        let entry = self.entry(caller, None, "team-destroyed", serde_json::json!({ "team": team.name }));
        let id = team.id;
        let ended = self.store().write(move |c| {
            // Asked inside: nothing can come to it meanwhile.
            if c.owns_something(id)? {
                return Ok(false);
            }
            c.delete_team(id)?;
            c.record(&entry)?;
            Ok(true)
        });
        match ended.await? {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "The team {0} has apps or pipelines. Give them away first: heroku apps:transfer, pipelines:transfer.",
                team.name
            ))),
        }
    }

    /// The people of a team.
    pub fn team_members(&self, team: &Team) -> Result<Vec<TeamMember>> {
        Ok(self.store().read(|c| c.team_members(team.id))?)
    }

    /// Takes somebody into a team, or changes what they are in it. For an unknown address an account is made, and its
    /// first token returned: the invitation.
    ///
    /// Errors: the caller is no admin of it; its last admin would be none any more.
    pub async fn put_team_member(
        &self,
        caller: &Caller,
        team: &Team,
        email: &str,
        role: Role,
    ) -> Result<(TeamMember, Option<String>)> {
        self.may_lead(caller, team)?;
        let email = Email::parse(email)?;
        let known = self.team_members(team)?.into_iter().find(|m| m.email == email);
        if role != Role::Admin
            && let Some(member) = &known
        {
            self.not_the_last(team, member)?;
        }
        let (account, invitation) = self.account_or_invitation(caller, &email).await?;
        let now = self.now();
        let member = TeamMember {
            id: known.as_ref().map_or_else(|| self.id(TeamMemberId), |m| m.id),
            account: account.id,
            email,
            role,
            created_at: known.map_or(now, |m| m.created_at),
            updated_at: now,
        };
        let detail = serde_json::json!({ "team": team.name, "email": member.email, "role": role });
        let entry = self.entry(caller, None, "team-member-set", detail);
        let (id, row) = (team.id, member.clone());
        self.write_with(entry, move |c| c.put_team_member(id, &row)).await?;
        self.tell(Event::Apps);
        Ok((member, invitation))
    }

    /// Takes somebody out of a team, by address or id. Everybody may leave. Errors: the last admin.
    pub async fn remove_team_member(&self, caller: &Caller, team: &Team, which: &str) -> Result<TeamMember> {
        let member = self.team_member(team, which)?;
        if member.account != caller.actor.account || !caller.actor.scope.writes() {
            self.may_lead(caller, team)?;
        }
        self.not_the_last(team, &member)?;
        let detail = serde_json::json!({ "team": team.name, "email": member.email });
        let entry = self.entry(caller, None, "team-member-removed", detail);
        let (id, account) = (team.id, member.account);
        self.write_with(entry, move |c| c.delete_team_member(id, account)).await?;
        self.tell(Event::Apps);
        Ok(member)
    }

    /// Somebody in a team, by address or id.
    pub fn team_member(&self, team: &Team, which: &str) -> Result<TeamMember> {
        let is = |m: &TeamMember| {
            m.email.as_str() == which.to_ascii_lowercase()
                || m.id.to_string() == which
                || m.account.to_string() == which
        };
        let next = || format!("`heroku members -t {}` lists who there is.", team.name);
        let found = self.team_members(team)?.into_iter().find(is);
        found.ok_or_else(|| Error::missing_one("team_member", which, &next()))
    }

    /// A team's apps that the caller may see.
    pub fn team_apps(&self, caller: &Caller, team: &Team) -> Result<Vec<App>> {
        let apps = self.store().read(|c| c.apps_of(team.id))?;
        let seen = |app: &App| self.app(caller, &app.id.into()).is_ok();
        Ok(apps.into_iter().filter(|app| app.owner == team.id && seen(app)).collect())
    }

    fn not_the_last(&self, team: &Team, member: &TeamMember) -> Result<()> {
        let admins = self.team_members(team)?.iter().filter(|m| m.role == Role::Admin).count();
        match member.role == Role::Admin && admins == 1 {
            true => Err(Error::invalid(format!(
                "{} is the only admin of the team {1}. Make somebody else one first: heroku members:set EMAIL -r admin -t {1}",
                member.email, team.name
            ))),
            false => Ok(()),
        }
    }

    /// Errors: the caller is no admin of the team, or the token changes nothing.
    fn may_lead(&self, caller: &Caller, team: &Team) -> Result<()> {
        if caller.actor.scope.writes() && self.role(caller, team.id)? == Some(Role::Admin) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "You ({}) may not change the team {}. Ask {}.",
            caller.actor.email,
            team.name,
            self.admins(team)?
        )))
    }

    fn admins(&self, team: &Team) -> Result<String> {
        let admins = self.team_members(team)?.into_iter().filter(|m| m.role == Role::Admin);
        Ok(admins.map(|m| m.email.to_string()).collect::<Vec<_>>().join(" or "))
    }
}
