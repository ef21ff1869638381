//! Where the server that has a data directory open can be reached: a file that it leaves there for other
//! commands. Whether the server runs, the store's lock says; the file may be left of one that ended.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

const FILE: &str = "address";

/// Says that the server of `data_dir` listens on `address`.
///
/// # Errors
/// The file cannot be written.
pub fn publish(data_dir: &Path, address: SocketAddr) -> io::Result<()> {
    fs::write(data_dir.join(FILE), format!("{}\n", url(address)))
}

/// The URL that the last server of `data_dir` had.
///
/// # Errors
/// There was none, or the file cannot be read.
pub fn last(data_dir: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(data_dir.join(FILE))?.trim().to_owned())
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
        for (listens, reached) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
            ("192.0.2.7:9", "http://192.0.2.7:9"),
        ] {
            publish(dir.path(), listens.parse().unwrap()).unwrap();
            assert_eq!(last(dir.path()).unwrap(), reached);
        }
    }
}
