//! What an export says to a trainer: pairs, whom to forget, and what was made of earlier ones.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::aliases::AliasRecord;
use crate::decisions::DecisionRecord;
use crate::feedback::FeedbackRecord;
use crate::preferences::{PreferenceRecord, Turn};
use crate::profiles::ProfileRecord;
use crate::record::{self, RawRecord, Record};
use crate::snapshot::FORMAT;
use crate::tombstones::{tombstone_digest, TombstoneRecord};
use crate::{lines, Store, StoreError};
use attune_ids::{AdapterVersion, Alias, RecordId, Tenant, UserId, UserKey};

/// A pair of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPair {
    /// Who prefers.
    pub user: Option<UserKey>,
    /// What is known about them in words.
    pub user_info: Option<String>,
    /// What was answered.
    pub messages: Vec<Turn>,
    /// The better answer.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// When it was said, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The record that says it.
    pub id: RecordId,
    /// The record's line in the export.
    pub line: u64,
}

/// An export, as a trainer sees it.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    /// The digest of the export: the snapshot's name.
    pub sha256: String,
    /// The store that it was made of.
    pub store_id: String,
    /// Pairs of people who take part in learning, by tenant and time; those that ratings make last.
    pub pairs: Vec<SnapshotPair>,
    /// Pairs of people who do not, left out.
    pub opted_out: u64,
    /// The version that each alias names.
    pub aliases: BTreeMap<Alias, AdapterVersion>,
    /// What was decided about trained versions, the oldest first.
    pub decisions: Vec<DecisionRecord>,
    /// The newest time of anything that somebody may learn from, and of deletions, in milliseconds since 1970:
    /// whoever is deleted later was not deleted yet when the export was made.
    pub newest_unix_ms: Option<u64>,
    /// Who was deleted, and when.
    pub deletions: Deletions,
}

/// Who was deleted from a store, and when.
#[derive(Debug, Clone, Default)]
pub struct Deletions {
    store_id: String,
    /// By digest, in milliseconds since 1970.
    tombstones: BTreeMap<String, u64>,
}

impl Deletions {
    /// Whether nobody was.
    pub fn is_empty(&self) -> bool {
        self.tombstones.is_empty()
    }

    /// When each deletion was, in milliseconds since 1970, in no order.
    pub fn times(&self) -> impl Iterator<Item = u64> + '_ {
        self.tombstones.values().copied()
    }

    /// When `user` was deleted last, in milliseconds since 1970.
    pub fn of(&self, user: &UserKey) -> Option<u64> {
        if self.tombstones.is_empty() {
            return None;
        }
        let digest = tombstone_digest(&self.store_id, user);
        self.tombstones.get(&digest).copied()
    }
}

impl Store {
    /// Who was deleted from this store, and when.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn deletions(&self) -> Result<Deletions, StoreError> {
        let tombstones = self.tombstones()?.into_iter();
        Ok(Deletions {
            store_id: self.info()?.store_id,
            tombstones: tombstones.map(|t| (t.digest, t.deleted_unix_ms)).collect(),
        })
    }
}

/// What is collected while lines come.
#[derive(Default)]
struct Collected {
    preferences: Vec<(u64, PreferenceRecord)>,
    feedback: Vec<(u64, FeedbackRecord)>,
    profiles: BTreeMap<UserKey, ProfileRecord>,
    tombstones: BTreeMap<String, u64>,
    aliases: BTreeMap<Alias, AdapterVersion>,
    decisions: Vec<DecisionRecord>,
}

impl TrainingSet {
    /// Whether a file that begins with `line` is an export.
    pub fn begins(line: &[u8]) -> bool {
        let start = format!(r#"{{"format":"{FORMAT}""#);
        line.starts_with(start.as_bytes())
    }

    /// Reads an export, whole and unchanged.
    ///
    /// # Errors
    /// Malformed, truncated, edited or newer than this build.
    pub fn read(input: &mut impl BufRead) -> Result<TrainingSet, StoreError> {
        let mut collected = Collected::default();
        let whole = lines::read(input, |line, value| collected.add(line, &value))?;
        let mut pairs: Vec<SnapshotPair> =
            collected.preferences.iter().map(of_preference).collect();
        pairs.extend(of_ratings(&collected.feedback));
        let before = pairs.len();
        pairs.retain(|pair| {
            let profile = pair.user.as_ref().and_then(|u| collected.profiles.get(u));
            profile.is_none_or(|profile| profile.learning)
        });
        for pair in &mut pairs {
            let profile = pair.user.as_ref().and_then(|u| collected.profiles.get(u));
            pair.user_info = profile.and_then(|profile| profile.text.clone());
        }
        Ok(TrainingSet {
            newest_unix_ms: collected.newest(),
            sha256: whole.totals.sha256,
            store_id: whole.header.store_id.clone(),
            opted_out: (before - pairs.len()) as u64,
            pairs,
            aliases: collected.aliases,
            decisions: collected.decisions,
            deletions: Deletions {
                store_id: whole.header.store_id,
                tombstones: collected.tombstones,
            },
        })
    }
}

impl Collected {
    fn add(&mut self, line: u64, value: &[u8]) -> Result<(), StoreError> {
        let raw: RawRecord = serde_json::from_slice(value).map_err(|e| StoreError::BadExport {
            line,
            reason: e.to_string(),
        })?;
        match raw.kind.as_str() {
            PreferenceRecord::KIND => self.preferences.push((line, record::decode(&[], value)?)),
            FeedbackRecord::KIND => self.feedback.push((line, record::decode(&[], value)?)),
            ProfileRecord::KIND => {
                let profile: ProfileRecord = record::decode(&[], value)?;
                let user = key(&profile.tenant, &profile.user);
                self.profiles.insert(user, profile);
            }
            TombstoneRecord::KIND => {
                let tombstone: TombstoneRecord = record::decode(&[], value)?;
                self.tombstones
                    .insert(tombstone.digest, tombstone.deleted_unix_ms);
            }
            AliasRecord::KIND => {
                let alias: AliasRecord = record::decode(&[], value)?;
                self.aliases.insert(alias.alias, alias.version);
            }
            DecisionRecord::KIND => self.decisions.push(record::decode(&[], value)?),
            _ => {}
        }
        Ok(())
    }

    fn newest(&self) -> Option<u64> {
        let preferences = self.preferences.iter().map(|(_, r)| r.created_unix_ms);
        let feedback = self.feedback.iter().map(|(_, r)| r.created_unix_ms);
        let profiles = self.profiles.values().map(|r| r.updated_unix_ms);
        let deleted = self.tombstones.values().copied();
        preferences
            .chain(feedback)
            .chain(profiles)
            .chain(deleted)
            .max()
    }
}

fn key(tenant: &Tenant, user: &UserId) -> UserKey {
    UserKey {
        tenant: tenant.clone(),
        user: user.clone(),
    }
}

fn of_preference((line, record): &(u64, PreferenceRecord)) -> SnapshotPair {
    SnapshotPair {
        user: record.user.as_ref().map(|u| key(&record.tenant, u)),
        user_info: None,
        messages: record.messages.clone(),
        chosen: record.chosen.text.clone(),
        rejected: record.rejected.text.clone(),
        created_unix_ms: record.created_unix_ms,
        id: record.id.clone(),
        line: *line,
    }
}

/// The pairs that ratings of one person make: of answers to one conversation, the best one is
/// better than each that was rated lower. The last rating of an answer counts.
fn of_ratings(feedback: &[(u64, FeedbackRecord)]) -> Vec<SnapshotPair> {
    type Conversation<'a> = (&'a Tenant, Option<&'a UserId>, Vec<(&'a str, &'a str)>);
    type Answers<'a> = BTreeMap<&'a str, &'a (u64, FeedbackRecord)>;
    let mut by_conversation: BTreeMap<Conversation, Answers> = BTreeMap::new();
    for entry in feedback {
        let record = &entry.1;
        let turns = record.messages.iter();
        let turns = turns.map(|t| (t.role.as_str(), t.content.as_str()));
        let conversation = (&record.tenant, record.user.as_ref(), turns.collect());
        let answers = by_conversation.entry(conversation).or_default();
        // Ids sort by time, and so do the records of an export.
        answers.insert(record.answer.as_str(), entry);
    }
    by_conversation.into_values().flat_map(best_first).collect()
}

fn best_first(answers: BTreeMap<&str, &(u64, FeedbackRecord)>) -> Vec<SnapshotPair> {
    let score = |entry: &(u64, FeedbackRecord)| entry.1.rating.score();
    // The first of equals, so that the same export gives the same pairs.
    let best = answers.values().rev().max_by_key(|entry| score(entry));
    let Some(best) = best.copied() else {
        return Vec::new();
    };
    let worse = answers.values().filter(|entry| score(entry) < score(best));
    worse
        .map(|(line, rejected)| SnapshotPair {
            user: best.1.user.as_ref().map(|u| key(&best.1.tenant, u)),
            user_info: None,
            messages: best.1.messages.clone(),
            chosen: best.1.answer.clone(),
            rejected: rejected.answer.clone(),
            created_unix_ms: rejected.created_unix_ms.max(best.1.created_unix_ms),
            id: rejected.id.clone(),
            line: *line,
        })
        .collect()
}
