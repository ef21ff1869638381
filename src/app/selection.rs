//! Model and person become a lease and a soft prompt, both of the same version.

use std::sync::Arc;

use super::error::AppError;
use super::keys::Caller;
use super::model_id::{self, Target};
use super::people::{self, Known};
use super::state::AppState;
use super::user::{self, UserHint};
use super::versions::first_use;
use attune_adapter::lease::Lease;
use attune_engine::request::EngineAdapter;
use attune_ids::{AdapterVersion, Tenant, UserKey};
use attune_model::user_model::soft_prompt::{RowKind, SoftPrompt};

/// What answers a request. Holds the version's lease, so that it cannot change under way.
#[derive(Debug, Clone)]
pub struct Selection {
    model: String,
    tenant: Tenant,
    lease: Option<Lease>,
    soft_prompt: SoftPrompt,
    user: Option<UserKey>,
    profile: Option<Arc<str>>,
    began_unix_ms: u64,
}

/// What is told to the caller about who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredBy {
    /// The model id as it was asked for.
    pub model: String,
    /// The version; `None` is the bare base.
    pub version: Option<AdapterVersion>,
    /// Whose soft prompt.
    pub row: RowKind,
    /// T_u.
    pub soft_prompt_tokens: usize,
    /// `fp_<base model>_<first 12 digits of the version, or "base">_<row kind>`.
    pub fingerprint: String,
}

/// Resolves the model id and the person of a request. A person who was deleted has no rows in the
/// versions whose data is from before that. `began_unix_ms`: when the request began, by [`AppState::begin`].
///
/// # Errors
/// An unknown model, or a person for whom the key may not act.
pub async fn select(
    state: &Arc<AppState>,
    caller: &Caller,
    model: String,
    hint: UserHint,
    began_unix_ms: u64,
) -> Result<Selection, AppError> {
    let user = user::resolve(caller, hint)?;
    let lease = match model_id::resolve(state, &model, user.as_ref())? {
        Target::Base | Target::Alias(None) => None,
        Target::Alias(Some(lease)) => Some(lease),
        Target::Pinned(version) => Some(first_use::lease(state, version).await?),
    };
    let known = match (&lease, &user) {
        (Some(_), Some(user)) => people::known(state, user),
        _ => Known::default(),
    };
    let soft_prompt = lease.as_ref().map_or_else(SoftPrompt::none, |lease| {
        known.soft_prompt(lease, user.as_ref())
    });
    Ok(Selection {
        model,
        tenant: caller.tenant.clone(),
        lease,
        soft_prompt,
        user,
        profile: known.profile,
        began_unix_ms,
    })
}

impl Selection {
    /// The rows to put in front of the prompt.
    pub fn soft_prompt(&self) -> &SoftPrompt {
        &self.soft_prompt
    }

    /// Whose key asks.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The person.
    pub fn user(&self) -> Option<&UserKey> {
        self.user.as_ref()
    }

    /// What is known about them in words.
    pub fn profile(&self) -> Option<&Arc<str>> {
        self.profile.as_ref()
    }

    /// When the request began.
    pub fn began_unix_ms(&self) -> u64 {
        self.began_unix_ms
    }

    /// What the engine needs to know of the version.
    pub fn engine_adapter(&self) -> Option<EngineAdapter> {
        self.lease.as_ref().map(|lease| EngineAdapter {
            version: lease.adapter().version.clone(),
            lora: lease.adapter().lora.clone(),
            lease: Arc::new(lease.clone()),
        })
    }

    /// What the caller is told.
    pub fn answered_by(&self, state: &AppState) -> AnsweredBy {
        let version = self.lease.as_ref().map(|l| l.adapter().version.clone());
        let row = self.soft_prompt.kind();
        AnsweredBy {
            fingerprint: fingerprint(&state.base_model_id, version.as_ref(), row),
            model: self.model.clone(),
            version,
            row,
            soft_prompt_tokens: self.soft_prompt.len(),
        }
    }
}

/// Parts are joined by `_`, so the model's own `_` become `-`.
fn fingerprint(model: &str, version: Option<&AdapterVersion>, row: RowKind) -> String {
    let model: String = model
        .chars()
        .take(48)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => c,
            _ => '-',
        })
        .collect();
    let version = version.map_or("base", AdapterVersion::short);
    format!("fp_{model}_{version}_{}", row.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_has_four_parts() {
        let version = AdapterVersion::new("0123456789abcdef".repeat(4)).unwrap();
        assert_eq!(
            fingerprint("smollm2-135m_instruct", Some(&version), RowKind::User),
            "fp_smollm2-135m-instruct_0123456789ab_user"
        );
        assert_eq!(fingerprint("m", None, RowKind::None), "fp_m_base_none");
    }
}
