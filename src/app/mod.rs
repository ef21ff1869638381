//! The only place where engine, store, adapters, user models and text meet.
//!
//! | file | subject |
//! |---|---|
//! | [`state`] | what the server holds while it runs |
//! | [`keys`] | API keys: who calls, and for whom they may act |
//! | [`user`] | which person a request is for |
//! | [`model_id`] | which model answers: alias, bare base, pinned version |
//! | [`models`] | the models that can be asked |
//! | [`selection`] | model + person become a lease and a soft prompt, from the same version |
//! | [`payer`] | on whose account a request runs, in the engine's numbers |
//! | [`generate`] | prompts and options become engine requests |
//! | [`answer`] | engine events become text: detokenizer, stop strings, log-probabilities |
//! | [`answering`] | what a protocol sends on: head, answers, who keeps them |
//! | [`chat`] | messages to answers |
//! | [`keep`] | completions that are kept, so that they can be compared and rated |
//! | [`preferences`] | preferences and ratings |
//! | [`people`] | what is recorded of a person |
//! | [`completions`] | raw prompts to answers |
//! | [`boot`] | configuration becomes a running server's state |
//! | [`housekeeping`] | what the server does by itself from time to time |
//! | [`versions`] | adapter versions: installed, named by aliases, in memory; how they change |
//! | [`descriptors`] | how many connections the system has room for |
//! | [`address`] | where the server of a data directory listens |
//! | [`admin`] | the operator's view: changes are counted, versions and aliases listed |
//! | [`snapshot`] | the store's export, for a client that may be slow |
//! | [`compute`] | long computations, beside the runtime's workers |
//! | [`store_threads`] | threads that work on the store, and nothing else does |
//! | [`store_health`] | whether the store works, as far as is known |
//! | [`commands`], `columns` | the other subcommands, and what they print |
//! | [`error`] | what can go wrong, without status codes |

pub mod address;
pub mod admin;
pub mod answer;
pub mod answering;
pub mod boot;
pub mod chat;
mod columns;
pub mod commands;
pub mod completions;
pub mod compute;
pub mod descriptors;
pub mod devices;
pub mod error;
pub mod generate;
pub mod housekeeping;
pub mod keep;
pub mod keys;
pub mod model_id;
pub mod models;
pub mod payer;
pub mod people;
pub mod preferences;
pub mod selection;
pub mod snapshot;
pub mod state;
pub mod store_health;
pub mod store_threads;
pub mod user;
pub mod versions;
