//! The client library and `ink` against servers in this process that lose, refuse and repeat as they are told.

mod append;
mod command_line;
mod fake;
mod read;
mod session;
