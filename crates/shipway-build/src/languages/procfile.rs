//! Programs and scripts that bring all they need: a Procfile is enough.

use super::{Language, Plan};
use crate::model::BuildError;
use crate::session::Session;
use crate::toolchains::Toolchains;
use crate::tree::Tree;
use async_trait::async_trait;

pub(crate) struct Procfile;

#[async_trait]
impl Language for Procfile {
    fn name(&self) -> &'static str {
        "heroku/procfile"
    }

    fn title(&self) -> &'static str {
        "Procfile"
    }

    fn detect(&self, tree: &Tree) -> bool {
        tree.has("Procfile")
    }

    async fn plan(&self, tree: &Tree, _: &mut Session<'_>, _: &Toolchains) -> Result<Plan, BuildError> {
        if !tree.has("Procfile") {
            return Err(BuildError::User(
                "There is no Procfile at the top of the tree. Add one with a line like `web: ./server --port $PORT`."
                    .into(),
            ));
        }
        Ok(Plan::default())
    }
}
