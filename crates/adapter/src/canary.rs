//! Canaries: some users of an alias are answered by another version.

use sha2::{Digest, Sha256};

use attune_ids::{Alias, UserKey};

/// What the key is made for; a change of the rule moves everybody.
const DOMAIN: &[u8] = b"attune canary 1\n";

/// Divides users. The same key gives everybody the same place, before and after a restart; who does
/// not know it cannot choose an id that a canary answers.
#[derive(Debug, Clone, Default)]
pub struct SplitKey(Vec<u8>);

impl SplitKey {
    /// The key of a store: its id, which was drawn by chance when it was made.
    pub fn of_store(store_id: &str) -> Self {
        Self(store_id.as_bytes().to_vec())
    }

    /// The place of a person among the users of `alias`, 0 ..= 999. A canary answers the places below
    /// its share: one that grows only adds people.
    pub fn place(&self, alias: &Alias, user: &UserKey) -> u16 {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        let parts = [alias.as_str(), user.tenant.as_str(), user.user.as_str()];
        for part in [&self.0[..]].into_iter().chain(parts.map(str::as_bytes)) {
            // Lengths, so that no byte can move from one part to the next.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // Below 1000.
        (number % 1000) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use attune_ids::{Tenant, UserId};

    fn user(tenant: &str, user: &str) -> UserKey {
        UserKey {
            tenant: Tenant::new(tenant).unwrap(),
            user: UserId::new(user).unwrap(),
        }
    }

    /// Equivalent Python:
    /// p = lambda b: len(b).to_bytes(8, "little") + b
    /// d = hashlib.sha256(b"attune canary 1\n" + p(b"k") + p(b"attune") + p(b"default") + p(b"ann"))
    /// int.from_bytes(d.digest()[:8], "little") % 1000
    #[test]
    fn the_rule_does_not_drift() {
        let alias = Alias::new("attune").unwrap();
        let place = SplitKey::of_store("k").place(&alias, &user("default", "ann"));
        assert_eq!(place, 598);
    }

    #[test]
    fn key_alias_tenant_and_user_all_count() {
        let (one, two) = (Alias::new("a").unwrap(), Alias::new("ab").unwrap());
        let (key, other) = (SplitKey::of_store("k"), SplitKey::of_store("l"));
        let places = |key: &SplitKey, alias: &Alias, tenant: &str, prefix: &str| {
            let place = |i| key.place(alias, &user(tenant, &format!("{prefix}{i}")));
            (0..20).map(place).collect::<Vec<_>>()
        };
        let all = BTreeSet::from([
            places(&key, &one, "t", "u"),
            places(&other, &one, "t", "u"),
            places(&key, &two, "t", "u"),
            places(&key, &one, "s", "u"),
            places(&key, &one, "t", "v"),
            places(&key, &one, "bt", "u"),
        ]);
        assert_eq!(all.len(), 6);
    }
}
