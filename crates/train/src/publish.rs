//! A trained adapter as an immutable version.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::adapter::TrainedAdapter;
use super::parameters::ParameterKind;
use super::TrainError;
use attune_adapter::bundle::BundleContents;
use attune_adapter::data_until::Reach;
use attune_adapter::manifest::{
    BaseModel, LoraManifest, Manifest, UserModelManifest, UserRow, FORMAT,
};
use attune_adapter::publish;
use attune_adapter::tensors::TensorData;
use attune_ids::{AdapterVersion, UserKey};
use attune_model::user_model::model::UserModelKind;

/// What a manifest says beside the tensors.
#[derive(Debug)]
pub struct Description {
    /// A name for people.
    pub name: Option<String>,
    /// Seconds since 1970.
    pub created_unix: u64,
    /// The base model.
    pub base: BaseModel,
    /// The LoRA.
    pub lora: Option<LoraManifest>,
    /// Whose row is whose.
    pub users: Vec<(UserKey, usize)>,
    /// Until when the data of each reaches.
    pub reach: Reach,
    /// How it came about: settings, counts, evaluation.
    pub training: Value,
}

/// The contents of a version, not yet written.
pub fn contents(adapter: &TrainedAdapter, description: Description) -> BundleContents {
    let tensors: BTreeMap<String, TensorData> = adapter
        .parameters
        .iter()
        .filter(|p| p.kind != ParameterKind::Gate)
        .map(|p| {
            let (shape, values) = (p.shape.clone(), p.values.clone());
            (p.name.clone(), TensorData { shape, values })
        })
        .collect();
    let user_model = adapter.users.as_ref().map(|users| {
        let last = &adapter.parameters[users.tables[users.tables.len() - 1]];
        let (n_users, clusters) = match users.kind {
            UserModelKind::Cluster => (last.shape[0] - 1, Some(last.shape[1])),
            _ => (last.shape[0] / users.n_user_tokens - 1, None),
        };
        UserModelManifest {
            kind: users.kind,
            n_users,
            n_user_tokens: users.n_user_tokens,
            clusters,
        }
    });
    let reach = &description.reach;
    let row = |(key, row): (UserKey, usize)| UserRow {
        data_until_unix_ms: reach.exception(&key),
        tenant: key.tenant,
        user: key.user,
        row,
    };
    let manifest = Manifest {
        format: FORMAT,
        name: description.name,
        created_unix: description.created_unix,
        data_until_unix_ms: reach.usual(),
        base: description.base,
        lora: description.lora,
        user_model,
        users: description.users.into_iter().map(row).collect(),
        training: Some(description.training),
    };
    BundleContents { manifest, tensors }
}

/// Publishes into `dir`, which holds this one version afterwards: older ones of the run go.
///
/// # Errors
/// A full disk, or numbers that no server could load; what was published before stays then.
pub fn publish_only(dir: &Path, contents: &BundleContents) -> Result<AdapterVersion, TrainError> {
    let version = publish::write(dir, contents)?;
    let listed = attune_adapter::bundle::list(dir)?;
    for old in listed.into_iter().filter(|l| l.version != version) {
        let path = attune_adapter::bundle::bundle_dir(dir, &old.version);
        std::fs::remove_dir_all(&path).map_err(TrainError::io(&path))?;
    }
    Ok(version)
}
