//! Files become what the loop eats: pairs as ids, users with rows, pairs held out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dataset::split::{split, Split, SplitConfig, SplitCounts};
use super::dataset::{self, Counts, Pair};
use super::encode::{EncodeCounts, EncodedPairs, Encoder};
use super::evaluate::Group;
use super::pack::Front;
use super::pairs::IdPair;
use super::settings::Settings;
use super::TrainError;
use crate::base_model::BaseModel;
use crate::ids::{Tenant, UserKey};

/// A pair to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOutPair {
    /// The pair; its user row is 0 for whoever has none.
    pub pair: IdPair,
    /// The person.
    pub user: Option<UserKey>,
    /// Whether the person has a row.
    pub group: Group,
}

/// What a run works on.
#[derive(Debug)]
pub struct Prepared {
    /// The person of row i + 1.
    pub users: Vec<UserKey>,
    /// Pairs to train on.
    pub train: Vec<IdPair>,
    /// Pairs to evaluate on.
    pub held_out: Vec<HeldOutPair>,
    /// What stands in front of prompts.
    pub front: Front,
    /// What was read, cut and left out.
    pub counts: DataCounts,
}

/// What happened to the data on the way; part of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataCounts {
    /// Reading.
    pub read: Counts,
    /// Holding out.
    pub split: SplitCounts,
    /// Encoding, of pairs to train on and of those held out.
    pub train: EncodeCounts,
    /// Likewise.
    pub held_out: EncodeCounts,
}

/// Reads, splits and encodes the data of a run.
///
/// # Errors
/// Data that cannot be read or leaves nothing to train on.
pub fn prepare(settings: &Settings, base: &BaseModel) -> Result<Prepared, TrainError> {
    let mut data = dataset::read(&settings.data)?;
    if let Some(n) = settings.max_users {
        keep_users(&mut data.pairs, n);
    }
    let split_config = SplitConfig::new(settings.holdout, settings.unseen_users, settings.seed)?;
    let split = split(&data.pairs, &split_config);
    let encoder = encoder(base, settings.max_prompt, settings.max_length)?;
    let train = encoder.encode_all(&data.pairs, &split.train)?;
    if train.pairs.is_empty() {
        return Err(TrainError::Unfit(
            "no pair is left to train on: hold out less, or allow longer pairs by --max-length"
                .into(),
        ));
    }
    let rows = user_rows(&data.pairs, &train, settings);
    let held_out = held_out(&encoder, &data.pairs, &split, &rows)?;
    let n_user_tokens = settings.user_model.map_or(0, |u| u.n_user_tokens);
    let longest = train.counts.longest.max(held_out.1.longest) + n_user_tokens;
    check_context(longest, base)?;
    Ok(Prepared {
        front: Front {
            bos: encoder.bos(),
            n_user_tokens,
        },
        counts: DataCounts {
            read: data.counts,
            split: split.counts,
            train: train.counts,
            held_out: held_out.1,
        },
        train: id_pairs(&data.pairs, train, &rows),
        held_out: held_out.0,
        users: rows.into_keys().collect(),
    })
}

/// The encoder of a base model.
///
/// # Errors
/// Lengths that leave no room, or a template that fails.
pub fn encoder(
    base: &BaseModel,
    max_prompt: usize,
    max_length: usize,
) -> Result<Encoder<'_>, TrainError> {
    let template = base.template.as_ref();
    Ok(Encoder::new(
        &base.tokenizer,
        template,
        max_prompt,
        max_length,
    )?)
}

/// Pairs of a file as `rows` know their users: for evaluations of a bundle.
///
/// # Errors
/// As [`Encoder::encode_all`].
pub fn evaluation_pairs(
    encoder: &Encoder,
    pairs: &[Pair],
    indices: &[usize],
    rows: &BTreeMap<UserKey, usize>,
) -> Result<(Vec<HeldOutPair>, EncodeCounts), TrainError> {
    let encoded = encoder.encode_all(pairs, indices)?;
    let counts = encoded.counts;
    let users: Vec<Option<UserKey>> = encoded
        .pairs
        .iter()
        .map(|(i, _)| pairs[*i].user.clone())
        .collect();
    let held_out = id_pairs(pairs, encoded, rows).into_iter().zip(users);
    let held_out = held_out.map(|(pair, user)| HeldOutPair {
        group: if pair.user == 0 {
            Group::Unseen
        } else {
            Group::Seen
        },
        pair,
        user,
    });
    Ok((held_out.collect(), counts))
}

/// A sequence that the model was not made for is refused before anything runs.
///
/// # Errors
/// `longest` rows do not fit the context.
pub fn check_context(longest: usize, base: &BaseModel) -> Result<(), TrainError> {
    let context = base.decoder.config().max_positions;
    if longest <= context {
        return Ok(());
    }
    Err(TrainError::Unfit(format!(
        "the longest pair takes {longest} positions with its soft prompt, and the model has \
         {context}: give a smaller --max-length"
    )))
}

/// The pairs of the first `n` users by name, and those of nobody.
fn keep_users(pairs: &mut Vec<Pair>, n: usize) {
    let users: std::collections::BTreeSet<UserKey> =
        pairs.iter().filter_map(|p| p.user.clone()).collect();
    let kept: std::collections::BTreeSet<UserKey> = users.into_iter().take(n).collect();
    pairs.retain(|p| p.user.as_ref().is_none_or(|user| kept.contains(user)));
}

/// Rows 1 ..= N in the order of the users' names; none where there is no user model.
fn user_rows(
    pairs: &[Pair],
    train: &EncodedPairs,
    settings: &Settings,
) -> BTreeMap<UserKey, usize> {
    if settings.user_model.is_none() {
        return BTreeMap::new();
    }
    let users = train
        .pairs
        .iter()
        .filter_map(|(i, _)| pairs[*i].user.clone());
    let users: std::collections::BTreeSet<UserKey> = users.collect();
    users.into_iter().zip(1..).collect()
}

fn held_out(
    encoder: &Encoder,
    pairs: &[Pair],
    split: &Split,
    rows: &BTreeMap<UserKey, usize>,
) -> Result<(Vec<HeldOutPair>, EncodeCounts), TrainError> {
    let (mut held_out, mut counts) = evaluation_pairs(encoder, pairs, &split.held_out, rows)?;
    if rows.is_empty() {
        // Plain training has no rows; who was trained on is seen all the same.
        let people = held_out.iter_mut().filter(|p| p.user.is_some());
        people.for_each(|p| p.group = Group::Seen);
    }
    let (unseen, more) = evaluation_pairs(encoder, pairs, &split.unseen, rows)?;
    held_out.extend(unseen);
    counts.join(&more);
    Ok((held_out, counts))
}

fn id_pairs(pairs: &[Pair], encoded: EncodedPairs, rows: &BTreeMap<UserKey, usize>) -> Vec<IdPair> {
    let id_pair = |(index, ids): (usize, super::encode::Encoded)| {
        let user = pairs[index].user.as_ref();
        IdPair {
            user: user.and_then(|u| rows.get(u)).copied().unwrap_or(0),
            prompt: ids.prompt,
            chosen: ids.chosen,
            rejected: ids.rejected,
            reference: [0.0; 2],
        }
    };
    encoded.pairs.into_iter().map(id_pair).collect()
}

impl HeldOutPair {
    /// The person as evaluations show them: the id, with the tenant where it is not the usual one.
    pub fn shown(&self) -> String {
        match &self.user {
            None => "(nobody)".into(),
            Some(UserKey { tenant, user }) if *tenant == Tenant::default() => user.as_str().into(),
            Some(UserKey { tenant, user }) => format!("{}/{}", tenant.as_str(), user.as_str()),
        }
    }
}
