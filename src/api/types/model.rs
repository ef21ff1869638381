//! Models as they are listed.

use serde::Serialize;
use utoipa::ToSchema;

/// A model that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Model {
    /// What `model` in a request may be.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// Always `attune`.
    pub owned_by: &'static str,
    /// The adapter version that answers now; `null` is the bare base model.
    #[schema(required)]
    pub adapter_version: Option<String>,
    /// A name that its maker gave the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Positions that soft prompt, prompt and answer share.
    pub context_length: usize,
}

/// All models: the alias, the bare base, then the versions, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The models.
    pub data: Vec<Model>,
}
