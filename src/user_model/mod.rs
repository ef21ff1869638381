//! A user id becomes soft-prompt rows.
