//! The Platform API in process: against its published schema, by every person, with every nonsense.

mod authorization;
mod behaviour;
mod conformance;
mod coverage;
mod databases;
mod deployments;
mod malformed;
mod schema;
mod second_paths;
mod streams;
mod support;
mod surface;
mod teams;
mod words;
