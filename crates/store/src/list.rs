//! A part of a tenant's records, found by indexes: what a page costs follows from what it shows, and from
//! how many places have to be looked at for that, which is bounded, not from how much there is.

use std::ops::Bound;

use crate::by_user::{self, ByUserRecord};
use crate::keys;
use crate::owned::{self, Owned};
use crate::record::{self, Record};
use crate::trees::View;
use crate::{Store, StoreError};
use attune_ids::{RecordId, Tenant, UserId, UserKey};

/// Bytes of the records of a page; the record that reaches this is the last one.
const MOST_BYTES: usize = 8 << 20;

/// Places of indexes that are looked at for one page.
const MOST_LOOKS: usize = 4000;

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records behind this one.
    pub after: Option<RecordId>,
    /// At most so many.
    pub limit: usize,
    /// The newest first.
    pub newest_first: bool,
}

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<R> {
    /// The records, in order.
    pub records: Vec<R>,
    /// There may be more: the page after this id shows them. It need not be that of a record.
    pub more: Option<RecordId>,
}

/// Owners records are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// All of the tenant, those of nobody included.
    Everybody,
    /// Of these.
    Only(Vec<UserId>),
}

/// A list of ids: the last parts of the keys below some prefixes of an index, merged.
pub(super) struct Source {
    tree: &'static str,
    heads: Vec<Head>,
}

struct Head {
    prefix: Vec<u8>,
    /// The first id that was not passed; `None`: not known, or there is none.
    next: Option<String>,
    done: bool,
}

impl Source {
    /// The ids below `prefixes`.
    pub(super) fn new(tree: &'static str, prefixes: Vec<Vec<u8>>) -> Source {
        let head = |prefix| Head {
            prefix,
            next: None,
            done: false,
        };
        Source {
            tree,
            heads: prefixes.into_iter().map(head).collect(),
        }
    }

    /// The ids of `R` of `tenant` that are `whose`.
    pub(super) fn of<R: Owned>(tenant: &Tenant, whose: &Owners) -> Source {
        match whose {
            Owners::Everybody => Source::new(R::TREE, vec![keys::encode(&[tenant.as_str()])]),
            Owners::Only(users) => {
                let prefix = |user: &UserId| {
                    let user = UserKey {
                        tenant: tenant.clone(),
                        user: user.clone(),
                    };
                    by_user::prefix(&user, Some(R::OWNED))
                };
                Source::new(ByUserRecord::TREE, users.iter().map(prefix).collect())
            }
        }
    }

    /// The first id at `from` or behind it.
    fn at(&mut self, walk: &mut Walk, from: &From) -> Result<Option<String>, StoreError> {
        for head in &mut self.heads {
            let behind = head.next.as_ref().is_some_and(|id| walk.reached(id, from));
            if head.done || behind {
                continue;
            }
            head.next = walk.seek(self.tree, &head.prefix, from)?;
            head.done = head.next.is_none();
        }
        let next = self.heads.iter().filter_map(|head| head.next.clone());
        Ok(match walk.backwards {
            false => next.min(),
            true => next.max(),
        })
    }
}

/// Where to go on.
enum From {
    Start,
    At(String),
    Behind(String),
}

/// A way through indexes.
struct Walk {
    view: View,
    backwards: bool,
    looks: usize,
    most: usize,
}

impl Walk {
    fn reached(&self, id: &str, from: &From) -> bool {
        match (from, self.backwards) {
            (From::Start, _) => true,
            (From::At(at), false) => id >= at.as_str(),
            (From::At(at), true) => id <= at.as_str(),
            (From::Behind(at), false) => id > at.as_str(),
            (From::Behind(at), true) => id < at.as_str(),
        }
    }

    fn seek(
        &mut self,
        tree: &'static str,
        prefix: &[u8],
        from: &From,
    ) -> Result<Option<String>, StoreError> {
        self.looks += 1;
        let key = |id: &str| [prefix, &keys::encode(&[id])].concat();
        let from = match from {
            From::Start => Bound::Unbounded,
            From::At(id) => Bound::Included(key(id)),
            From::Behind(id) => Bound::Excluded(key(id)),
        };
        let found = self.view.first(tree, prefix, from, self.backwards)?;
        Ok(found.and_then(|key| keys::decode(&key)?.pop()))
    }

    /// The first id from `from` on that all of `sources` have, or how far it was looked for.
    fn common(&mut self, sources: &mut [Source], mut from: From) -> Result<Found, StoreError> {
        let (mut agreed, mut candidate, mut passed) = (0, None, None);
        for at in (0..sources.len()).cycle() {
            if let (true, Some(passed)) = (self.looks > self.most, passed.take()) {
                return Ok(Found::LookedUpTo(passed));
            }
            let Some(id) = sources[at].at(self, &from)? else {
                return Ok(Found::Nothing);
            };
            if candidate.as_deref() == Some(id.as_str()) {
                agreed += 1;
            } else {
                // Somebody has not the last one, and nothing before this one.
                agreed = 1;
                passed = candidate.replace(id.clone());
            }
            if agreed == sources.len() {
                return Ok(Found::Id(id));
            }
            from = From::At(id);
        }
        Ok(Found::Nothing)
    }
}

enum Found {
    Id(String),
    /// All up to this one are in none of what was looked for.
    LookedUpTo(String),
    Nothing,
}

impl Store {
    /// The records whose ids are in all of `sources`, at least one, and for which `keep` holds.
    pub(super) fn list<R: Owned>(
        &self,
        tenant: &Tenant,
        mut sources: Vec<Source>,
        page: &Page,
        keep: impl Fn(&R) -> bool,
    ) -> Result<Listed<R>, StoreError> {
        let mut walk = Walk {
            view: self.trees().view()?,
            backwards: page.newest_first,
            looks: 0,
            // Each list that is merged is looked at once in any case.
            most: MOST_LOOKS + sources.iter().map(|s| s.heads.len()).sum::<usize>(),
        };
        let after = page.after.as_ref().map(|id| id.as_str().to_owned());
        let mut from = after.map_or(From::Start, From::Behind);
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
        let more = loop {
            let id = match walk.common(&mut sources, from)? {
                Found::Id(id) => id,
                Found::LookedUpTo(id) => break RecordId::new(id).ok().or(last),
                Found::Nothing => break None,
            };
            from = From::Behind(id.clone());
            let Ok(id) = RecordId::new(id) else { continue };
            let value = walk.view.get(R::TREE, &owned::key(tenant, &id))?;
            walk.looks += 1;
            // It may have been deleted since.
            let Some(value) = value else { continue };
            let record: R = record::decode(&owned::key(tenant, &id), &value)?;
            if keep(&record) {
                // One more than is shown says that there are more.
                if records.len() == page.limit || bytes >= MOST_BYTES {
                    break last;
                }
                bytes += value.len();
                records.push(record);
            }
            last = Some(id);
            if walk.looks > walk.most {
                break last;
            }
        };
        Ok(Listed { records, more })
    }
}
