//! Every kind of GGUF block against the same values as safetensors: the very same logits.

use candle_core::quantized::GgmlDType;

use crate::common::gguf::{random_llama, write_gguf, write_safetensors};
use crate::common::{load, tokens, Solo};

const KINDS: [GgmlDType; 11] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

#[test]
fn every_kind_of_block_gives_the_logits_of_its_values() {
    let tensors = random_llama(1);
    let prompt = tokens(&[3, 94, 0, 17, 17, 60, 2, 93, 31]);
    let mut seen = Vec::new();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.gguf");
        write_gguf(&file, &tensors, kind);
        write_safetensors(directory.path(), &tensors, kind);
        let logits = |path| {
            let decoder = load(path);
            let logits = Solo::new(&decoder, 64, None).feed(&prompt);
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (of_file, of_values) = (logits(&file), logits(directory.path()));
        assert_eq!(of_file, of_values, "{kind:?}");
        // Each kind rounds in its own way: a kind that was not used would repeat another's.
        assert!(!seen.contains(&of_file), "{kind:?} changes nothing");
        seen.push(of_file);
    }
}
