//! `manifest.json`: what a version is made of and for.

use std::collections::{HashMap, HashSet};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::data_until::{DataUntil, Reach};
use super::error::AdapterError;
use attune_ids::{Tenant, UserId, UserKey};
use attune_model::lora::Projection;
use attune_model::user_model::model::UserModelKind;

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;
/// Bounds that no real version reaches, checked before anything is computed from the numbers.
const MAX_RANK: usize = 1 << 14;
const MAX_LAYERS: usize = 1 << 14;
const MAX_COUNT: usize = 1 << 28;
const MAX_NAME_CHARS: usize = 256;

/// A version's description. The version's name is not in it: it is the hash of these bytes and the
/// weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was made, seconds since 1970.
    pub created_unix: u64,
    /// Until when what it has learned of people reaches, where their rows do not say otherwise. A person who
    /// was deleted then or later has no row in it; absent, whoever was ever deleted has none.
    #[serde(default, skip_serializing_if = "DataUntil::is_unknown")]
    pub data_until_unix_ms: DataUntil,
    /// The model that it adapts.
    pub base: BaseModel,
    /// The adapted layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraManifest>,
    /// The user model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_model: Option<UserModelManifest>,
    /// Whose row is whose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserRow>,
    /// How it came about: configuration, snapshot digest, git revision, evaluation. Never read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<serde_json::Value>,
}

/// The base model of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// Its name, for people.
    pub name: String,
    /// The hash of its weights, as the loaded model reports it.
    pub sha256: String,
}

/// The adapted layers: y = W x + (alpha / rank) B (A x).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraManifest {
    /// Rows of A.
    pub rank: usize,
    /// The numerator of the scale.
    pub alpha: f64,
    /// The adapted projections.
    pub targets: Vec<Projection>,
    /// The adapted blocks; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Layers whose rank or alpha differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<LoraOverride>,
}

/// Rank and alpha of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraOverride {
    /// The block.
    pub layer: usize,
    /// The projection.
    pub target: Projection,
    /// Rows of A.
    pub rank: usize,
    /// The numerator of the scale.
    pub alpha: f64,
}

/// The sizes of a user model, which its tensors alone do not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserModelManifest {
    /// Which formula.
    pub kind: UserModelKind,
    /// N.
    pub n_users: usize,
    /// T_u.
    pub n_user_tokens: usize,
    /// K; for the cluster kind only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<usize>,
}

/// One person's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRow {
    /// The tenant of their API key.
    #[serde(default)]
    pub tenant: Tenant,
    /// Their id.
    #[serde(deserialize_with = "exact_id")]
    pub user: UserId,
    /// Their user row, 1 ..= N.
    pub row: usize,
    /// Until when what this row has learned reaches, where that is not what the manifest says: the row was
    /// inherited from another version, or learned from other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_until_unix_ms: Option<DataUntil>,
}

impl Manifest {
    /// Reads and checks the bytes of a `manifest.json`.
    ///
    /// # Errors
    /// See [`AdapterError::Manifest`] and [`AdapterError::Format`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AdapterError> {
        // A later format may have other fields: say so, rather than complain about them.
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let malformed = |e: serde_json::Error| AdapterError::Manifest(e.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != u64::from(FORMAT) {
            return Err(AdapterError::Format {
                found: format,
                supported: FORMAT,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The bytes of `manifest.json`.
    ///
    /// # Errors
    /// A manifest that [`Self::parse`] would refuse.
    pub fn to_bytes(&self) -> Result<Vec<u8>, AdapterError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| AdapterError::Manifest(format!("cannot be written: {e}")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The user row of each person.
    pub fn user_rows(&self) -> HashMap<UserKey, usize> {
        self.users.iter().map(|u| (u.key(), u.row)).collect()
    }

    /// Until when what is learned of each person reaches.
    pub fn reach(&self) -> Reach {
        let mut reach = Reach::of_all(self.data_until_unix_ms);
        for user in &self.users {
            if let Some(until) = user.data_until_unix_ms {
                reach.set(user.key(), until);
            }
        }
        reach
    }

    fn validate(&self) -> Result<(), AdapterError> {
        require(self.format == FORMAT, || format!("format must be {FORMAT}"))?;
        for (field, text) in [
            ("name", self.name.as_deref().unwrap_or("-")),
            ("base.name", &self.base.name),
            ("base.sha256", &self.base.sha256),
        ] {
            let ok = (1..=MAX_NAME_CHARS).contains(&text.chars().count())
                && !text.chars().any(char::is_control);
            require(ok, || {
                format!("{field} must have 1 to {MAX_NAME_CHARS} printable characters")
            })?;
        }
        require(self.lora.is_some() || self.user_model.is_some(), || {
            "it has neither lora nor user_model, so there is nothing to adapt".into()
        })?;
        self.lora.as_ref().map_or(Ok(()), LoraManifest::validate)?;
        match &self.user_model {
            Some(user_model) => user_model.validate()?,
            None => require(self.users.is_empty(), || {
                "users have rows, but there is no user_model".into()
            })?,
        }
        self.validate_users()
    }

    fn validate_users(&self) -> Result<(), AdapterError> {
        let n_users = self.user_model.as_ref().map_or(0, |m| m.n_users);
        let (mut keys, mut rows) = (HashSet::new(), HashSet::new());
        for user in &self.users {
            require((1..=n_users).contains(&user.row), || {
                format!(
                    "user {:?} has row {}, outside 1..={n_users}",
                    user.user.as_str(),
                    user.row
                )
            })?;
            require(rows.insert(user.row), || {
                format!("two users have row {}", user.row)
            })?;
            require(keys.insert((&user.tenant, &user.user)), || {
                format!(
                    "user {:?} of tenant {} has two rows",
                    user.user.as_str(),
                    user.tenant
                )
            })?;
        }
        Ok(())
    }
}

impl LoraManifest {
    fn validate(&self) -> Result<(), AdapterError> {
        let scales = self.overrides.iter().map(|o| (o.rank, o.alpha));
        for (rank, alpha) in scales.chain([(self.rank, self.alpha)]) {
            require((1..=MAX_RANK).contains(&rank), || {
                format!("a LoRA rank of {rank} is outside 1..={MAX_RANK}")
            })?;
            require(alpha.is_finite() && alpha.abs() <= 1e9, || {
                format!("a LoRA alpha of {alpha} cannot be used")
            })?;
        }
        require(!self.targets.is_empty(), || "lora.targets is empty".into())?;
        require(ascending(&self.targets), || {
            "lora.targets must be in the order q, k, v, o, gate, up, down, each once".into()
        })?;
        if let Some(layers) = &self.layers {
            let ok = !layers.is_empty() && ascending(layers) && layers.last() < Some(&MAX_LAYERS);
            require(ok, || "lora.layers must be ascending, each once".into())?;
        }
        let places: Vec<_> = self.overrides.iter().map(|o| (o.layer, o.target)).collect();
        require(ascending(&places), || {
            "lora.overrides must be ascending by layer and target, each once".into()
        })
    }
}

impl UserModelManifest {
    fn validate(&self) -> Result<(), AdapterError> {
        let counts = [
            ("n_users", self.n_users),
            ("n_user_tokens", self.n_user_tokens.max(1)),
            ("clusters", self.clusters.unwrap_or(1).max(1)),
        ];
        for (field, count) in counts {
            require(count <= MAX_COUNT, || {
                format!("user_model.{field} = {count} is out of range")
            })?;
        }
        require(self.n_user_tokens > 0, || {
            "user_model.n_user_tokens is 0".into()
        })?;
        match (self.kind, self.clusters) {
            (UserModelKind::Cluster, Some(k)) if k > 0 => Ok(()),
            (UserModelKind::Cluster, _) => Err(AdapterError::Manifest(
                "user_model.clusters is needed for the cluster kind".into(),
            )),
            (_, None) => Ok(()),
            (_, Some(_)) => Err(AdapterError::Manifest(
                "user_model.clusters belongs to the cluster kind only".into(),
            )),
        }
    }
}

impl UserRow {
    /// The person.
    pub fn key(&self) -> UserKey {
        UserKey {
            tenant: self.tenant.clone(),
            user: self.user.clone(),
        }
    }
}

/// An id without white space around it. A manifest is never changed, so an id that would have to be is refused: people
/// may have been deleted under either.
fn exact_id<'de, D: Deserializer<'de>>(from: D) -> Result<UserId, D::Error> {
    let text = String::deserialize(from)?;
    let user = UserId::new(&text).map_err(D::Error::custom)?;
    if user.as_str() == text {
        return Ok(user);
    }
    let message = format!("user {text:?} has white space around the id, which is no part of it; make the version anew");
    Err(D::Error::custom(message))
}

fn ascending<T: PartialOrd>(items: &[T]) -> bool {
    items.windows(2).all(|pair| pair[0] < pair[1])
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), AdapterError> {
    if holds {
        Ok(())
    } else {
        Err(AdapterError::Manifest(otherwise()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> serde_json::Value {
        json!({
            "format": 1,
            "name": "six styles",
            "created_unix": 1_700_000_000,
            "base": {"name": "tiny", "sha256": "ab"},
            "lora": {"rank": 4, "alpha": 8.0, "targets": ["q", "k", "v"]},
            "user_model": {"kind": "individual", "n_users": 3, "n_user_tokens": 2},
            "users": [{"user": "alice", "row": 1}, {"tenant": "acme", "user": "alice", "row": 3}],
            "training": {"beta": 0.1}
        })
    }

    /// `example` with `value` at `pointer`, a JSON pointer; the last part may be a new field.
    fn changed(pointer: &str, value: serde_json::Value) -> Result<Manifest, AdapterError> {
        let mut example = example();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        example.pointer_mut(parent).unwrap()[field] = value;
        Manifest::parse(example.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_survives_writing() {
        let manifest = Manifest::parse(example().to_string().as_bytes()).unwrap();
        assert_eq!(manifest.users[0].tenant, Tenant::default());
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
        let rows = manifest.user_rows();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[&manifest.users[1].key()], 3);
    }

    #[test]
    fn a_row_may_reach_less_far_than_the_others() {
        let manifest = Manifest::parse(example().to_string().as_bytes()).unwrap();
        let users = [0, 1].map(|i| manifest.users[i].key());
        assert_eq!(
            manifest.reach(),
            Reach::default(),
            "an old manifest: unknown"
        );
        let until = changed("/data_until_unix_ms", json!(9)).unwrap();
        assert_eq!(until.reach(), Reach::of_all(DataUntil::UnixMs(9)));
        let mut mixed = example();
        mixed["data_until_unix_ms"] = json!(9);
        mixed["users"][0]["data_until_unix_ms"] = json!("unknown");
        let mixed = Manifest::parse(mixed.to_string().as_bytes()).unwrap();
        assert_eq!(mixed.reach().of(&users[0]), DataUntil::Unknown);
        assert_eq!(mixed.reach().of(&users[1]), DataUntil::UnixMs(9));
        let bytes = mixed.to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), mixed);
    }

    #[test]
    fn a_later_format_is_named() {
        let err = changed("/format", json!(2)).unwrap_err();
        assert!(
            matches!(err, AdapterError::Format { found: 2, .. }),
            "{err}"
        );
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let cases = [
            ("/extra", json!(1), "unknown field `extra`"),
            ("/lora/dora", json!(true), "unknown field `dora`"),
            ("/base/path", json!("/x"), "unknown field `path`"),
            ("/data_until_unix_ms", json!(-1), "milliseconds since 1970"),
            (
                "/users/0/data_until_unix_ms",
                json!("x"),
                "milliseconds since",
            ),
            ("/name", json!(""), "name must have"),
            ("/name", json!("a\nb"), "name must have"),
            ("/lora/rank", json!(0), "rank of 0"),
            ("/lora/rank", json!(1u64 << 40), "rank of"),
            ("/lora/rank", json!(-1), "invalid value"),
            ("/lora/alpha", json!(1e300), "alpha of"),
            ("/lora/targets", json!([]), "targets is empty"),
            ("/lora/targets", json!(["v", "q"]), "in the order"),
            ("/lora/targets", json!(["q", "q"]), "in the order"),
            ("/lora/targets", json!(["wte"]), "unknown variant"),
            ("/lora/layers", json!([]), "lora.layers"),
            ("/lora/layers", json!([1, 1]), "lora.layers"),
            ("/lora/layers", json!([1u64 << 60]), "lora.layers"),
            ("/user_model/n_users", json!(2), "outside 1..=2"),
            ("/user_model/n_users", json!(1u64 << 62), "out of range"),
            ("/user_model/n_user_tokens", json!(0), "n_user_tokens is 0"),
            ("/user_model/clusters", json!(2), "cluster kind only"),
            ("/user_model/kind", json!("cluster"), "clusters is needed"),
            ("/users/0/row", json!(0), "outside 1..=3"),
            ("/users/0/row", json!(3), "two users have row 3"),
            ("/users/0/tenant", json!("acme"), "has two rows"),
            ("/users/0/user", json!("x".repeat(65)), "at most 64"),
            (
                "/users/0/user",
                json!(" bob"),
                "user \" bob\" has white space",
            ),
            (
                "/users/0/user",
                json!("bob\u{a0}"),
                "has white space around",
            ),
            ("/users/0/user", json!(" "), "must not be empty"),
            ("/users/0/tenant", json!("../x"), "malformed"),
            ("/user_model", json!(null), "no user_model"),
        ];
        for (pointer, value, reason) in cases {
            let err = changed(pointer, value.clone()).unwrap_err().to_string();
            assert!(err.contains(reason), "{pointer} = {value}: {err}");
        }
    }

    #[test]
    fn an_empty_version_is_refused() {
        let mut example = example();
        for field in ["lora", "user_model", "users"] {
            example.as_object_mut().unwrap().remove(field);
        }
        let err = Manifest::parse(example.to_string().as_bytes()).unwrap_err();
        assert!(err.to_string().contains("nothing to adapt"), "{err}");
    }
}
