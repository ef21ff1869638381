//! HTTP: the OpenAI surface. The only module that names status codes; wire types stop here.
//!
//! | file | subject |
//! |---|---|
//! | [`router`] | the route table, which is the OpenAPI document too, and the layers around it |
//! | [`server`] | a server from its first connection to its drain |
//! | [`connections`] | connections of one listener: places, time limits, room for health checks |
//! | [`health_server`] | a listener for health checks alone |
//! | [`openapi`] | the document as text |
//! | [`error`] | every error answer has one constructor and one envelope |
//! | [`fields`] | typed reading of JSON objects; each error names its field |
//! | [`types`] | requests and answers as they travel |
//! | [`auth`] | default-deny layer around everything |
//! | [`origin`] | which web pages may call a server without keys; CORS |
//! | [`access`] | one log line, one count and one drain token per request |
//! | [`request_id`], [`extract`], [`path`], [`headers`] | small parts |
//! | [`respond`] | answers become one body, or a stream of events ([`sse`]), in the format of their protocol |
//! | [`chat`], [`kept`], [`completions`], [`models`], [`preferences`], [`users`], [`health`], [`identity`], [`metrics`] | handlers |
//! | [`body`] | bodies as they arrive: type, packing, size |
//! | [`json`] | bodies read and written beside the runtime's workers |
//! | [`admin`] | handlers of the operator's routes |

pub mod access;
pub mod admin;
pub mod auth;
pub mod body;
pub mod chat;
pub mod completions;
pub mod connections;
pub mod error;
pub mod extract;
pub mod fields;
pub mod headers;
pub mod health;
pub mod health_server;
pub mod identity;
pub mod json;
pub mod kept;
pub mod metrics;
pub mod models;
pub mod openapi;
pub mod origin;
pub mod path;
pub mod preferences;
pub mod request_id;
pub mod respond;
pub mod router;
pub mod server;
pub mod sse;
pub mod types;
pub mod users;
