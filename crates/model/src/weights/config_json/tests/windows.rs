//! Which layers have a window, by family.

use serde_json::{json, Value};

use super::{all_refused, read};

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn windows_are_where_transformers_has_them() {
    let windows =
        |model_type: &str, changes: Value| read(model_type, changes).unwrap().sliding_window;
    let (none, all) = (vec![None; 4], |w: usize| vec![Some(w); 4]);
    let sliding = json!({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 2});
    let upper = vec![None, None, Some(8), Some(8)];
    let types = json!([
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "full_attention"
    ]);
    let alternating = vec![Some(8), None, Some(8), None];
    for (model_type, changes, want) in [
        ("llama", json!({"sliding_window": 8}), none.clone()),
        ("llama", sliding.clone(), none.clone()),
        (
            "llama",
            json!({"sliding_window": 8, "layer_types": types}),
            none.clone(),
        ),
        (
            "qwen2",
            json!({"sliding_window": 8, "max_window_layers": 0}),
            none.clone(),
        ),
        (
            "qwen3",
            json!({"sliding_window": 8, "max_window_layers": 0}),
            none.clone(),
        ),
        (
            "qwen3",
            json!({"sliding_window": 8, "use_sliding_window": null, "max_window_layers": 0}),
            none.clone(),
        ),
        (
            "qwen2",
            json!({"sliding_window": 8, "use_sliding_window": false, "max_window_layers": 0}),
            none.clone(),
        ),
        ("qwen2", sliding.clone(), upper.clone()),
        ("qwen3", sliding, upper),
        (
            "qwen2",
            json!({"sliding_window": 8, "use_sliding_window": true}),
            none.clone(),
        ),
        (
            "qwen2",
            json!({"sliding_window": null, "use_sliding_window": true, "max_window_layers": 0}),
            none.clone(),
        ),
        (
            "qwen2",
            json!({"use_sliding_window": true, "max_window_layers": 0}),
            all(4096),
        ),
        (
            "qwen2",
            json!({"sliding_window": 8, "use_sliding_window": true, "layer_types": types}),
            alternating.clone(),
        ),
        ("mistral", json!({"sliding_window": 8}), all(8)),
        ("mistral", json!({"sliding_window": null}), none.clone()),
        ("mistral", json!({}), all(4096)),
        (
            "mistral",
            json!({"sliding_window": null, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]}),
            none,
        ),
        (
            "gemma3_text",
            json!({"sliding_window": 8, "sliding_window_pattern": 2}),
            alternating.clone(),
        ),
        (
            "gemma3_text",
            json!({"sliding_window": 8, "_sliding_window_pattern": 2}),
            alternating.clone(),
        ),
        (
            "gemma3_text",
            json!({"sliding_window": 8, "layer_types": types}),
            alternating,
        ),
        ("gemma3_text", json!({}), all(4096)),
    ] {
        assert_eq!(
            windows(model_type, changes.clone()),
            want,
            "{model_type} {changes}"
        );
    }
    all_refused(
        "qwen2",
        &[
            (
                json!({"sliding_window": 8, "layer_types": types}),
                &["layer_types", "sliding_window"],
            ),
            (
                json!({"layer_types": ["full_attention"]}),
                &["layer_types", "num_hidden_layers"],
            ),
            (
                json!({"layer_types": ["full_attention", "linear_attention", "full_attention", "full_attention"]}),
                &["linear_attention"],
            ),
            (json!({"sliding_window": 0}), &["sliding_window"]),
            (json!({"sliding_window": -1}), &["sliding_window"]),
            (
                json!({"use_sliding_window": "yes"}),
                &["use_sliding_window"],
            ),
        ],
    );
    all_refused(
        "mistral",
        &[(
            json!({"sliding_window": 8, "layer_types": types}),
            &["layer_types"],
        )],
    );
    all_refused(
        "gemma3_text",
        &[
            (json!({"sliding_window": null}), &["sliding_window"]),
            (
                json!({"sliding_window_pattern": 0}),
                &["sliding_window_pattern"],
            ),
        ],
    );
}
