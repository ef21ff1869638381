//! Pairs to train on, pairs and users to hold out.
//!
//! Who is where follows from the key and from what the pairs say, never from the order of lines.
//! What is drawn is a *group*: the pairs of one interaction of one user, or one pair without an
//! interaction. Where the data set itself says where a pair belongs ([`Pair::part`]), it goes there.
//!
//! What is set aside for the last evaluation is drawn by texts alone, so that copies stay together, whoever sends
//! them: what many accounts say in the same words would otherwise be learned from some of them and found right in
//! the others. Where a secret draws, for data that comes from whoever likes to send it, that holds for what is held
//! out, too. (Where many people vote on the same statements, as in a data set, all of them are copies.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::pair::{Interaction, Pair, Part};
use attune_ids::UserKey;

/// How much is held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitConfig {
    holdout: f64,
    unseen_users: f64,
    test: f64,
    key: Key,
}

/// What draws groups where users must not be able to tell who is set aside: who can works on the pairs that
/// judge, or keeps away from them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SplitSecret(pub [u8; 32]);

/// Its bytes are nobody's business, a log's least of all.
impl fmt::Debug for SplitSecret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("SplitSecret(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Key {
    Seed(u64),
    Secret(SplitSecret),
}

/// A share that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} must be at least 0 and below 1, but it is {value}; 0.1 holds out a tenth")]
pub struct ShareError {
    /// `holdout`, `unseen_users` or `test`.
    pub field: &'static str,
    /// What it is.
    pub value: f64,
}

impl SplitConfig {
    /// `holdout`: the share of each user's groups that is held out. `unseen_users`: the share of
    /// users who are held out with all they have.
    ///
    /// # Errors
    /// A share below 0, or 1 and above.
    pub fn new(holdout: f64, unseen_users: f64, seed: u64) -> Result<Self, ShareError> {
        Ok(Self {
            holdout: checked("holdout", holdout)?,
            unseen_users: checked("unseen_users", unseen_users)?,
            test: 0.0,
            key: Key::Seed(seed),
        })
    }

    /// Sets the share of groups aside that nothing is trained on or selected by. A group is set aside or
    /// not by itself, whatever else there is: more data leaves it where it is.
    ///
    /// # Errors
    /// A share below 0, or 1 and above.
    pub fn with_test(mut self, share: f64) -> Result<Self, ShareError> {
        self.test = checked("test", share)?;
        Ok(self)
    }

    /// Draws by `secret` in place of the seed.
    pub fn with_secret(mut self, secret: SplitSecret) -> Self {
        self.key = Key::Secret(secret);
        self
    }
}

fn checked(field: &'static str, value: f64) -> Result<f64, ShareError> {
    match (0.0..1.0).contains(&value) {
        true => Ok(value),
        false => Err(ShareError { field, value }),
    }
}

/// Indices into the pairs; each is in one of the four lists. The order within a list does not
/// depend on the order of the pairs, so that training is the same for shuffled files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Vec<usize>,
    /// Held out, of users who are trained on.
    pub held_out: Vec<usize>,
    /// Of users who are not trained on.
    pub unseen: Vec<usize>,
    /// Set aside for the last evaluation, of whomever.
    pub test: Vec<usize>,
    /// What came of it.
    pub counts: SplitCounts,
}

/// What came of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SplitCounts {
    /// Users with pairs to train on.
    pub trained_users: u64,
    /// Of these, users with a single group: nothing of theirs could be held out.
    pub single_group_users: u64,
    /// Users of whom nothing is trained on.
    pub unseen_users: u64,
}

/// Splits `pairs`. Every user with two groups or more keeps one in training and, if anything is
/// to be held out, has one held out; so the share held out of users with few pairs is larger than
/// `holdout`. (Where a secret draws, and all that is held out of a user is a copy of what others are trained
/// on, it is trained on.) Pairs of nobody in particular are drawn like those of one user, who is never unseen.
pub fn split(pairs: &[Pair], config: &SplitConfig) -> Split {
    let ranks = Ranks { key: config.key };
    let mut split = Split::default();
    let mut users: BTreeMap<Option<&UserKey>, Groups<'_>> = BTreeMap::new();
    let digests: Vec<[u8; 32]> = pairs.iter().map(Pair::digest).collect();
    for (i, pair) in pairs.iter().enumerate() {
        match pair.part {
            Some(part) => split.list(part).push(i),
            None => {
                if ranks.sets_aside(config.test, pair) {
                    split.test.push(i);
                } else {
                    let group = match &pair.interaction {
                        Some(interaction) => GroupKey::Interaction(interaction),
                        None => GroupKey::Pair(digests[i]),
                    };
                    let groups = users.entry(pair.user.as_ref()).or_default();
                    groups.entry(group).or_default().push(i);
                }
            }
        }
    }
    let unseen = unseen_users(&users, config, &ranks);
    let mut held_out = Vec::new();
    for (user, groups) in &users {
        if unseen.contains(user) {
            split.unseen.extend(groups.values().flatten());
        } else {
            held_out.extend(split.divide(*user, groups, config.holdout, &ranks));
        }
    }
    match config.key {
        Key::Seed(_) => split.held_out.extend(held_out.into_iter().flatten()),
        Key::Secret(_) => split.hold_out(pairs, held_out),
    }
    // Digests differ, since repeats are left out when files are read.
    let Split {
        train,
        held_out,
        unseen,
        test,
        ..
    } = &mut split;
    for list in [train, held_out, unseen, test] {
        list.sort_by_key(|&i| (digests[i], i));
    }
    split.count(pairs, &users);
    split
}

/// The pairs of a user that stay together.
type Groups<'a> = BTreeMap<GroupKey<'a>, Vec<usize>>;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GroupKey<'a> {
    Interaction(&'a Interaction),
    Pair([u8; 32]),
}

impl GroupKey<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Interaction(Interaction::Named(name)) => name.as_bytes(),
            Self::Interaction(Interaction::Conversation(digest)) | Self::Pair(digest) => digest,
        }
    }
}

fn unseen_users<'a>(
    users: &BTreeMap<Option<&'a UserKey>, Groups<'_>>,
    config: &SplitConfig,
    ranks: &Ranks,
) -> Vec<Option<&'a UserKey>> {
    let mut named: Vec<_> = users.keys().copied().filter(Option::is_some).collect();
    let count = share(named.len(), config.unseen_users);
    named.sort_by_cached_key(|user| (ranks.of("user", *user, &[]), *user));
    named.truncate(count);
    named
}

/// `share` of `n`, but neither none nor all of them.
fn share(n: usize, share: f64) -> usize {
    if n < 2 || share == 0.0 {
        return 0;
    }
    let wanted = (n as f64 * share).round() as usize;
    wanted.clamp(1, n - 1)
}

impl Split {
    fn list(&mut self, part: Part) -> &mut Vec<usize> {
        match part {
            Part::Train => &mut self.train,
            Part::HeldOut => &mut self.held_out,
            Part::Unseen => &mut self.unseen,
        }
    }

    /// Trains on a user's groups but those that are returned.
    fn divide<'g>(
        &mut self,
        user: Option<&UserKey>,
        groups: &'g Groups<'_>,
        holdout: f64,
        ranks: &Ranks,
    ) -> Vec<&'g [usize]> {
        let mut drawn: Vec<_> = groups.iter().collect();
        drawn.sort_by_cached_key(|(key, _)| ranks.of("group", user, key.bytes()));
        let mut drawn: Vec<&[usize]> = drawn.into_iter().map(|(_, m)| &m[..]).collect();
        let rest = drawn.split_off(share(groups.len(), holdout));
        self.train.extend(rest.into_iter().flatten());
        drawn
    }

    /// Holds out the `groups` that share no text with what is trained on.
    fn hold_out(&mut self, pairs: &[Pair], mut groups: Vec<&[usize]>) {
        let texts: Vec<[u8; 32]> = pairs.iter().map(Pair::texts_digest).collect();
        let mut trained: BTreeSet<&[u8; 32]> = self.train.iter().map(|&i| &texts[i]).collect();
        loop {
            let is_copy = |group: &&[usize]| group.iter().any(|&i| trained.contains(&texts[i]));
            let (copies, rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_copy);
            if copies.is_empty() {
                self.held_out.extend(rest.into_iter().flatten());
                return;
            }
            // A group that moves takes its other texts along.
            for &i in copies.into_iter().flatten() {
                trained.insert(&texts[i]);
                self.train.push(i);
            }
            groups = rest;
        }
    }

    fn count(&mut self, pairs: &[Pair], users: &BTreeMap<Option<&UserKey>, Groups<'_>>) {
        let of = |list: &[usize]| -> std::collections::HashSet<&UserKey> {
            list.iter()
                .filter_map(|&i| pairs[i].user.as_ref())
                .collect()
        };
        let trained = of(&self.train);
        let single = |user: &&UserKey| users.get(&Some(*user)).is_some_and(|g| g.len() == 1);
        self.counts = SplitCounts {
            trained_users: trained.len() as u64,
            single_group_users: trained.iter().filter(|user| single(user)).count() as u64,
            unseen_users: of(&self.unseen).difference(&trained).count() as u64,
        };
    }
}

/// An order that looks like chance, and is the same for the same key on every machine.
struct Ranks {
    key: Key,
}

impl Ranks {
    fn of(&self, what: &str, user: Option<&UserKey>, key: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self.key {
            Key::Seed(seed) => hash.update(seed.to_le_bytes()),
            Key::Secret(SplitSecret(secret)) => hash.update(secret),
        }
        let user = user.map_or([b"".as_slice(); 2], |key| {
            [key.tenant.as_str().as_bytes(), key.user.as_str().as_bytes()]
        });
        for text in [what.as_bytes(), user[0], user[1], key] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }

    /// Whether a pair is among a `share` of all that could be. Nothing but its own texts, or the name of its
    /// interaction, says so.
    fn sets_aside(&self, share: f64, pair: &Pair) -> bool {
        let rank = match &pair.interaction {
            Some(Interaction::Named(name)) => self.of("test", pair.user.as_ref(), name.as_bytes()),
            Some(Interaction::Conversation(digest)) => self.of("test", None, digest),
            None => self.of("test", None, &pair.texts_digest()),
        };
        let first = u64::from_be_bytes(std::array::from_fn(|i| rank[i]));
        (first as f64) < share * 2f64.powi(64)
    }
}

#[cfg(test)]
mod tests;
