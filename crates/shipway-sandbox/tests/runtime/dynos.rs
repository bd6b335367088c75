//! Dynos that mean well.

use crate::rig::Rig;
use crate::{Case, TIERS};
use shipway_runtime::conformance;
use shipway_sandbox::Tier;

fn on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(case);
}

pub fn bwrap() -> Vec<Case> {
    vec![("bwrap_conforms", || on(conforms(TIERS[0])))]
}

pub fn root() -> Vec<Case> {
    vec![("root_conforms", || on(conforms(Tier::Root)))]
}

async fn conforms(tier: Tier) {
    let rig = Rig::new(tier).await;
    conformance::run(&rig).await;
}
