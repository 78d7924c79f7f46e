//! The client library and `ink` against servers in this process that lose, refuse and repeat as they are told.

#[cfg(test)]
mod append;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod members_command;
#[cfg(test)]
mod read;
#[cfg(test)]
mod session;
#[cfg(test)]
mod status_command;
