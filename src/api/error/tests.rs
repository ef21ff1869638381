use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "a table, a row for each meaning")]
fn every_meaning_has_its_status_type_code_and_param() {
    let after = Duration::from_millis(1500);
    let table = [
        (
            AppError::Invalid {
                field: "prompt",
                message: "m".into(),
            },
            400,
            INVALID_REQUEST,
            "invalid_value",
            Some("prompt"),
        ),
        (
            AppError::ContextLength {
                field: "messages",
                context: 8,
                soft: 2,
                prompt: 7,
            },
            400,
            INVALID_REQUEST,
            "context_length_exceeded",
            Some("messages"),
        ),
        (
            AppError::TextTooLong {
                field: "prompt",
                bytes: 99,
                context: 8,
            },
            400,
            INVALID_REQUEST,
            "context_length_exceeded",
            Some("prompt"),
        ),
        (
            AppError::ModelNotFound("x".into()),
            404,
            INVALID_REQUEST,
            "model_not_found",
            Some("model"),
        ),
        (
            AppError::UserNotAllowed,
            403,
            "permission_error",
            "insufficient_permissions",
            Some("user"),
        ),
        (
            AppError::RoleMissing("admin"),
            403,
            "permission_error",
            "insufficient_permissions",
            None,
        ),
        (
            AppError::TenantFull("m".into()),
            429,
            "insufficient_quota",
            "insufficient_quota",
            None,
        ),
        (
            AppError::StoreFull("m".into()),
            507,
            SERVER,
            "store_full",
            None,
        ),
        (
            AppError::StoreBusy { retry_after: after },
            503,
            "overloaded_error",
            "store_busy",
            None,
        ),
        (
            AppError::Overloaded { retry_after: after },
            503,
            "overloaded_error",
            "engine_overloaded",
            None,
        ),
        (
            AppError::Late { retry_after: after },
            503,
            "overloaded_error",
            "engine_overloaded",
            None,
        ),
        (
            AppError::TooMany {
                whose: "user",
                cap: 8,
                retry_after: after,
            },
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            None,
        ),
        (AppError::ShuttingDown, 503, SERVER, "shutting_down", None),
        (
            AppError::Deadline(after),
            504,
            "timeout_error",
            "request_timeout",
            None,
        ),
        (
            AppError::Unread(after),
            408,
            "timeout_error",
            "answer_not_read",
            None,
        ),
        (
            AppError::NotFound {
                what: "completion",
                id: "x".into(),
            },
            404,
            INVALID_REQUEST,
            "completion_not_found",
            Some("id"),
        ),
        (
            AppError::KeyReused,
            422,
            INVALID_REQUEST,
            "idempotency_key_reused",
            Some("Idempotency-Key"),
        ),
        (
            AppError::UserDeleted,
            409,
            INVALID_REQUEST,
            "user_deleted",
            Some("user"),
        ),
        (
            AppError::Conflict("moved".into()),
            409,
            INVALID_REQUEST,
            "conflict",
            None,
        ),
        (
            AppError::AdapterMemory("no room".into()),
            503,
            "overloaded_error",
            "adapter_memory_full",
            Some("model"),
        ),
        (
            AppError::AdapterDamaged {
                version: attune_ids::AdapterVersion::new("ab".repeat(32)).unwrap(),
                reason: "in /var/secret".into(),
            },
            503,
            SERVER,
            "adapter_unavailable",
            Some("model"),
        ),
        (
            AppError::Store("in /var/secret".into()),
            503,
            SERVER,
            "store_unavailable",
            None,
        ),
        (
            AppError::Internal("at 0x7f secret".into()),
            500,
            SERVER,
            "internal_error",
            None,
        ),
    ];
    for (error, status, kind, code, param) in table {
        let api = ApiError::from(error.clone());
        assert_eq!(api.status().as_u16(), status, "{error:?}");
        assert_eq!(api.body.kind, kind, "{error:?}");
        assert_eq!(api.body.code.as_deref(), Some(code), "{error:?}");
        assert_eq!(api.body.param.as_deref(), param, "{error:?}");
        assert!(!api.body.message.contains("secret"));
    }
}

#[test]
fn retry_after_is_in_whole_seconds_rounded_up_and_in_milliseconds() {
    for (after, seconds, millis) in [(1500, "2", "1500"), (0, "1", "1"), (3000, "3", "3000")] {
        let retry_after = Duration::from_millis(after);
        let headers = ApiError::from(AppError::Overloaded { retry_after }).headers();
        assert_eq!(headers["retry-after"], seconds);
        assert_eq!(headers["retry-after-ms"], millis);
    }
    assert_eq!(ApiError::shutting_down().headers()["connection"], "close");
    assert_eq!(
        ApiError::unauthorized("m").headers()["www-authenticate"],
        "Bearer"
    );
}
