//! The subcommands other than `serve`: each does its work and returns what to print.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use anyhow::{bail, Context, Result};

use super::boot::{now_unix_ms, ALIAS};
use super::columns::in_columns;
use super::keys::edit::NewKey;
use super::keys::{self, Role};
use super::versions::describe::{describe, summary};
use super::versions::forgetting::Replaced;
use super::versions::{Expected, LoadedBase, Versions};
use crate::config::adapter::{Adapter, AdapterImport};
use crate::config::data_dir::{BundleFolder, DataDir};
use crate::config::key::{Key, KeyNew};
use crate::config::model::Model;
use crate::config::moment::data_until;
use crate::config::store::Store;
use attune_adapter::bundle;
use attune_adapter::manifest::BaseModel;
use attune_adapter::peft::{self, PeftImport};
use attune_adapter::peft_export;
use attune_adapter::publish::{self, Offered};
use attune_adapter::AdapterError;
use attune_base_model::load::{id, locate};
use attune_files::replace::{parent, Readers, Replacement};
use attune_ids::{AdapterVersion, Alias, Tenant, UserId, UserKey, VersionDigits};
use attune_model::hub;
use attune_model::user_model::model::UserModelKind;
use attune_store::{AdapterSource, CompactSummary};

/// `attune model ...`
///
/// # Errors
/// An unknown name, or no source that can be reached.
pub fn model(command: Model) -> Result<String> {
    let cache = hub::cache_directory()?;
    match command {
        Model::Pull { name } => {
            let known = hub::find(&name).with_context(|| {
                format!("{name:?} is not known; `attune model list` shows the names")
            })?;
            Ok(format!("{}\n", hub::fetch(known, &cache)?.display()))
        }
        Model::List => Ok(in_columns(hub::CATALOG.iter().map(|m| {
            let there = hub::path_of(m, &cache).is_file();
            let there = if there { "in the cache" } else { "not fetched" };
            [m.name, there, m.about].map(str::to_owned)
        }))),
    }
}

/// `attune adapter ...`
///
/// # Errors
/// See the parts; nothing is changed then.
pub fn adapter(command: Adapter) -> Result<String> {
    match command {
        Adapter::Import(import) => import_peft(&import),
        Adapter::Install {
            bundle,
            model,
            data,
        } => install(&bundle, &model.model, &data),
        Adapter::Promote {
            version,
            expected,
            data,
        } => promote(&open(&data)?, &version, expected.as_deref()),
        Adapter::Rollback { data } => {
            let (versions, alias) = (open(&data)?, Alias::new(ALIAS)?);
            let version = versions.previous(&alias)?;
            check_whole(&versions, &version)?;
            versions.promote(&alias, &version, &Expected::Anything, now_unix_ms())?;
            Ok(format!("{alias} names {version}\n"))
        }
        Adapter::Retire { version, data } => {
            let versions = open(&data)?;
            let version = versions.find(&VersionDigits::new(version)?)?;
            versions.remove(&version)?;
            Ok(format!("retired {version}\n"))
        }
        Adapter::Forget { bundles, data } => forget(&bundles, &data),
        Adapter::List { data } => Ok(describe(&open(&data)?)?),
        Adapter::Export { bundle, out } => {
            peft_export::export(&bundle::contents(&bundle::locate(&bundle)?)?, &out)?;
            Ok(format!("{}\n", out.display()))
        }
        Adapter::Verify { bundle } => {
            let found = bundle::verify(&bundle::locate(&bundle)?)?;
            Ok(format!(
                "{} is intact: {}\n",
                found.version,
                summary(&found.manifest)
            ))
        }
    }
}

/// `attune key ...`
///
/// # Errors
/// See [`keys::edit`]; the file is as it was.
pub fn key(command: Key) -> Result<String> {
    match command {
        Key::New(new) => new_key(new),
        Key::List { file } => Ok(keys::list::list(&file.api_keys, now_unix_ms())?),
        Key::Revoke { key, file } => {
            let name = keys::edit::revoke(&file.api_keys, &key)?;
            Ok(format!("{name} is revoked\n"))
        }
    }
}

fn new_key(new: KeyNew) -> Result<String> {
    let now = now_unix_ms();
    let roles: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| new.roles.iter().any(|name| name == role.as_str()))
        .collect();
    let tenant = match new.tenant {
        Some(tenant) => tenant,
        None if roles.contains(&Role::Admin) => bail!(
            "a key with the role admin needs --tenant: the one that it manages, or '*' for the whole server"
        ),
        None => Tenant::default().to_string(),
    };
    let expires = new.expires.map(|text| match in_days(&text) {
        Some(days) => keys::file::written(now.saturating_add(days * 86_400_000)),
        None => text,
    });
    let key = NewKey {
        name: new.name,
        tenant,
        roles,
        users: new.users,
        user: new.user,
        expires,
    };
    let secret = keys::edit::add(&new.file.api_keys, &key, now)?;
    tracing::info!(
        name = key.name,
        "this is the key, and it is shown once: the file keeps a hash"
    );
    Ok(format!("{secret}\n"))
}

/// `90d`, up to a hundred years.
fn in_days(text: &str) -> Option<u64> {
    let days = text.strip_suffix('d')?.parse().ok()?;
    (days <= 36_500).then_some(days)
}

/// `attune store ...`
///
/// # Errors
/// A store that is locked or damaged, a file that cannot be written or read.
pub fn store(command: Store) -> Result<String> {
    match command {
        Store::Verify { data } => {
            let report = open(&data)?.store().verify()?;
            if !report.is_clean() {
                bail!("{report}");
            }
            Ok(format!("{report}\n"))
        }
        Store::Export { out, data } => {
            let summary = export(open(&data)?.store(), &out)?;
            Ok(format!(
                "{} records, SHA-256 {}\n",
                summary.records, summary.sha256
            ))
        }
        Store::Compact { data } => {
            let CompactSummary { before, after } = open(&data)?.store().compact()?;
            Ok(format!("{before} bytes before, {after} after\n"))
        }
        Store::Import { file, data } => {
            let input = File::open(&file).with_context(|| file.display().to_string())?;
            let summary = open(&data)?.store().import(&mut BufReader::new(input))?;
            Ok(format!("{} records\n", summary.records))
        }
    }
}

fn open(data: &DataDir) -> Result<Versions> {
    Ok(Versions::open(&data.path()?, now_unix_ms())?)
}

fn promote(versions: &Versions, version: &str, expected: Option<&str>) -> Result<String> {
    let alias = Alias::new(ALIAS)?;
    let version = versions.find(&VersionDigits::new(version)?)?;
    let expected = match expected {
        None => Expected::Anything,
        Some("none") => Expected::Nothing,
        Some(digits) => Expected::Version(VersionDigits::new(digits)?),
    };
    check_whole(versions, &version)?;
    versions.promote(&alias, &version, &expected, now_unix_ms())?;
    Ok(format!("{alias} names {version}\n"))
}

/// A version that answers must be one that a server can load.
fn check_whole(versions: &Versions, version: &AdapterVersion) -> Result<()> {
    let found = bundle::verify(&bundle::bundle_dir(versions.adapters_dir(), version));
    found.map(drop).with_context(|| {
        format!("version {version} cannot be loaded; install it again, or promote another one")
    })
}

fn install(dir: &Path, model: &str, data: &DataDir) -> Result<String> {
    let whose = || format!("adapter {}", dir.display());
    let bundle = bundle::locate(dir).with_context(whose)?;
    let versions = open(data)?;
    let offered = versions.offered(&bundle).with_context(whose)?;
    let base = served(model, &offered).with_context(whose)?;
    let source = AdapterSource::Installed;
    let installed = versions.install_offered(offered, Some(&base), source, now_unix_ms());
    Ok(format!("installed {}\n", installed.with_context(whose)?))
}

/// The model that the server serves. One of another model need not be fetched to see that it is another.
fn served(model: &str, offered: &Offered) -> Result<LoadedBase> {
    let made_for = offered.base()?;
    if let Some(known) = hub::find(model).filter(|known| known.sha256 != made_for.sha256) {
        return Err(AdapterError::Base {
            made_for: made_for.name,
            made_for_sha256: made_for.sha256,
            loaded_sha256: known.sha256.to_owned(),
        }
        .into());
    }
    let files = locate(model)?;
    Ok(LoadedBase {
        config: files.config()?,
        sha256: files.sha256()?,
    })
}

fn import_peft(import: &AdapterImport) -> Result<String> {
    let files = locate(&import.model.model)?;
    let model = files.config()?;
    let user = |name: &String| -> Result<UserKey> {
        Ok(UserKey {
            tenant: Tenant::default(),
            user: UserId::new(name)?,
        })
    };
    let users = import.users.iter().map(user).collect::<Result<Vec<_>>>()?;
    let sha256 = files.sha256()?;
    let base = LoadedBase {
        config: model.clone(),
        sha256: sha256.clone(),
    };
    let contents = peft::import(
        &import.checkpoint,
        PeftImport {
            name: import.name.clone(),
            created_unix: now_unix_ms() / 1000,
            data_until: data_until(import.data_until.as_deref())?,
            base: BaseModel {
                name: id(&import.model.model),
                sha256,
            },
            model,
            kind: import
                .without_generic
                .then_some(UserModelKind::IndividualNoGeneric),
            n_user_tokens: (import.n_user_tokens > 0).then_some(import.n_user_tokens),
            users: (!users.is_empty()).then_some(users),
        },
    );
    let contents = contents.with_context(|| format!("adapter {}", import.checkpoint.display()))?;
    if let Some(out) = &import.out {
        let version = publish::write(out, &contents)?;
        return Ok(format!(
            "wrote {}\n",
            bundle::bundle_dir(out, &version).display()
        ));
    }
    let (offered, source) = (Offered::of(&contents)?, AdapterSource::Imported);
    let versions = open(&import.data)?;
    let version = versions.install_offered(offered, Some(&base), source, now_unix_ms())?;
    Ok(format!(
        "installed {version}; to have it answer, run `attune adapter promote {}`\n",
        version.short()
    ))
}

fn forget(bundles: &BundleFolder, data: &DataDir) -> Result<String> {
    let versions = open(data)?;
    let replaced = versions.forget_deleted(now_unix_ms());
    let folder = bundles.path(versions.data_dir());
    let offered = versions.forget_in_folder(&folder)?;
    let replaced = replaced?;
    let mut lines = String::new();
    for Replaced { old, new, people } in replaced {
        lines.push_str(&format!(
            "{old} was replaced by {new}, without {people} people\n"
        ));
    }
    if offered > 0 {
        lines.push_str(&format!(
            "{offered} bundles were replaced in {}\n",
            folder.display()
        ));
    }
    if lines.is_empty() {
        lines.push_str("no version knows a deleted person\n");
    }
    Ok(lines)
}

/// A whole file or none.
fn export(store: &attune_store::Store, out: &Path) -> Result<attune_store::ExportSummary> {
    let parent = parent(out);
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let begun = Replacement::begin(out, Readers::Owner);
    let mut file = begun.with_context(|| parent.display().to_string())?;
    let summary = store.export(&mut file)?;
    file.finish().with_context(|| out.display().to_string())?;
    Ok(summary)
}
