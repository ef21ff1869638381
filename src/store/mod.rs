//! The embedded store: versioned records in sled.
