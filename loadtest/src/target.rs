//! Where requests go: a server on this machine, and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;

/// A server to load.
#[derive(Clone)]
pub struct Target {
    base: Url,
    api_key: Option<String>,
}

/// Why a URL is refused.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("--url {url:?} is not a URL ({problem}); write e.g. http://127.0.0.1:8080")]
    NotAUrl {
        /// As given.
        url: String,
        /// What the parser said.
        problem: String,
    },
    /// `https:` or something else.
    #[error("--url {url}: only http:// is supported, since the server is on this machine")]
    Scheme {
        /// As given.
        url: String,
    },
    /// Another machine.
    #[error(
        "--url {url}: {host} is not this machine. A load test can take a server down, so only \
         127.0.0.0/8, [::1] and localhost are allowed; run loadtest on the machine of the server"
    )]
    NotLoopback {
        /// As given.
        url: String,
        /// Its host.
        host: String,
    },
}

impl Target {
    /// Checks a server's root URL. A trailing `/v1` is accepted, as SDKs want it.
    ///
    /// # Errors
    /// Not an `http:` URL, or its host is not a loopback address or `localhost`.
    pub fn new(url: &str, api_key: Option<String>) -> Result<Self, TargetError> {
        let not_a_url = |problem: String| TargetError::NotAUrl {
            url: url.to_owned(),
            problem,
        };
        let mut base = Url::parse(url).map_err(|error| not_a_url(error.to_string()))?;
        if base.scheme() != "http" {
            return Err(TargetError::Scheme {
                url: url.to_owned(),
            });
        }
        let host = base.host_str().unwrap_or_default().to_owned();
        if !is_loopback(&host) {
            return Err(TargetError::NotLoopback {
                url: url.to_owned(),
                host,
            });
        }
        let path = base.path().trim_end_matches('/').trim_end_matches("/v1");
        base.set_path(&format!("{path}/"));
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base, api_key })
    }

    /// The URL of a route, e.g. `v1/models`.
    pub fn route(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The root URL, for the report. Holds no key.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// Where its sockets are; `localhost` is taken as 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        let host = self.base.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        SocketAddr::new(ip, self.base.port_or_known_default().unwrap_or(80))
    }

    /// Sent as bearer token.
    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref()
    }

    /// An HTTP client that cannot leave this machine: no proxy, no redirects, and `localhost`
    /// is the loopback addresses whatever a name server says. Without `keep_alive` it opens a
    /// connection for each request.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn http_client(&self, keep_alive: bool) -> reqwest::Result<reqwest::Client> {
        let port = self.base.port_or_known_default().unwrap_or(80);
        let loopback = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs("localhost", &loopback)
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .pool_max_idle_per_host(if keep_alive { usize::MAX } else { 0 })
            .user_agent(concat!("loadtest/", env!("CARGO_PKG_VERSION")))
            .build()
    }
}

fn is_loopback(host: &str) -> bool {
    if host == "localhost" {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_urls_are_accepted() {
        let cases = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/models"),
            ("http://127.8.9.1:1/", "http://127.8.9.1:1/v1/models"),
            (
                "http://localhost:8080/v1",
                "http://localhost:8080/v1/models",
            ),
            (
                "http://LOCALHOST:8080/v1/",
                "http://localhost:8080/v1/models",
            ),
            ("http://[::1]:9/api/?x=1#y", "http://[::1]:9/api/v1/models"),
        ];
        for (url, route) in cases {
            assert_eq!(Target::new(url, None).unwrap().route("v1/models"), route);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let hosts = [
            "http://example.com",
            "http://10.0.0.1:8080",
            "http://0.0.0.0:8080",
            "http://[::]:8080",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@example.com",
            "http://[::ffff:8.8.8.8]",
        ];
        for url in hosts {
            let error = Target::new(url, None).err().expect(url);
            assert!(
                matches!(error, TargetError::NotLoopback { .. }),
                "{url}: {error}"
            );
        }
        let error = Target::new("https://127.0.0.1", None).err().unwrap();
        assert!(matches!(error, TargetError::Scheme { .. }), "{error}");
        let error = Target::new("127.0.0.1:8080", None).err().unwrap();
        assert!(matches!(error, TargetError::NotAUrl { .. }), "{error}");
    }
}
