//! Real clusters of Inkstone under faults.
