//! Which pairs a step sees: a new order each epoch, from the seed and the number of the epoch alone.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The order of a run's data. A resumed run needs nothing but the step to go on in it.
#[derive(Debug)]
pub struct Order {
    n_pairs: usize,
    batch_size: usize,
    seed: u64,
    together: Option<Together>,
    /// The epoch that was shuffled last, and its order.
    shuffled: Option<(usize, Vec<usize>)>,
}

/// Pairs of one user that follow each other, so that a pack holds one copy of what stands in front
/// of all of them.
#[derive(Debug)]
struct Together {
    /// Each pair's user.
    users: Vec<usize>,
    /// Pairs that stay together, at most.
    limit: usize,
}

impl Together {
    /// Cuts what each user has in `order` into runs, and puts the runs in a new order.
    fn arrange(&self, order: &[usize], random: &mut ChaCha8Rng) -> Vec<usize> {
        let mut by_user: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for pair in order {
            by_user.entry(self.users[*pair]).or_default().push(*pair);
        }
        let mut runs: Vec<&[usize]> = by_user
            .values()
            .flat_map(|pairs| pairs.chunks(self.limit))
            .collect();
        runs.shuffle(random);
        runs.concat()
    }
}

impl Order {
    /// `n_pairs` and `batch_size` are not 0.
    pub fn new(n_pairs: usize, batch_size: usize, seed: u64) -> Self {
        Self {
            n_pairs,
            batch_size,
            seed,
            together: None,
            shuffled: None,
        }
    }

    /// The same with up to `limit` pairs of one user in a row; `users` has each pair's user. With 1
    /// nothing changes.
    pub fn with_users_together(self, users: Vec<usize>, limit: usize) -> Self {
        let together = (limit > 1).then_some(Together { users, limit });
        Self { together, ..self }
    }

    /// Indices of the pairs of step `step`, the first being 0. Batches run over the end of an epoch,
    /// so that all have one size; with fewer pairs than that, a batch has them all.
    pub fn batch(&mut self, step: usize) -> Vec<usize> {
        let size = self.batch_size.min(self.n_pairs);
        let first = step * size;
        (first..first + size).map(|i| self.pair(i)).collect()
    }

    /// Epochs that `steps` steps are.
    pub fn epochs(&self, steps: usize) -> f64 {
        (steps * self.batch_size.min(self.n_pairs)) as f64 / self.n_pairs as f64
    }

    /// The pair that comes at position `i` of the whole run.
    fn pair(&mut self, i: usize) -> usize {
        let (epoch, at) = (i / self.n_pairs, i % self.n_pairs);
        match &self.shuffled {
            Some((known, order)) if *known == epoch => order[at],
            _ => {
                let mut order: Vec<usize> = (0..self.n_pairs).collect();
                let mut random = ChaCha8Rng::seed_from_u64(self.seed);
                random.set_stream(epoch as u64);
                order.shuffle(&mut random);
                if let Some(together) = &self.together {
                    order = together.arrange(&order, &mut random);
                }
                let pair = order[at];
                self.shuffled = Some((epoch, order));
                pair
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_every_pair_once_and_a_step_is_what_it_was() {
        let mut order = Order::new(10, 4, 7);
        let seen: Vec<usize> = (0..5).flat_map(|step| order.batch(step)).collect();
        for epoch in seen.chunks(10) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(seen[..10], seen[10..]);
        // A run that was resumed at step 3.
        assert_eq!(Order::new(10, 4, 7).batch(3), seen[12..16]);
        assert_ne!(Order::new(10, 4, 8).batch(0), seen[..4]);
        assert_eq!(order.epochs(5), 2.0);
        assert_eq!(Order::new(3, 32, 1).batch(1).len(), 3);
    }

    #[test]
    fn pairs_of_a_user_stay_together_up_to_a_limit() {
        let users: Vec<usize> = (0..30).map(|pair| pair % 3).collect();
        let mut order = Order::new(30, 30, 7).with_users_together(users.clone(), 4);
        let (first, second) = (order.batch(0), order.batch(1));
        for epoch in [&first, &second] {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..30).collect::<Vec<_>>());
            // 10 pairs of each of 3 users are 3 runs of 4, 4 and 2; runs of one user may meet.
            let changes = epoch.windows(2).filter(|w| users[w[0]] != users[w[1]]);
            assert!(changes.count() < 9);
        }
        assert_ne!(first, second);
        let mut one = Order::new(30, 30, 7).with_users_together(users, 1);
        assert_eq!(one.batch(0), Order::new(30, 30, 7).batch(0));
    }
}
