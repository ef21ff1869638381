//! `GET /metrics`, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::app::state::{AppState, EngineStats};

/// Counters, gauges and histograms
///
/// In Prometheus' text format. Users are never labels.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> impl IntoResponse {
    let stats = state.engine.stats();
    state.metrics.record(|| publish(&stats));
    let loaded = state.versions.loaded();
    let (versions, bytes) = (loaded.len(), loaded.used_bytes());
    let unavailable = state.versions.now().unavailable().count();
    state.metrics.record(|| {
        metrics::gauge!("attune_adapter_versions").set(versions as f64);
        metrics::gauge!("attune_adapter_memory_bytes").set(bytes as f64);
        metrics::gauge!("attune_aliases_unavailable").set(unavailable as f64);
    });
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        state.metrics.render(),
    )
}

/// What the engine does not count itself.
fn publish(stats: &EngineStats) {
    let queued = stats.waiting.saturating_sub(stats.held + stats.put_back);
    for (reason, count) in [
        ("queued", queued),
        ("encoding", stats.held),
        ("preempted", stats.put_back),
    ] {
        metrics::gauge!("attune_num_requests_waiting_by_reason", "reason" => reason)
            .set(count as f64);
    }
    metrics::gauge!("attune_kv_blocks_used").set(stats.blocks_used as f64);
    metrics::gauge!("attune_kv_blocks_total").set(stats.blocks_total as f64);
    metrics::counter!("attune_engine_steps_total").absolute(stats.steps);
}
