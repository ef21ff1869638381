//! On whose account a request runs, in the engine's numbers: it knows no names.

use sha2::{Digest, Sha256};

use super::error::AppError;
use super::keys::Caller;
use super::state::AppState;
use super::user::{self, UserHint};
use attune_engine::request::Payer;

/// The tenant is the group, the person the member, and the API key the key.
///
/// # Errors
/// The key may not act for the person that the request names.
pub fn payer(state: &AppState, caller: &Caller, hint: &UserHint) -> Result<Payer, AppError> {
    let user = user::resolve(caller, hint.clone())?;
    let has_keys = state.keys.open_caller().is_none();
    Ok(Payer {
        group: number(caller.tenant.as_str()),
        member: user.map(|key| number(key.user.as_str())),
        // A tenant has no slash.
        key: has_keys.then(|| number(&format!("{}/{}", caller.tenant, caller.name))),
    })
}

/// Two names with the same number would share what they get; nobody finds such a pair for somebody else's name.
fn number(name: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
