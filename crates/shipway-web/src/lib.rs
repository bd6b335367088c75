//! The control plane's doors: Platform API, git, dashboard, rendezvous, log streams.
