//! "Who has dev?": apps that somebody keeps for themselves for a while. What it keeps others from is admission's to say.

use crate::error::Error;
use crate::ports::Caller;
use crate::{Event, Platform, Result};
use jiff::SignedDuration;
use shipway_domain::admission::{Permission, Trigger};
use shipway_domain::{Email, minute};
use shipway_store::{App, Reservation};

/// The longest reservation.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The shortest.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

impl Platform {
    /// Who keeps an app for themselves now.
    pub fn reservation(&self, app: &App) -> Result<Option<Reservation>> {
        let now = self.now();
        Ok(self.store().read(|c| c.reservation(app.id, now))?)
    }

    /// Keeps an app for the caller until `length` from now, in the place of a reservation of their own.
    ///
    /// Errors: somebody else has it; a length that is not between a minute and seven days; a caller who may not deploy.
    pub async fn reserve(
        &self,
        caller: &Caller,
        app: &App,
        length: SignedDuration,
        reason: Option<&str>,
    ) -> Result<Reservation> {
        // Refuses where somebody else has it.
        self.admit(caller, Trigger::Push, app).await?;
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Error::invalid("An app is reserved for a minute to seven days: --for 2h, --for 3d"));
        }
        let now = self.now();
        let reason = reason.map(|r| r.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
        let reservation = Reservation {
            app: app.id,
            account: caller.actor.account,
            email: Email::parse(&caller.actor.email)?,
            until: now + length,
            reason: reason.filter(|reason| !reason.trim().is_empty()),
            created_at: now,
        };
        let detail = serde_json::json!({ "until": reservation.until.to_string(), "reason": reservation.reason });
        let entry = self.entry(caller, Some(app), "app-reserved", detail);
        let row = reservation.clone();
        let taken = self.store().write(move |c| match c.reservation(row.app, now)? {
            // Of two that ask at one moment, the second.
            Some(there) if there.account != row.account => Ok(Some(there)),
            _ => {
                c.put_reservation(&row)?;
                c.record(&entry)?;
                Ok(None)
            }
        });
        if let Some(there) = taken.await? {
            return Err(Error::conflict(format!(
                "{} has just been reserved by {}, until {}. Ask {1}.",
                app.name,
                there.email,
                minute(there.until)
            )));
        }
        self.tell(Event::App(app.id));
        Ok(reservation)
    }

    /// Ends a reservation: by its holder, or by who may manage the app. Errors: anybody else; there is none.
    pub async fn unreserve(&self, caller: &Caller, app: &App) -> Result<Reservation> {
        let Some(there) = self.reservation(app)? else {
            return Err(Error::invalid(format!(
                "Nobody has reserved {}. Keep it for yourself: shipway reserve -a {0} --for 2h",
                app.name
            )));
        };
        let trigger = if there.account == caller.actor.account { Trigger::Push } else { Trigger::Access };
        self.admit(caller, trigger, app).await.map_err(|refused| match trigger.permission() {
            Permission::Manage => Error::forbidden(format!(
                "{} is reserved by {} until {}. Ask {1}, or {}, who owns {0}.",
                app.name,
                there.email,
                minute(there.until),
                app.owner_email.to_ask()
            )),
            _ => refused,
        })?;
        let entry = self.entry(caller, Some(app), "app-unreserved", serde_json::json!({ "holder": there.email }));
        let id = app.id;
        self.write_with(entry, move |c| c.delete_reservation(id)).await?;
        self.tell(Event::App(app.id));
        Ok(there)
    }
}
