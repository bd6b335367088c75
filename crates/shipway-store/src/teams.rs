//! Teams, apps on their way to another owner, and who asks for access.

use crate::{Conn, Result, micros, parsed, time, unique, word};
use jiff::Timestamp;
use rusqlite::{Row, params};
use shipway_domain::team::{Role, TeamName, TransferState};
use shipway_domain::{AccountId, AppId, AppName, AppTransferId, Email, NameOrId, TeamMemberId};

/// A team.
#[derive(Debug, Clone)]
pub struct Team {
    /// The account by which it owns.
    pub id: AccountId,
    /// Its name; can change.
    pub name: TeamName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Somebody in a team.
#[derive(Debug, Clone)]
pub struct TeamMember {
    /// The membership's id.
    pub id: TeamMemberId,
    /// Who.
    pub account: AccountId,
    /// Their address.
    pub email: Email,
    /// What they are in it.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An app on its way to another owner.
#[derive(Debug, Clone)]
pub struct AppTransfer {
    /// Its id.
    pub id: AppTransferId,
    /// The app.
    pub app: AppId,
    /// The app's name.
    pub app_name: AppName,
    /// Who gives it.
    pub owner: AccountId,
    /// Their address.
    pub owner_email: Email,
    /// Who is to have it.
    pub recipient: AccountId,
    /// Their address.
    pub recipient_email: Email,
    /// Whether they took it.
    pub state: TransferState,
    /// When it was offered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Somebody who asks for access to an app.
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// The app.
    pub app: AppId,
    /// Who.
    pub account: AccountId,
    /// Their address.
    pub email: Email,
    /// Since when.
    pub created_at: Timestamp,
}

/// The apps that the account `?1` may see.
pub(crate) const VISIBLE: &str = "(apps.owner_id = ?1
    OR apps.id IN (SELECT app_id FROM collaborators WHERE account_id = ?1)
    OR apps.owner_id IN (SELECT team_id FROM team_members WHERE account_id = ?1 AND role <> 'collaborator'))";
const MEMBER: &str = "SELECT m.*, a.email FROM team_members m JOIN accounts a ON a.id = m.account_id";
const TRANSFER: &str = "SELECT t.*, apps.name AS app_name, o.email AS owner_email, r.email AS recipient_email
    FROM app_transfers t JOIN apps ON apps.id = t.app_id JOIN accounts o ON o.id = t.owner_id
    JOIN accounts r ON r.id = t.recipient_id";

pub(crate) fn team(row: &Row<'_>) -> rusqlite::Result<Team> {
    Ok(Team {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn member(row: &Row<'_>) -> rusqlite::Result<TeamMember> {
    Ok(TeamMember {
        id: parsed(row, "id")?,
        account: parsed(row, "account_id")?,
        email: parsed(row, "email")?,
        role: word(row, "role", Role::from_text)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn transfer(row: &Row<'_>) -> rusqlite::Result<AppTransfer> {
    Ok(AppTransfer {
        id: parsed(row, "id")?,
        app: parsed(row, "app_id")?,
        app_name: parsed(row, "app_name")?,
        owner: parsed(row, "owner_id")?,
        owner_email: parsed(row, "owner_email")?,
        recipient: parsed(row, "recipient_id")?,
        recipient_email: parsed(row, "recipient_email")?,
        state: word(row, "state", TransferState::from_text)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

impl Conn<'_> {
    /// Adds a team, whose account is there, or writes its name. Errors: `Taken`.
    pub fn put_team(&self, t: &Team) -> Result<()> {
        self.execute(
            "INSERT INTO teams (id, name, created_at, updated_at) VALUES (?1,?2,?3,?4)
             ON CONFLICT (id) DO UPDATE SET name = ?2, updated_at = ?4",
            params![t.id.to_string(), t.name.as_str(), micros(t.created_at), micros(t.updated_at)],
        )
        .map_err(unique("team name"))?;
        self.execute(
            "UPDATE accounts SET email = ? WHERE id = ?",
            params![t.name.address().as_str(), t.id.to_string()],
        )
        .map_err(unique("team name"))?;
        Ok(())
    }

    /// Removes a team with its account. Errors: it owns something.
    pub fn delete_team(&self, id: AccountId) -> Result<()> {
        self.execute("DELETE FROM accounts WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Finds a team by id or name.
    pub fn team(&self, which: &NameOrId) -> Result<Option<Team>> {
        self.named("SELECT * FROM teams", "teams", which, team)
    }

    /// All teams by name.
    pub fn teams(&self) -> Result<Vec<Team>> {
        self.rows("SELECT * FROM teams ORDER BY name", [], team)
    }

    /// What somebody is in a team; also whether an account is a team's: it is nothing in a person's.
    pub fn role(&self, team: AccountId, account: AccountId) -> Result<Option<Role>> {
        let role = |row: &Row<'_>| word(row, "role", Role::from_text);
        self.row(
            "SELECT role FROM team_members WHERE team_id = ? AND account_id = ?",
            [team.to_string(), account.to_string()],
            role,
        )
    }

    /// Takes somebody into a team, or changes what they are in it.
    pub fn put_team_member(&self, team: AccountId, m: &TeamMember) -> Result<()> {
        self.execute(
            "INSERT INTO team_members (id, team_id, account_id, role, created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6) ON CONFLICT (team_id, account_id) DO UPDATE SET role = ?4, updated_at = ?6",
            params![
                m.id.to_string(),
                team.to_string(),
                m.account.to_string(),
                m.role.as_str(),
                micros(m.created_at),
                micros(m.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Takes somebody out of a team.
    pub fn delete_team_member(&self, team: AccountId, account: AccountId) -> Result<()> {
        self.execute(
            "DELETE FROM team_members WHERE team_id = ? AND account_id = ?",
            [team.to_string(), account.to_string()],
        )?;
        Ok(())
    }

    /// The people of a team, by address.
    pub fn team_members(&self, team: AccountId) -> Result<Vec<TeamMember>> {
        self.rows(&format!("{MEMBER} WHERE m.team_id = ? ORDER BY a.email"), [team.to_string()], member)
    }

    /// Whether an account owns an app, a pipeline or a product.
    pub fn owns_something(&self, account: AccountId) -> Result<bool> {
        self.value(
            "SELECT EXISTS (SELECT 1 FROM apps WHERE owner_id = ?1) OR EXISTS (SELECT 1 FROM pipelines
             WHERE owner_id = ?1) OR EXISTS (SELECT 1 FROM products WHERE owner_id = ?1)",
            [account.to_string()],
        )
    }

    /// Adds a transfer, or writes its state.
    pub fn put_app_transfer(&self, t: &AppTransfer) -> Result<()> {
        self.execute(
            "INSERT INTO app_transfers (id, app_id, owner_id, recipient_id, state, created_at, updated_at)
             VALUES (?1,?2,?3,?4,?5,?6,?7) ON CONFLICT (id) DO UPDATE SET state = ?5, updated_at = ?7",
            params![
                t.id.to_string(),
                t.app.to_string(),
                t.owner.to_string(),
                t.recipient.to_string(),
                t.state.as_str(),
                micros(t.created_at),
                micros(t.updated_at)
            ],
        )?;
        Ok(())
    }

    /// Takes an offer back.
    pub fn delete_app_transfer(&self, id: AppTransferId) -> Result<()> {
        self.execute("DELETE FROM app_transfers WHERE id = ?", [id.to_string()])?;
        Ok(())
    }

    /// Forgets the offers of an app that nobody has answered.
    pub fn delete_pending_transfers(&self, app: AppId) -> Result<()> {
        self.execute("DELETE FROM app_transfers WHERE app_id = ? AND state = 'pending'", [app.to_string()])?;
        Ok(())
    }

    /// The transfers that an account gave or was offered, oldest first.
    pub fn app_transfers_of(&self, account: AccountId) -> Result<Vec<AppTransfer>> {
        self.rows(
            &format!("{TRANSFER} WHERE t.owner_id = ?1 OR t.recipient_id = ?1 ORDER BY t.created_at, t.id"),
            [account.to_string()],
            transfer,
        )
    }

    /// Writes down that somebody asks for access; a second time does nothing.
    pub fn put_access_request(&self, r: &AccessRequest) -> Result<()> {
        self.execute(
            "INSERT OR IGNORE INTO access_requests (app_id, account_id, created_at) VALUES (?,?,?)",
            params![r.app.to_string(), r.account.to_string(), micros(r.created_at)],
        )?;
        Ok(())
    }

    /// Forgets that somebody asked.
    pub fn delete_access_request(&self, app: AppId, account: AccountId) -> Result<()> {
        self.execute(
            "DELETE FROM access_requests WHERE app_id = ? AND account_id = ?",
            [app.to_string(), account.to_string()],
        )?;
        Ok(())
    }

    /// Who asks for access to an app, oldest first.
    pub fn access_requests(&self, app: AppId) -> Result<Vec<AccessRequest>> {
        self.rows(
            "SELECT r.*, a.email FROM access_requests r JOIN accounts a ON a.id = r.account_id WHERE r.app_id = ?
             ORDER BY r.created_at, a.email",
            [app.to_string()],
            |row| {
                Ok(AccessRequest {
                    app: parsed(row, "app_id")?,
                    account: parsed(row, "account_id")?,
                    email: parsed(row, "email")?,
                    created_at: time(row, "created_at")?,
                })
            },
        )
    }
}
