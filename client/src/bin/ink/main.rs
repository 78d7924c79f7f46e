//! `ink`, Inkstone's command line.
fn main() {}
