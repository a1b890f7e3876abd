//! Simulator of the shop: visits, trends and new items over time.

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
/// Length of a simulated year, in which every category has one season.
const YEAR_MS: f64 = 2.0 * 3_600_000.0;
/// Amplitude of the seasonal weight of a category.
const SEASON_AMPLITUDE: f64 = 0.7;
/// Interval of updates of the category weights, in milliseconds.
const SEASON_STEP_MS: Timestamp = 60_000;
/// Share of visits by one-time visitors.
const ONE_TIME_SHARE: f64 = 0.2;
/// Share of a customer's visits to a preferred category.
const PREFERRED_SHARE: f64 = 0.75;
/// Weights of the preferred categories of a customer, in descending order.
const PREFERENCE_WEIGHTS: [f64; 3] = [0.6, 0.25, 0.15];
/// Share of visits to a trending item while there is a trend.
const TREND_SHARE: f64 = 0.35;
/// Share of visits to a new item.
const NEW_ITEM_SHARE: f64 = 0.06;
/// Number of latest items that these visits choose from.
const LATEST_ITEMS: usize = 12;

/// A small group of items that suddenly becomes popular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// The ids of the items, the most popular first.
    pub items: Vec<String>,
    /// Number of the event at which the trend started.
    pub start_event: u64,
}

/// Simulated shop: an infinite stream of entries. It starts with the items of the catalog. Events
/// of visitors follow, and item changes for new items. See [`ShopSettings`].
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
    /// Separate generator for clicks, so that showing a list affects only its visit.
    glances: Xoshiro256PlusPlus,
    /// The catalog of the shop.
    assortment: ShopCatalog,
    walk: NextItemSampler,
    /// The preferred categories of each customer.
    tastes: Vec<[usize; PREFERENCE_WEIGHTS.len()]>,
    /// Sampler of the ranks of [`PREFERENCE_WEIGHTS`].
    likings: WeightedSampler,
    /// Sampler of the categories by seasonal weight, and its expiry time.
    season: (WeightedSampler, Timestamp),
    /// Time of the next event of each open visit. The number of the visit breaks ties.
    agenda: BinaryHeap<Reverse<(Timestamp, u64)>>,
    visits: FxHashMap<u64, ShopVisit>,
    /// The open visit of each present user.
    present: FxHashMap<String, u64>,
    /// Time and number of the next visit to open.
    next_visit: (Timestamp, u64),
    /// Item changes to emit before the next event.
    told: VecDeque<ItemChange>,
    /// New items, in order of arrival.
    arrived: Vec<ShopItemIx>,
    /// The current trend, and its items.
    trend: Option<(Trend, Vec<ShopItemIx>)>,
    /// Number of events so far.
    events: u64,
}

impl ShopSimulator {
    /// Creates a shop.
    ///
    /// # Errors
    /// If a parameter is out of its range.
    pub fn new(settings: ShopSettings) -> Result<Self, ShopSettingsError> {
        settings.check()?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let catalog = ShopCatalog::new(settings.items, &mut random);
        let categories = catalog.category_count();
        let tastes = (0..settings.customers)
            .map(|_| [(); PREFERENCE_WEIGHTS.len()].map(|()| random.gen_range(0..categories)))
            .collect();
        let told = catalog.items().iter().map(|item| item_change(item, settings.opens_at)).collect();
        let mut glances = random.clone();
        glances.jump();
        Ok(Self {
            season: (season_weights(categories, 0.0), settings.opens_at.saturating_add(SEASON_STEP_MS)),
            next_visit: (settings.opens_at, 0),
            settings,
            random,
            glances,
            assortment: catalog,
            walk: NextItemSampler::new(),
            tastes,
            likings: WeightedSampler::new(PREFERENCE_WEIGHTS.into_iter()),
            agenda: BinaryHeap::new(),
            visits: FxHashMap::default(),
            present: FxHashMap::default(),
            told,
            arrived: Vec::new(),
            trend: None,
            events: 0,
        })
    }

    /// The number of events so far.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.events
    }

    /// The number of new items so far.
    #[must_use]
    pub fn new_item_count(&self) -> usize {
        self.arrived.len()
    }

    /// Whether an item arrived after the start.
    #[must_use]
    pub fn is_new_item(&self, item_id: &str) -> bool {
        self.assortment.find(item_id).is_some_and(|index| index >= self.settings.items)
    }

    /// The current trend, if there is one.
    #[must_use]
    pub fn trend(&self) -> Option<&Trend> {
        self.trend.as_ref().map(|(trend, _)| trend)
    }

    /// Shows a ranked list to a visitor, who may click one of its items next. Has no effect if the
    /// user is not in a visit.
    pub fn show_list<'i>(&mut self, user: &str, items: impl IntoIterator<Item = &'i str>) {
        let list: Vec<_> = items.into_iter().filter_map(|item| self.assortment.find(item)).collect();
        if let Some(visit) = self.present.get(user).and_then(|number| self.visits.get_mut(number)) {
            visit.view_list(&list, &self.assortment, &mut self.glances);
        }
    }

    /// Draws an exponentially distributed time span in milliseconds.
    fn sample_interval(&mut self, mean: f64) -> Timestamp {
        (-(1.0 - self.random.r#gen::<f64>()).ln() * mean) as Timestamp
    }

    /// Opens the next visit.
    fn open_visit(&mut self) {
        let (now, number) = self.next_visit;
        self.next_visit = (now.saturating_add(self.sample_interval(MEAN_VISIT_INTERVAL_MS)), number + 1);
        let customer = self.random.gen_range(0..self.tastes.len());
        let customer_id = format!("customer-{customer}");
        let is_one_time = self.random.gen_bool(ONE_TIME_SHARE) || self.present.contains_key(&customer_id);
        let item = self.sample_first_item(if is_one_time { None } else { self.tastes.get(customer).copied() }, now);
        let user = if is_one_time { format!("guest-{number}") } else { customer_id };
        self.present.insert(user.clone(), number);
        self.visits.insert(number, ShopVisit::new(user, format!("visit-{number}"), item));
        self.agenda.push(Reverse((now, number)));
    }

    /// Draws the first item of a visit.
    fn sample_first_item(
        &mut self,
        preferences: Option<[usize; PREFERENCE_WEIGHTS.len()]>,
        now: Timestamp,
    ) -> ShopItemIx {
        if let Some((_, trend_items)) = self.trend.as_ref()
            && self.random.gen_bool(TREND_SHARE)
        {
            return trend_items.get(self.likings.sample(&mut self.random)).copied().unwrap_or_default();
        }
        let latest = self.arrived.len().saturating_sub(LATEST_ITEMS)..self.arrived.len();
        if !latest.is_empty() && self.random.gen_bool(NEW_ITEM_SHARE) {
            return self.arrived.get(self.random.gen_range(latest)).copied().unwrap_or_default();
        }
        let category = match preferences {
            Some(preferences) if self.random.gen_bool(PREFERRED_SHARE) => {
                preferences.get(self.likings.sample(&mut self.random)).copied().unwrap_or_default()
            }
            _ => self.sample_category(now),
        };
        self.assortment.sample_popular(category, &mut self.random)
    }

    /// Draws a category by its seasonal weight.
    fn sample_category(&mut self, now: Timestamp) -> usize {
        if now >= self.season.1 {
            let year = (now - self.settings.opens_at) as f64 / YEAR_MS;
            self.season = (season_weights(self.assortment.category_count(), year), now.saturating_add(SEASON_STEP_MS));
        }
        self.season.0.sample(&mut self.random)
    }

    /// Generates the next event of a visit.
    fn next_event(&mut self, now: Timestamp, number: u64) -> Option<Event> {
        let visit = self.visits.get_mut(&number)?;
        let (kind, index, continues) = visit.next_event(&self.assortment, &self.walk, &mut self.random);
        let event = Event {
            event_id: Some(format!("{}-{}", self.settings.seed, self.events)),
            user_id: visit.user.clone(),
            session_id: Some(visit.id.clone()),
            kind,
            item_id: self.assortment.get(index).map(|item| item.id.clone()),
            value: None,
            timestamp: now,
            properties: None,
        };
        if continues {
            let next = now.saturating_add(self.sample_interval(MEAN_EVENT_INTERVAL_MS));
            self.agenda.push(Reverse((next, number)));
        } else if let Some(visit) = self.visits.remove(&number) {
            self.present.remove(&visit.user);
        }
        self.events += 1;
        self.apply_schedule(now);
        Some(event)
    }

    /// Applies the changes that are due at this number of events: a new item, or the start or end
    /// of a trend.
    fn apply_schedule(&mut self, now: Timestamp) {
        let (new_item_interval, trend_interval) = (self.settings.new_item_interval, self.settings.trend_interval);
        if new_item_interval > 0 && self.events.is_multiple_of(new_item_interval) {
            let index = self.assortment.add_new_item(&mut self.random);
            self.arrived.push(index);
            self.told.extend(self.assortment.get(index).map(|item| item_change(item, now)));
        }
        if trend_interval > 0 && self.events >= trend_interval {
            let phase = self.events % trend_interval;
            if phase == 0 {
                self.trend = Some(self.begin_trend());
            } else if phase == trend_interval / 2 {
                self.trend = None;
            }
        }
    }

    fn begin_trend(&mut self) -> (Trend, Vec<ShopItemIx>) {
        let category = self.random.gen_range(0..self.assortment.category_count());
        let mut trend_items = vec![self.assortment.sample_unpopular(category, &mut self.random)];
        while trend_items.len() < PREFERENCE_WEIGHTS.len() {
            let other = self.assortment.sample_unpopular(category, &mut self.random);
            if !trend_items.contains(&other) {
                trend_items.push(other);
            }
        }
        self.assortment.link_family(&trend_items);
        let ids = trend_items.iter().filter_map(|index| self.assortment.get(*index)).map(|item| item.id.clone());
        (Trend { items: ids.collect(), start_event: self.events }, trend_items)
    }
}

impl Iterator for ShopSimulator {
    type Item = Entry;

    /// Always returns an entry.
    fn next(&mut self) -> Option<Entry> {
        if let Some(item) = self.told.pop_front() {
            return Some(Entry::Item(item));
        }
        loop {
            match self.agenda.peek() {
                Some(&Reverse((now, number))) if now <= self.next_visit.0 => {
                    self.agenda.pop();
                    if let Some(event) = self.next_event(now, number) {
                        return Some(Entry::Event(event));
                    }
                }
                _ => self.open_visit(),
            }
        }
    }
}

/// The item change that describes an item.
fn item_change(item: &ShopItem, timestamp: Timestamp) -> ItemChange {
    ItemChange { item_id: item.id.clone(), timestamp, operation: ItemOperation::Put(item.item.clone()) }
}

/// Sampler of the categories at a time in years since the start. The seasons of the categories are
/// spread evenly over the year.
fn season_weights(categories: usize, year: f64) -> WeightedSampler {
    WeightedSampler::new(
        (0..categories)
            .map(|category| 1.0 + SEASON_AMPLITUDE * (TAU * (year + category as f64 / categories as f64)).sin()),
    )
}
