//! One binary, several roles.
fn main() {}
