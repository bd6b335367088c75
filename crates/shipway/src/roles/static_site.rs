//! `shipway static`: serves a static site from inside its dyno.

use super::asked_to_end;
use shipway_build::static_site;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use tokio::net::TcpListener;

/// Serves the site in the working directory on `PORT` until SIGTERM.
pub fn main() -> ExitCode {
    let served = serve();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // This is the app's own log.
            eprintln!("the site cannot be served: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or("PORT is not set to a port")?;
    // One thread serves tens of thousands of small files a second, and keeps the dyno small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
        let listener = listener.map_err(|e| format!("listening on port {port}: {e}"))?;
        let stop = async {
            // Without signals to listen to there is none to end by: it is killed instead.
            if asked_to_end().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        static_site::serve(Path::new("."), listener, stop).await.map_err(|e| e.to_string())
    })
}
