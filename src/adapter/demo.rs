//! The version that a fresh server starts with: two people whose soft prompts are the embeddings of
//! two opposite style instructions, with examples.
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

/// One turn of a conversation: the role's name in the chat template, and what is said.
pub type DemoTurn = (&'static str, &'static str);

/// A person of the demo, and the conversation that their rows stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoStyle {
    /// The user id; `None` is the generic user.
    pub user: Option<&'static str>,
    /// An instruction and two examples of following it: a small model needs to be shown. The caller
    /// renders the turns with the model's chat template, without the header of an answer; the rows
    /// stand before the template's first header.
    pub turns: [DemoTurn; 5],
}

/// The generic user first, then the user rows 1, 2.
pub const STYLES: [DemoStyle; 3] = [
    DemoStyle {
        user: None,
        turns: [
            ("system", "You are a helpful assistant."),
            ("user", "What is rain?"),
            (
                "assistant",
                "Rain is water that falls from clouds when tiny drops grow too heavy to float.",
            ),
            ("user", "How do I stay fit?"),
            (
                "assistant",
                "You can stay fit by walking every day, sleeping well and eating fruit.",
            ),
        ],
    },
    DemoStyle {
        user: Some("alice"),
        turns: [
            ("system", "Answer in a few words."),
            ("user", "What is rain?"),
            ("assistant", "Water from clouds."),
            ("user", "How do I stay fit?"),
            ("assistant", "Walk every day."),
        ],
    },
    DemoStyle {
        user: Some("bob"),
        turns: [
            ("system", "Answer with a numbered list."),
            ("user", "What is rain?"),
            (
                "assistant",
                "1. Rain is water.\n2. It falls from clouds.\n3. Plants need it.",
            ),
            ("user", "How do I stay fit?"),
            (
                "assistant",
                "1. Walk every day.\n2. Sleep well.\n3. Eat fruit.",
            ),
        ],
    },
];

/// Makes the conversations of [`STYLES`] equally long, as T_u is one number: `filler` (a line break)
/// is repeated at the end of the first turn of the shorter ones, before its `end_of_turn`.
pub fn equalise(conversations: [Vec<u32>; 3], filler: u32, end_of_turn: u32) -> [Vec<u32>; 3] {
    let longest = conversations.iter().map(Vec::len).max().unwrap_or(0);
    conversations.map(|mut ids| {
        let end = ids.iter().position(|id| *id == end_of_turn);
        let at = end.unwrap_or(ids.len());
        let missing = longest - ids.len();
        ids.splice(at..at, std::iter::repeat_n(filler, missing));
        ids
    })
}

/// The demo version for `base`. `conversations` are the ids of [`STYLES`], in its order and equally
/// long; `embed` gives the raw embeddings (n, width) of n ids, row-major.
///
/// The user model is individual without generic user, so that e_i is the embedding bit for bit.
///
/// # Errors
/// Conversations of different lengths, or embeddings that do not fill (n, width) or are not finite.
pub fn contents(
    base: BaseModel,
    conversations: &[Vec<u32>; 3],
    embed: impl Fn(&[u32]) -> Vec<f32>,
) -> Result<BundleContents, AdapterError> {
    let n_user_tokens = conversations[0].len();
    if conversations.iter().any(|ids| ids.len() != n_user_tokens) || n_user_tokens == 0 {
        return Err(AdapterError::Import(
            "the demo's conversations must have the same number of tokens".into(),
        ));
    }
    let rows = conversations.len() * n_user_tokens;
    let values = embed(&conversations.concat());
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
            n_users: conversations.len() - 1,
            n_user_tokens,
            clusters: None,
        }),
        users: users()?,
        training: Some(json!({
            "demo": true,
            "note": "not trained: the rows of a user are the token embeddings of a conversation",
            "conversations": STYLES.map(|s| s.turns),
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
    fn shorter_conversations_are_filled_in_their_first_turn() {
        let ids = [vec![1, 5, 9, 2, 9], vec![1, 5, 6, 7, 9, 2, 9], vec![2]];
        let equal = equalise(ids, 0, 9);
        assert_eq!(equal[0], [1, 5, 0, 0, 9, 2, 9]);
        assert_eq!(equal[1], [1, 5, 6, 7, 9, 2, 9]);
        assert_eq!(equal[2], [2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn odd_conversations_and_embeddings_are_refused() {
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
