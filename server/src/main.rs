//! `inkstone`, the server.
fn main() {}
