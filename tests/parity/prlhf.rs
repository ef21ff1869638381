//! The authors' P-RLHF checkpoints: soft prompts and log-probabilities of policy and reference.

use attune_adapter::bundle::{self, Adapter};
use attune_adapter::data_until::DataUntil;
use attune_adapter::manifest::BaseModel;
use attune_adapter::peft::{self, PeftImport};
use attune_adapter::publish;
use attune_ids::{Tenant, UserId, UserKey};
use attune_model::decoder::Decoder;
use attune_model::load::ModelFiles;
use attune_model::user_model::soft_prompt::SoftPrompt;
use serde_json::Value;

use crate::common::{
    ids_of, log_prob, oracle_json, oracle_tensors, oracles, slack, soft_rows_of, tiny, tokens, Row,
    Solo,
};

const FOLDERS: [&str; 4] = ["individual_T2", "individual_T4", "cluster_T2", "cluster_T4"];
const SOFT: f32 = 1e-6;
const SUM: f64 = 1e-3;

#[test]
fn log_prob_sums_are_those_of_the_authors_code() {
    let decoder = tiny("llama");
    for folder in FOLDERS {
        let golden = oracle_json(&format!("prlhf/{folder}/prlhf.json"));
        let version = imported(folder, &golden, &decoder);
        let mut checked = 0;
        for (name, batch) in golden["batches"].as_object().unwrap() {
            for row in batch["rows"].as_array().unwrap() {
                check(&format!("{folder}/{name}"), &decoder, &version, row);
                checked += 1;
            }
        }
        assert!(checked >= 12, "{folder} lost rows");
    }
}

#[test]
fn soft_prompts_are_those_of_the_authors_code() {
    let decoder = tiny("llama");
    for folder in FOLDERS {
        let golden = oracle_json(&format!("prlhf/{folder}/prlhf.json"));
        let version = imported(folder, &golden, &decoder);
        let want = oracle_tensors(&format!("prlhf/{folder}/soft_prompts.safetensors"));
        for user in 0..=3u64 {
            let want = want[&format!("user{user}")].flatten_all().unwrap();
            let want = want.to_vec1::<f32>().unwrap();
            let got = soft_prompt(&version, user);
            assert_eq!(got.rows().len(), want.len());
            for (got, want) in got.rows().iter().zip(want) {
                assert!(
                    (got - want).abs() <= SOFT,
                    "{folder}: user {user}: {got} {want}"
                );
            }
        }
    }
}

/// The checkpoint, through the same import, publication and reading as on a server.
fn imported(folder: &str, golden: &Value, decoder: &Decoder) -> Adapter {
    let base = ModelFiles::at(&oracles().join("tiny/llama")).unwrap();
    let sha256 = base.sha256().unwrap();
    let import = PeftImport {
        name: None,
        created_unix: 0,
        data_until: DataUntil::Unknown,
        base: BaseModel {
            name: "tiny-llama".into(),
            sha256: sha256.clone(),
        },
        model: decoder.config().clone(),
        kind: None,
        n_user_tokens: golden["n_user_tokens"].as_u64().map(|n| n as usize),
        users: None,
    };
    let checkpoint = oracles().join("prlhf").join(folder).join("adapter");
    let directory = tempfile::tempdir().unwrap();
    let contents = peft::import(&checkpoint, import).unwrap();
    let version = publish::write(directory.path(), &contents).unwrap();
    let bundle = bundle::bundle_dir(directory.path(), &version);
    bundle::read(&bundle, decoder.config(), &sha256).unwrap()
}

fn soft_prompt(version: &Adapter, user: u64) -> SoftPrompt {
    let key = (user > 0).then(|| UserKey {
        tenant: Tenant::default(),
        user: UserId::new(user.to_string()).unwrap(),
    });
    version.people.as_ref().unwrap().soft_prompt(key.as_ref())
}

fn check(name: &str, decoder: &Decoder, version: &Adapter, row: &Value) {
    let user = row["user_id"].as_u64().unwrap();
    let bos = tokens(&[row["bos_id"].as_u64().unwrap() as u32]);
    let prompt = tokens(&ids_of(&row["prompt_ids"]));
    let soft = soft_rows_of(&soft_prompt(version, user));
    for response in ["chosen", "rejected"] {
        let ids = ids_of(&row[format!("{response}_ids")]);
        let policy = Solo::new(decoder, 256, Some(version.lora.clone()));
        let reference = Solo::new(decoder, 256, None);
        for (who, mut model, rows) in [
            ("policy", policy, [&bos[..], &soft, &prompt].concat()),
            ("ref", reference, [&bos[..], &prompt].concat()),
        ] {
            let got = sum(&mut model, rows, &ids);
            let want = row[format!("{who}_{response}_logp")].as_f64().unwrap();
            assert!(
                (got - want).abs() < SUM * slack(),
                "{name}: {who} {response}: {got}, not {want}"
            );
        }
    }
}

/// log p(response | rows), summed over its tokens.
fn sum(model: &mut Solo, rows: Vec<Row>, response: &[u32]) -> f64 {
    let start = rows.len();
    let logits = model.feed(&[rows, tokens(response)].concat());
    let row = |r: usize| logits.get(r).unwrap().to_vec1::<f32>().unwrap();
    let of = |(i, id): (usize, &u32)| log_prob(&row(start - 1 + i), *id);
    response.iter().enumerate().map(of).sum()
}
