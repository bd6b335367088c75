//! Git over HTTP by the system's git, with one hook of ours.
//!
//! A push, file by file: [`http`] runs `git receive-pack` and streams both ways; git unpacks and checks the objects,
//! then runs the hook [`hook`] (our own binary), which hands the commands over a socket to [`push`]; there a
//! [`PushHandler`] decides, moves refs in the [`Repo`] and answers per ref; what it says on the way is printed by the
//! pusher's git as `remote:` lines.
//!
//! Git is only ever started with an argument list, an empty environment and the settings of [`Git`]; no file in a
//! user's repository and no configuration of the machine changes what it does. Roads not taken: `git http-backend`
//! (one more process and a CGI parser between, to save forty lines), a git library (a second implementation of
//! everything that has ever been attacked), `pre-receive` (objects would stay in quarantine until the build is done
//! and be lost with the server).

mod checkout;
mod compare;
mod copy;
mod explain;
mod export;
mod git;
mod history;
mod hook;
mod http;
mod import;
mod objects;
mod pkt;
mod push;
mod records;
mod remote;
mod repo;
mod ssh;
mod standing;
mod submodule;
mod text;

pub use checkout::{CheckoutError, CheckoutLimits};
pub use compare::{Between, Extent, Merge};
pub use export::Export;
pub use git::{Git, GitConfig, GitError};
pub use history::CommitInfo;
pub use hook::{HOOK_COMMAND, proc_receive_main};
pub use http::{Access, Call, GitBody, GitHttp, Service, token_refused, unauthorized};
pub use push::{Push, PushHandler, PushOutput, RefResult, RefUpdate};
pub use remote::Fetched;
pub use repo::Repo;
pub use standing::Standing;
pub use text::{one_line, terminal_safe};
