//! Deterministic pseudo-random numbers and event streams.

/// SplitMix64 [Steele et al. 2014].
pub(crate) struct TestRng(pub(crate) u64);

impl TestRng {
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in `0..bound`.
    pub(crate) fn number_below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// One event of a user's walk through the items.
pub(crate) struct Visit {
    pub(crate) user: String,
    pub(crate) item: String,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
}

/// Generates interleaved walks of many users around a ring of items. A user mostly moves to the
/// next item, so that the next item is predictable.
pub(crate) fn random_visits(seed: u64, visits: usize) -> Vec<Visit> {
    const ITEM_COUNT: u64 = 60;
    let mut random = TestRng(seed);
    let mut walkers: Vec<(u64, u64)> = (0..10).map(|number| (number, number * 6)).collect();
    let mut next_user = 10;
    let step = |number: usize| {
        let slot = random.number_below(walkers.len() as u64) as usize;
        if random.number_below(8) == 0 {
            walkers[slot] = (next_user, random.number_below(ITEM_COUNT));
            next_user += 1;
        }
        let (user, item) = &mut walkers[slot];
        *item = if random.number_below(5) == 0 { random.number_below(ITEM_COUNT) } else { (*item + 1) % ITEM_COUNT };
        Visit { user: format!("user{user}"), item: format!("item{item}"), at: 1_700_000_000_000 + number as u64 * 1000 }
    };
    (0..visits).map(step).collect()
}
