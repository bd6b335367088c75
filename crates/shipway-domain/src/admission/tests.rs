//! Admission, by every trigger and everybody.

use super::*;

fn actor(scope: Scope, admin: bool) -> Actor {
    Actor { account: AccountId(uuid::Uuid::nil()), email: "dev@example.org".into(), admin, scope }
}

fn subject(permission: Option<Permission>) -> Subject {
    Subject {
        app: AppId(uuid::Uuid::from_u128(1)),
        name: "shop".into(),
        owner_email: "owner@example.org".into(),
        permission,
        ending: false,
        behind: None,
        unchecked: None,
        reserved: None,
        sign_offs: None,
    }
}

#[test]
fn attack_19_a_reservation_holds_for_every_trigger_that_brings_code() {
    let until: Timestamp = "2026-05-04T14:00:00Z".parse().unwrap();
    let holder = |n: u128| Reserved {
        account: AccountId(uuid::Uuid::from_u128(n)),
        email: "ana@example.org".into(),
        until,
        reason: Some("the demo".into()),
    };
    let before = until - jiff::SignedDuration::from_secs(1);
    for trigger in Trigger::ALL {
        let ask = |holder: Reserved, admin: bool, now: Timestamp| {
            let subject = Subject { reserved: Some(holder), ..subject(Some(Permission::Manage)) };
            admit(&actor(Scope::Global, admin), trigger, &subject, now).err()
        };
        let brings_code = trigger.permission() == Permission::Deploy;
        // Not even an administrator passes without ending it first.
        for admin in [false, true] {
            assert_eq!(ask(holder(7), admin, before).is_some(), brings_code, "{trigger:?}");
        }
        assert_eq!(ask(holder(0), false, before), None, "{trigger:?} by the holder");
        assert_eq!(ask(holder(7), false, until), None, "{trigger:?} after it ended");
    }
    let told = |permission: Permission| {
        let reserved = Some(Reserved { until: until + jiff::SignedDuration::from_micros(123_456), ..holder(7) });
        let subject = Subject { reserved, ..subject(Some(permission)) };
        admit(&actor(Scope::Global, false), Trigger::Push, &subject, before).unwrap_err().to_string()
    };
    let held = "shop is reserved by ana@example.org (the demo). It lifts at 2026-05-04 14:00 UTC.";
    assert_eq!(told(Permission::Deploy), format!("{held} Ask ana@example.org, or owner@example.org, who owns shop."));
    assert_eq!(told(Permission::Manage), format!("{held} You can end that: shipway unreserve -a shop"));
}

#[test]
fn every_trigger_by_every_permission() {
    let permissions = [Permission::View, Permission::Deploy, Permission::Operate, Permission::Manage];
    for trigger in Trigger::ALL {
        for permission in [None].into_iter().chain(permissions.map(Some)) {
            let allowed = permission.is_some_and(|p| p >= trigger.permission());
            let got = admit(&actor(Scope::Global, false), trigger, &subject(permission), Timestamp::UNIX_EPOCH);
            assert_eq!(got.is_ok(), allowed, "{trigger:?} with {permission:?}");
        }
        assert!(admit(&actor(Scope::Global, true), trigger, &subject(None), Timestamp::UNIX_EPOCH).is_ok());
    }
}

#[test]
fn attack_20_a_deploy_token_deploys_its_app_and_nothing_else() {
    let own = Scope::Deploy { app: AppId(uuid::Uuid::from_u128(1)) };
    let foreign = Scope::Deploy { app: AppId(uuid::Uuid::from_u128(2)) };
    for trigger in Trigger::ALL {
        let may = matches!(trigger, Trigger::Push | Trigger::Build | Trigger::Redeploy);
        let manage = subject(Some(Permission::Manage));
        assert_eq!(admit(&actor(own.clone(), true), trigger, &manage, Timestamp::UNIX_EPOCH).is_ok(), may);
        assert!(admit(&actor(foreign.clone(), true), trigger, &manage, Timestamp::UNIX_EPOCH).is_err());
    }
    let told = |scope: &Scope, permission: Permission| {
        let refused =
            admit(&actor(scope.clone(), false), Trigger::Rollback, &subject(Some(permission)), Timestamp::UNIX_EPOCH);
        refused.unwrap_err().to_string()
    };
    let wider = "Ask owner@example.org, who owns shop, for one of a wider scope.";
    assert_eq!(
        told(&own, Permission::Manage),
        format!("The token that was used brings code to shop, and does nothing else. {wider}")
    );
    assert_eq!(
        told(&foreign, Permission::Manage),
        format!("The token that was used is for another app than shop. {wider}")
    );
    assert_eq!(
        told(&own, Permission::View),
        "The token that was used is of dev@example.org, who may not deploy to shop. Ask owner@example.org, who owns it."
    );
    assert!(!own.reads_secrets() && !own.reads(AppId(uuid::Uuid::from_u128(2))));
}

#[test]
fn a_refusal_names_the_way_out() {
    let refused =
        admit(&actor(Scope::Global, false), Trigger::Push, &subject(Some(Permission::View)), Timestamp::UNIX_EPOCH);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "You (dev@example.org) may not deploy to shop. Ask owner@example.org, who owns it."
    );
}

#[test]
fn code_that_lacks_commits_of_main_is_refused_where_the_stage_says_so() {
    let behind = Behind {
        branch: "main".into(),
        commits: 2,
        stage: Stage::Production,
        pipeline: "shop".into(),
        owner_email: "ida@example.org".into(),
    };
    let subject = Subject { behind: Some(behind), ..subject(Some(Permission::Manage)) };
    for trigger in Trigger::ALL {
        let refused = admit(&actor(Scope::Global, false), trigger, &subject, Timestamp::UNIX_EPOCH).err();
        assert_eq!(refused.is_some(), trigger.brings_new_code(), "{trigger:?}");
        let expected = "This code lacks 2 commits of main, and production of shop takes none that does: merge or \
                        rebase, and deploy that. Ask ida@example.org, who owns the pipeline.";
        assert!(refused.is_none_or(|refused| refused.to_string() == expected));
    }
    // Nobody is told to ask himself.
    let ida = Actor { email: "ida@example.org".into(), ..actor(Scope::Global, false) };
    for owner in [ida, actor(Scope::Global, true)] {
        let told = admit(&owner, Trigger::Push, &subject, Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        assert!(told.ends_with("You can lift that rule, for all stages: shipway upstream require -p shop"), "{told}");
    }
}

#[test]
fn attack_18_code_that_ci_has_not_passed_gets_in_by_no_trigger_where_the_stage_says_so() {
    use crate::names::CommitId;
    use crate::review::Checks;
    let commit = CommitId::parse(&"3f".repeat(20)).unwrap();
    for trigger in Trigger::ALL {
        for checks in [Checks::Unknown, Checks::Pending, Checks::Succeeded, Checks::Failed] {
            let unchecked = checks.wanting(&commit).map(|words| Unchecked {
                words,
                stage: Stage::Production,
                pipeline: "shop".into(),
                owner_email: "ida@example.org".into(),
            });
            let subject = Subject { unchecked, ..subject(Some(Permission::Manage)) };
            for admin in [false, true] {
                let got = admit(&actor(Scope::Global, admin), trigger, &subject, Timestamp::UNIX_EPOCH);
                let refused = trigger.brings_new_code() && checks != Checks::Succeeded;
                assert_eq!(got.is_err(), refused, "{trigger:?} with {checks}");
                let words = "production of shop takes only commits that CI has passed, and CI failed for 3f3f3f3: have a \
                             run of it pass, then try again. Ask ida@example.org, who owns the pipeline.";
                let told = got.err().map(|refused| (refused.rule.clone(), refused.to_string()));
                assert!(
                    checks != Checks::Failed
                        || admin
                        || told.is_none_or(|told| told == ("checks".into(), words.into()))
                );
            }
        }
    }
}

#[test]
fn attack_18_code_without_sign_offs_gets_in_by_no_trigger() {
    use crate::names::CommitId;
    use crate::sign_off::{Code, Given, Party, PartyName, Signer};
    let account = |n: u128| AccountId(uuid::Uuid::from_u128(n));
    let (qa, product) = (PartyName::parse("qa").unwrap(), PartyName::parse("product").unwrap());
    let party = |name: &PartyName, n: u128| Party {
        name: name.clone(),
        people: vec![Signer { account: account(n), email: format!("{name}@example.org") }],
    };
    let given =
        |name: &PartyName, n: u128| Given { party: name.clone(), account: account(n), left: false, artifacts: vec![] };
    let wanted = |given: Vec<Given>| SignOffs {
        pipeline: "shop".into(),
        owner_email: "ida@example.org".into(),
        stage: Stage::Production,
        parties: vec![party(&qa, 1), party(&product, 2)],
        code: Code { commit: Some(CommitId::parse(&"3f".repeat(20)).unwrap()), artifact: None },
        given,
    };
    // Everything that can have been signed, wrongly or by one of the two.
    let wanting = [vec![], vec![given(&qa, 1)], vec![given(&product, 2)], vec![given(&qa, 1), given(&product, 1)]];
    for trigger in Trigger::ALL {
        for admin in [false, true] {
            let ask = |given: &Vec<Given>| {
                let sign_offs = Some(wanted(given.clone()));
                let subject = Subject { sign_offs, ..subject(Some(Permission::Manage)) };
                admit(&actor(Scope::Global, admin), trigger, &subject, Timestamp::UNIX_EPOCH)
            };
            for given in &wanting {
                assert_eq!(ask(given).is_err(), trigger.brings_new_code(), "{trigger:?} with {given:?}");
            }
            assert!(ask(&vec![given(&qa, 1), given(&product, 2)]).is_ok(), "{trigger:?} with both");
        }
    }
    let free: Vec<Trigger> = Trigger::ALL.into_iter().filter(|it| !it.brings_new_code()).collect();
    use Trigger::*;
    let expected = [Redeploy, Config, Scale, Restart, OneOff, Rollback, Addon, Domain, Settings, Access, Destroy];
    assert_eq!(free, expected);
    let subject = Subject { sign_offs: Some(wanted(vec![given(&qa, 1)])), ..subject(Some(Permission::Deploy)) };
    let refused = admit(&actor(Scope::Global, false), Push, &subject, Timestamp::UNIX_EPOCH).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "production of shop takes only code that its parties have signed off, and 3f3f3f3 lacks the sign-off of product \
         (shipway sign-off shop production 3f3f3f3 --as product). Ask product@example.org (product)."
    );
    assert_eq!((refused.rule.as_str(), refused.holder.as_deref()), ("sign-offs", Some("production of shop")));
}
