//! Whose row is whose, and the prompts that were computed lately.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::model::UserModel;
use super::soft_prompt::SoftPrompt;
use attune_ids::UserKey;

/// Bytes of soft prompts that a version keeps besides its tables: about 700 people at T_u = 10 and
/// width 576. A prompt that was dropped is computed again.
pub const CACHE_BYTES: usize = 16 << 20;

/// A user model with the people it knows.
#[derive(Debug)]
pub struct People {
    model: UserModel,
    rows: HashMap<UserKey, usize>,
    generic: SoftPrompt,
    /// Computing a prompt hashes it, which costs more than adding it up.
    recent: Mutex<Recent>,
    capacity: usize,
}

/// The prompts used last, by user row.
#[derive(Debug, Default)]
struct Recent {
    prompts: HashMap<usize, (SoftPrompt, u64)>,
    by_use: BTreeMap<u64, usize>,
    clock: u64,
}

impl People {
    /// `rows` names the user rows 1 ..= N; rows that it does not name are out of reach.
    /// `cache_bytes` bounds the computed prompts that are kept.
    pub fn new(model: UserModel, rows: HashMap<UserKey, usize>, cache_bytes: usize) -> Self {
        let prompt_bytes = model.n_user_tokens() * model.width() * size_of::<f32>();
        Self {
            generic: model.soft_prompt(0),
            capacity: cache_bytes / prompt_bytes,
            recent: Mutex::default(),
            model,
            rows,
        }
    }

    /// The rows of `user`; the generic user's where they are unknown or `None`.
    pub fn soft_prompt(&self, user: Option<&UserKey>) -> SoftPrompt {
        let Some(&row) = user.and_then(|user| self.rows.get(user)) else {
            return self.generic.clone();
        };
        let kept = self.recent().touch(row);
        if let Some(prompt) = kept {
            return prompt;
        }
        // Outside the lock: two requests may both compute it, and neither waits for the other.
        let prompt = self.model.soft_prompt(row);
        self.recent().insert(row, prompt.clone(), self.capacity);
        prompt
    }

    /// Keeps no computed prompt of `user` any more.
    pub fn forget(&self, user: &UserKey) {
        if let Some(row) = self.rows.get(user) {
            self.recent().remove(*row);
        }
    }

    /// The tables.
    pub fn model(&self) -> &UserModel {
        &self.model
    }

    /// Number of people with a row of their own.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody has a row of their own.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cache is consistent between any two statements that can panic, hence poison is ignored.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn touch(&mut self, row: usize) -> Option<SoftPrompt> {
        let (prompt, used) = self.prompts.get_mut(&row)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, row);
        Some(prompt.clone())
    }

    fn remove(&mut self, row: usize) {
        if let Some((_, used)) = self.prompts.remove(&row) {
            self.by_use.remove(&used);
        }
    }

    fn insert(&mut self, row: usize, prompt: SoftPrompt, capacity: usize) {
        self.clock += 1;
        if let Some((_, used)) = self.prompts.insert(row, (prompt, self.clock)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, row);
        while self.prompts.len() > capacity {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            self.prompts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::user_model::individual::IndividualUserModel;
    use crate::user_model::soft_prompt::RowKind;
    use crate::user_model::table::Table;
    use attune_ids::{Tenant, UserId};

    fn key(tenant: &str, user: &str) -> UserKey {
        UserKey {
            tenant: Tenant::new(tenant).unwrap(),
            user: UserId::new(user).unwrap(),
        }
    }

    /// Three people, T_u = 2, width 1: a prompt takes 8 bytes.
    fn people(cache_bytes: usize) -> People {
        let table = Table::new("t", (0..8u8).map(f32::from).collect(), (8, 1)).unwrap();
        let model = UserModel::Individual(IndividualUserModel::new(table, 2, false).unwrap());
        let rows = [("a", 1), ("b", 2), ("c", 3)];
        let rows = rows.map(|(user, row)| (key("default", user), row));
        People::new(model, HashMap::from(rows), cache_bytes)
    }

    /// How many prompts are kept; both maps must agree.
    fn n_kept(people: &People) -> usize {
        let recent = people.recent();
        assert_eq!(recent.by_use.len(), recent.prompts.len());
        recent.prompts.len()
    }

    fn same(a: &SoftPrompt, b: &SoftPrompt) -> bool {
        Arc::ptr_eq(a.rows(), b.rows())
    }

    #[test]
    fn people_get_their_own_rows_and_strangers_the_generic_ones() {
        let people = people(CACHE_BYTES);
        let prompt = people.soft_prompt(Some(&key("default", "b")));
        assert_eq!(
            (prompt.kind(), &prompt.rows()[..]),
            (RowKind::User, &[4.0, 5.0][..])
        );
        let strangers = [
            None,
            Some(key("default", "nobody")),
            Some(key("other-tenant", "b")),
        ];
        for stranger in strangers {
            let prompt = people.soft_prompt(stranger.as_ref());
            assert_eq!(
                (prompt.kind(), &prompt.rows()[..]),
                (RowKind::Generic, &[0.0, 1.0][..])
            );
        }
    }

    #[test]
    fn a_prompt_is_computed_once_while_it_is_kept() {
        let people = people(2 * 8);
        let ask = |user| people.soft_prompt(Some(&key("default", user)));
        let (a, _b) = (ask("a"), ask("b"));
        assert!(same(&a, &ask("a")), "a is kept");
        let c = ask("c");
        assert_eq!(n_kept(&people), 2, "room for two");
        assert!(
            same(&a, &ask("a")) && same(&c, &ask("c")),
            "b, used least lately, had to go"
        );
        assert_eq!(
            ask("b").rows()[..],
            [4.0, 5.0],
            "a dropped prompt comes back"
        );
        assert_eq!(n_kept(&people), 2);
    }

    #[test]
    fn whoever_is_forgotten_is_not_kept() {
        let people = people(CACHE_BYTES);
        let ask = |user| people.soft_prompt(Some(&key("default", user)));
        let (a, b) = (ask("a"), ask("b"));
        people.forget(&key("default", "a"));
        people.forget(&key("default", "nobody"));
        assert_eq!(n_kept(&people), 1);
        assert!(same(&b, &ask("b")), "others are");
        assert!(!same(&a, &ask("a")));
    }

    #[test]
    fn no_room_means_no_cache_and_the_same_answers() {
        let people = people(7);
        for _ in 0..2 {
            let prompt = people.soft_prompt(Some(&key("default", "c")));
            assert_eq!(prompt.rows()[..], [6.0, 7.0]);
        }
        assert_eq!(n_kept(&people), 0);
    }
}
