//! Tunnels: connections from elsewhere to a database, by whoever may use its password.

use crate::addons::failed;
use crate::error::Error;
use crate::ports::{AddonFailure, Caller};
use crate::{Platform, Result, Within};
use shipway_domain::{AccountId, AddonId};
use shipway_store::{Addon, App};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// For a database to take a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Tunnels of one person at a time: all the connections of two databases.
const MOST_OF_ONE: usize = 40;
/// Tunnels at a time. Each takes two sockets and some 64 KiB.
const MOST: usize = 400;

/// A connection to an add-on. It counts until it is dropped.
pub struct Tunnel {
    /// The database's end: what it says, and what it is told.
    pub stream: TcpStream,
    _place: Place,
}

/// How many tunnels there are, by person.
#[derive(Clone, Default)]
pub(crate) struct Tunnels(Arc<Mutex<HashMap<AccountId, usize>>>);

/// One of them.
struct Place {
    tunnels: Tunnels,
    account: AccountId,
}

impl Tunnels {
    /// Errors: [`MOST_OF_ONE`], [`MOST`].
    fn take(&self, account: AccountId) -> Result<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&account).copied().unwrap_or(0);
        if own >= MOST_OF_ONE {
            return Err(Error::conflict(format!(
                "You have {own} tunnels to databases open, and more are not to be had. Close one and try again."
            )));
        }
        if all >= MOST {
            return Err(Error::conflict(format!(
                "{all} tunnels to databases are open, and there is no room for another one. Try again later."
            )));
        }
        open.insert(account, own + 1);
        Ok(Place { tunnels: self.clone(), account })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.tunnels.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.account);
            }
        }
    }
}

impl Platform {
    /// The app through which the caller may read an add-on's password: its own, or one that it is attached to. Errors:
    /// [`Self::may_read_secrets`] of the first app that the caller sees.
    pub fn may_read_password(&self, caller: &Caller, addon: &Addon) -> Result<App> {
        let attached = self.store().read(|c| c.attachments_of(addon.id))?;
        let mut refused = None;
        for app in [addon.app].into_iter().chain(attached.into_iter().map(|attachment| attachment.app)) {
            let Ok(app) = self.app(caller, &app.into()) else { continue };
            match self.may_read_secrets(caller, &app) {
                Ok(()) => return Ok(app),
                Err(e) => drop(refused.get_or_insert(e)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::missing("add_on")))
    }

    /// The add-on of this id or name that the caller may open a tunnel to. Errors: [`Self::may_tunnel`].
    pub fn tunnelled(&self, caller: &Caller, which: &str) -> Result<AddonId> {
        let addon = self.addon(caller, which, Within::Everything)?.id;
        self.may_tunnel(caller, addon)?;
        Ok(addon)
    }

    /// Whether the caller may have a tunnel to an add-on open, now. Errors: [`Self::may_read_password`]; a token that
    /// changes nothing, as whoever has the password changes the data; an add-on that cannot be used.
    pub fn may_tunnel(&self, caller: &Caller, addon: AddonId) -> Result<(Addon, App)> {
        let addon = self.store().read(|c| c.addon_by_id(addon))?;
        let app = self.may_read_password(caller, &addon)?;
        if !caller.actor.scope.writes() {
            return Err(self.out_of_scope(caller, &format!("open a tunnel to {}", addon.name)));
        }
        self.provisioned(&addon)?;
        Ok((addon, app))
    }

    /// Connects the caller to an add-on, and writes that down. Errors: [`Self::may_tunnel`]; too many are open; the
    /// database does not answer.
    pub async fn open_tunnel(&self, caller: &Caller, addon: AddonId) -> Result<Tunnel> {
        let (addon, app) = self.may_tunnel(caller, addon)?;
        let place = self.inner.tunnels.take(caller.actor.account)?;
        let config = self.store().read(|c| c.addon_config(addon.id))?;
        let silent = |why: &str| failed(AddonFailure::Platform(format!("a tunnel: {why}")), &addon);
        let address = self.inner.parts.addons.endpoint(&config).ok_or_else(|| silent("it is at no address of ours"))?;
        let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| silent("it took too long"))?.map_err(|e| silent(&e.to_string()))?;
        stream.set_nodelay(true).map_err(Error::platform)?;
        let entry = self.entry(caller, Some(&app), "tunnel-opened", serde_json::json!({ "addon": addon.name }));
        self.record(entry).await?;
        Ok(Tunnel { stream, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_leaves_room_for_others_and_all_together_for_the_machine() {
        let tunnels = Tunnels::default();
        let account = |n: u128| AccountId(uuid::Uuid::from_u128(n));
        let mut of_one: Vec<Place> = (0..MOST_OF_ONE).map(|_| tunnels.take(account(0)).unwrap()).collect();
        assert!(tunnels.take(account(0)).is_err_and(|e| e.message.starts_with("You have 40 tunnels")));
        of_one.pop();
        of_one.push(tunnels.take(account(0)).unwrap());

        let others: Vec<Place> =
            (MOST_OF_ONE..MOST).map(|n| tunnels.take(account((n / MOST_OF_ONE) as u128)).unwrap()).collect();
        assert!(tunnels.take(account(77)).is_err_and(|e| e.message.starts_with("400 tunnels")));
        drop((of_one, others));
        assert!(tunnels.0.lock().unwrap().is_empty());
    }
}
