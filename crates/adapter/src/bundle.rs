//! A version on disk: read, verify, list; and in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::data_until::Reach;
pub use super::error::AdapterError;
use super::files::{read_regular, Files, MANIFEST_FILE, MAX_MANIFEST_BYTES, WEIGHTS_FILE};
use super::manifest::{Manifest, UserModelManifest};
use super::misfit::Base;
use super::plan::{lora_name, parse_lora_name, user_model_name, Plan};
use super::tensors::{TensorData, TensorFile};
use attune_ids::AdapterVersion;
use attune_model::config::ModelConfig;
use attune_model::lora::{LoraPair, LoraSet};
use attune_model::user_model::cluster::{ClusterUserModel, CLUSTER_EMBEDDING, USER_WEIGHT};
use attune_model::user_model::individual::{IndividualUserModel, USER_EMBEDDING};
use attune_model::user_model::model::{UserModel, UserModelKind};
use attune_model::user_model::people::{People, CACHE_BYTES};
use attune_model::user_model::table::Table;

/// A version in memory.
#[derive(Debug)]
pub struct Adapter {
    /// Its name: the hash of its content.
    pub version: AdapterVersion,
    /// A name for people.
    pub name: Option<String>,
    /// When it was made, seconds since 1970.
    pub created_unix: u64,
    /// Until when what it has learned of each person reaches.
    pub reach: Reach,
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

/// Where a version lies inside the directory of all versions.
pub fn bundle_dir(parent: &Path, version: &AdapterVersion) -> PathBuf {
    parent.join(version.as_str())
}

/// The bundle that `dir` is, or the only one that it holds: a training run publishes into a directory
/// of its own.
///
/// # Errors
/// Neither, or several.
pub fn locate(dir: &Path) -> Result<PathBuf, AdapterError> {
    if dir.join(MANIFEST_FILE).is_file() {
        return Ok(dir.to_owned());
    }
    match &list(dir)?[..] {
        [only] => Ok(bundle_dir(dir, &only.version)),
        listed => Err(AdapterError::NotOneBundle {
            dir: dir.to_owned(),
            found: listed.len(),
        }),
    }
}

/// Loads the version in `dir` for the model `config`, whose weights have the hash `base_sha256`.
///
/// Everything is checked first: that the content hashes to the directory's name, the base model,
/// names, shapes and types of all tensors, that every value is finite, that user rows are there.
///
/// # Errors
/// The first thing that does not fit; see [`AdapterError`].
pub fn read(dir: &Path, config: &ModelConfig, base_sha256: &str) -> Result<Adapter, AdapterError> {
    Files::read(dir)?.load(config, base_sha256)
}

/// The contents of the version in `dir`, checked as [`verify`] checks them: to make another one of
/// them. [`read`] checks that they fit a base model.
///
/// # Errors
/// As [`verify`].
pub fn contents(dir: &Path) -> Result<BundleContents, AdapterError> {
    let files = Files::read(dir)?;
    let Verified { manifest, .. } = files.verify()?;
    let tensors = TensorFile::parse(WEIGHTS_FILE, &files.weights)?.values()?;
    Ok(BundleContents { manifest, tensors })
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
    let listed = versions_in(parent)?.into_iter().map(|version| {
        let path = bundle_dir(parent, &version).join(MANIFEST_FILE);
        let manifest = read_regular(&path, MAX_MANIFEST_BYTES).and_then(|b| Manifest::parse(&b));
        Listed { version, manifest }
    });
    Ok(listed.collect())
}

/// Their names alone.
///
/// # Errors
/// `parent` cannot be read.
pub fn versions_in(parent: &Path) -> Result<Vec<AdapterVersion>, AdapterError> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(parent).map_err(AdapterError::io(parent))? {
        let entry = entry.map_err(AdapterError::io(parent))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let (Ok(version), true) = (AdapterVersion::new(name), entry.path().is_dir()) {
            versions.push(version);
        }
    }
    versions.sort();
    Ok(versions)
}

impl BundleContents {
    /// Checks that tensors and manifest fit together, as far as that goes without the base model.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self) -> Result<(), AdapterError> {
        let shapes = self.shapes();
        Plan::new(&self.manifest, None, shapes.keys().copied())?.check(&shapes)?;
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

    /// Checks that they are for a model of the shape `config`.
    ///
    /// # Errors
    /// [`AdapterError::Misfit`].
    pub fn check_fits(&self, config: &ModelConfig) -> Result<(), AdapterError> {
        let name = &self.manifest.base.name;
        let base = Base { name, config };
        base.plan(&self.manifest, &self.shapes()).map(drop)
    }

    fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        let shapes = self.tensors.iter();
        shapes.map(|(n, t)| (n.as_str(), &t.shape[..])).collect()
    }
}

impl Files {
    /// See [`read`].
    pub(super) fn load(
        &self,
        config: &ModelConfig,
        base_sha256: &str,
    ) -> Result<Adapter, AdapterError> {
        let manifest = Manifest::parse(&self.manifest)?;
        if manifest.base.sha256 != base_sha256 {
            return Err(AdapterError::Base {
                made_for: manifest.base.name,
                made_for_sha256: manifest.base.sha256,
                loaded_sha256: base_sha256.to_owned(),
            });
        }
        self.check(manifest, Some(config))
    }

    /// Bytes that the version takes in memory, before anything is allocated for it: its values in f32,
    /// those of LoRA a second time, packed; its people, and the prompts computed for them.
    pub(super) fn bytes_in_memory(&self) -> Result<usize, AdapterError> {
        let file = TensorFile::parse(WEIGHTS_FILE, &self.weights)?;
        let mut bytes = self.manifest.len();
        for (name, shape) in file.shapes() {
            // All of it lies in the file, so that the product is no larger.
            let values: usize = shape.iter().product();
            let copies = match parse_lora_name(name) {
                Some(_) => 2,
                None => 1,
            };
            bytes += copies * values * size_of::<f32>();
        }
        let has_people = file
            .shapes()
            .any(|(name, _)| parse_lora_name(name).is_none());
        Ok(bytes + if has_people { CACHE_BYTES } else { 0 })
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
        let shapes: BTreeMap<&str, &[usize]> = file.shapes().collect();
        let plan = match config {
            Some(config) => {
                let name = &manifest.base.name;
                Base { name, config }.plan(&manifest, &shapes)?
            }
            None => {
                let plan = Plan::new(&manifest, None, shapes.keys().copied())?;
                plan.check(&shapes)?;
                plan
            }
        };
        let mut tensors = file.values()?;
        let people = user_model(&manifest, &mut tensors)?
            .map(|model| People::new(model, manifest.user_rows(), CACHE_BYTES));
        Ok(Adapter {
            version: self.version.clone(),
            lora: Arc::new(lora_set(&plan, &mut tensors)?),
            people,
            reach: manifest.reach(),
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
    Ok(LoraSet {
        pairs,
        dropout: None,
    })
}

fn take(
    tensors: &mut BTreeMap<String, TensorData>,
    name: String,
) -> Result<TensorData, AdapterError> {
    tensors
        .remove(&name)
        .ok_or_else(|| AdapterError::MissingTensors(vec![name]))
}
