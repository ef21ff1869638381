//! Settings of HTTP, checked.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Authority;

use super::raw::Serve;
use super::resolved::ConfigError;

/// A day.
const MAX_WRITE_SECONDS: u64 = 86_400;

/// Settings of HTTP.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Address of the listener for health checks alone, if there is one.
    pub health_address: Option<SocketAddr>,
    /// Longest time in which a client takes nothing of what there is for it.
    pub write_timeout: Duration,
    /// Origins whose web pages may call, as browsers write them; `*` is all.
    pub cors_origins: Vec<String>,
    /// Whether fields of requests that change nothing are refused.
    pub strict: bool,
}

impl HttpSettings {
    pub(super) fn new(raw: &Serve) -> Result<Self, ConfigError> {
        Ok(Self {
            health_address: health_address(raw)?,
            write_timeout: write_timeout(raw.write_timeout)?,
            cors_origins: origins(&raw.cors_origin)?,
            strict: raw.strict,
        })
    }
}

fn health_address(raw: &Serve) -> Result<Option<SocketAddr>, ConfigError> {
    if raw
        .health_port
        .is_some_and(|port| port != 0 && port == raw.port)
    {
        return Err(ConfigError {
            setting: "--health-port",
            problem: format!(
                "{} is --port, where health checks are answered anyway",
                raw.port
            ),
        });
    }
    Ok(raw.health_port.map(|port| SocketAddr::new(raw.host, port)))
}

fn write_timeout(seconds: u64) -> Result<Duration, ConfigError> {
    if seconds == 0 || seconds > MAX_WRITE_SECONDS {
        return Err(ConfigError {
            setting: "--write-timeout",
            problem: format!("{seconds} is not in 1..={MAX_WRITE_SECONDS}"),
        });
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
        return Err(ConfigError {
            setting: "--cors-origin",
            problem: format!(
                "{text:?} is no origin; write scheme, name and port and nothing behind them, for example \
                 https://chat.example or http://localhost:3000, or * for all"
            ),
        });
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
