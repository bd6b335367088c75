//! `shipway server`: the control plane.

use crate::options::{self, Options};
use crate::problem::Problem;
use shipway_client::Place;
use tokio::net::UnixListener;

/// What `up` tells it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Serves until it is told to end.
pub fn run(place: &Place, arguments: Arguments) -> Result<(), Problem> {
    super::log();
    let home = options::home(place)?;
    super::in_runtime(async {
        let _listeners = super::listeners("api", arguments.options.listen, "--listen")?;
        let socket = home.join("run/api.sock");
        let _ = std::fs::remove_file(&socket);
        let _api = UnixListener::bind(&socket).map_err(Problem::doing(format!("listening at {}", socket.display())))?;
        super::asked_to_end().await
    })
}
