//! Simulator of the shop: generates visits, trends and new items over time.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::f64::consts::TAU;

use super::shop_catalog::{ShopCatalog, ShopItem, ShopItemIx};
use super::visit::{NextItemSampler, ShopVisit};
use super::weighted_sampler::WeightedSampler;
use super::{ShopSettings, ShopSettingsError};
use crate::domain::{Entry, Event, ItemChange, ItemOperation, Timestamp};

/// Mean time between two visits, in milliseconds.
const MEAN_VISIT_INTERVAL_MS: f64 = 1_200.0;
/// Mean time between two events of a visit, in milliseconds.
const MEAN_EVENT_INTERVAL_MS: f64 = 20_000.0;
/// Length of a simulated year, in milliseconds. Every category has one season per year.
const YEAR_MS: f64 = 2.0 * 3_600_000.0;
/// Over a year, the weight of a category rises and falls by at most this share of its mean.
const SEASON_AMPLITUDE: f64 = 0.7;
/// Interval between updates of the seasonal weights, in milliseconds.
const SEASON_UPDATE_INTERVAL_MS: Timestamp = 60_000;
/// Share of visits by one-time visitors.
const ONE_TIME_VISIT_SHARE: f64 = 0.2;
/// Of a customer's visits that start neither at a trending nor at a new item, the share whose
/// category is drawn from the preferred ones.
const PREFERRED_CATEGORY_VISIT_SHARE: f64 = 0.75;
/// Weights of the three preferred categories of a customer, in descending order.
const PREFERENCE_WEIGHTS: [f64; 3] = [0.6, 0.25, 0.15];
/// Share of visits that start at a trending item during a trend.
const TRENDING_ITEM_VISIT_SHARE: f64 = 0.35;
/// Share of visits that start at a new item.
const NEW_ITEM_VISIT_SHARE: f64 = 0.06;
/// A visit that starts at a new item chooses among this many latest new items.
const MAX_NEW_ITEMS_TO_VISIT: usize = 12;

/// A small group of items that suddenly becomes popular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// Ids of the trending items, the most popular first.
    pub items: Vec<String>,
    /// Number of events that the shop had generated when the trend started.
    pub start_event: u64,
}

/// Simulated shop: an infinite stream of journal entries. The stream starts with the items of the
/// catalog. Events of visitors and item changes for new items follow. See [`ShopSettings`].
///
/// ```
/// use sequor::domain::Entry;
/// use sequor::simulation::{ShopSettings, ShopSimulator};
///
/// let settings = ShopSettings { items: 100, ..ShopSettings::default() };
/// let entries: Vec<_> = ShopSimulator::new(settings)?.take(150).collect();
/// assert!(entries.iter().take(100).all(|entry| matches!(entry, Entry::Item(_))));
/// assert!(entries.iter().skip(100).all(|entry| entry.as_event().is_some()));
/// # Ok::<(), sequor::simulation::ShopSettingsError>(())
/// ```
#[derive(Debug)]
pub struct ShopSimulator {
    settings: ShopSettings,
    random: Xoshiro256PlusPlus,
    /// Random generator for clicks only. Clicks on a shown list therefore do not change the random
    /// draws of other visits.
    click_rng: Xoshiro256PlusPlus,
    catalog: ShopCatalog,
    next_item_sampler: NextItemSampler,
    /// The preferred categories of each customer.
    preferred_categories: Vec<[usize; PREFERENCE_WEIGHTS.len()]>,
    /// Draws an index of [`PREFERENCE_WEIGHTS`], in proportion to its weight.
    preference_sampler: WeightedSampler,
    /// Draws a category in proportion to its seasonal weight; and the time at which the weights are
    /// updated next.
    seasonal_sampler: (WeightedSampler, Timestamp),
    /// Time of the next event of each open visit, with the number of the visit. The earliest time
    /// is on top.
    next_events: BinaryHeap<Reverse<(Timestamp, u64)>>,
    visits: FxHashMap<u64, ShopVisit>,
    /// Number of the open visit of each user who is in the shop.
    visit_by_user: FxHashMap<String, u64>,
    /// Start time and number of the next visit.
    next_visit: (Timestamp, u64),
    /// Item changes to return before the next event.
    pending_item_changes: VecDeque<ItemChange>,
    /// Items added after the start, oldest first.
    new_items: Vec<ShopItemIx>,
    /// The current trend and the indices of its items.
    trend: Option<(Trend, Vec<ShopItemIx>)>,
    /// Number of events so far.
    events: u64,
}

impl ShopSimulator {
    /// Creates a simulated shop.
    ///
    /// # Errors
    /// [`ShopSettingsError`] if a parameter is out of its range.
    pub fn new(settings: ShopSettings) -> Result<Self, ShopSettingsError> {
        settings.check()?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let catalog = ShopCatalog::new(settings.items, &mut random);
        let categories = catalog.category_count();
        let preferred_categories = (0..settings.customers)
            .map(|_| [(); PREFERENCE_WEIGHTS.len()].map(|()| random.gen_range(0..categories)))
            .collect();
        let pending_item_changes = catalog.items().iter().map(|item| item_change(item, settings.opens_at)).collect();
        let mut click_rng = random.clone();
        click_rng.jump();
        Ok(Self {
            seasonal_sampler: (
                season_sampler(categories, 0.0),
                settings.opens_at.saturating_add(SEASON_UPDATE_INTERVAL_MS),
            ),
            next_visit: (settings.opens_at, 0),
            settings,
            random,
            click_rng,
            catalog,
            next_item_sampler: NextItemSampler::new(),
            preferred_categories,
            preference_sampler: WeightedSampler::new(PREFERENCE_WEIGHTS.into_iter()),
            next_events: BinaryHeap::new(),
            visits: FxHashMap::default(),
            visit_by_user: FxHashMap::default(),
            pending_item_changes,
            new_items: Vec::new(),
            trend: None,
            events: 0,
        })
    }

    /// The number of events so far.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.events
    }

    /// The number of items added after the start.
    #[must_use]
    pub fn new_item_count(&self) -> usize {
        self.new_items.len()
    }

    /// Whether an item was added after the start.
    #[must_use]
    pub fn is_new_item(&self, item_id: &str) -> bool {
        self.catalog.index_of(item_id).is_some_and(|index| index >= self.settings.items)
    }

    /// The current trend, if there is one.
    #[must_use]
    pub fn current_trend(&self) -> Option<&Trend> {
        self.trend.as_ref().map(|(trend, _)| trend)
    }

    /// Shows a ranked list to a visitor. The visitor's next event may then be a click on one of the
    /// items. Has no effect if the user has no open visit.
    pub fn show_list<'i>(&mut self, user: &str, items: impl IntoIterator<Item = &'i str>) {
        let list: Vec<_> = items.into_iter().filter_map(|item| self.catalog.index_of(item)).collect();
        if let Some(visit) = self.visit_by_user.get(user).and_then(|number| self.visits.get_mut(number)) {
            visit.view_list(&list, &self.catalog, &mut self.click_rng);
        }
    }

    /// The items that most probably begin a customer's next visit, with their probabilities in
    /// descending order: the list of somebody who knows the shop's parameters and the customer's
    /// preferences. Empty for one-time visitors and unknown users.
    #[must_use]
    pub fn ideal_first_list(&self, user: &str, length: usize) -> Vec<(&str, f64)> {
        let customer = user.strip_prefix("customer-").and_then(|number| number.parse::<usize>().ok());
        let Some(preferences) = customer.and_then(|customer| self.preferred_categories.get(customer)) else {
            return Vec::new();
        };
        let mut probabilities: FxHashMap<ShopItemIx, f64> = FxHashMap::default();
        let mut remaining = 1.0;
        if let Some((_, trend_items)) = &self.trend {
            for (rank, index) in trend_items.iter().enumerate() {
                *probabilities.entry(*index).or_default() +=
                    TRENDING_ITEM_VISIT_SHARE * self.preference_sampler.probability(rank);
            }
            remaining -= TRENDING_ITEM_VISIT_SHARE;
        }
        let latest = self.new_items.len().saturating_sub(MAX_NEW_ITEMS_TO_VISIT)..;
        let latest = self.new_items.get(latest).unwrap_or_default();
        if !latest.is_empty() {
            let share = remaining * NEW_ITEM_VISIT_SHARE;
            latest.iter().for_each(|index| *probabilities.entry(*index).or_default() += share / latest.len() as f64);
            remaining -= share;
        }
        for category in 0..self.catalog.category_count() {
            let preference: f64 = (preferences.iter().enumerate().filter(|(_, preferred)| **preferred == category))
                .map(|(rank, _)| self.preference_sampler.probability(rank))
                .sum();
            let share = PREFERRED_CATEGORY_VISIT_SHARE * preference
                + (1.0 - PREFERRED_CATEGORY_VISIT_SHARE) * self.seasonal_sampler.0.probability(category);
            for (index, probability) in self.catalog.item_probabilities(category) {
                *probabilities.entry(index).or_default() += remaining * share * probability;
            }
        }
        let mut ranked: Vec<_> = probabilities.into_iter().collect();
        ranked.sort_unstable_by(|(index, probability), (other, others)| {
            others.total_cmp(probability).then(index.cmp(other))
        });
        ranked.truncate(length);
        let named = ranked.iter().filter_map(|(index, probability)| Some((self.catalog.get(*index)?, *probability)));
        named.map(|(item, probability)| (item.id.as_str(), probability)).collect()
    }

    /// Draws an exponentially distributed time interval, in milliseconds.
    fn draw_interval_ms(&mut self, mean: f64) -> Timestamp {
        (-(1.0 - self.random.r#gen::<f64>()).ln() * mean) as Timestamp
    }

    /// Starts the next visit, and schedules its first event.
    fn open_visit(&mut self) {
        let (now, number) = self.next_visit;
        self.next_visit = (now.saturating_add(self.draw_interval_ms(MEAN_VISIT_INTERVAL_MS)), number + 1);
        let customer = self.random.gen_range(0..self.preferred_categories.len());
        let customer_id = format!("customer-{customer}");
        let is_one_time = self.random.gen_bool(ONE_TIME_VISIT_SHARE) || self.visit_by_user.contains_key(&customer_id);
        let item = self
            .draw_first_item(if is_one_time { None } else { self.preferred_categories.get(customer).copied() }, now);
        let user = if is_one_time { format!("guest-{number}") } else { customer_id };
        self.visit_by_user.insert(user.clone(), number);
        self.visits.insert(number, ShopVisit::new(user, format!("visit-{number}"), item));
        self.next_events.push(Reverse((now, number)));
    }

    /// Draws the first item of a visit.
    fn draw_first_item(
        &mut self,
        preferences: Option<[usize; PREFERENCE_WEIGHTS.len()]>,
        now: Timestamp,
    ) -> ShopItemIx {
        if let Some((_, trend_items)) = self.trend.as_ref()
            && self.random.gen_bool(TRENDING_ITEM_VISIT_SHARE)
        {
            return trend_items.get(self.preference_sampler.draw_index(&mut self.random)).copied().unwrap_or_default();
        }
        let latest = self.new_items.len().saturating_sub(MAX_NEW_ITEMS_TO_VISIT)..self.new_items.len();
        if !latest.is_empty() && self.random.gen_bool(NEW_ITEM_VISIT_SHARE) {
            return self.new_items.get(self.random.gen_range(latest)).copied().unwrap_or_default();
        }
        let category = match preferences {
            Some(preferences) if self.random.gen_bool(PREFERRED_CATEGORY_VISIT_SHARE) => {
                preferences.get(self.preference_sampler.draw_index(&mut self.random)).copied().unwrap_or_default()
            }
            _ => self.draw_category(now),
        };
        self.catalog.draw_popular_item(category, &mut self.random)
    }

    /// Draws a category by its seasonal weight.
    fn draw_category(&mut self, now: Timestamp) -> usize {
        if now >= self.seasonal_sampler.1 {
            let year = (now - self.settings.opens_at) as f64 / YEAR_MS;
            self.seasonal_sampler =
                (season_sampler(self.catalog.category_count(), year), now.saturating_add(SEASON_UPDATE_INTERVAL_MS));
        }
        self.seasonal_sampler.0.draw_index(&mut self.random)
    }

    /// Generates the next event of a visit.
    fn next_event(&mut self, now: Timestamp, number: u64) -> Option<Event> {
        let visit = self.visits.get_mut(&number)?;
        let (kind, index, continues) = visit.next_event(&self.catalog, &self.next_item_sampler, &mut self.random);
        let event = Event {
            event_id: Some(format!("{}-{}", self.settings.seed, self.events)),
            user_id: visit.user.clone(),
            session_id: Some(visit.id.clone()),
            kind,
            item_id: self.catalog.get(index).map(|item| item.id.clone()),
            value: None,
            timestamp: now,
            properties: None,
            details: None,
        };
        if continues {
            let next = now.saturating_add(self.draw_interval_ms(MEAN_EVENT_INTERVAL_MS));
            self.next_events.push(Reverse((next, number)));
        } else if let Some(visit) = self.visits.remove(&number) {
            self.visit_by_user.remove(&visit.user);
        }
        self.events += 1;
        self.apply_schedule(now);
        Some(event)
    }

    /// Makes the changes that are due after the current number of events: adds a new item, starts a
    /// trend or ends one.
    fn apply_schedule(&mut self, now: Timestamp) {
        let (new_item_interval, trend_interval) = (self.settings.new_item_interval, self.settings.trend_interval);
        if new_item_interval > 0 && self.events.is_multiple_of(new_item_interval) {
            let index = self.catalog.add_new_item(&mut self.random);
            self.new_items.push(index);
            self.pending_item_changes.extend(self.catalog.get(index).map(|item| item_change(item, now)));
        }
        if trend_interval > 0 && self.events >= trend_interval {
            let phase = self.events % trend_interval;
            if phase == 0 {
                self.trend = Some(self.start_trend());
            } else if phase == trend_interval / 2 {
                self.trend = None;
            }
        }
    }

    fn start_trend(&mut self) -> (Trend, Vec<ShopItemIx>) {
        let category = self.random.gen_range(0..self.catalog.category_count());
        let mut trend_items = vec![self.catalog.draw_unpopular_item(category, &mut self.random)];
        while trend_items.len() < PREFERENCE_WEIGHTS.len() {
            let other = self.catalog.draw_unpopular_item(category, &mut self.random);
            if !trend_items.contains(&other) {
                trend_items.push(other);
            }
        }
        self.catalog.link_as_complements(&trend_items);
        let ids = trend_items.iter().filter_map(|index| self.catalog.get(*index)).map(|item| item.id.clone());
        (Trend { items: ids.collect(), start_event: self.events }, trend_items)
    }
}

impl Iterator for ShopSimulator {
    type Item = Entry;

    /// Returns the next journal entry; never `None`.
    fn next(&mut self) -> Option<Entry> {
        if let Some(item) = self.pending_item_changes.pop_front() {
            return Some(Entry::Item(item));
        }
        loop {
            match self.next_events.peek() {
                Some(&Reverse((now, number))) if now <= self.next_visit.0 => {
                    self.next_events.pop();
                    if let Some(event) = self.next_event(now, number) {
                        return Some(Entry::Event(event));
                    }
                }
                _ => self.open_visit(),
            }
        }
    }
}

/// The item change that adds an item to the catalog.
fn item_change(item: &ShopItem, timestamp: Timestamp) -> ItemChange {
    ItemChange { item_id: item.id.clone(), timestamp, operation: ItemOperation::Put(item.item.clone()) }
}

/// Creates a sampler of categories by their seasonal weights at the time `year`, in years since the
/// shop opened. The seasons of the categories are spread evenly over the year.
fn season_sampler(categories: usize, year: f64) -> WeightedSampler {
    WeightedSampler::new(
        (0..categories)
            .map(|category| 1.0 + SEASON_AMPLITUDE * (TAU * (year + category as f64 / categories as f64)).sin()),
    )
}
