//! Rotary embeddings in both dialects.

use serde_json::json;

use super::{all_refused, llama, read};
use crate::config::RopeScaling;

#[test]
fn both_dialects_say_the_same_of_rotary_embeddings() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let mut with_base = llama3.clone();
    with_base["rope_theta"] = json!(500_000);
    let old = llama(json!({"rope_theta": 500_000.0, "rope_scaling": llama3}));
    assert_eq!(old.rope_base, 5e5);
    assert!(matches!(
        old.rope_scaling,
        RopeScaling::Llama3 {
            factor: 8.0,
            original_max_positions: 8192,
            ..
        }
    ));
    assert_eq!(old, llama(json!({"rope_parameters": with_base})));
    // Tools that write for both.
    let both =
        json!({"rope_theta": 500_000.0, "rope_scaling": llama3, "rope_parameters": with_base});
    assert_eq!(old, llama(both));
    let qwen = read(
        "qwen3",
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    );
    assert_eq!(qwen.unwrap().rope_base, 1e6);
    let gemma = read(
        "gemma3_text",
        json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        }}),
    )
    .unwrap();
    assert_eq!((gemma.rope_base, gemma.local_rope_base), (5e5, Some(2e4)));
    assert_eq!(gemma.rope_scaling, RopeScaling::Linear { factor: 8.0 });
}

#[test]
fn rope_type_goes_before_type_and_nothing_scales_nothing() {
    let linear = RopeScaling::Linear { factor: 2.0 };
    for rope in [
        json!({"type": "linear", "factor": 2.0}),
        json!({"rope_type": "linear", "factor": 2}),
        json!({"type": "linear", "rope_type": "linear", "factor": 2.0}),
        json!({"type": "dynamic", "rope_type": "linear", "factor": 2.0}),
    ] {
        assert_eq!(
            llama(json!({"rope_scaling": rope})).rope_scaling,
            linear,
            "{rope}"
        );
    }
    for rope in [
        json!(null),
        json!({}),
        json!({"rope_type": "default"}),
        json!({"type": "default"}),
    ] {
        assert_eq!(
            llama(json!({"rope_scaling": rope})).rope_scaling,
            RopeScaling::None,
            "{rope}"
        );
        assert_eq!(
            llama(json!({"rope_parameters": rope})).rope_base,
            1e4,
            "{rope}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn rotary_embeddings_that_are_not_understood_are_named() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0});
    all_refused(
        "llama",
        &[
            (
                json!({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}),
                &["rope_scaling.rope_type", "longrope"],
            ),
            (json!({"rope_scaling": {"type": "su"}}), &["su"]),
            (
                json!({"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}}),
                &["mrope"],
            ),
            (
                json!({"rope_scaling": {"rope_type": "default", "mrope_section": [1, 2]}}),
                &["mrope_section"],
            ),
            (
                json!({"rope_scaling": {"factor": 2.0}}),
                &["rope_scaling.factor", "rope_type"],
            ),
            (
                json!({"rope_scaling": {"rope_type": "default", "factor": 2.0}}),
                &["rope_scaling.factor"],
            ),
            (
                json!({"rope_scaling": {"type": "linear"}}),
                &["rope_scaling.factor is missing"],
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 0}}),
                &["rope_scaling.factor"],
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": "2"}}),
                &["rope_scaling.factor"],
            ),
            (
                json!({"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000}}),
                &["rope_scaling.alpha"],
            ),
            (
                json!({"rope_scaling": "linear"}),
                &["rope_scaling", "object"],
            ),
            (
                json!({"rope_scaling": llama3}),
                &["rope_scaling.high_freq_factor is missing"],
            ),
            (
                json!({"rope_parameters": {"rope_theta": 0}}),
                &["rope_parameters.rope_theta"],
            ),
            (
                json!({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}),
                &["proportional"],
            ),
            (
                json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}),
                &["rope_parameters.full_attention"],
            ),
            (
                json!({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
                &["partial_rotary_factor"],
            ),
            (
                json!({"partial_rotary_factor": 0.5}),
                &["partial_rotary_factor"],
            ),
            (
                json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}),
                &["rope_theta", "rope_parameters.rope_theta", "disagree"],
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}}),
                &["rope_scaling", "rope_parameters", "disagree"],
            ),
            (json!({"rope_theta": -1}), &["rope_theta"]),
            (
                json!({"rope_local_base_freq": 1e4}),
                &["rope_local_base_freq"],
            ),
        ],
    );
    all_refused(
        "gemma3_text",
        &[
            (
                json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
                &["rope_parameters", "full_attention"],
            ),
            (
                json!({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}}),
                &["sliding_attention"],
            ),
            (
                json!({"rope_local_base_freq": 1e4, "rope_parameters": {"sliding_attention": {"rope_theta": 2e4}}}),
                &["rope_local_base_freq", "disagree"],
            ),
        ],
    );
}

/// As vLLM has it, but that a larger `max_position_embeddings` holds.
#[test]
fn scaled_positions_make_the_context_longer() {
    let yarn = |more: serde_json::Value| {
        let mut file = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
        file.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        read("qwen2", file).unwrap().max_positions
    };
    assert_eq!(yarn(json!({"max_position_embeddings": 32768})), 131_072);
    assert_eq!(yarn(json!({"max_position_embeddings": 131_072})), 131_072);
    assert_eq!(yarn(json!({"max_position_embeddings": 262_144})), 262_144);
    let linear =
        json!({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}});
    assert_eq!(llama(linear.clone()).max_positions, 16384);
    assert_eq!(read("gemma3_text", linear).unwrap().max_positions, 4096);
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}});
    assert_eq!(llama(dynamic).max_positions, 2048);
    let llama3 = json!({"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    }});
    assert_eq!(llama(llama3).max_positions, 2048);
}

/// Qwen2.5-1M.
#[test]
fn attention_in_chunks_is_not_read_and_bounds_the_context() {
    let file = json!({"max_position_embeddings": 1_010_000, "dual_chunk_attention_config": {
        "chunk_size": 262_144, "local_size": 8192, "original_max_position_embeddings": 262_144,
    }});
    for model_type in ["qwen2", "qwen3"] {
        assert_eq!(
            read(model_type, file.clone()).unwrap().max_positions,
            262_144
        );
    }
    all_refused("llama", &[(file, &["dual_chunk_attention_config"])]);
}
