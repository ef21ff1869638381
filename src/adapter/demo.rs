//! The version that a fresh server starts with: two people whose soft prompts are the embeddings of
//! two opposite style instructions.
//!
//! Nothing in it is trained. It shows the path (user, rows, batch), with rows whose effect anybody can
//! check: they are what the model would see if the instruction were typed in front of the prompt.

use std::collections::BTreeMap;

use serde_json::json;

use super::bundle::BundleContents;
use super::error::AdapterError;
use super::manifest::{BaseModel, Manifest, UserModelManifest, UserRow, FORMAT};
use super::plan::user_model_name;
use super::tensors::TensorData;
use crate::ids::{Tenant, UserId};
use crate::user_model::individual::USER_EMBEDDING;
use crate::user_model::model::UserModelKind;

/// A fixed date, so that every start makes the same version.
const CREATED_UNIX: u64 = 1_700_000_000;

/// A person of the demo, and the instruction that their rows stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoStyle {
    /// The user id; `None` is the generic user.
    pub user: Option<&'static str>,
    /// A system instruction. The caller encodes it, as the content of a system turn with the model's
    /// own special tokens around it: the rows stand before the template's first header.
    pub instruction: &'static str,
}

/// The generic user first, then the user rows 1, 2.
pub const STYLES: [DemoStyle; 3] = [
    DemoStyle {
        user: None,
        instruction: "You are a helpful assistant.",
    },
    DemoStyle {
        user: Some("alice"),
        instruction: "You are a helpful assistant. Answer in one short sentence.",
    },
    DemoStyle {
        user: Some("bob"),
        instruction: "You are a helpful assistant. Answer as a long numbered list.",
    },
];

/// Makes the turns of [`STYLES`] equally long, as T_u is one number: `filler` is repeated before the
/// last `tail` ids of the shorter ones (the tokens that end the turn).
pub fn equalise(turns: [Vec<u32>; 3], filler: u32, tail: usize) -> [Vec<u32>; 3] {
    let longest = turns.iter().map(Vec::len).max().unwrap_or(0);
    turns.map(|mut turn| {
        let at = turn.len().saturating_sub(tail);
        let missing = longest - turn.len();
        turn.splice(at..at, std::iter::repeat_n(filler, missing));
        turn
    })
}

/// The demo version for `base`. `turns` are the ids of [`STYLES`], in its order and equally long;
/// `embed` gives the raw embeddings (n, width) of n ids, row-major.
///
/// The user model is individual without generic user, so that e_i is the embedding bit for bit.
///
/// # Errors
/// Turns of different lengths, or embeddings that do not fill (n, width) or are not finite.
pub fn contents(
    base: BaseModel,
    turns: &[Vec<u32>; 3],
    embed: impl Fn(&[u32]) -> Vec<f32>,
) -> Result<BundleContents, AdapterError> {
    let n_user_tokens = turns[0].len();
    if turns.iter().any(|turn| turn.len() != n_user_tokens) || n_user_tokens == 0 {
        return Err(AdapterError::Import(
            "the demo's instructions must have the same number of tokens".into(),
        ));
    }
    let rows = turns.len() * n_user_tokens;
    let values = embed(&turns.concat());
    let table = TensorData {
        shape: vec![rows, values.len() / rows],
        values,
    };
    let manifest = Manifest {
        format: FORMAT,
        name: Some("demo".into()),
        created_unix: CREATED_UNIX,
        base,
        lora: None,
        user_model: Some(UserModelManifest {
            kind: UserModelKind::IndividualNoGeneric,
            n_users: turns.len() - 1,
            n_user_tokens,
            clusters: None,
        }),
        users: users()?,
        training: Some(json!({
            "demo": true,
            "note": "not trained: each user's rows are the token embeddings of an instruction",
            "instructions": STYLES.map(|s| s.instruction),
        })),
    };
    let tensors = BTreeMap::from([(user_model_name(USER_EMBEDDING), table)]);
    let contents = BundleContents { manifest, tensors };
    contents.check()?;
    Ok(contents)
}

fn users() -> Result<Vec<UserRow>, AdapterError> {
    let people = STYLES.iter().enumerate();
    let people = people.filter_map(|(row, style)| style.user.map(|user| (row, user)));
    let people = people.map(|(row, user)| {
        let user = UserId::new(user).map_err(|e| AdapterError::Import(e.to_string()))?;
        let tenant = Tenant::default();
        Ok(UserRow { tenant, user, row })
    });
    people.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_turns_are_filled_before_their_end() {
        let turns = [vec![1, 5, 2, 9], vec![1, 5, 6, 7, 2, 9], vec![2]];
        let equal = equalise(turns, 0, 2);
        assert_eq!(equal[0], [1, 5, 0, 0, 2, 9]);
        assert_eq!(equal[1], [1, 5, 6, 7, 2, 9]);
        assert_eq!(equal[2], [0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn odd_turns_and_embeddings_are_refused() {
        let base = || BaseModel {
            name: "m".into(),
            sha256: "h".into(),
        };
        let twos = [vec![1, 2], vec![1, 2], vec![1, 2]];
        let odd = [vec![1, 2], vec![1], vec![1, 2]];
        let empty = [vec![], vec![], vec![]];
        assert!(contents(base(), &twos, |ids| vec![0.5; ids.len() * 3]).is_ok());
        assert!(contents(base(), &odd, |ids| vec![0.5; ids.len() * 3]).is_err());
        assert!(contents(base(), &empty, |_| vec![]).is_err());
        assert!(contents(base(), &twos, |ids| vec![0.5; ids.len() * 3 + 1]).is_err());
        assert!(contents(base(), &twos, |_| vec![]).is_err());
        assert!(contents(base(), &twos, |ids| vec![f32::NAN; ids.len() * 3]).is_err());
    }
}
