//! Records of deployments, asked for and answered as at GitHub, so that a script which keeps its records there finds them
//! here. Source: GitHub's REST API, "Deployments" and "Deployment statuses".

use super::github::full_name;
use crate::present::time;
use crate::{Answer, ApiError, Call, Result};
use serde_json::{Value, json};
use shipway_engine::{NewDeployment, NewDeploymentStatus};
use shipway_store::{Deployment, DeploymentFilter, DeploymentStatus};

/// Records on a page when nobody says, and at most.
const PAGE: u32 = 30;
const MOST: u32 = 100;

/// GET /repos/{owner}/{repository}/deployments?environment&task&sha&ref&per_page&page: newest first.
pub async fn list(call: Call) -> Result<Answer> {
    let name = full_name(&call)?;
    let wanted = |field: &str| call.query(field).filter(|text| !text.is_empty() && *text != "none").map(String::from);
    let filter = DeploymentFilter {
        environment: wanted("environment"),
        task: wanted("task"),
        commit: wanted("sha"),
        reference: wanted("ref"),
    };
    let page = Page::of(&call)?;
    let (found, total) = call.platform().deployments(&call.caller, &name, &filter, page.offset(), page.size)?;
    let shown = found.iter().map(|deployment| show(&call, &name, deployment)).collect();
    Ok(page.links(&call, Answer::ok(shown), total))
}

/// POST /repos/{owner}/{repository}/deployments `{ref, task, environment, payload, description, transient_environment,
/// production_environment}`. Nothing is merged and no check is asked: `auto_merge` and `required_contexts` do nothing.
pub async fn create(call: Call) -> Result<Answer> {
    let name = full_name(&call)?;
    let payload = call.payload()?;
    let new = NewDeployment {
        reference: payload.required("ref")?,
        task: payload.text("task")?,
        environment: payload.text("environment")?,
        payload: payload.any("payload").cloned(),
        description: payload.text("description")?.filter(|text| !text.is_empty()),
        transient: payload.flag("transient_environment")?.unwrap_or_default(),
        production: payload.flag("production_environment")?,
    };
    let deployment = call.platform().record_deployment(&call.caller, &name, new).await?;
    Ok(Answer::created(show(&call, &name, &deployment)))
}

/// GET /repos/{owner}/{repository}/deployments/{deployment}
pub async fn info(call: Call) -> Result<Answer> {
    let (name, deployment) = named(&call)?;
    Ok(Answer::ok(show(&call, &name, &deployment)))
}

/// GET /repos/{owner}/{repository}/deployments/{deployment}/statuses: newest first.
pub async fn statuses(call: Call) -> Result<Answer> {
    let (name, deployment) = named(&call)?;
    let page = Page::of(&call)?;
    let all = call.platform().deployment_statuses(&deployment)?;
    let of_page = all.iter().skip(page.offset() as usize).take(page.size as usize);
    let shown = of_page.map(|status| show_status(&call, &name, status)).collect();
    Ok(page.links(&call, Answer::ok(shown), all.len() as u64))
}

/// POST /repos/{owner}/{repository}/deployments/{deployment}/statuses `{state, environment, description, log_url,
/// target_url, environment_url}`. It changes no other deployment, whatever `auto_inactive` says.
pub async fn create_status(call: Call) -> Result<Answer> {
    let (name, deployment) = named(&call)?;
    let payload = call.payload()?;
    let given = |field: &str| Ok::<_, ApiError>(payload.text(field)?.filter(|text| !text.is_empty()));
    let new = NewDeploymentStatus {
        state: payload.required("state")?,
        environment: given("environment")?,
        description: given("description")?,
        // `target_url` is the older name.
        log_url: given("log_url")?.or(given("target_url")?),
        environment_url: given("environment_url")?,
    };
    let status = call.platform().record_deployment_status(&call.caller, &deployment, new).await?;
    Ok(Answer::created(show_status(&call, &name, &status)))
}

/// GET /repos/{owner}/{repository}/deployments/{deployment}/statuses/{status}
pub async fn status(call: Call) -> Result<Answer> {
    let (name, deployment) = named(&call)?;
    let found = call.platform().deployment_statuses(&deployment)?;
    let found = found.iter().find(|status| status.id.to_string() == call.parameter("status"));
    let status = found.ok_or_else(|| ApiError::missing("deployment_status"))?;
    Ok(Answer::ok(show_status(&call, &name, status)))
}

fn named(call: &Call) -> Result<(String, Deployment)> {
    let name = full_name(call)?;
    let id = call.parameter("deployment").parse().map_err(|_| ApiError::missing("deployment"))?;
    let deployment = call.platform().deployment(&call.caller, &name, id)?;
    Ok((name, deployment))
}

fn show(call: &Call, name: &str, d: &Deployment) -> Value {
    let repository = call.origin.url(&format!("/repos/{name}"));
    let url = format!("{repository}/deployments/{}", d.id);
    json!({
        "id": d.id,
        "node_id": format!("deployment:{}", d.id),
        "url": url,
        "sha": d.commit,
        "ref": d.reference,
        "task": d.task,
        "environment": d.environment,
        "original_environment": d.environment,
        "payload": d.payload,
        "description": d.description,
        "creator": creator(&d.creator),
        "transient_environment": d.transient,
        "production_environment": d.production,
        "statuses_url": format!("{url}/statuses"),
        "repository_url": repository,
        "created_at": time(d.created_at),
        "updated_at": time(d.updated_at),
    })
}

fn show_status(call: &Call, name: &str, s: &DeploymentStatus) -> Value {
    let repository = call.origin.url(&format!("/repos/{name}"));
    let deployment = format!("{repository}/deployments/{}", s.deployment);
    json!({
        "id": s.id,
        "node_id": format!("deployment-status:{}", s.id),
        "url": format!("{deployment}/statuses/{}", s.id),
        "state": s.state.as_str(),
        "environment": s.environment,
        "description": s.description.as_deref().unwrap_or_default(),
        "log_url": s.log_url.as_deref().unwrap_or_default(),
        "target_url": s.log_url.as_deref().unwrap_or_default(),
        "environment_url": s.environment_url.as_deref().unwrap_or_default(),
        "creator": creator(&s.creator),
        "deployment_url": deployment,
        "repository_url": repository,
        "created_at": time(s.created_at),
        "updated_at": time(s.created_at),
    })
}

fn creator(email: &str) -> Value {
    json!({ "login": email, "type": "User" })
}

/// A page of a list, as GitHub counts them.
struct Page {
    /// From 1.
    number: u32,
    size: u32,
}

impl Page {
    fn of(call: &Call) -> Result<Self> {
        let number = |field: &str, otherwise: u32| match call.query(field) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| ApiError::invalid(format!("`{field}` must be a whole number from 1 on.")))
            }
        };
        Ok(Self { number: number("page", 1)?.max(1), size: number("per_page", PAGE)?.clamp(1, MOST) })
    }

    fn offset(&self) -> u32 {
        (self.number - 1).saturating_mul(self.size)
    }

    /// Adds the header `Link`, where there is more than one page.
    fn links(&self, call: &Call, answer: Answer, total: u64) -> Answer {
        let last = total.div_ceil(self.size.into()).max(1);
        let number = u64::from(self.number);
        let (path, query) = call.target().split_once('?').unwrap_or((call.target(), ""));
        let kept: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("page=")).collect();
        let link = |page: u64, relation: &str| {
            let query = kept.iter().map(|part| format!("{part}&")).collect::<String>();
            format!("<{}>; rel=\"{relation}\"", call.origin.url(&format!("{path}?{query}page={page}")))
        };
        let mut links = Vec::new();
        if number > 1 {
            links.extend([link((number - 1).min(last), "prev"), link(1, "first")]);
        }
        if number < last {
            links.extend([link(number + 1, "next"), link(last, "last")]);
        }
        if links.is_empty() { answer } else { answer.header("link", &links.join(", ")) }
    }
}
