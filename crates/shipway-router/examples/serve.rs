//! The router alone, for measuring: `serve LISTEN TARGET HOST WORKERS HOME`.
//!
//! Routes `HOST` (and `hostN.HOST` by wildcard) to `TARGET`, with the request log on, until it is interrupted.

use shipway_domain::route::{AppRoute, RouteMode, RouteTable, Target};
use shipway_domain::{AppId, DynoId};
use shipway_net::Lifecycle;
use shipway_router::{RouterConfig, run};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, host, workers, home] = &arguments[..] else {
        return Err("usage: serve LISTEN TARGET HOST WORKERS HOME".into());
    };
    let home = PathBuf::from(home);
    std::fs::create_dir_all(home.join("run"))?;
    let targets = vec![Target { dyno: DynoId(uuid::Uuid::new_v4()), name: "web.1".into(), address: target.parse()? }];
    let app = AppRoute {
        app: AppId(uuid::Uuid::from_u128(1)),
        name: "bench".into(),
        hosts: vec![host.clone(), format!("*.{host}")],
        mode: RouteMode::Serve,
        targets,
    };
    let table = RouteTable { epoch: 1, apps: vec![app] };
    std::fs::write(home.join("run/routes.json"), serde_json::to_vec(&table)?)?;
    let listeners = BTreeMap::from([("router".to_string(), TcpListener::bind(listen)?.into())]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers.parse()?).enable_all().build()?;
    runtime.block_on(run(RouterConfig::new(home), listeners, Lifecycle::new()))?;
    Ok(())
}
