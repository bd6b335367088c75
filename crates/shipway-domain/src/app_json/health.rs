//! `healthchecks`: what is asked of a new web dyno before it gets requests.
//!
//! Source: Dokku, "Zero Downtime Deploy Checks"; `status` is an extension of ours.

use super::reader::{Kind, Node};
use super::{Problem, Reader};
use crate::health::{HealthCheck, Statuses, check_path};

impl Reader {
    /// The check that is made: the first of `web` that is made at the start and has a path. The rest is warned about.
    pub(super) fn healthchecks(&mut self, node: &Node<'_>) -> Option<HealthCheck> {
        let mut found = None;
        for (key, list) in self.keep(node.object()).unwrap_or_default() {
            if key != "web" {
                self.warnings.push(list.problem("has no effect: only dynos of `web` are checked"));
                continue;
            }
            self.each(&list, |reader, item| {
                let check = reader.healthcheck(item)?;
                if found.is_some() && check.is_some() {
                    reader.warnings.push(item.problem("has no effect: the first check with a `path` is made"));
                } else if check.is_some() {
                    found = check;
                }
                Ok(())
            });
        }
        found
    }

    fn healthcheck(&mut self, node: &Node<'_>) -> Result<Option<HealthCheck>, Problem> {
        let fields = node.object()?;
        let kind = fields.iter().find(|(key, _)| key == "type").map(|(_, kind)| kind.text()).transpose()?;
        if kind.as_deref() != Some("startup") {
            self.warnings.push(node.problem("has no effect: only checks with \"type\": \"startup\" are made"));
            return Ok(None);
        }
        let (mut path, mut statuses) = (None, None);
        for (key, field) in fields {
            match key.as_str() {
                "type" | "name" | "description" => {}
                "path" => {
                    let text = field.text()?;
                    check_path(&text).map_err(|e| field.problem(e))?;
                    path = Some(text);
                }
                "status" => statuses = Some(status(&field)?),
                _ => self.warnings.push(field.problem("has no effect: there are `path` and `status`")),
            }
        }
        if path.is_none() {
            self.warnings.push(node.problem("has no effect: it has no `path`"));
        }
        Ok(path.map(|path| HealthCheck { path, statuses }))
    }
}

fn status(node: &Node<'_>) -> Result<Statuses, Problem> {
    let text = match node.kind()? {
        Kind::Text(text) => text,
        Kind::Number => node.number()?.to_string(),
        _ => return Err(node.not("a status like 200, or a string like \"200-299,301\"")),
    };
    Statuses::parse(&text).map_err(|e| node.problem(e))
}
