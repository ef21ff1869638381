//! Every invariant of the store, checked. `docs/store-format.md` lists them.

use std::collections::BTreeMap;
use std::fmt;

use crate::derived::Sums;
use crate::meta;
use crate::record::{Kind, KINDS};
use crate::trees::Trees;
use crate::{derived, keys, open, Store, StoreError, SCHEMA};

/// Problems that are described one by one; more are only counted.
const MAX_DESCRIBED: usize = 100;

/// What [`Store::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The schema of the store.
    pub schema: u32,
    /// The number of records of each tree.
    pub records: BTreeMap<&'static str, u64>,
    /// What is wrong, a line each; the first hundred.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problem_count: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0
    }

    fn add(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_DESCRIBED {
            self.problems.push(problem);
        }
    }
}

impl fmt::Display for VerifyReport {
    /// Some lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schema {}", self.schema)?;
        for (tree, count) in &self.records {
            writeln!(f, "{tree}: {count} records")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        match self.problem_count {
            0 => write!(f, "no problem found"),
            count => write!(
                f,
                "{count} problems; restore a backup or import the last export"
            ),
        }
    }
}

impl Store {
    /// Checks every invariant. Writers wait meanwhile.
    ///
    /// # Errors
    /// Only if a file cannot be read, or an earlier write failed; problems with the content are in
    /// the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let _writer = self.trees().writer()?;
        verify(self.trees())
    }
}

/// Checks every invariant; nobody may write meanwhile.
pub(super) fn verify(trees: &Trees) -> Result<VerifyReport, StoreError> {
    let mut report = verify_records(trees)?;
    check_names(trees, &mut report)?;
    check_meta(trees, &mut report)?;
    check_derived(trees, &mut report)?;
    Ok(report)
}

/// Checks what the records say of themselves and of each other.
pub(super) fn verify_records(trees: &Trees) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport {
        schema: SCHEMA,
        records: BTreeMap::new(),
        problems: Vec::new(),
        problem_count: 0,
    };
    for kind in KINDS {
        let count = check_tree(trees, kind, &mut report)?;
        report.records.insert(kind.tree, count);
    }
    Ok(report)
}

fn check_names(trees: &Trees, report: &mut VerifyReport) -> Result<(), StoreError> {
    let known = |name: &str| {
        let kinds = KINDS.iter().map(|kind| kind.tree);
        kinds.chain(derived::TREES).any(|tree| tree == name) || name == meta::TREE
    };
    for name in trees.names()?.iter().filter(|name| !known(name)) {
        report.add(format!("unknown tree {name}"));
    }
    Ok(())
}

/// Checks the records of one kind, and gives their number.
fn check_tree(trees: &Trees, kind: &Kind, report: &mut VerifyReport) -> Result<u64, StoreError> {
    let mut count = 0;
    for entry in trees.scan(kind.tree, &[]) {
        let (key, value) = entry?;
        count += 1;
        if let Some(problem) = check_record(trees, kind, &key, &value)? {
            report.add(format!("{} {}: {problem}", kind.tree, keys::show(&key)));
        }
    }
    Ok(count)
}

fn check_record(
    trees: &Trees,
    kind: &Kind,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, StoreError> {
    let record = match (kind.canonical)(value) {
        Ok(record) => record,
        Err(reason) => return Ok(Some(reason)),
    };
    if record.key != key {
        let belongs = keys::show(&record.key);
        return Ok(Some(format!("its content belongs under {belongs}")));
    }
    if record.value != value {
        return Ok(Some(
            "it is not written as this version writes it".to_owned(),
        ));
    }
    (kind.problem)(value, trees)
}

/// Indexes and sums: exactly what follows from the records.
fn check_derived(trees: &Trees, report: &mut VerifyReport) -> Result<(), StoreError> {
    let mut entries: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut sums: BTreeMap<Vec<u8>, Sums> = BTreeMap::new();
    for kind in KINDS.iter().filter(|kind| derived::concerns(kind.tree)) {
        for entry in trees.scan(kind.tree, &[]) {
            let (record, value) = entry?;
            let follows = derived::of(kind.tree, &value);
            for (tree, key) in follows.entries {
                *entries.entry(tree).or_insert(0) += 1;
                if trees.get(tree, &key)?.is_none() {
                    let (record, key) = (keys::show(&record), keys::show(&key));
                    report.add(format!(
                        "{tree}: {key} of {} {record} is missing",
                        kind.tree
                    ));
                }
            }
            for ((key, name), more) in follows.sums {
                *sums
                    .entry(key)
                    .or_default()
                    .entry(name.to_owned())
                    .or_insert(0) += more;
            }
        }
    }
    // All that follow are there: as many entries as follow means that there are no others.
    for tree in derived::TREES {
        let mut found = 0;
        for entry in trees.scan(tree, &[]) {
            let (key, value) = entry?;
            found += 1;
            if tree == derived::SUMS {
                let expected = sums.remove(&key).unwrap_or_default();
                if derived::read_sums(Some(&value)) != expected {
                    report.add(format!("sums: {} is not {expected:?}", keys::show(&key)));
                }
            }
        }
        let expected = entries.get(tree).copied().unwrap_or(0);
        if tree != derived::SUMS && found != expected {
            report.add(format!(
                "{tree}: {found} entries, but {expected} follow from records"
            ));
        }
    }
    for key in sums.keys() {
        report.add(format!("sums: {} is missing", keys::show(key)));
    }
    Ok(())
}

/// The tree `meta`: its keys, the schema, and the counts against `report.records`.
fn check_meta(trees: &Trees, report: &mut VerifyReport) -> Result<(), StoreError> {
    for entry in trees.scan(meta::TREE, &[]) {
        let (key, _) = entry?;
        if key != meta::META_KEY && key != meta::COUNTS_KEY {
            report.add(format!(
                "meta: unknown key {}",
                String::from_utf8_lossy(&key)
            ));
        }
    }
    match open::current_meta(trees) {
        Ok(meta) => {
            report.schema = meta.schema;
            if meta.schema != SCHEMA {
                report.add(format!("meta: schema {}, expected {SCHEMA}", meta.schema));
            }
            if meta.state != meta::State::Ready {
                report.add("meta: an import was not completed".to_owned());
            }
        }
        Err(error) => report.add(error.to_string()),
    }
    let counts = match trees.counts() {
        Ok(counts) => counts,
        Err(error) => {
            report.add(error.to_string());
            return Ok(());
        }
    };
    let records = report.records.clone();
    for (&tree, &found) in &records {
        let recorded = counts.get(tree).copied().unwrap_or(0);
        if recorded != found {
            report.add(format!(
                "{tree}: {found} records, but {recorded} were written"
            ));
        }
    }
    for name in counts
        .keys()
        .filter(|name| !records.contains_key(name.as_str()))
    {
        report.add(format!("meta: counts of unknown tree {name}"));
    }
    Ok(())
}
