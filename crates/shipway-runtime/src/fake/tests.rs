use super::*;
use crate::Root;
use crate::conformance::{self, Bench, Words};
use shipway_domain::size::DynoSizes;
use shipway_domain::{AppId, DynoId};

struct FakeBench(Fake);

fn plan(command: &str) -> DynoPlan {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let id = |n: u64| format!("00000000-0000-0000-0000-{n:012}");
    DynoPlan {
        dyno: id(NEXT.fetch_add(1, Ordering::SeqCst)).parse::<DynoId>().expect("an id"),
        app: id(0).parse::<AppId>().expect("an id"),
        uid_block: 1,
        name: "web.1".into(),
        root: Root::Slug { layers: Vec::new() },
        command: command.into(),
        profile: false,
        env: BTreeMap::new(),
        port: false,
        size: DynoSizes::default().default_size().clone(),
        io: Io::Log,
        grace_seconds: 1,
        time_limit_seconds: None,
        hosts: Vec::new(),
        services: Vec::new(),
    }
}

#[async_trait]
impl Bench for FakeBench {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }
    async fn restarted(&self) -> Arc<dyn Runtime> {
        self.runtime()
    }
    fn plan(&self) -> DynoPlan {
        plan("")
    }
    fn words(&self) -> Words {
        Words {
            listen: "listen",
            lines: "echo one; echo two; echo three",
            exit_3: "exit 3",
            sleep: "sleep",
            deaf: "ignore-term; echo deaf; sleep",
            cat: "cat",
            by_name: None,
            greeting: "env GREETING",
            missing: "no-such-program",
            terminal: None,
            long_line: None,
            memory_hog: None,
            fork_bomb: None,
            disk_filler: None,
            grandchild: None,
        }
    }
    async fn log(&self, plan: &DynoPlan) -> Vec<String> {
        self.0.lines(plan.dyno)
    }
}

#[tokio::test]
async fn the_fake_conforms() {
    conformance::run(&FakeBench(Fake::new())).await;
}

#[tokio::test]
async fn faults_happen_once_and_in_order() {
    let fake = Fake::new();
    fake.arm(Fault::FailStart("no space left".into()));
    fake.arm(Fault::LoseAnswerOfStart);
    let plan = plan("sleep");
    let error = fake.start(&plan).await.expect_err("armed to fail");
    assert_eq!(error.to_string(), "starting dyno web.1: no space left");
    assert!(fake.list().await.expect("a list").is_empty());
    fake.start(&plan).await.expect_err("armed to lose the answer");
    assert_eq!(fake.list().await.expect("a list").len(), 1, "the dyno runs all the same");
    fake.start(&plan).await.expect("the second try observes it");
    let lost = Exit { status: 137, cause: ExitCause::Lost };
    fake.end(plan.dyno, lost);
    assert_eq!(fake.wait(plan.dyno).await.expect("an exit"), lost);
    assert_eq!(fake.calls(), [Call::Start("web.1".into()), Call::Start("web.1".into())]);
}
