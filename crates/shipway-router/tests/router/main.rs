//! The router over real connections: what it serves, what it withstands, how one replaces another.

mod attacks;
mod handover;
mod routing;
mod support;
mod tls;
