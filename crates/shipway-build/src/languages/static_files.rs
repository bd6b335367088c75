//! Sites of plain files, served by the platform's own executable, which travels with the slug as a layer.

use super::{Language, Plan};
use crate::model::BuildError;
use crate::session::Session;
use crate::static_site::SiteConfig;
use crate::toolchains::Toolchains;
use crate::tree::Tree;
use async_trait::async_trait;

pub(crate) struct StaticFiles;

#[async_trait]
impl Language for StaticFiles {
    fn name(&self) -> &'static str {
        "heroku/static"
    }

    fn title(&self) -> &'static str {
        "Static site"
    }

    fn detect(&self, tree: &Tree) -> bool {
        tree.has("static.json") || tree.has("index.html")
    }

    async fn plan(&self, tree: &Tree, _: &mut Session<'_>, tools: &Toolchains) -> Result<Plan, BuildError> {
        let site = SiteConfig::parse(tree.text("static.json")?.as_deref())
            .map_err(|problem| BuildError::User(format!("static.json: {problem}")))?;
        let mut plan = Plan { toolchains: vec![tools.static_server().await?], ..Plan::default() };
        if !tree.has_directory(&site.root) {
            plan.notes
                .push(format!("The directory {:?} that static.json names as root is not in the tree yet", site.root));
        } else {
            plan.notes.push(format!("Serving {:?}", site.root));
        }
        plan.process_types.insert("web", "/app/.heroku/bin/shipway static".into());
        Ok(plan)
    }
}
