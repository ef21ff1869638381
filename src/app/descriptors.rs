//! File descriptors: each connection is one, and the store and health checks need some, too.

/// Descriptors that connections leave to everything else.
const SPARE: u64 = 192;

/// How many of `wanted` connections the system has room for. Raises the soft limit as far as the hard one
/// lets it, and says so in the log if that is not enough.
pub fn connections_within(wanted: usize) -> usize {
    let fit = within(limit(), wanted);
    if fit < wanted {
        tracing::warn!(
            connections = fit,
            wanted,
            "the limit of open files (ulimit -n) leaves room for fewer connections"
        );
    }
    fit
}

/// `None`: no limit.
fn within(limit: Option<u64>, wanted: usize) -> usize {
    let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(SPARE).max(1));
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(unix)]
fn limit() -> Option<u64> {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(not(unix))]
fn limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_store() {
        assert_eq!(within(None, 1024), 1024);
        assert_eq!(within(Some(1 << 20), 1024), 1024);
        assert_eq!(within(Some(1024), 1024), 832);
        assert_eq!(within(Some(10), 1024), 1);
        // Raising it is no error, and no less than before.
        let before = limit();
        assert_eq!(limit(), before);
    }
}
