//! Checkpoints as PEFT writes them become bundles.
//!
//! The authors of P-RLHF save LoRA and user model in one `adapter_model.safetensors` (docs/papers.md).
//! N and K follow from the shapes; T_u of an individual user model and who the rows belong to do not,
//! and must be said. A checkpoint without a user model is a LoRA for everybody.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::bundle::BundleContents;
use super::data_until::DataUntil;
use super::error::AdapterError;
use super::manifest::{BaseModel, Manifest, UserModelManifest, UserRow, FORMAT};
use super::misfit::Base;
use super::peft_config::PeftConfig;
use super::peft_folder::Folder;
use super::peft_lora::lora;
use super::peft_names::{named, NamedTensors};
use super::plan::user_model_name;
use super::tensors::TensorData;
use attune_ids::{Tenant, UserId, UserKey};
use attune_model::config::ModelConfig;
use attune_model::user_model::cluster::{CLUSTER_EMBEDDING, USER_WEIGHT};
use attune_model::user_model::individual::USER_EMBEDDING;
use attune_model::user_model::model::UserModelKind;

/// What a checkpoint does not say about itself.
#[derive(Debug, Clone)]
pub struct PeftImport {
    /// A name for people.
    pub name: Option<String>,
    /// When the version is made, seconds since 1970.
    pub created_unix: u64,
    /// Until when the data reaches that it was trained on.
    pub data_until: DataUntil,
    /// The model that the checkpoint was trained on.
    pub base: BaseModel,
    /// Its shape.
    pub model: ModelConfig,
    /// Which user model; `None`: what the tensors say (an individual one has a generic user, as the
    /// authors train it).
    pub kind: Option<UserModelKind>,
    /// T_u. Needed for an individual user model; a cluster one tells it.
    pub n_user_tokens: Option<usize>,
    /// Who has row 1, 2, ...; at most N. `None`: the people are called "1" to "N", as the authors
    /// number them.
    pub users: Option<Vec<UserKey>>,
}

/// Reads the PEFT checkpoint in `dir`, which may be made of links. The contents can be published, and fit the
/// model.
///
/// # Errors
/// A setting that attune cannot run, tensors that are missing, left over or misshapen, or parameters
/// that the shapes contradict; [`AdapterError::Misfit`]: a checkpoint of another model.
pub fn import(dir: &Path, import: PeftImport) -> Result<BundleContents, AdapterError> {
    let folder = Folder::at(dir)?;
    let config = PeftConfig::parse(&folder.config()?)?;
    let found = named(folder.tensors()?)?;
    let base = Base {
        name: &import.base.name,
        config: &import.model,
    };
    let lora = lora(&found, &config, &base)?;
    let NamedTensors { tensors, .. } = found;
    let user_model = user_model(&tensors, &import)?;
    if lora.is_none() && user_model.is_none() {
        let reason = "it has neither a LoRA nor a user model, so there is nothing to adapt";
        return Err(AdapterError::PeftFile(reason.into()));
    }
    let manifest = Manifest {
        format: FORMAT,
        lora,
        users: users(user_model.as_ref(), import.users)?,
        user_model,
        name: import.name,
        created_unix: import.created_unix,
        data_until_unix_ms: import.data_until,
        base: import.base,
        training: Some(json!({
            "imported_from": "peft",
            "base_model_name_or_path": config.base_model,
        })),
    };
    manifest.to_bytes()?;
    let contents = BundleContents { manifest, tensors };
    contents.check()?;
    contents.check_fits(&import.model)?;
    Ok(contents)
}

/// The sizes of the user model, from the shapes of its tables and what was said.
fn user_model(
    tensors: &BTreeMap<String, TensorData>,
    import: &PeftImport,
) -> Result<Option<UserModelManifest>, AdapterError> {
    let shape = |table: &str| match tensors.get(&user_model_name(table)) {
        Some(tensor) => match tensor.shape[..] {
            [rows, width] if rows > 0 && width > 0 => Ok(Some((rows, width))),
            _ => Err(AdapterError::Shape {
                name: user_model_name(table),
                expected: "[?, ?]".into(),
                got: tensor.shape.clone(),
            }),
        },
        None => Ok(None),
    };
    let individual = shape(USER_EMBEDDING)?;
    let cluster = (shape(CLUSTER_EMBEDDING)?, shape(USER_WEIGHT)?);
    match (individual, cluster) {
        (None, (None, None)) if import.kind.is_none() && import.n_user_tokens.is_none() => Ok(None),
        (Some((rows, _)), (None, None)) => individual_sizes(rows, import).map(Some),
        (None, (Some((rows, _)), Some(weights))) => cluster_sizes(rows, weights, import).map(Some),
        (None, (None, None)) => Err(contradiction(
            "it has no user model: leave its kind and T_u out",
        )),
        _ => Err(contradiction(
            "it has the tables of more than one user model, or of half a one",
        )),
    }
}

fn individual_sizes(rows: usize, import: &PeftImport) -> Result<UserModelManifest, AdapterError> {
    let kind = import.kind.unwrap_or(UserModelKind::Individual);
    if kind == UserModelKind::Cluster {
        return Err(contradiction("its user model is individual, not cluster"));
    }
    let Some(n_user_tokens) = import.n_user_tokens else {
        return Err(contradiction(format!(
            "{rows} rows may be any (N + 1) * T_u: say T_u, the number of user tokens"
        )));
    };
    if n_user_tokens == 0 || !rows.is_multiple_of(n_user_tokens) {
        return Err(contradiction(format!(
            "{rows} rows are not (N + 1) * T_u with T_u = {n_user_tokens}"
        )));
    }
    Ok(UserModelManifest {
        kind,
        n_users: rows / n_user_tokens - 1,
        n_user_tokens,
        clusters: None,
    })
}

fn cluster_sizes(
    rows: usize,
    (users, clusters): (usize, usize),
    import: &PeftImport,
) -> Result<UserModelManifest, AdapterError> {
    if import.kind.is_some_and(|k| k != UserModelKind::Cluster) {
        return Err(contradiction("its user model is cluster, not individual"));
    }
    let n_user_tokens = import.n_user_tokens.unwrap_or(rows / clusters);
    if clusters.checked_mul(n_user_tokens) != Some(rows) {
        return Err(contradiction(format!(
            "{rows} rows are not K * T_u with K = {clusters} and T_u = {n_user_tokens}"
        )));
    }
    Ok(UserModelManifest {
        kind: UserModelKind::Cluster,
        n_users: users - 1,
        n_user_tokens,
        clusters: Some(clusters),
    })
}

fn users(
    user_model: Option<&UserModelManifest>,
    named: Option<Vec<UserKey>>,
) -> Result<Vec<UserRow>, AdapterError> {
    let n_users = user_model.map_or(0, |m| m.n_users);
    let numbered = || {
        let ids = (1..=n_users).map(|row| UserId::new(row.to_string()));
        ids.map(|id| {
            id.map(|user| UserKey {
                tenant: Tenant::default(),
                user,
            })
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| contradiction(e.to_string()))
    };
    let keys = named.map_or_else(numbered, Ok)?;
    if keys.len() > n_users {
        return Err(contradiction(format!(
            "{} users are named, but it has rows for {n_users}",
            keys.len()
        )));
    }
    let rows = keys.into_iter().zip(1..).map(|(key, row)| UserRow {
        tenant: key.tenant,
        user: key.user,
        row,
        data_until_unix_ms: None,
    });
    Ok(rows.collect())
}

fn contradiction(reason: impl Into<String>) -> AdapterError {
    AdapterError::Import(reason.into())
}
