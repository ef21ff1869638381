//! Old records become new ones. The list of migrations is in `migrations/` at the top level.
//!
//! A migration is a function on one record, so the same code serves a store on disk and the lines
//! of an old export. Records that have their new form already are left alone, and the schema number
//! is written last: a migration that was interrupted is simply run again.

use crate::meta::Meta;
use crate::migrations::MIGRATIONS;
use crate::record::{Canonical, Kind, RawRecord, KINDS};
use crate::trees::{Batch, Edit, Trees, Writer};
use crate::{derived, keys, StoreError};

/// The schema that this build writes.
pub const SCHEMA: u32 = MIGRATIONS[MIGRATIONS.len() - 1].to;

/// A step from one schema to the next.
pub(super) struct Migration {
    /// The schema that it leads to. Migration n of the list leads to schema n.
    pub(super) to: u32,
    /// What it does, in a few words; for the log.
    pub(super) about: &'static str,
    /// All kinds of records of schema `to`, with the version of each.
    pub(super) kinds: &'static [(&'static str, u32)],
    /// The new form of a record of schema `to - 1` that is not in `kinds`; `None` drops it. `Err`
    /// says why the record makes no sense.
    pub(super) upgrade: fn(RawRecord) -> Result<Option<RawRecord>, String>,
}

/// Refuses a schema that this build does not know.
pub(super) fn refuse_newer(schema: u32, origin: impl FnOnce() -> String) -> Result<(), StoreError> {
    if schema <= SCHEMA {
        return Ok(());
    }
    Err(StoreError::Newer {
        origin: origin(),
        found: schema,
        known: SCHEMA,
    })
}

/// The form that `record`, of schema `from`, has after the rest of `list`.
pub(super) fn upgrade(
    mut record: RawRecord,
    from: u32,
    list: &[Migration],
) -> Result<Option<RawRecord>, String> {
    for step in list.iter().filter(|step| step.to > from) {
        if is_of(step, &record) {
            continue;
        }
        match (step.upgrade)(record)? {
            Some(upgraded) => record = upgraded,
            None => return Ok(None),
        }
    }
    Ok(Some(record))
}

fn is_of(step: &Migration, record: &RawRecord) -> bool {
    let same = |&(kind, v): &(&str, u32)| kind == record.kind && v == record.v;
    step.kinds.iter().any(same)
}

/// `record` as this build writes it, with its kind.
pub(super) fn finish(record: &RawRecord) -> Result<(&'static Kind, Canonical), String> {
    let kind = Kind::named(&record.kind)
        .ok_or_else(|| format!("there is no kind of record named {:?}", record.kind))?;
    if record.v != kind.version {
        let (kind, known, v) = (kind.kind, kind.version, record.v);
        return Err(format!("expected {kind} v{known}, found {kind} v{v}"));
    }
    let text = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    Ok((kind, (kind.canonical)(&text)?))
}

/// Brings the records of `trees`, of the schema in `meta`, to the last one of `list`.
pub(super) fn migrate(trees: &Trees, mut meta: Meta, list: &[Migration]) -> Result<(), StoreError> {
    let Some(last) = list.last().filter(|last| last.to > meta.schema) else {
        return Ok(());
    };
    for step in list.iter().filter(|step| step.to > meta.schema) {
        tracing::info!(schema = step.to, "migrating the store: {}", step.about);
    }
    let writer = trees.writer()?;
    let mut batch = Batch::default();
    for kind in KINDS {
        for entry in trees.scan(kind.tree, &[]) {
            let (key, value) = entry?;
            let bad = |reason| StoreError::BadRecord {
                tree: kind.tree,
                key: keys::show(&key),
                reason,
            };
            for edit in rewrite(kind.tree, &key, &value, meta.schema, list).map_err(bad)? {
                batch.push(edit);
            }
            batch.apply_if_full(&writer)?;
        }
    }
    writer.apply(&batch.take())?;
    derive_all(trees, &writer)?;
    meta.schema = last.to;
    writer.set_meta(&meta)
}

/// Makes what follows from the records, which are of today's form, anew.
fn derive_all(trees: &Trees, writer: &Writer<'_>) -> Result<(), StoreError> {
    let kinds = KINDS.iter().filter(|kind| derived::concerns(kind.tree));
    writer.derive_all(kinds.flat_map(|kind| {
        let entries = trees.scan(kind.tree, &[]);
        entries.map(|entry| entry.map(|(key, value)| Edit::put_raw(kind.tree, key, value)))
    }))
}

/// The edits that bring one record up to date: none, a new value, or a new place.
fn rewrite(
    tree: &'static str,
    key: &[u8],
    value: &[u8],
    from: u32,
    list: &[Migration],
) -> Result<Vec<Edit>, String> {
    let record: RawRecord = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let Some(record) = upgrade(record, from, list)? else {
        return Ok(vec![Edit::delete_raw(tree, key.to_vec())]);
    };
    let (kind, new) = finish(&record)?;
    if kind.tree == tree && new.key == key {
        let unchanged = new.value == value;
        let edit = Edit::put_raw(tree, new.key, new.value);
        return Ok(if unchanged { Vec::new() } else { vec![edit] });
    }
    Ok(vec![
        Edit::delete_raw(tree, key.to_vec()),
        Edit::put_raw(kind.tree, new.key, new.value),
    ])
}
