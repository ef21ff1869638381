//! Where the server that has a data directory open can be reached: a file that it leaves there for other
//! commands, and how they know that it is the one that answers there.
//!
//! Whether a server runs, the store's lock says. The file may be left of one that ended, and by now anybody may
//! have the port. So it holds a secret, too, new with each start, and whoever is asked proves that he knows it
//! before he is told anything: who can read the file can read the store.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use attune_files::replace::{replace, sweep, Readers};
use attune_files::{self as regular, Links};

const FILE: &str = "address";
const MAX_FILE_BYTES: u64 = 4096;

/// What a proof is of. Another purpose would be another text.
const PURPOSE: &[u8] = b"attune identity 1\n";

/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// Bytes of a secret: a block of the hash.
const SECRET_BYTES: usize = 64;

/// A running server's identity. Its secret is shown to nobody but who can read the data directory.
pub struct Identity([u8; SECRET_BYTES]);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// A new one, at random.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(rand::random())
    }

    /// What only who has the secret can say to `challenge`.
    pub fn prove(&self, challenge: &[u8; CHALLENGE_BYTES]) -> [u8; PROOF_BYTES] {
        mac(&self.0, challenge).finalize().into_bytes().into()
    }
}

/// A server as it left word of itself.
#[derive(Debug)]
pub struct LastServer {
    /// Its URL.
    pub url: String,
    identity: Identity,
}

impl LastServer {
    /// A challenge that nobody has seen before.
    pub fn challenge() -> [u8; CHALLENGE_BYTES] {
        rand::random()
    }

    /// Whether `proof` is this server's answer to `challenge`. Compared in constant time.
    pub fn has_proved(&self, challenge: &[u8; CHALLENGE_BYTES], proof: &[u8]) -> bool {
        mac(&self.identity.0, challenge).verify_slice(proof).is_ok()
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Word {
    url: String,
    secret: String,
}

/// Says that the server of `data_dir` listens on `address`. Only the owner of the directory can read it.
///
/// # Errors
/// The file cannot be written.
pub fn publish(data_dir: &Path, address: SocketAddr, identity: &Identity) -> io::Result<()> {
    let word = Word {
        url: url(address),
        secret: hex::encode(identity.0),
    };
    sweep(data_dir, &[FILE])?;
    let text = serde_json::to_string(&word)? + "\n";
    replace(&data_dir.join(FILE), Readers::Owner, text.as_bytes())
}

/// Takes the word back, at the end of the server.
///
/// # Errors
/// The file cannot be removed; that none is there is no error.
pub fn withdraw(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(data_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last server of `data_dir`.
///
/// # Errors
/// There was none, or the file cannot be read or was written by another version of attune.
pub fn last(data_dir: &Path) -> io::Result<LastServer> {
    let text = regular::read(&data_dir.join(FILE), MAX_FILE_BYTES, Links::Refuse)?;
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not of this version of attune",
        )
    };
    let word: Word = serde_json::from_slice(&text).map_err(|_| invalid())?;
    let mut secret = [0; SECRET_BYTES];
    hex::decode_to_slice(&word.secret, &mut secret).map_err(|_| invalid())?;
    Ok(LastServer {
        url: word.url,
        identity: Identity(secret),
    })
}

fn mac(secret: &[u8; SECRET_BYTES], challenge: &[u8; CHALLENGE_BYTES]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new(secret.into());
    mac.update(PURPOSE);
    mac.update(challenge);
    mac
}

/// As this machine reaches it.
fn url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_this_machine_reaches_the_server() {
        let dir = tempfile::tempdir().unwrap();
        assert!(last(dir.path()).is_err());
        let identity = Identity::new();
        for (listens, reached) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
            ("192.0.2.7:9", "http://192.0.2.7:9"),
        ] {
            publish(dir.path(), listens.parse().unwrap(), &identity).unwrap();
            assert_eq!(last(dir.path()).unwrap().url, reached);
        }
        withdraw(dir.path()).unwrap();
        withdraw(dir.path()).unwrap();
        assert!(last(dir.path()).is_err());
        // What attune 0.1 left before it had a secret.
        fs::write(dir.path().join(FILE), "http://127.0.0.1:8080\n").unwrap();
        let error = last(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn only_the_server_that_left_the_word_can_prove_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (Identity::new(), Identity::new());
        publish(dir.path(), "127.0.0.1:1".parse().unwrap(), &ours).unwrap();
        let left = last(dir.path()).unwrap();
        let (challenge, next) = (LastServer::challenge(), LastServer::challenge());
        assert!(left.has_proved(&challenge, &ours.prove(&challenge)));
        for wrong in [
            other.prove(&challenge).as_slice(),
            &ours.prove(&next),
            &ours.prove(&challenge)[..31],
            &challenge,
            &[],
        ] {
            assert!(!left.has_proved(&challenge, wrong));
        }
        assert!(!format!("{left:?}").contains(&hex::encode(ours.0)));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "old").unwrap();
        publish(dir.path(), "127.0.0.1:1".parse().unwrap(), &Identity::new()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
