//! The only place where engine, store, adapters, user models and text meet.
