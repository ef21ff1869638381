//! Versions as lines for people.

use super::{Versions, VersionsError};
use crate::app::columns::in_columns;
use attune_adapter::bundle::{self, bundle_dir};
use attune_adapter::manifest::Manifest;
use attune_store::{AdapterRecord, CanaryRecord};

/// A line for each installed version.
///
/// # Errors
/// The store cannot be read.
pub fn describe(versions: &Versions) -> Result<String, VersionsError> {
    let store = versions.store();
    let (aliases, canaries) = (store.aliases()?, store.canaries()?);
    let row = |record: AdapterRecord| {
        let named = aliases.iter().filter(|a| a.version == record.version);
        let tried = canaries.iter().filter(|c| c.version == record.version);
        let share = |c: &CanaryRecord| format!("{} ({} %)", c.alias, f64::from(c.permille) / 10.0);
        let named = named.map(|a| a.alias.to_string());
        let named: Vec<String> = named.chain(tried.map(share)).collect();
        let verified = bundle::verify(&bundle_dir(versions.adapters_dir(), &record.version));
        [
            record.version.to_string(),
            named.join(","),
            record.name.unwrap_or_else(|| "-".to_owned()),
            verified.map_or_else(|e| e.to_string(), |found| summary(&found.manifest)),
        ]
    };
    Ok(in_columns(store.adapters()?.into_iter().map(row)))
}

/// What a version is made of, in one line.
pub fn summary(manifest: &Manifest) -> String {
    let lora = manifest
        .lora
        .as_ref()
        .map(|l| format!("LoRA rank {}", l.rank));
    let users = manifest
        .user_model
        .as_ref()
        .map(|u| format!("{} users x {} rows", u.n_users, u.n_user_tokens));
    let parts: Vec<String> = [lora, users].into_iter().flatten().collect();
    format!("{} for {}", parts.join(", "), manifest.base.name)
}
