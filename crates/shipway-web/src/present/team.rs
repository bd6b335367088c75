//! Teams, who is in them, and apps on their way to another owner.

use super::{id_of, time};
use serde_json::{Value, json};
use shipway_domain::team::Role;
use shipway_store::{AppTransfer, Team, TeamMember};

/// A team, as somebody who is `role` in it sees it.
pub fn team(team: &Team, role: Role) -> Value {
    json!({
        "created_at": time(team.created_at),
        "credit_card_collections": false,
        "default": false,
        "enterprise_account": null,
        "id": team.id,
        "identity_provider": null,
        "membership_limit": null,
        "name": team.name,
        "pipeline_cost_consent_at": null,
        "pipeline_cost_consent_user_email": null,
        "provisioned_licenses": false,
        "role": role,
        "type": "team",
        "updated_at": time(team.updated_at),
    })
}

/// Somebody in a team.
pub fn team_member(member: &TeamMember) -> Value {
    json!({
        "created_at": time(member.created_at),
        "email": member.email,
        "federated": false,
        "id": member.id,
        "identity_provider": null,
        "role": member.role,
        "two_factor_authentication": false,
        "updated_at": time(member.updated_at),
        "user": { "email": member.email, "id": member.account, "name": null },
    })
}

/// What every team can do: give permissions app by app. That it is listed is what the CLI looks at.
pub fn team_features(team: &Team) -> Vec<Value> {
    let name = "org-access-controls";
    vec![json!({
        "created_at": time(team.created_at),
        "description": "Permissions for single apps.",
        "display_name": "Access controls",
        "doc_url": "https://devcenter.heroku.com/articles/app-permissions",
        "enabled": true,
        "feedback_email": "",
        "id": id_of("team feature", name),
        "name": name,
        "state": "general",
        "updated_at": time(team.created_at),
    })]
}

/// An app on its way to another owner.
pub fn app_transfer(transfer: &AppTransfer) -> Value {
    json!({
        "app": { "id": transfer.app, "name": transfer.app_name },
        "created_at": time(transfer.created_at),
        "id": transfer.id,
        "owner": { "email": transfer.owner_email, "id": transfer.owner },
        "recipient": { "email": transfer.recipient_email, "id": transfer.recipient },
        "state": transfer.state,
        "updated_at": time(transfer.updated_at),
    })
}
