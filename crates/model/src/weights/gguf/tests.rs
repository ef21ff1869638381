//! GGUF files as people have them, and as nobody should.

use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::GgufFile;
use crate::config::{ModelConfig, RopeScaling, Yarn};

type Metadata = Vec<(String, Value)>;

/// What every file of an architecture has, with `changes`: a key twice is the later one, without a dot it is one
/// of the architecture's.
fn metadata(architecture: &str, changes: &[(&str, Value)]) -> Metadata {
    let count = Value::U32;
    let mut all: Metadata = vec![(
        "general.architecture".into(),
        Value::String(architecture.into()),
    )];
    for (key, value) in [
        ("embedding_length", count(32)),
        ("feed_forward_length", count(32)),
        ("block_count", count(4)),
        ("attention.head_count", count(4)),
        ("attention.head_count_kv", count(2)),
        ("context_length", count(512)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ] {
        all.push((format!("{architecture}.{key}"), value));
    }
    for (key, value) in changes {
        let whole = ["general.", "split."]
            .iter()
            .any(|start| key.starts_with(start));
        let key = match whole {
            true => (*key).to_owned(),
            false => format!("{architecture}.{key}"),
        };
        all.retain(|(other, _)| *other != key);
        all.push((key, value.clone()));
    }
    all
}

fn zeros(shape: &[usize]) -> QTensor {
    let zeros = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    QTensor::quantize(&zeros, GgmlDType::F32).unwrap()
}

fn write(path: &Path, metadata: &Metadata, tensors: &[(&str, QTensor)]) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (*n, t)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

fn read_with(
    architecture: &str,
    changes: &[(&str, Value)],
    factors: Option<Vec<f32>>,
) -> Result<ModelConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let mut tensors = vec![("token_embd.weight", zeros(&[8, 32]))];
    if let Some(factors) = factors {
        let factors = Tensor::new(factors, &Device::Cpu).unwrap();
        tensors.push((
            "rope_freqs.weight",
            QTensor::quantize(&factors, GgmlDType::F32).unwrap(),
        ));
    }
    write(&path, &metadata(architecture, changes), &tensors);
    let config = GgufFile::open(&path).and_then(|mut file| file.config());
    config.map_err(|e| e.to_string())
}

fn read(architecture: &str, changes: &[(&str, Value)]) -> Result<ModelConfig, String> {
    read_with(architecture, changes, None)
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn list(counts: [u32; 4]) -> Value {
    Value::Array(counts.into_iter().map(Value::U32).collect())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn positions_are_scaled_as_llama_cpp_scales_them() {
    let linear = |factor| RopeScaling::Linear { factor };
    let (f32, kind) = (Value::F32, text);
    let yarn = |magnitude| {
        RopeScaling::Yarn(Yarn {
            factor: 4.0,
            original_max_positions: 128,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            magnitude,
        })
    };
    // 1 + ln(4) / 10
    let grown = 1.138_629_436_111_989;
    for (changes, want) in [
        (vec![("rope.scale_linear", f32(2.0))], linear(2.0)),
        (vec![("rope.scaling.factor", f32(2.0))], linear(2.0)),
        (vec![("rope.scaling.factor", Value::F64(2.0))], linear(2.0)),
        (
            vec![
                ("rope.scaling.factor", f32(4.0)),
                ("rope.scale_linear", f32(2.0)),
            ],
            linear(4.0),
        ),
        (
            vec![
                ("rope.scaling.type", kind("linear")),
                ("rope.scale_linear", f32(2.0)),
            ],
            linear(2.0),
        ),
        (
            vec![
                ("rope.scaling.type", kind("linear")),
                ("rope.scaling.factor", f32(0.0)),
            ],
            RopeScaling::None,
        ),
        (
            vec![
                ("rope.scaling.type", kind("none")),
                ("rope.scaling.factor", f32(2.0)),
            ],
            RopeScaling::None,
        ),
        (
            vec![
                ("rope.scaling.attn_factor", f32(1.0)),
                ("rope.scaling.finetuned", Value::Bool(true)),
            ],
            RopeScaling::None,
        ),
        (
            vec![
                ("rope.scaling.type", kind("yarn")),
                ("rope.scaling.factor", f32(4.0)),
                ("rope.scaling.original_context_length", Value::U32(128)),
            ],
            yarn(grown),
        ),
        (
            vec![
                ("rope.scaling.type", kind("yarn")),
                ("rope.scaling.factor", f32(4.0)),
                ("rope.scaling.original_context_length", Value::U32(128)),
                ("rope.scaling.attn_factor", f32(0.5)),
            ],
            yarn(grown / 2.0),
        ),
    ] {
        assert_eq!(
            read("llama", &changes).unwrap().rope_scaling,
            want,
            "{changes:?}"
        );
    }
    let factors = vec![1.0, 1.0, 4.0, 8.0];
    let file =
        |changes: &[(&str, Value)]| read_with("llama", changes, Some(factors.clone())).unwrap();
    assert_eq!(
        file(&[]).rope_scaling,
        RopeScaling::Factors(factors.clone())
    );
    let both = file(&[("rope.scale_linear", f32(2.0))]).rope_scaling;
    assert_eq!(both, RopeScaling::Factors(vec![2.0, 2.0, 8.0, 16.0]));
}

#[test]
fn windows_and_scales_are_those_of_llama_cpp() {
    let window = [("attention.sliding_window", Value::U32(8))];
    for architecture in ["llama", "qwen2", "qwen3"] {
        assert_eq!(
            read(architecture, &window).unwrap().sliding_window,
            [None; 4]
        );
    }
    assert_eq!(
        read("mistral", &window).unwrap().sliding_window,
        [Some(8); 4]
    );
    let gemma = |more: &[(&str, Value)]| read("gemma3", &[&window[..], more].concat()).unwrap();
    assert_eq!(gemma(&[]).sliding_window, [Some(8); 4]);
    let pattern = |value| gemma(&[("attention.sliding_window_pattern", value)]).sliding_window;
    assert_eq!(pattern(Value::U32(2)), [Some(8), None, Some(8), None]);
    let flags = [false, true, true, false].map(Value::Bool).to_vec();
    assert_eq!(pattern(Value::Array(flags)), [None, Some(8), Some(8), None]);
    let bases = gemma(&[
        ("rope.freq_base", Value::F32(1e6)),
        ("rope.freq_base_swa", Value::F32(2e4)),
    ]);
    assert_eq!((bases.rope_base, bases.local_rope_base), (1e6, Some(2e4)));
    // 27B divides scores by sqrt(5376 / 32), and its heads are 128 wide.
    let large = gemma(&[
        ("block_count", Value::U32(62)),
        ("embedding_length", Value::U32(32)),
        ("attention.key_length", Value::U32(16)),
        ("attention.value_length", Value::U32(16)),
    ]);
    assert_eq!(
        (large.head_dim, large.attention_scale),
        (16, 1.0 / 8f64.sqrt())
    );
    let other = gemma(&[
        ("attention.key_length", Value::U32(16)),
        ("attention.value_length", Value::U32(16)),
    ]);
    assert_eq!(other.attention_scale, 1.0 / 4.0);
}

#[test]
fn one_value_a_block_is_one_value_if_they_are_equal() {
    let equal = read(
        "llama",
        &[
            ("attention.head_count_kv", list([2; 4])),
            ("feed_forward_length", list([32; 4])),
        ],
    );
    assert_eq!(equal.unwrap().n_kv_heads, 2);
    for key in [
        "attention.head_count_kv",
        "attention.head_count",
        "feed_forward_length",
    ] {
        let problem = read("llama", &[(key, list([2, 2, 1, 2]))]).unwrap_err();
        assert!(problem.contains(&format!("llama.{key}")), "{problem}");
        assert!(problem.contains("one value per block"), "{problem}");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let f32 = Value::F32;
    for (key, value) in [
        ("rope.scaling.type", text("longrope")),
        ("rope.scaling.type", Value::U32(1)),
        ("rope.scaling.factor", text("2")),
        ("rope.scaling.factor", f32(-2.0)),
        ("rope.scaling.factor", f32(f32::NAN)),
        ("rope.scaling.attn_factor", f32(1.2)),
        ("rope.scaling.alpha", f32(1000.0)),
        ("rope.scaling.yarn_log_multiplier", f32(0.1)),
        ("rope.dimension_count", Value::U32(4)),
        ("rope.dimension_sections", list([2, 1, 1, 0])),
        ("attention.value_length", Value::U32(16)),
        ("attention.key_length_mla", Value::U32(16)),
        ("attention.scale", f32(0.1)),
        ("attention.clamp_kqv", f32(8.0)),
        ("attention.max_alibi_bias", f32(8.0)),
        ("attention.causal", Value::Bool(false)),
        ("attention.temperature_length", Value::U32(8)),
        ("use_parallel_residual", Value::Bool(true)),
        ("attn_logit_softcapping", f32(50.0)),
        ("final_logit_softcapping", f32(30.0)),
        ("logit_scale", f32(0.0625)),
        ("residual_scale", f32(0.22)),
        ("embedding_scale", f32(12.0)),
        ("expert_count", Value::U32(8)),
        ("some.thing_new", text("on")),
        ("block_count", Value::U32(u32::MAX)),
        ("context_length", text("512")),
        ("attention.head_count", Value::I32(-4)),
    ] {
        let problem = read("llama", &[(key, value.clone())]).expect_err(key);
        assert!(
            problem.contains(&format!("llama.{key}")),
            "{key} {value:?}: {problem}"
        );
    }
    let problem = read("llama", &[("rope.freq_base", Value::F32(0.0))]).unwrap_err();
    assert!(problem.contains("base of the rotary"), "{problem}");
    for factors in [vec![1.0; 3], vec![1.0, 1.0, 0.0, 1.0]] {
        let problem = read_with("llama", &[], Some(factors)).unwrap_err();
        assert!(problem.contains("factor"), "{problem}");
    }
    for (kind, word) in [
        ("adapter", "LoRA"),
        ("mmproj", "images"),
        ("imatrix", "imatrix"),
    ] {
        let problem = read("llama", &[("general.type", text(kind))]).unwrap_err();
        assert!(problem.contains(word), "{problem}");
    }
    assert!(read("clip", &[]).unwrap_err().contains("images"));
    let both = read("gemma3", &[("mm.tokens_per_image", Value::U32(256))]).unwrap_err();
    assert!(
        both.contains("gemma3.mm.tokens_per_image") && both.contains("images"),
        "{both}"
    );
    let ollamas = [
        ("rope.local.freq_base", f32(1e4)),
        ("rope.global.freq_base", f32(1e6)),
        ("final_logit_softcapping", f32(30.0)),
    ];
    let problem = read("gemma3", &ollamas).unwrap_err();
    assert!(
        problem.contains("Ollama") && problem.contains("llama.cpp"),
        "{problem}"
    );
    assert!(read("qwen3moe", &[]).unwrap_err().contains("qwen3moe"));
}

#[test]
fn what_asks_for_nothing_is_accepted() {
    let plain = read("llama", &[]).unwrap();
    let clutter = [
        ("vocab_size", Value::U32(8)),
        ("rope.dimension_count", Value::U32(8)),
        ("attention.key_length", Value::U32(8)),
        ("attention.causal", Value::Bool(true)),
        ("expert_count", Value::U32(0)),
        ("final_logit_softcapping", Value::F32(0.0)),
        ("logit_scale", Value::F32(1.0)),
        ("use_parallel_residual", Value::Bool(false)),
        ("tensor_data_layout", text("Meta AI original pth")),
        ("pooling_type", Value::U32(3)),
        ("general.type", text("model")),
        ("general.alignment", Value::U32(32)),
    ];
    assert_eq!(read("llama", &clutter).unwrap(), plain);
}

/// A model in three files, each with a tensor.
fn parts(directory: &Path) -> Vec<std::path::PathBuf> {
    let name = |i: usize| directory.join(format!("m-Q8_0-{i:05}-of-00003.gguf"));
    let split = |i: u16| {
        [
            ("split.no", Value::U16(i)),
            ("split.count", Value::U16(3)),
            ("split.tensors.count", Value::I32(3)),
        ]
    };
    let of_part = |i: u16| split(i).map(|(k, v)| (k.to_owned(), v)).to_vec();
    write(
        &name(1),
        &metadata("llama", &split(0)),
        &[("token_embd.weight", zeros(&[8, 32]))],
    );
    write(
        &name(2),
        &of_part(1),
        &[("blk.0.attn_norm.weight", zeros(&[32]))],
    );
    write(
        &name(3),
        &of_part(2),
        &[("output_norm.weight", zeros(&[16]))],
    );
    (1..=3).map(name).collect()
}

#[test]
fn a_model_in_several_files_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let paths = parts(directory.path());
    let mut file = GgufFile::open(&paths[0]).unwrap();
    assert_eq!(file.paths(), paths);
    assert_eq!(file.config().unwrap().vocab_size, 8);
    let names: Vec<_> = file.tensor_names().into_iter().collect();
    assert_eq!(
        names,
        [
            "model.embed_tokens.weight",
            "model.layers.0.input_layernorm.weight",
            "model.norm.weight"
        ]
    );
    assert_eq!(file.tensor("model.norm.weight").unwrap().dims(), [16]);
    let problem = |path: &Path| GgufFile::open(path).unwrap_err().to_string();
    let second = problem(&paths[1]);
    assert!(
        second.contains("part 2 of 3") && second.contains("m-Q8_0-00001-of-00003.gguf"),
        "{second}"
    );
    let renamed = directory.path().join("model.gguf");
    fs::copy(&paths[0], &renamed).unwrap();
    assert!(
        problem(&renamed).contains("-00001-of-00003.gguf"),
        "{}",
        problem(&renamed)
    );
    // Another model's part, under the right name.
    fs::copy(&paths[2], &paths[1]).unwrap();
    assert!(
        problem(&paths[0]).contains("not part 2 of 3"),
        "{}",
        problem(&paths[0])
    );
    fs::remove_file(&paths[1]).unwrap();
    fs::remove_file(&paths[2]).unwrap();
    let gone = problem(&paths[0]);
    assert!(
        gone.contains("m-Q8_0-00002-of-00003.gguf") && gone.contains("m-Q8_0-00003-of-00003.gguf"),
        "{gone}"
    );
}

/// A file with everything in it that the tensor library multiplies, divides by, indexes with or allocates.
fn whole_file() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let more = [
        ("general.alignment", Value::U32(32)),
        ("general.tags", Value::Array(vec![text("a"), text("b")])),
        ("attention.head_count_kv", list([2; 4])),
        ("rope.scaling.factor", Value::F32(2.0)),
        ("split.count", Value::U16(1)),
    ];
    let quantized = Tensor::zeros(&[4, 64], DType::F32, &Device::Cpu).unwrap();
    let tensors = [
        ("token_embd.weight", zeros(&[8, 32])),
        ("rope_freqs.weight", zeros(&[4])),
        (
            "blk.0.attn_q.weight",
            QTensor::quantize(&quantized, GgmlDType::Q8_0).unwrap(),
        ),
        ("blk.0.attn_k.weight", zeros(&[32])),
    ];
    write(&path, &metadata("llama", &more), &tensors);
    fs::read(path).unwrap()
}

/// Everything that is done with a file; what it says does not matter here.
fn use_all_of(path: &Path) {
    if let Ok(mut file) = GgufFile::open(path) {
        let _ = file.config();
        for name in file.tensor_names() {
            let _ = file.shape(&name);
            let _ = file.tensor(&name);
        }
    }
}

/// Numbers at which readers stumble, written over every place of a header in turn, and at random.
#[test]
fn no_header_stops_the_reader() {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        2,
        3,
        31,
        33,
        1 << 31,
        u32::MAX as u64,
        1 << 32,
        1 << 62,
        i64::MAX as u64,
        u64::MAX,
    ];
    let whole = whole_file();
    let header = whole.len() - 8 * 32 * 4 - 4 * 68 - 32 * 4 - 4 * 4;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let changed = |changes: &[(usize, u64, usize)]| {
        let mut bytes = whole.clone();
        for (at, number, width) in changes {
            let end = (at + width).min(bytes.len());
            bytes[*at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        fs::write(&path, bytes).unwrap();
        use_all_of(&path);
    };
    for at in 4..header {
        for number in [0, 1, u64::MAX] {
            changed(&[(at, number, 4)]);
        }
    }
    let change = (
        4..header,
        prop::sample::select(&NUMBERS[..]),
        prop::sample::select(&[1usize, 2, 4, 8][..]),
    );
    let config = ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&prop::collection::vec(change, 1..4), |changes| {
        changed(&changes);
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}

/// The alignment of the issue, in a file that is whole otherwise.
#[test]
fn an_alignment_of_nothing_is_refused() {
    let problem = read("llama", &[("general.alignment", Value::U32(0))]).unwrap_err();
    assert!(problem.contains("general.alignment is 0"), "{problem}");
}

#[test]
fn types_that_are_not_read_are_called_by_their_name() {
    let whole = whole_file();
    let name = b"blk.0.attn_q.weight";
    let at = whole.windows(name.len()).position(|w| w == name).unwrap();
    // Behind the name: the number of dimensions, two of them, the type.
    let at = at + name.len() + 4 + 16;
    assert_eq!(whole[at..at + 4], 8u32.to_le_bytes());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    for (kind, word) in [
        (20u32, "IQ4_NL"),
        (39, "MXFP4"),
        (23, "IQ4_XS"),
        (15, "Q8_K"),
        (77, "type 77"),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let problem = GgufFile::open(&path).unwrap_err().to_string();
        for word in [word, "blk.0.attn_q.weight", "Q4_K_M"] {
            assert!(problem.contains(word), "{word} is not in {problem}");
        }
    }
}
