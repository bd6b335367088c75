//! `shipway router`: the data plane.

use crate::options::{self, Certificate};
use crate::problem::{Doing, Problem};
use shipway_client::Place;
use shipway_net::handover::Listeners;
use shipway_net::{Lifecycle, Phase};
use shipway_router::process::TlsFiles;
use shipway_router::{CertificateFiles, RouterClient, RouterConfig};

/// What `up` tells it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Apps are at <app>.<NAME>
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    domain: String,
    #[command(flatten)]
    certificate: Certificate,
    /// Where to listen, when neither `up` nor a router that runs has sockets to give
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    router_listen: std::net::SocketAddr,
}

/// Serves until a successor takes over or it is told to end; requests in flight are finished.
pub fn run(place: &Place, arguments: &Arguments) -> Result<(), Problem> {
    super::log();
    let home = options::home(place)?;
    let mut config = RouterConfig::new(home.clone());
    let operator = match (&arguments.certificate.cert, &arguments.certificate.key) {
        (Some(chain), Some(key)) => Some(CertificateFiles { chain: chain.clone(), key: key.clone() }),
        _ => None,
    };
    config.tls = Some(TlsFiles { authority: home.join("keys"), own_names: vec![arguments.domain.clone()], operator });
    super::in_runtime(async {
        let given = std::env::var_os(shipway_net::handover::LISTENERS_VARIABLE).is_some();
        let listeners = if !given && RouterClient::new(&home).status().await.is_ok() {
            // Those of the router that runs.
            Listeners::new()
        } else {
            super::listeners("router", arguments.router_listen, "--router-listen")?
        };
        let stop = Lifecycle::new();
        let on_signal = stop.clone();
        tokio::spawn(async move {
            if super::asked_to_end().await.is_ok() {
                on_signal.advance(Phase::Retiring);
            }
        });
        let ran = shipway_router::run(config, listeners, stop).await;
        ran.doing(format!("the router of {} cannot serve", home.display()))
    })
}
