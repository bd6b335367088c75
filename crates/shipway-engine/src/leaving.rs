//! People who leave: an account is removed, and what it owned is somebody else's before it goes.
//!
//! All that somebody may do hangs on the row of their account and goes with it in one transaction: tokens, sign-ins, keys,
//! access, memberships, reservations, offers, requests, notices. What is open ends by `standing`. What they did stays, under
//! their address (`store/former_accounts.rs`), and what of theirs is under way goes on.

use crate::error::Error;
use crate::pipelines::access_in;
use crate::ports::Caller;
use crate::{Event, Kind, Platform, Result};
use shipway_domain::admission::{Permission, Scope};
use shipway_domain::team::Role;
use shipway_domain::{AppId, NameOrId, Stage, TeamMemberId};
use shipway_store::{Account, Conn, Estate, LedgerEntry, Pipeline, Product, TeamMember};
use std::collections::BTreeMap;

/// Somebody who was removed.
#[derive(Debug, Clone)]
pub struct Removed {
    /// Their account, as it was.
    pub account: Account,
    /// Who has what they owned; none where they owned nothing.
    pub given_to: Option<Account>,
    /// What they owned.
    pub estate: Estate,
}

impl Platform {
    /// Removes somebody, for good: the same address is a new person when it is added again. With `give_to` everything that
    /// they own is that person's in the same transaction. Everybody may remove themselves, others only administrators.
    ///
    /// Errors: they own something and nobody is to have it (all of it is named, with the command that gives it away); the
    /// last administrator; nobody has the address or id; it is a team's.
    pub async fn remove_account(
        &self,
        caller: &Caller,
        which: &NameOrId,
        give_to: Option<&NameOrId>,
    ) -> Result<Removed> {
        let actor = &caller.actor;
        if actor.scope != Scope::Global {
            return Err(self.out_of_scope(caller, "remove anybody"));
        }
        let only = "Only an administrator may remove people and give away what is theirs. Ask one to run `shipway users remove`.";
        if !actor.admin && give_to.is_some() {
            return Err(Error::forbidden(only));
        }
        let account = match self.acquaintance(caller, which) {
            // Whether there is such a person is not theirs to learn.
            Ok(account) if !actor.admin && account.id != actor.account => return Err(Error::forbidden(only)),
            Err(e) if !actor.admin && e.kind == Kind::NotFound => return Err(Error::forbidden(only)),
            found => found?,
        };
        crate::accounts::of_a_person(&account.email)?;
        let heir = give_to.map(|to| self.acquaintance(caller, to)).transpose()?;
        if let Some(heir) = &heir {
            crate::accounts::of_a_person(&heir.email)?;
            if heir.id == account.id {
                return Err(Error::invalid(format!("{} cannot be given what is theirs when they go.", heir.email)));
            }
        }
        let (platform, caller) = (self.clone(), caller.clone());
        let removed = self.store().write(move |c| platform.take_leave(c, &caller, &account, heir.as_ref())).await??;
        for pipeline in &removed.estate.pipelines {
            self.tell(Event::Pipeline(pipeline.id));
        }
        for app in &removed.estate.apps {
            self.tell(Event::App(app.id));
        }
        self.tell(Event::Apps);
        self.inner.triggers_wanted.notify_one();
        self.review_soon();
        Ok(removed)
    }

    /// Looked at and removed in one transaction: nothing can come to be theirs in between. Inside: why not.
    fn take_leave(
        &self,
        c: &Conn<'_>,
        caller: &Caller,
        account: &Account,
        heir: Option<&Account>,
    ) -> shipway_store::Result<Result<Removed>> {
        // Two administrators may be removing each other.
        let Some(by) = c.account(&caller.actor.account.into())? else { return Ok(Err(Error::unauthorized())) };
        if by.admin != caller.actor.admin {
            return Ok(Err(Error::unauthorized()));
        }
        let account = c.account_by_id(account.id)?;
        let heir = heir.map(|heir| c.account_by_id(heir.id)).transpose()?;
        if account.admin && !c.has_other_admin(account.id)? {
            return Ok(Err(Error::invalid(format!(
                "{} is the only administrator. Make another one first: shipway users add EMAIL --admin",
                account.email
            ))));
        }
        let estate = c.estate_of(account.id)?;
        let given_to = heir.filter(|_| !estate.is_empty());
        if given_to.is_none() && !estate.is_empty() {
            return Ok(Err(Error::invalid(owns(&account, &estate))));
        }
        let rights = rights_under_way(c, &account)?;
        leave_unseen_parties(c, &account)?;
        if let Some(heir) = &given_to {
            self.hand_over(c, caller, &estate, heir)?;
        }
        c.remove_account(&account, &rights, self.now())?;
        c.record(&self.leaving(caller, &account, given_to.as_ref(), &estate))?;
        Ok(Ok(Removed { account, given_to, estate }))
    }

    fn hand_over(&self, c: &Conn<'_>, caller: &Caller, estate: &Estate, heir: &Account) -> shipway_store::Result<()> {
        let now = self.now();
        for app in &estate.apps {
            self.handover(app, heir).write(c)?;
            c.record(&self.transfer_entry(caller, app, heir, "app-transferred"))?;
        }
        for pipeline in &estate.pipelines {
            let (owner, owner_email) = (heir.id, heir.email.clone());
            c.update_pipeline(&Pipeline { owner, owner_email, updated_at: now, ..pipeline.clone() })?;
        }
        for product in &estate.products {
            let (owner, owner_email) = (heir.id, heir.email.clone());
            c.update_product(&Product { owner, owner_email, updated_at: now, ..product.clone() })?;
        }
        for team in &estate.teams {
            let known = c.team_members(team.id)?.into_iter().find(|member| member.account == heir.id);
            let member = known.unwrap_or_else(|| TeamMember {
                id: self.id(TeamMemberId),
                account: heir.id,
                email: heir.email.clone(),
                role: Role::Admin,
                created_at: now,
                updated_at: now,
            });
            c.put_team_member(team.id, &TeamMember { role: Role::Admin, updated_at: now, ..member })?;
        }
        Ok(())
    }

    fn leaving(&self, caller: &Caller, account: &Account, to: Option<&Account>, estate: &Estate) -> LedgerEntry {
        let detail = serde_json::json!({
            "email": account.email, "admin": account.admin, "given_to": to.map(|to| &to.email),
            "apps": estate.apps.iter().map(|app| &app.name).collect::<Vec<_>>(),
            "pipelines": estate.pipelines.iter().map(|pipeline| &pipeline.name).collect::<Vec<_>>(),
            "products": estate.products.iter().map(|product| &product.name).collect::<Vec<_>>(),
            "teams": estate.teams.iter().map(|team| &team.name).collect::<Vec<_>>(),
        });
        self.entry(caller, None, "account-removed", detail)
    }
}

/// What somebody may do with the apps of their operations that are under way.
fn rights_under_way(c: &Conn<'_>, account: &Account) -> shipway_store::Result<BTreeMap<AppId, Permission>> {
    let mut rights = BTreeMap::new();
    for operation in c.open_operations()?.into_iter().filter(|operation| operation.account == account.id) {
        for id in operation.apps {
            let Some(app) = c.app(&id.into())? else { continue };
            let permission = if account.admin { Some(Permission::Manage) } else { c.permission(&app, account.id)? };
            rights.extend(permission.map(|permission| (id, permission)));
        }
    }
    Ok(rights)
}

/// What somebody signed who does not see the pipeline any more counts no more; with their going it must not count again.
fn leave_unseen_parties(c: &Conn<'_>, account: &Account) -> shipway_store::Result<()> {
    for pipeline in c.pipelines()? {
        for stage in Stage::ALL {
            let named = c.sign_off_parties(pipeline.id, stage)?.iter().any(|rule| rule.people.contains(&account.id));
            if named && access_in(c, (account.id, account.admin), &pipeline)?.is_none() {
                c.leave_parties(pipeline.id, stage, account.id)?;
            }
        }
    }
    Ok(())
}

/// What somebody owns, each with the command that gives it away. A pipeline's come first: its owner's apps go with it.
fn owns(account: &Account, estate: &Estate) -> String {
    let email = &account.email;
    let mut text = format!(
        "{email} owns what nobody would own without them. Give all of it to somebody: shipway users remove {email} --give-to \
         EMAIL. Or each by itself:"
    );
    for pipeline in &estate.pipelines {
        text += &format!("\n  pipeline {0}: heroku pipelines:transfer EMAIL -p {0} -c {0}", pipeline.name);
    }
    for app in &estate.apps {
        text += &format!("\n  app {0}: heroku apps:transfer EMAIL -a {0} -c {0}", app.name);
    }
    for team in &estate.teams {
        text += &format!("\n  the only admin of team {0}: heroku members:add EMAIL -r admin -t {0}", team.name);
    }
    for product in &estate.products {
        text += &format!("\n  product {}: only with --give-to", product.name);
    }
    text
}
