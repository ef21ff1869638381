//! Immutable adapter versions: LoRA + user model + manifest.
