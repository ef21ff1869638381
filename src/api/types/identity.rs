//! What proves a server's identity.

use serde::Serialize;
use utoipa::ToSchema;

/// The answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IdentityProof {
    /// `identity`
    pub object: &'static str,
    /// 64 hex digits: HMAC-SHA-256 of the challenge, with the secret that lies in the data directory.
    pub proof: String,
}
