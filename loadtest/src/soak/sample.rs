//! What a server holds at a moment: as Linux says of its process, and as it says itself in `/metrics`.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::http::Http;

/// `/metrics` answers at once, or something is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// One look at a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds from the start of the run.
    pub at_s: f64,
    /// Deeds that were done by then.
    pub done: u64,
    /// Resident memory, in MiB.
    pub rss_mib: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Threads.
    pub threads: f64,
    /// KV blocks that sequences hold.
    pub kv_blocks: f64,
    /// Sequences that run.
    pub running: f64,
    /// Sequences that wait.
    pub waiting: f64,
}

impl Sample {
    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.kv_blocks + self.running + self.waiting == 0.0
    }
}

/// Looks at process `pid`, which answers at `http`.
///
/// # Errors
/// There is no such process, or it does not answer.
pub async fn take(pid: u32, http: &Http, at: Duration, done: u64) -> anyhow::Result<Sample> {
    let request = http.request(Method::GET, "metrics");
    let metrics = http.text(request, LIMIT).await;
    let metrics = metrics.map_err(|f| anyhow::anyhow!("/metrics: {}: {}", f.kind, f.message))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("process {pid} is gone"))?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .with_context(|| format!("the descriptors of process {pid} cannot be counted"))?;
    Ok(Sample {
        at_s: at.as_secs_f64(),
        done,
        rss_mib: field(&status, "VmRSS:").context("no VmRSS")? / 1024.0,
        threads: field(&status, "Threads:").context("no Threads")?,
        descriptors: descriptors.count() as f64,
        // A gauge shows up once something has set it.
        kv_blocks: field(&metrics, "attune_kv_blocks_used").unwrap_or(0.0),
        running: field(&metrics, "attune_num_requests_running").unwrap_or(0.0),
        waiting: field(&metrics, "attune_num_requests_waiting").unwrap_or(0.0),
    })
}

/// The number after `name`, which begins a line.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let status = "Name:\tattune\nVmRSS:\t   2048 kB\nThreads:\t11\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048.0));
        assert_eq!(field(status, "Threads:"), Some(11.0));
        let metrics = "# HELP attune_kv_blocks_used x 5\nattune_kv_blocks_used_more 7\n\nattune_kv_blocks_used 3\n";
        assert_eq!(field(metrics, "attune_kv_blocks_used"), Some(3.0));
        assert_eq!(field(metrics, "attune_kv_blocks"), None);
    }
}
