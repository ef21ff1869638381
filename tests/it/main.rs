//! The server through its router and its sockets, with an engine whose model is a script.

mod admin_adapters;
mod admin_aliases;
mod admin_bad_input;
mod admin_canary;
mod admin_records;
mod api_auth;
mod api_cache;
mod api_chat;
mod api_completions;
mod api_crowd;
mod api_drain;
mod api_errors;
mod api_examples;
mod api_fuzz;
mod api_health;
mod api_kept;
mod api_models;
mod api_origin;
mod api_preferences;
mod api_replay;
mod api_sdk;
mod api_slow_readers;
mod api_users;
mod forgetting;
mod store_outage;
mod support;
