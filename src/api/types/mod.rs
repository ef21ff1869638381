//! Requests and answers as they travel. Nothing below `api` sees these types.

pub mod accepted;
pub mod admin;
pub mod admin_request;
pub mod chat_request;
pub mod chat_response;
pub mod client_fields;
pub mod client_table;
pub mod completion_request;
pub mod completion_response;
pub mod error;
pub mod generation;
pub mod health;
pub mod identity;
pub mod kept;
pub mod list;
pub mod logprobs;
pub mod message;
pub mod model;
pub mod person;
pub mod preference;
pub mod stop;
pub mod template_fields;
pub mod usage;
