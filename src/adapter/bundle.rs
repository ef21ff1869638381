//! A version on disk: read, verify, list; and in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use super::error::AdapterError;
use super::hash::content_version;
use super::manifest::{Manifest, UserModelManifest};
use super::plan::{lora_name, parse_lora_name, user_model_name, Plan};
use super::tensors::{TensorData, TensorFile};
use crate::ids::AdapterVersion;
use crate::model::config::ModelConfig;
use crate::model::lora::{LoraPair, LoraSet};
use crate::user_model::cluster::{ClusterUserModel, CLUSTER_EMBEDDING, USER_WEIGHT};
use crate::user_model::individual::{IndividualUserModel, USER_EMBEDDING};
use crate::user_model::model::{UserModel, UserModelKind};
use crate::user_model::people::{People, CACHE_BYTES};
use crate::user_model::table::Table;

/// The description.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "adapter.safetensors";

/// Bounds on what is read into memory.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;
pub(super) const MAX_WEIGHTS_BYTES: u64 = 8 << 30;

/// A version in memory.
#[derive(Debug)]
pub struct Adapter {
    /// Its name: the hash of its content.
    pub version: AdapterVersion,
    /// A name for people.
    pub name: Option<String>,
    /// When it was made, seconds since 1970.
    pub created_unix: u64,
    /// Its LoRA; empty where it has only a user model. On the CPU.
    pub lora: Arc<LoraSet>,
    /// Its user model and the people that it knows; `None` where it has only a LoRA.
    pub people: Option<People>,
}

/// What a version is made of, before it has a name.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleContents {
    /// The description.
    pub manifest: Manifest,
    /// Tensors by the names that PEFT gives them.
    pub tensors: BTreeMap<String, TensorData>,
}

/// What [`verify`] found.
#[derive(Debug)]
pub struct Verified {
    /// The hash of the content, which is also the directory's name.
    pub version: AdapterVersion,
    /// The description.
    pub manifest: Manifest,
    /// Size of the weights.
    pub weights_bytes: u64,
}

/// One directory that [`list`] found.
#[derive(Debug)]
pub struct Listed {
    /// The directory's name. The content was not hashed: [`verify`] does that.
    pub version: AdapterVersion,
    /// The description, or why there is none.
    pub manifest: Result<Manifest, AdapterError>,
}

/// The two files of a bundle, whose hash is the directory's name.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) version: AdapterVersion,
    pub(super) manifest: Vec<u8>,
    pub(super) weights: Vec<u8>,
}

/// Where a version lies inside the directory of all versions.
pub fn bundle_dir(parent: &Path, version: &AdapterVersion) -> PathBuf {
    parent.join(version.as_str())
}

/// Loads the version in `dir` for the model `config`, whose weights have the hash `base_sha256`.
///
/// Everything is checked first: that the content hashes to the directory's name, the base model,
/// names, shapes and types of all tensors, that every value is finite, that user rows are there.
///
/// # Errors
/// The first thing that does not fit; see [`AdapterError`].
pub fn read(dir: &Path, config: &ModelConfig, base_sha256: &str) -> Result<Adapter, AdapterError> {
    let files = Files::read(dir)?;
    let manifest = Manifest::parse(&files.manifest)?;
    if manifest.base.sha256 != base_sha256 {
        return Err(AdapterError::Base {
            made_for: manifest.base.name,
            made_for_sha256: manifest.base.sha256,
            loaded_sha256: base_sha256.to_owned(),
        });
    }
    files.check(manifest, Some(config))
}

/// Checks the bundle in `dir` as far as that goes without its base model: all but the base's hash and
/// the sides of tensors that follow from the model's widths.
///
/// # Errors
/// The first thing that does not fit; see [`AdapterError`].
pub fn verify(dir: &Path) -> Result<Verified, AdapterError> {
    Files::read(dir)?.verify()
}

/// The versions in `parent`, sorted by name. Directories that are not named by a version are not
/// listed; nothing is hashed.
///
/// # Errors
/// `parent` cannot be read.
pub fn list(parent: &Path) -> Result<Vec<Listed>, AdapterError> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(parent).map_err(AdapterError::io(parent))? {
        let entry = entry.map_err(AdapterError::io(parent))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let (Ok(version), true) = (AdapterVersion::new(name), entry.path().is_dir()) {
            versions.push(version);
        }
    }
    versions.sort();
    let listed = versions.into_iter().map(|version| {
        let path = bundle_dir(parent, &version).join(MANIFEST_FILE);
        let manifest = read_regular(&path, MAX_MANIFEST_BYTES).and_then(|b| Manifest::parse(&b));
        Listed { version, manifest }
    });
    Ok(listed.collect())
}

impl BundleContents {
    /// Checks that tensors and manifest fit together, as far as that goes without the base model.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self) -> Result<(), AdapterError> {
        let names = self.tensors.keys().map(String::as_str);
        Plan::new(&self.manifest, None, names)?.check_tensors(&self.tensors)?;
        for (name, tensor) in &self.tensors {
            super::tensors::check_finite(name, &tensor.values)?;
        }
        let tables = self
            .tensors
            .iter()
            .filter(|(n, _)| parse_lora_name(n).is_none());
        let mut tables = tables.map(|(n, t)| (n.clone(), t.clone())).collect();
        user_model(&self.manifest, &mut tables).map(|_| ())
    }
}

impl Files {
    /// Reads the files and checks that their hash is the directory's name.
    pub(super) fn read(dir: &Path) -> Result<Self, AdapterError> {
        let claimed = claimed_version(dir)?;
        check_entries(dir)?;
        let manifest = read_regular(&dir.join(MANIFEST_FILE), MAX_MANIFEST_BYTES)?;
        let weights = read_regular(&dir.join(WEIGHTS_FILE), MAX_WEIGHTS_BYTES)?;
        let actual = content_version(&manifest, &weights);
        if actual != claimed {
            return Err(AdapterError::Hash { claimed, actual });
        }
        Ok(Self {
            version: actual,
            manifest,
            weights,
        })
    }

    pub(super) fn verify(&self) -> Result<Verified, AdapterError> {
        let manifest = Manifest::parse(&self.manifest)?;
        self.check(manifest.clone(), None)?;
        Ok(Verified {
            version: self.version.clone(),
            manifest,
            weights_bytes: self.weights.len() as u64,
        })
    }

    fn check(
        &self,
        manifest: Manifest,
        config: Option<&ModelConfig>,
    ) -> Result<Adapter, AdapterError> {
        let file = TensorFile::parse(WEIGHTS_FILE, &self.weights)?;
        let plan = Plan::new(&manifest, config, file.shapes().map(|(name, _)| name))?;
        plan.check_file(&file)?;
        let mut tensors = file.values()?;
        let people = user_model(&manifest, &mut tensors)?
            .map(|model| People::new(model, manifest.user_rows(), CACHE_BYTES));
        Ok(Adapter {
            version: self.version.clone(),
            lora: Arc::new(lora_set(&plan, &mut tensors)?),
            people,
            name: manifest.name,
            created_unix: manifest.created_unix,
        })
    }
}

/// The user model of checked tensors, which it takes.
fn user_model(
    manifest: &Manifest,
    tensors: &mut BTreeMap<String, TensorData>,
) -> Result<Option<UserModel>, AdapterError> {
    let Some(UserModelManifest {
        kind,
        n_user_tokens,
        ..
    }) = manifest.user_model
    else {
        return Ok(None);
    };
    let mut take = |table| {
        let tensor = take(tensors, user_model_name(table))?;
        let shape = (tensor.shape[0], tensor.shape[1]);
        Ok::<_, AdapterError>(Table::new(table, tensor.values, shape)?)
    };
    let individual = |table, add_generic| {
        IndividualUserModel::new(table, n_user_tokens, add_generic).map(UserModel::Individual)
    };
    let model = match kind {
        UserModelKind::Individual => individual(take(USER_EMBEDDING)?, true)?,
        UserModelKind::IndividualNoGeneric => individual(take(USER_EMBEDDING)?, false)?,
        UserModelKind::Cluster => {
            let (centres, logits) = (take(CLUSTER_EMBEDDING)?, take(USER_WEIGHT)?);
            UserModel::Cluster(ClusterUserModel::new(centres, logits, n_user_tokens)?)
        }
    };
    Ok(Some(model))
}

/// The LoRA of checked tensors, which it takes.
fn lora_set(
    plan: &Plan,
    tensors: &mut BTreeMap<String, TensorData>,
) -> Result<LoraSet, AdapterError> {
    let mut pairs = BTreeMap::new();
    for (&(layer, projection), pair) in &plan.pairs {
        let mut matrix = |matrix| {
            let name = lora_name(layer, projection, matrix);
            let TensorData { shape, values } = take(tensors, name.clone())?;
            Tensor::from_vec(values, shape.clone(), &Device::Cpu).map_err(|_| {
                // Only a shape that the values do not fill can fail, and that was checked.
                AdapterError::Shape {
                    name,
                    expected: "one that its values fill".into(),
                    got: shape,
                }
            })
        };
        let packed = LoraPair::new(matrix('A')?, matrix('B')?, pair.scale)
            .map_err(|e| AdapterError::Pack(e.to_string()))?;
        pairs.insert((layer, projection), packed);
    }
    Ok(LoraSet { pairs })
}

fn take(
    tensors: &mut BTreeMap<String, TensorData>,
    name: String,
) -> Result<TensorData, AdapterError> {
    tensors
        .remove(&name)
        .ok_or_else(|| AdapterError::MissingTensors(vec![name]))
}

fn claimed_version(dir: &Path) -> Result<AdapterVersion, AdapterError> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    AdapterVersion::new(name).map_err(|_| AdapterError::NotABundle {
        dir: dir.to_owned(),
        reason: "its name is not a version (64 hex digits); \
                 `attune adapter import` makes a bundle of a PEFT checkpoint"
            .into(),
    })
}

/// A bundle's directory holds its two files and nothing else: what is not hashed is not content.
fn check_entries(dir: &Path) -> Result<(), AdapterError> {
    for entry in fs::read_dir(dir).map_err(AdapterError::io(dir))? {
        let path = entry.map_err(AdapterError::io(dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        if matches!(name, Some(MANIFEST_FILE | WEIGHTS_FILE)) {
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let pickle = ["bin", "pt", "pth", "pkl", "pickle", "ckpt"];
        let reason = if pickle.contains(&extension.to_ascii_lowercase().as_str()) {
            "it can be a pickle, which runs code when it is read; only safetensors are accepted"
        } else {
            "only manifest.json and adapter.safetensors may be there"
        };
        return Err(AdapterError::ForeignFile { path, reason });
    }
    for file in [MANIFEST_FILE, WEIGHTS_FILE] {
        if fs::symlink_metadata(dir.join(file)).is_err() {
            return Err(AdapterError::NotABundle {
                dir: dir.to_owned(),
                reason: format!("it has no {file}"),
            });
        }
    }
    Ok(())
}

/// The bytes of a plain file of at most `max` bytes; links and devices are not followed.
pub(super) fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>, AdapterError> {
    let io = || AdapterError::io(path);
    let metadata = fs::symlink_metadata(path).map_err(io())?;
    if !metadata.is_file() {
        return Err(AdapterError::ForeignFile {
            path: path.to_owned(),
            reason: "it must be a plain file, not a link, directory or device",
        });
    }
    let too_large = |bytes| AdapterError::TooLarge {
        path: path.to_owned(),
        bytes,
        max,
    };
    if metadata.len() > max {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io())?;
    // One byte more than it had: a file that grows meanwhile is not read on.
    let limit = metadata.len() + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(io())?;
    if bytes.len() as u64 == limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}
