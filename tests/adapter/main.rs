//! Adapter versions from the outside: bundles, PEFT checkpoints, versions in memory, the demo.

mod bundle;
mod demo;
mod loaded;
mod malformed;
mod peft;
mod support;
mod without;
