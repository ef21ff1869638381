//! Connections, keys, web pages.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::uri::Authority;
use serde::{Deserialize, Serialize};

use crate::config::error::{problem, ConfigError};

/// A day.
const MAX_SECONDS: u64 = 86_400;

/// Connections, keys, web pages.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "HTTP")]
#[serde(rename_all = "kebab-case")]
pub struct Http {
    /// Address to listen on. Without API keys, only loopback addresses are accepted.
    #[arg(long, env = "ATTUNE_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, env = "ATTUNE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Port of a listener for health checks alone, at the same address, on a thread of its own; 0 picks a free one.
    #[arg(long, env = "ATTUNE_HEALTH_PORT")]
    pub health_port: Option<u16>,
    /// File with API keys; docs/api.md has its format.
    #[arg(long, env = "ATTUNE_API_KEYS")]
    pub api_keys: Option<PathBuf>,
    /// Seconds after which a connection is cut if its client reads nothing of what is waiting for it.
    #[arg(long, env = "ATTUNE_WRITE_TIMEOUT", default_value_t = 60)]
    pub write_timeout: u64,
    /// Seconds that answers in flight may take after SIGTERM.
    #[arg(long, env = "ATTUNE_SHUTDOWN_TIMEOUT", default_value_t = 30)]
    pub shutdown_timeout: u64,
    /// Origin whose web pages may call, as a browser writes it (`https://chat.example`), or * for all. May be
    /// given several times; in the variable, with commas.
    #[arg(long, env = "ATTUNE_CORS_ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// Refuse fields of requests that have no effect here, instead of naming them in the header
    /// x-attune-ignored.
    #[arg(long, env = "ATTUNE_STRICT")]
    pub strict: bool,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Address to listen on.
    pub address: SocketAddr,
    /// Address of the listener for health checks alone, if there is one.
    pub health_address: Option<SocketAddr>,
    /// File with API keys.
    pub api_keys: Option<PathBuf>,
    /// Longest time in which a client reads nothing of what is waiting for it.
    pub write_timeout: Duration,
    /// How long answers in flight may take after SIGTERM.
    pub shutdown_timeout: Duration,
    /// Origins whose web pages may call, as browsers write them; `*` is all.
    pub cors_origins: Vec<String>,
    /// Whether fields of requests that change nothing are refused.
    pub strict: bool,
}

impl HttpSettings {
    pub(super) fn new(typed: &Http) -> Result<Self, ConfigError> {
        let Http { host, port, .. } = *typed;
        if typed.api_keys.is_none() && !host.is_loopback() {
            let text =
                format!("{host} can be reached by others: give --api-keys FILE, or use 127.0.0.1");
            return Err(problem("--host", text));
        }
        Ok(Self {
            address: SocketAddr::new(host, port),
            health_address: health_address(typed)?,
            api_keys: typed.api_keys.clone(),
            write_timeout: write_timeout(typed.write_timeout)?,
            shutdown_timeout: Duration::from_secs(typed.shutdown_timeout.min(MAX_SECONDS)),
            cors_origins: origins(&typed.cors_origin)?,
            strict: typed.strict,
        })
    }
}

fn health_address(typed: &Http) -> Result<Option<SocketAddr>, ConfigError> {
    let port = typed.port;
    if port != 0 && typed.health_port == Some(port) {
        let text = format!("{port} is --port, where health checks are answered anyway");
        return Err(problem("--health-port", text));
    }
    let address = |port| SocketAddr::new(typed.host, port);
    Ok(typed.health_port.map(address))
}

fn write_timeout(seconds: u64) -> Result<Duration, ConfigError> {
    if seconds == 0 || seconds > MAX_SECONDS {
        let text = format!("{seconds} is not in 1..={MAX_SECONDS}");
        return Err(problem("--write-timeout", text));
    }
    Ok(Duration::from_secs(seconds))
}

/// Origins as browsers write them.
fn origins(typed: &[String]) -> Result<Vec<String>, ConfigError> {
    let typed = typed
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty());
    typed.map(origin).collect()
}

fn origin(text: &str) -> Result<String, ConfigError> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").unwrap_or_default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let authority: Option<Authority> = rest.parse().ok().filter(|_| !rest.contains(['@', '*']));
    let (true, Some(authority)) = (!scheme.is_empty() && scheme.chars().all(is_word), authority)
    else {
        return Err(problem("--cors-origin", format!(
                "{text:?} is not an origin; write scheme, name and port and nothing after them, for example \
                 https://chat.example or http://localhost:3000, or * for all"
            )));
    };
    // Browsers leave out the usual port.
    let usual = matches!(
        (scheme, authority.port_u16()),
        ("http", Some(80)) | ("https", Some(443))
    );
    let name = if usual { authority.host() } else { rest };
    Ok(format!("{scheme}://{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (typed, meant) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example:443", "https://chat.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("*", "*"),
        ] {
            assert_eq!(origins(&[typed.to_owned()]), Ok(vec![meant.to_owned()]));
        }
        assert_eq!(origins(&[String::new()]), Ok(vec![]));
        for bad in [
            "chat.example",
            "https://",
            "https://chat.example/",
            "https://chat.example/page",
            "https://chat.example?x",
            "https://me@chat.example",
            "://chat.example",
            "https://*.chat.example",
            "null",
            "https://a b",
        ] {
            let error = origins(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with("--cors-origin"), "{bad}: {error}");
        }
    }
}
