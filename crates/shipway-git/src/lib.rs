//! Git over HTTP by the system's git, with one hook of ours.
