//! What tokens may do, in words for whoever is refused: names in the place of ids, and who can help.

use crate::Platform;
use crate::error::Error;
use crate::ports::Caller;
use shipway_domain::AppId;
use shipway_domain::admission::Scope;
use shipway_store::App;

impl Platform {
    /// A scope as people write it: `read`, `deploy:shop`. That of an app that is gone keeps the id.
    pub fn scope_name(&self, scope: &Scope) -> String {
        match scope {
            Scope::Deploy { app } => {
                self.deployed_by_token(*app).map_or_else(|| scope.text(), |a| format!("deploy:{}", a.name))
            }
            other => other.text(),
        }
    }

    /// The refusal of a token that may not do something, such as "create apps".
    pub fn out_of_scope(&self, caller: &Caller, what: &str) -> Error {
        let (is, way_out) = match &caller.actor.scope {
            Scope::Deploy { app } => match self.deployed_by_token(*app) {
                Some(App { name, owner_email, .. }) => (
                    format!("it brings code to {name}, says whether that worked, and does nothing else"),
                    format!("Ask {}, who owns {name}, for one of a wider scope.", owner_email.to_ask()),
                ),
                None => {
                    ("the app that it was for is gone".into(), "Use another: heroku authorizations:create".to_string())
                }
            },
            other => (
                format!("its scope is {}", other.text()),
                "Use one with the scope global: heroku authorizations:create".into(),
            ),
        };
        Error::forbidden(format!("The token that was used may not {what}: {is}. {way_out}"))
    }

    /// The app that a token is for. One that cannot be read is as one that is gone: only words depend on it.
    pub(crate) fn deployed_by_token(&self, app: AppId) -> Option<App> {
        self.store().read(|c| c.app(&app.into())).ok().flatten()
    }
}
