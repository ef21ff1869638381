//! Which web pages may call a server without keys.
//!
//! A browser lets any page send requests to this machine: to read the answers it needs permission (CORS), to
//! roll back a version it does not. Where a key is asked for, no page has it. A server without keys therefore
//!
//! - answers only under the names of the loopback interface: a page whose own name was made to lead to
//!   127.0.0.1 (DNS rebinding) calls by that name, and its browser sees no other site;
//! - refuses what a browser says comes from another origin, unless `--cors-origin` names it. Following a link
//!   to a page of this server is no request of the other page's, and stays possible.
//!
//! Programs other than browsers send neither `Origin` nor `Sec-Fetch-Site`, and notice nothing.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{header, HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};

use super::auth::HEALTH_PATHS;
use super::error::ApiError;
use super::{headers, request_id};
use crate::app::state::AppState;

/// Pages of other origins that may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None; `OPTIONS` is not answered.
    #[default]
    Off,
    /// Pages of these, each as a browser writes it: `https://chat.example`.
    Only(Vec<HeaderValue>),
    /// All.
    Any,
}

/// For how long a browser need not ask again.
const MAX_AGE: Duration = Duration::from_secs(600);

impl CorsOrigins {
    /// `typed` as `config` checked it: origins as browsers write them, or `*`.
    ///
    /// # Errors
    /// A text that no header can hold.
    pub fn new(typed: &[String]) -> io::Result<Self> {
        if typed.is_empty() {
            return Ok(Self::Off);
        }
        if typed.iter().any(|origin| origin == "*") {
            return Ok(Self::Any);
        }
        let origins = typed.iter().map(|origin| HeaderValue::from_str(origin));
        let origins = origins
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)?;
        Ok(Self::Only(origins))
    }

    /// What answers `OPTIONS` and lets pages read answers; `None`: nothing does.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::Off => return None,
            Self::Only(origins) => AllowOrigin::list(origins.clone()),
            Self::Any => AllowOrigin::any(),
        };
        let exposed = [
            headers::ADAPTER_VERSION,
            headers::USER_ROW,
            headers::KEPT,
            headers::STORE,
            headers::IGNORED,
            request_id::HEADER,
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
        ];
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            // Clients send headers of their own (`x-stainless-...`), and none of them decides anything alone.
            .allow_headers(AllowHeaders::mirror_request())
            .allow_private_network(AllowPrivateNetwork::yes())
            .expose_headers(exposed.map(HeaderName::from_static))
            .max_age(MAX_AGE);
        Some(layer)
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Off => false,
            Self::Only(origins) => origins.contains(origin),
            Self::Any => true,
        }
    }
}

/// Without keys, refuses requests that call this server by a name that is not the loopback interface's.
pub(super) async fn host_layer(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    if guards(&state, &request) && !names(&request).is_some_and(|mut names| names.all(is_loopback))
    {
        return ApiError::forbidden(
            "without API keys this server answers under the names localhost, 127.0.0.1 and [::1] only; \
             call it by one of them, or start it with --api-keys to reach it by another name",
        )
        .into_response();
    }
    next.run(request).await
}

/// Without keys, refuses requests of pages of other origins.
pub(super) async fn origin_layer(
    State((state, allowed)): State<(Arc<AppState>, CorsOrigins)>,
    request: Request,
    next: Next,
) -> Response {
    if guards(&state, &request) && is_foreign(&request, &allowed) {
        return ApiError::foreign_origin().into_response();
    }
    next.run(request).await
}

fn guards(state: &AppState, request: &Request) -> bool {
    state.keys.open_caller().is_some() && !HEALTH_PATHS.contains(&request.uri().path())
}

/// The names by which the server is called: the `Host` header, of which there is one, and that of an absolute
/// target, which would count alone. `None`: none, or nonsense.
fn names(request: &Request) -> Option<impl Iterator<Item = &str>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let host = host.map(HeaderValue::to_str).transpose().ok()?;
    let target = request.uri().authority().map(Authority::as_str);
    if second.is_some() || host.or(target).is_none() {
        return None;
    }
    Some(host.into_iter().chain(target))
}

fn is_loopback(name: &str) -> bool {
    // An address with a zone ([fe80::1%25lo]) and a name with a user (localhost@evil) are none of ours.
    let Ok(authority) = name.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    if name.contains('@') {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse() == Ok(Ipv6Addr::LOCALHOST);
    }
    let rooted = host.strip_suffix('.').unwrap_or(host);
    rooted.eq_ignore_ascii_case("localhost")
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_foreign(request: &Request, allowed: &CorsOrigins) -> bool {
    let headers = request.headers();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => !fetched_here(request),
        (Some(origin), None) => !allowed.allow(origin) && !is_own(origin, headers),
        (Some(_), Some(_)) => true,
    }
}

/// Whether an origin is the one under which the request calls this server.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://"));
    let (Some(host), Some((scheme, authority))) = (host, origin) else {
        return false;
    };
    matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host)
}

/// Whether a request without `Origin` may be: browsers say of images, scripts and frames only where the page is
/// that wants them.
fn fetched_here(request: &Request) -> bool {
    let said = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match said("sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => true,
        Some(_) => {
            let navigates = said("sec-fetch-mode") == Some(b"navigate");
            // Not a frame, in which another page could let people click.
            reads && navigates && said("sec-fetch-dest") == Some(b"document")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_loopback_interface_are_local() {
        for good in [
            "localhost",
            "localhost:8080",
            "LocalHost:1",
            "localhost.",
            "localhost.:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.255.0.3",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]:80",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            ".",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evil.localhost",
            "localhost..",
            "127.0.0.1.evil.example",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0",
            "192.168.0.7",
            "10.0.0.1:8080",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::1%25lo]",
            "[::1%lo]:80",
            "[fe80::1%25eth0]",
            "::1",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost/evil",
            "localhost evil",
            "localhost#",
            "http://localhost",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
