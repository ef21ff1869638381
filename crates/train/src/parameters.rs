//! The tensors that are trained, as plain numbers with their gradients.

use std::ops::Range;

/// What a parameter belongs to: learning rate and weight decay may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// LoRA A or B.
    Lora,
    /// Soft-prompt rows of the user model.
    UserModel,
    /// The gate of a learned mask.
    Gate,
    /// Logits of the cluster model: they move by ones where soft-prompt rows move by hundredths.
    UserWeight,
}

/// One trained tensor, f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in a bundle: PEFT's.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
    /// d loss / d values of the step in progress.
    pub gradient: Vec<f32>,
    /// What it belongs to.
    pub kind: ParameterKind,
    /// The values that move; the others are frozen.
    pub trained: Range<usize>,
    /// Weight decay pulls values from this one on: a user's offset, but not the generic user.
    pub decayed_from: usize,
}

impl Parameter {
    /// With a gradient of 0; all of it trained and decayed.
    pub fn new(name: String, shape: Vec<usize>, values: Vec<f32>, kind: ParameterKind) -> Self {
        Self {
            gradient: vec![0.0; values.len()],
            trained: 0..values.len(),
            decayed_from: 0,
            name,
            shape,
            values,
            kind,
        }
    }
}
