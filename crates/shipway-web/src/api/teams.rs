//! Teams, the people in them, and what they own.

use super::{apps, collaborators};
use crate::range::{Fields, Key};
use crate::{Answer, ApiError, Call, Result, present};
use shipway_domain::NameOrId;
use shipway_domain::admission::Permission;
use shipway_domain::team::Role;
use shipway_store::{Team, TeamMember};

const FIELDS: &Fields<(Team, Role)> = &[("name", |t| Key::text(&t.0.name)), ("id", |t| Key::text(t.0.id))];
const MEMBERS: &Fields<TeamMember> = &[("email", |m| Key::text(&m.email)), ("id", |m| Key::text(m.id))];

/// The team of the path, and what the caller is in it. What one is not in does not exist.
pub(super) fn named(call: &Call) -> Result<(Team, Role)> {
    Ok(call.platform().team(&call.caller, &NameOrId::parse(call.parameter("team")))?)
}

/// GET /teams
pub async fn list(call: Call) -> Result<Answer> {
    let teams = call.platform().teams(&call.caller)?;
    call.page(teams, FIELDS, |(team, role)| present::team(team, *role))
}

/// POST /teams
pub async fn create(call: Call) -> Result<Answer> {
    let name = call.payload()?.required("name")?;
    let team = call.platform().create_team(&call.caller, &name).await?;
    Ok(Answer::created(present::team(&team, Role::Admin)))
}

/// GET /teams/{team}
pub async fn info(call: Call) -> Result<Answer> {
    let (team, role) = named(&call)?;
    Ok(Answer::ok(present::team(&team, role)))
}

/// PATCH /teams/{team}
pub async fn update(call: Call) -> Result<Answer> {
    let (team, role) = named(&call)?;
    let payload = call.payload()?;
    if payload.flag("default")? == Some(true) {
        return Err(ApiError::invalid(
            "There is no default team here: name it with --team, or set HEROKU_ORGANIZATION.",
        ));
    }
    let renamed = call.platform().rename_team(&call.caller, &team, &payload.required("name")?).await?;
    Ok(Answer::ok(present::team(&renamed, role)))
}

/// DELETE /teams/{team}
pub async fn destroy(call: Call) -> Result<Answer> {
    let (team, role) = named(&call)?;
    call.platform().destroy_team(&call.caller, &team).await?;
    Ok(Answer::ok(present::team(&team, role)))
}

/// GET /teams/{team}/members
pub async fn members(call: Call) -> Result<Answer> {
    let members = call.platform().team_members(&named(&call)?.0)?;
    call.page(members, MEMBERS, present::team_member)
}

/// PUT and POST /teams/{team}/members `{email, role}`. An address that nobody has gets an account; its invitation is in
/// the answer and in the warning.
pub async fn put_member(call: Call) -> Result<Answer> {
    let (team, _) = named(&call)?;
    let payload = call.payload()?;
    let role = Role::parse(&payload.required("role")?)?;
    let (member, invitation) =
        call.platform().put_team_member(&call.caller, &team, &payload.required("email")?, role).await?;
    Ok(collaborators::invited(&call, &member.email, invitation, Answer::created(present::team_member(&member))))
}

/// PATCH /teams/{team}/members `{email, role}`: of somebody who is in it.
pub async fn update_member(call: Call) -> Result<Answer> {
    let (team, _) = named(&call)?;
    let payload = call.payload()?;
    let known = call.platform().team_member(&team, &payload.required("email")?)?;
    let role = Role::parse(&payload.required("role")?)?;
    let (member, _) = call.platform().put_team_member(&call.caller, &team, known.email.as_str(), role).await?;
    Ok(Answer::ok(present::team_member(&member)))
}

/// DELETE /teams/{team}/members/{member}
pub async fn remove_member(call: Call) -> Result<Answer> {
    let (team, _) = named(&call)?;
    let gone = call.platform().remove_team_member(&call.caller, &team, call.parameter("member")).await?;
    Ok(Answer::ok(present::team_member(&gone)))
}

/// GET /teams/{team}/members/{member}/apps: those that a member was let into one by one.
pub async fn apps_of_member(call: Call) -> Result<Answer> {
    let (team, _) = named(&call)?;
    let member = call.platform().team_member(&team, call.parameter("member"))?;
    let mut owned = call.platform().team_apps(&call.caller, &team)?;
    let store = call.platform().store();
    let joined = |app: shipway_domain::AppId| {
        let all = store.read(|c| c.collaborators(app)).unwrap_or_default();
        all.iter().any(|c| c.account == member.account)
    };
    owned.retain(|app| joined(app.id));
    call.page(owned, apps::FIELDS, |a| present::team_app(&call.web, a))
}

/// GET /teams/{team}/features
pub async fn features(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::team_features(&named(&call)?.0).into()))
}

/// GET /teams/{team}/features/{feature}
pub async fn feature(call: Call) -> Result<Answer> {
    let wanted = call.parameter("feature");
    let all = present::team_features(&named(&call)?.0);
    let found = all.into_iter().find(|f| f["name"] == wanted || f["id"] == wanted);
    found.map(Answer::ok).ok_or_else(|| ApiError::missing("feature"))
}

/// GET /teams/permissions: what admins of a team have, and collaborators can get.
pub async fn permissions(_: Call) -> Result<Answer> {
    Ok(Answer::ok(present::permission_names(Permission::Manage)))
}

/// GET /teams/{team}/apps
pub async fn owned(call: Call) -> Result<Answer> {
    let owned = call.platform().team_apps(&call.caller, &named(&call)?.0)?;
    call.page(owned, apps::FIELDS, |a| present::team_app(&call.web, a))
}

/// GET /teams/{team}/pipeline-couplings
pub async fn couplings(call: Call) -> Result<Answer> {
    let mut all = Vec::new();
    for app in call.platform().team_apps(&call.caller, &named(&call)?.0)? {
        all.extend(call.platform().coupling_of(&app).ok());
    }
    call.page(all, super::couplings::FIELDS, present::coupling)
}

/// POST /teams/apps
pub async fn create_app(call: Call) -> Result<Answer> {
    apps::make(&call, present::team_app).await
}

/// GET /teams/apps/{app}
pub async fn app(call: Call) -> Result<Answer> {
    Ok(Answer::ok(present::team_app(&call.web, &call.app()?)))
}

/// PATCH /teams/apps/{app} `{locked}` or `{owner}`: a team's name, or an account.
pub async fn update_app(call: Call) -> Result<Answer> {
    let app = call.app()?;
    let payload = call.payload()?;
    let changed = match (payload.flag("locked")?, payload.reference("owner")?) {
        (Some(locked), None) => call.platform().lock_app(&call.caller, &app, locked).await?,
        (None, Some(owner)) => {
            let which = NameOrId::parse(&owner);
            let to = match owner.contains('@') {
                true => call.platform().acquaintance(&call.caller, &which)?,
                false => match call.platform().team_account(&call.caller, &which) {
                    Err(e) if e.kind == shipway_engine::Kind::NotFound => {
                        call.platform().acquaintance(&call.caller, &which)?
                    }
                    other => other?,
                },
            };
            call.platform().transfer_app(&call.caller, &app, &to).await?
        }
        _ => return Err(ApiError::invalid("Give either `locked` (true or false) or `owner`.")),
    };
    Ok(Answer::ok(present::team_app(&call.web, &changed)))
}
