//! How much a tenant may have.

use std::sync::PoisonError;

use crate::trees::Edit;
use crate::{derived, Store, StoreError};
use attune_ids::Tenant;

/// What a tenant may have of preferences, ratings, kept completions and profiles together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantQuota {
    /// Records.
    pub records: u64,
    /// Their bytes, as they are kept.
    pub bytes: u64,
}

/// What a tenant has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Preferences, ratings, kept completions and profiles.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// From now on no tenant gets more than `quota`. What is there already stays.
    pub fn set_quota(&self, quota: TenantQuota) {
        let mut set = self.quota().write().unwrap_or_else(PoisonError::into_inner);
        *set = Some(quota);
    }

    /// What `tenant` has.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tenant_use(&self, tenant: &Tenant) -> Result<TenantUse, StoreError> {
        let value = self.trees().get(derived::SUMS, &derived::tenant(tenant))?;
        let sums = derived::read_sums(value.as_deref());
        let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
        Ok(TenantUse {
            records: sum("records"),
            bytes: sum("bytes"),
        })
    }

    /// Whether `tenant` may have what `edits` put; for a writer.
    pub(super) fn check_quota(&self, tenant: &Tenant, edits: &[Edit]) -> Result<(), StoreError> {
        let quota = *self.quota().read().unwrap_or_else(PoisonError::into_inner);
        let Some(quota) = quota else { return Ok(()) };
        let counted = edits.iter().filter(|edit| derived::concerns(edit.tree));
        let new: Vec<u64> = counted
            .filter_map(|edit| edit.value.as_ref().map(|value| value.len() as u64))
            .collect();
        let used = self.tenant_use(tenant)?;
        let records = used.records.saturating_add(new.len() as u64);
        let bytes = used.bytes.saturating_add(new.iter().sum());
        match records > quota.records || bytes > quota.bytes {
            true => Err(StoreError::Quota { used, quota }),
            false => Ok(()),
        }
    }
}
