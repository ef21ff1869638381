//! What a server has acknowledged of each person. Every record carries a mark that occurs once, so what is
//! there can be compared with what was promised: each mark once, nothing lost, nothing that nobody wrote, and
//! nothing of a person who was deleted.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of all people.
#[derive(Debug, Default)]
pub struct Ledger {
    people: BTreeMap<usize, Account>,
    /// Writes and deletions that were acknowledged.
    pub acknowledged: u64,
}

/// What is known of one person.
#[derive(Debug, Default)]
struct Account {
    /// Marks of records that must be there.
    certain: BTreeSet<String>,
    /// Marks of records whose writing was not answered: there once, or not at all.
    open: BTreeSet<String>,
    /// A deletion that was not answered: what was certain before it is all there, or all gone.
    deleting: Option<BTreeSet<String>>,
}

impl Ledger {
    /// A record is about to be written.
    pub fn writing(&mut self, person: usize, mark: &str) {
        self.account(person).open.insert(mark.to_owned());
    }

    /// It was acknowledged.
    pub fn written(&mut self, person: usize, mark: &str) {
        self.acknowledged += 1;
        let account = self.account(person);
        account.open.remove(mark);
        account.certain.insert(mark.to_owned());
    }

    /// A person is about to be deleted.
    pub fn deleting(&mut self, person: usize) {
        let account = self.account(person);
        account.deleting = Some(account.certain.clone());
    }

    /// The deletion was acknowledged: nothing that began before it may be there, or come.
    pub fn deleted(&mut self, person: usize) {
        self.acknowledged += 1;
        *self.account(person) = Account::default();
    }

    /// Whom to ask about: everybody whom somebody wrote about.
    pub fn people(&self) -> Vec<usize> {
        self.people.keys().copied().collect()
    }

    /// So many records must be there.
    pub fn certain(&self) -> usize {
        self.people.values().map(|a| a.certain.len()).sum()
    }

    /// Compares a person with what is `there`, mark by mark. Afterwards what is there is certain, and nothing is
    /// open. Returns what was: whose writing was not answered, whether it is there or not.
    ///
    /// # Errors
    /// What was lost, came twice, came back, or came from nowhere.
    pub fn compare(&mut self, person: usize, there: &[String]) -> Result<Vec<String>, String> {
        let account = self.account(person);
        let found: BTreeSet<String> = there.iter().cloned().collect();
        if found.len() < there.len() {
            let mut sorted = there.to_vec();
            sorted.sort();
            let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
            let twice = twice.map_or_else(String::new, |pair| pair[0].clone());
            return Err(format!("person {person}: {twice} is there twice"));
        }
        let known =
            |mark: &&String| account.certain.contains(*mark) || account.open.contains(*mark);
        if let Some(stray) = found.iter().find(|mark| !known(mark)) {
            return Err(format!(
                "person {person}: {stray} is there, which was deleted, or which nobody wrote"
            ));
        }
        let missing: BTreeSet<String> = account.certain.difference(&found).cloned().collect();
        let gone_with_a_deletion = account.deleting.as_ref() == Some(&missing);
        if let Some(lost) = missing.first().filter(|_| !gone_with_a_deletion) {
            let n = missing.len();
            return Err(format!(
                "person {person}: {lost} was acknowledged and is not there (and {} more)",
                n - 1
            ));
        }
        let before = std::mem::take(account);
        account.certain = found;
        Ok(before.open.into_iter().collect())
    }

    fn account(&mut self, person: usize) -> &mut Account {
        self.people.entry(person).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Person 1 has a and b for certain, and c was not answered.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for mark in ["a", "b", "c"] {
            ledger.writing(1, mark);
        }
        ledger.written(1, "a");
        ledger.written(1, "b");
        ledger
    }

    fn compare(ledger: &mut Ledger, there: &[&str]) -> Result<Vec<String>, String> {
        let there: Vec<String> = there.iter().map(ToString::to_string).collect();
        ledger.compare(1, &there)
    }

    #[test]
    fn what_was_not_answered_may_be_there_or_not() {
        assert_eq!(
            compare(&mut ledger(), &["a", "b", "c"]),
            Ok(vec!["c".to_owned()])
        );
        let mut one = ledger();
        assert_eq!(compare(&mut one, &["b", "a"]), Ok(vec!["c".to_owned()]));
        let late = compare(&mut one, &["a", "b", "c"]).unwrap_err();
        assert!(late.contains("c is there, which was deleted"), "{late}");
        assert_eq!((one.certain(), one.acknowledged), (2, 2));
    }

    #[test]
    fn what_was_acknowledged_is_there_once() {
        let lost = compare(&mut ledger(), &["a", "c"]).unwrap_err();
        assert!(
            lost.contains("b was acknowledged and is not there"),
            "{lost}"
        );
        let twice = compare(&mut ledger(), &["a", "b", "a"]).unwrap_err();
        assert!(twice.contains("a is there twice"), "{twice}");
        let stray = compare(&mut ledger(), &["a", "b", "x"]).unwrap_err();
        assert!(stray.contains("x is there, which was deleted"), "{stray}");
    }

    #[test]
    fn nothing_of_before_a_deletion_comes_back() {
        let mut deleted = ledger();
        deleted.deleting(1);
        deleted.deleted(1);
        deleted.writing(1, "d");
        deleted.written(1, "d");
        for back in ["a", "c"] {
            let error = compare(&mut deleted, &[back, "d"]).unwrap_err();
            assert!(error.contains(&format!("{back} is there")), "{error}");
        }
        assert_eq!(compare(&mut deleted, &["d"]), Ok(vec![]));
    }

    #[test]
    fn a_deletion_that_was_not_answered_took_all_or_nothing() {
        for (there, fits) in [(&["a", "b"][..], true), (&[], true), (&["a"], false)] {
            let mut open = ledger();
            open.deleting(1);
            assert_eq!(compare(&mut open, there).is_ok(), fits, "{there:?}");
        }
    }
}
