//! The client library of Inkstone.
