//! The route table, which is the OpenAPI document too, and the layers around it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::Router;
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::error::ApiError;
use super::origin::{self, CorsOrigins};
use super::types::client_fields::{Ignored, Told};
use super::{
    access, admin, auth, chat, completions, connections, health, identity, kept, metrics, models,
    openapi, preferences, request_id, users,
};
use crate::app::state::AppState;

/// Bounds of requests as HTTP sees them.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Bytes of a body.
    pub max_body_bytes: usize,
    /// Time in which a body must arrive.
    pub body_timeout: Duration,
    /// How often a stream that has nothing to say shows that it lives.
    pub ping_interval: Duration,
    /// Other origins whose web pages may call.
    pub cors: CorsOrigins,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            body_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(15),
            cors: CorsOrigins::Off,
        }
    }
}

/// What handlers can ask for.
#[derive(Debug, Clone)]
pub struct ApiState {
    app: Arc<AppState>,
    http: Arc<HttpConfig>,
    told: Arc<Told>,
}

impl ApiState {
    /// Says in the log which fields of requests have no effect, once each.
    pub(super) fn tell(&self, ignored: &Ignored) {
        self.told.tell(ignored);
    }
}

impl FromRef<ApiState> for Arc<AppState> {
    fn from_ref(state: &ApiState) -> Self {
        state.app.clone()
    }
}

impl FromRef<ApiState> for Arc<HttpConfig> {
    fn from_ref(state: &ApiState) -> Self {
        state.http.clone()
    }
}

/// Every route with its part of the OpenAPI document.
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(
            chat::create_chat_completion,
            kept::list_chat_completions
        ))
        .routes(routes!(
            kept::retrieve_chat_completion,
            kept::update_chat_completion,
            kept::delete_chat_completion
        ))
        .routes(routes!(kept::list_chat_completion_messages))
        .routes(routes!(
            preferences::create_preference,
            preferences::list_preferences
        ))
        .routes(routes!(preferences::retrieve_preference))
        .routes(routes!(preferences::create_feedback))
        .routes(routes!(
            users::retrieve_user,
            users::update_user,
            users::delete_user
        ))
        .routes(routes!(users::export_user))
        .routes(routes!(completions::create_completion))
        .routes(routes!(models::list_models))
        .routes(routes!(models::retrieve_model))
        .routes(routes!(
            admin::adapters::install_adapter,
            admin::adapters::list_adapters
        ))
        .routes(routes!(
            admin::adapters::show_adapter,
            admin::adapters::retire_adapter
        ))
        .routes(routes!(admin::adapters::forget))
        .routes(routes!(admin::aliases::list_aliases))
        .routes(routes!(admin::aliases::promote))
        .routes(routes!(admin::aliases::roll_back))
        .routes(routes!(
            admin::aliases::start_canary,
            admin::aliases::end_canary
        ))
        .routes(routes!(admin::records::snapshot))
        .routes(routes!(
            admin::records::create_decision,
            admin::records::list_decisions
        ))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(identity::prove_identity))
        .routes(routes!(metrics::metrics))
}

/// The server as a service: routes, `/openapi.json`, `/docs`, and the layers. The outermost layer
/// stands last.
pub fn router(app: Arc<AppState>, http: HttpConfig) -> Router {
    let (cors, origins) = (option_layer(http.cors.layer()), http.cors.clone());
    let state = ApiState {
        app: app.clone(),
        http: Arc::new(http),
        told: Arc::default(),
    };
    let (router, document) = routes().split_for_parts();
    router
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(|| async { ApiError::unknown_url() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(state)
        .layer(from_fn_with_state(app.clone(), auth::drain_layer))
        .layer(from_fn_with_state(app.clone(), auth::layer))
        .layer(from_fn_with_state(
            (app.clone(), origins),
            origin::origin_layer,
        ))
        .layer(cors)
        .layer(from_fn_with_state(app.clone(), origin::host_layer))
        .layer(from_fn(connections::crowd_layer))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app, access::layer))
        .layer(from_fn(request_id::layer))
}

/// The panic hook has logged where it was; the caller learns nothing of it.
fn panicked(_payload: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal().into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_of_the_inside() {
        async fn fails() -> Response {
            panic!("secret at 0x7f00")
        }
        let router: Router = Router::new().route("/", get(fails));
        let router = router.layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let body = std::str::from_utf8(&body).unwrap();
        assert!(
            body.contains("internal_error") && !body.contains("secret"),
            "{body}"
        );
    }
}
