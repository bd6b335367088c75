//! Which steps a plan has, in which order, and plans as they were stored.

use super::*;

/// A restart as it was stored before plans had parts.
const OLD: &str = r#"{
        "app": "00000000-0000-0000-0000-000000000001",
        "actor": { "account": "00000000-0000-0000-0000-000000000002", "email": "dev@example.org", "admin": false,
                   "scope": "global" },
        "via": "api", "trigger": "restart", "build": null, "release": null,
        "restart": { "process_type": "web", "dyno": null }, "destroy": false
    }"#;

fn names(plan: &Plan) -> String {
    plan.steps().iter().map(StepAt::name).collect::<Vec<_>>().join(" ")
}

#[test]
fn plans_from_before_there_were_parts_are_read() {
    let plan: Plan = serde_json::from_str(OLD).unwrap();
    assert_eq!((plan.kind(), plan.apps()), ("restart", vec![AppId(uuid::Uuid::from_u128(1))]));
    assert_eq!(names(&plan), "start healthy switch route");
    let again: Plan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
    assert_eq!(names(&again), names(&plan));
    assert!(again.parts[0].restart.is_some());
}

#[test]
fn several_apps_are_prepared_then_switch_at_once() {
    let one: Plan = serde_json::from_str(OLD).unwrap();
    let release = ReleasePlan {
        release: ReleaseId(uuid::Uuid::nil()),
        phase_dyno: DynoId(uuid::Uuid::nil()),
        description: "Promote".into(),
        code: Code::Current,
        config_of: None,
        phase_last: false,
    };
    let part = |n| Part { release: Some(release.clone()), ..Part::new(AppId(uuid::Uuid::from_u128(n))) };
    let plan = Plan { trigger: Trigger::Promotion, parts: vec![part(1), part(2)], ..one };
    let steps: Vec<String> =
        plan.steps().iter().map(|s| s.name().replace("00000000-0000-0000-0000-00000000000", "")).collect();
    assert_eq!(
        steps.join(" "),
        "release:1 release:2 start:1 start:2 healthy:1 healthy:2 release-phase:1 release-phase:2 switch route settle:1 settle:2"
    );
    assert_eq!(plan.kind(), "promotion");
}

#[test]
fn external_steps_have_an_order_of_their_own() {
    let one: Plan = serde_json::from_str(OLD).unwrap();
    let external = |position| ExternalPlan {
        name: "pages".into(),
        position,
        command: "true".into(),
        undo: "true".into(),
        dyno: DynoId(uuid::Uuid::nil()),
        undo_dyno: DynoId(uuid::Uuid::nil()),
    };
    let part = |n, position| Part { external: Some(external(position)), ..Part::new(AppId(uuid::Uuid::from_u128(n))) };
    let order = |positions: [usize; 3]| {
        let parts = positions.iter().zip(1..).map(|(position, n)| part(n, *position)).collect();
        let plan = Plan { trigger: Trigger::Promotion, parts, ..one.clone() };
        let external = plan.steps().into_iter().filter(|at| at.step == Step::External);
        external.map(|at| at.app.unwrap().0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(order([2, 0, 1]), [2, 3, 1]);
    assert_eq!(order([0, 0, 0]), [1, 2, 3], "as it was stored before there was an order");
}
