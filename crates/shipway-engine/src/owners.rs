//! Apps that go from one owner to another, and people who ask for access.
//!
//! To a person an app is offered, and is theirs when they take it; to a team it goes at once, because whoever gives it is
//! in the team.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use jiff::Timestamp;
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::team::TransferState;
use shipway_domain::{AppTransferId, CollaboratorId, NameOrId};
use shipway_store::{AccessRequest, Account, App, AppTransfer, Collaborator, Conn};

/// Most requests for access to one app that wait for an answer.
const MAX_REQUESTS: usize = 100;

/// An app on its way: what is written when it gets there.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    app: App,
    to: Account,
    /// What the giver keeps.
    keeps: Option<Collaborator>,
    at: Timestamp,
}

impl Handover {
    /// Gives the app its new owner. A person who gave it works on it still; from a team to a person it goes alone.
    pub(crate) fn write(&self, c: &Conn<'_>) -> shipway_store::Result<App> {
        let mut app = c.app_by_id(self.app.id)?;
        if self.keeps.is_none() && self.to.email.team().is_none() {
            for collaborator in c.collaborators(app.id)? {
                c.delete_collaborator(app.id, collaborator.account)?;
            }
        }
        c.delete_collaborator(app.id, self.to.id)?;
        c.delete_access_request(app.id, self.to.id)?;
        c.delete_pending_transfers(app.id)?;
        if let Some(keeps) = &self.keeps {
            c.put_collaborator(app.id, keeps)?;
        }
        app.owner = self.to.id;
        app.owner_email = self.to.email.clone();
        app.settings.locked &= self.to.email.team().is_some();
        app.updated_at = self.at;
        c.update_app(&app)?;
        Ok(app)
    }
}

impl Platform {
    pub(crate) fn handover(&self, app: &App, to: &Account) -> Handover {
        let now = self.now();
        let keeps = app.owner_email.team().is_none().then(|| Collaborator {
            id: self.id(CollaboratorId),
            account: app.owner,
            email: app.owner_email.clone(),
            permission: Permission::Operate,
            created_at: now,
            updated_at: now,
        });
        Handover { app: app.clone(), to: to.clone(), keeps, at: now }
    }

    /// Gives an app to a team, or a team's app to somebody. Errors: the caller may not manage it; it is theirs already.
    pub async fn transfer_app(&self, caller: &Caller, app: &App, to: &Account) -> Result<App> {
        self.admit(caller, Trigger::Access, app).await?;
        not_to_its_owner(app, to)?;
        let handover = self.handover(app, to);
        let entry = self.transfer_entry(caller, app, to, "app-transferred");
        let moved = self
            .write_with(entry, move |c| {
                let moved = handover.write(c)?;
                Ok(moved)
            })
            .await?;
        self.tell(Event::App(app.id));
        Ok(moved)
    }

    pub(crate) fn transfer_entry(
        &self,
        caller: &Caller,
        app: &App,
        to: &Account,
        action: &str,
    ) -> shipway_store::LedgerEntry {
        let detail = serde_json::json!({ "from": app.owner_email, "to": to.email });
        self.entry(caller, Some(app), action, detail)
    }

    /// Offers an app to somebody; it is theirs when they take it, or at once when they are the caller.
    /// Errors: the caller may not manage it; it is theirs already.
    pub async fn offer_app(&self, caller: &Caller, app: &App, to: &Account) -> Result<AppTransfer> {
        self.admit(caller, Trigger::Access, app).await?;
        not_to_its_owner(app, to)?;
        let now = self.now();
        let mut transfer = AppTransfer {
            id: self.id(AppTransferId),
            app: app.id,
            app_name: app.name.clone(),
            owner: app.owner,
            owner_email: app.owner_email.clone(),
            recipient: to.id,
            recipient_email: to.email.clone(),
            state: TransferState::Pending,
            created_at: now,
            updated_at: now,
        };
        let entry = self.transfer_entry(caller, app, to, "app-offered");
        let row = transfer.clone();
        self.write_with(entry, move |c| {
            // One offer at a time: the last one counts.
            c.delete_pending_transfers(row.app)?;
            c.put_app_transfer(&row)
        })
        .await?;
        if to.id == caller.actor.account {
            transfer = self.answer_transfer(caller, transfer, TransferState::Accepted).await?;
        }
        self.tell(Event::App(app.id));
        Ok(transfer)
    }

    /// The transfers that the caller gave or was offered, oldest first.
    pub fn app_transfers(&self, caller: &Caller) -> Result<Vec<AppTransfer>> {
        if !caller.actor.scope.reads_widely() {
            return Ok(Vec::new());
        }
        Ok(self.store().read(|c| c.app_transfers_of(caller.actor.account))?)
    }

    /// One of them, by its id or the app's name. Errors: there is none.
    pub fn app_transfer(&self, caller: &Caller, which: &str) -> Result<AppTransfer> {
        let found = self.app_transfers(caller)?.into_iter().rfind(|t| {
            t.id.to_string() == which || (t.app_name.as_str() == which && t.state == TransferState::Pending)
        });
        found.ok_or_else(|| Error::missing("app_transfer"))
    }

    /// Takes an app that the caller was offered, or does not. Errors: it is not theirs to say, or it is over.
    pub async fn answer_transfer(
        &self,
        caller: &Caller,
        transfer: AppTransfer,
        state: TransferState,
    ) -> Result<AppTransfer> {
        if transfer.recipient != caller.actor.account || !caller.actor.scope.writes() {
            return Err(Error::forbidden(format!(
                "{} was offered to {}: only they can take it.",
                transfer.app_name, transfer.recipient_email
            )));
        }
        if transfer.state != TransferState::Pending || state == TransferState::Pending {
            return Err(Error::invalid(format!(
                "The transfer of {} is {} already.",
                transfer.app_name, transfer.state
            )));
        }
        let (app, to) =
            self.store().read(|c| Ok((c.app_by_id(transfer.app)?, c.account_by_id(transfer.recipient)?)))?;
        let action = if state == TransferState::Accepted { "app-transferred" } else { "app-declined" };
        let entry = self.transfer_entry(caller, &app, &to, action);
        let handover = (state == TransferState::Accepted).then(|| self.handover(&app, &to));
        let answered = AppTransfer { state, updated_at: self.now(), ..transfer };
        let row = answered.clone();
        let written = self.store().write(move |c| {
            let there = c.app_transfers_of(row.recipient)?.into_iter().find(|t| t.id == row.id);
            if there.is_none_or(|t| t.state != TransferState::Pending) {
                return Ok(false);
            }
            c.put_app_transfer(&row)?;
            if let Some(handover) = &handover {
                handover.write(c)?;
            }
            c.record(&entry)?;
            Ok(true)
        });
        if !written.await? {
            return Err(Error::missing("app_transfer"));
        }
        self.tell(Event::App(answered.app));
        Ok(answered)
    }

    /// Takes an offer back. Errors: the caller may not manage the app; it was answered.
    pub async fn withdraw_transfer(&self, caller: &Caller, transfer: &AppTransfer) -> Result<()> {
        let app = self.store().read(|c| c.app_by_id(transfer.app))?;
        self.admit(caller, Trigger::Access, &app).await?;
        if transfer.state != TransferState::Pending {
            return Err(Error::invalid(format!(
                "The transfer of {} is {} already.",
                transfer.app_name, transfer.state
            )));
        }
        let detail = serde_json::json!({ "to": transfer.recipient_email });
        let entry = self.entry(caller, Some(&app), "app-offer-withdrawn", detail);
        let id = transfer.id;
        self.write_with(entry, move |c| c.delete_app_transfer(id)).await?;
        self.tell(Event::App(app.id));
        Ok(())
    }

    /// Locks a team's app, so that members who were not let in one by one only look; or unlocks it.
    pub async fn lock_app(&self, caller: &Caller, app: &App, locked: bool) -> Result<App> {
        self.admit(caller, Trigger::Access, app).await?;
        if app.owner_email.team().is_none() {
            return Err(Error::invalid(format!("{} is no team's, so there is nobody to lock out.", app.name)));
        }
        let action = if locked { "app-locked" } else { "app-unlocked" };
        let entry = self.entry(caller, Some(app), action, serde_json::json!({}));
        let (id, now) = (app.id, self.now());
        let changed = self
            .write_with(entry, move |c| {
                let mut app = c.app_by_id(id)?;
                app.settings.locked = locked;
                app.updated_at = now;
                c.update_app(&app)?;
                Ok(app)
            })
            .await?;
        self.tell(Event::App(id));
        Ok(changed)
    }

    /// Asks whoever may manage an app for access to it. The answer is the same whether there is such an app or not:
    /// what one may not see does not exist.
    pub async fn ask_for_access(&self, caller: &Caller, name: &str) -> Result<()> {
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, "ask for access"));
        }
        let Some(app) = self.store().read(|c| c.app(&NameOrId::Name(name.into())))? else { return Ok(()) };
        if self.subject(caller, &app)?.permission >= Some(Permission::Operate) {
            return Ok(());
        }
        let request = AccessRequest {
            app: app.id,
            account: caller.actor.account,
            email: shipway_domain::Email::parse(&caller.actor.email)?,
            created_at: self.now(),
        };
        let entry = self.entry(caller, Some(&app), "access-asked", serde_json::json!({}));
        self.store()
            .write(move |c| {
                let there = c.access_requests(request.app)?;
                if there.len() >= MAX_REQUESTS || there.iter().any(|r| r.account == request.account) {
                    return Ok(());
                }
                c.put_access_request(&request)?;
                c.record(&entry)
            })
            .await?;
        self.tell(Event::App(app.id));
        Ok(())
    }

    /// Whether the caller waits for an answer to [`Self::ask_for_access`].
    pub fn has_asked(&self, caller: &Caller, app: &App) -> Result<bool> {
        let all = self.store().read(|c| c.access_requests(app.id))?;
        Ok(all.iter().any(|r| r.account == caller.actor.account))
    }

    /// Who asks for access to an app, for those who may give it; others see none.
    pub fn access_requests(&self, caller: &Caller, app: &App) -> Result<Vec<AccessRequest>> {
        let may = caller.actor.admin || self.subject(caller, app)?.permission == Some(Permission::Manage);
        if !may || !caller.actor.scope.reads_widely() {
            return Ok(Vec::new());
        }
        Ok(self.store().read(|c| c.access_requests(app.id))?)
    }

    /// Tells somebody who asks for access no. To say yes is [`Self::give_access`].
    pub async fn decline_access(&self, caller: &Caller, app: &App, email: &str) -> Result<()> {
        self.admit(caller, Trigger::Access, app).await?;
        let all = self.store().read(|c| c.access_requests(app.id))?;
        let request = all.into_iter().find(|r| r.email.as_str() == email);
        let request = request.ok_or_else(|| Error::missing("access_request"))?;
        let entry = self.entry(caller, Some(app), "access-declined", serde_json::json!({ "email": request.email }));
        self.write_with(entry, move |c| c.delete_access_request(request.app, request.account)).await?;
        self.tell(Event::App(app.id));
        Ok(())
    }
}

fn not_to_its_owner(app: &App, to: &Account) -> Result<()> {
    match app.owner == to.id {
        true => Err(Error::invalid(format!("{} owns {} already.", to.email.to_ask(), app.name))),
        false => Ok(()),
    }
}
