//! Adapter versions from the outside: bundles, PEFT checkpoints, the registry, the demo.

mod bundle;
mod demo;
mod peft;
mod registry;
mod support;
