//! The disk as a trait, and the real one.
