//! The name of a version: the SHA-256 of its content.

use sha2::{Digest, Sha256};

use attune_ids::AdapterVersion;

/// What a hash is of; a change of the rule changes every name.
const DOMAIN: &[u8] = b"attune adapter 1\n";

/// The name of the version with these two files, byte for byte.
///
/// Each part is preceded by its length (u64, little-endian), so that no byte can move from one file
/// to the other unnoticed.
pub fn content_version(manifest: &[u8], weights: &[u8]) -> AdapterVersion {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    for part in [manifest, weights] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    AdapterVersion::from_digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_its_file_count() {
        let names = [
            content_version(b"ab", b"c"),
            content_version(b"a", b"bc"),
            content_version(b"ab", b"d"),
            content_version(b"", b"abc"),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{name} twice");
        }
    }

    /// Equivalent Python:
    /// p = lambda b: len(b).to_bytes(8, "little") + b
    /// hashlib.sha256(b"attune adapter 1\n" + p(b"{}") + p(b"xyz")).hexdigest()
    #[test]
    fn the_rule_does_not_drift() {
        assert_eq!(
            content_version(b"{}", b"xyz").as_str(),
            "42991a90f19c296177edaea00f953ddcb80e8e906a166ea4e0a1f84cce8c0099"
        );
    }
}
