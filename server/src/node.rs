//! One node: data directory, group, indexer, services.
