//! The running shop: visits, trends and new items over time.

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

/// Milliseconds between two visits, on average.
const BETWEEN_VISITS_MS: f64 = 1_200.0;
/// Milliseconds between two events of a visit, on average.
const BETWEEN_EVENTS_MS: f64 = 20_000.0;
/// How long a year of the shop's is: every category has its season once.
const YEAR_MS: f64 = 2.0 * 3_600_000.0;
/// How much a season raises and lowers a category.
const SEASON: f64 = 0.7;
/// Milliseconds for which the popularity of the categories is taken as unchanged.
const SEASON_STEP_MS: Timestamp = 60_000;
/// Share of visits by one-time visitors.
const ONCE: f64 = 0.2;
/// Visits of a customer for one of the categories of the customer's taste.
const TASTE: f64 = 0.75;
/// What a customer likes, the most liked first.
const LIKINGS: [f64; 3] = [0.6, 0.25, 0.15];
/// Visits for what is trending, while something is.
const TRENDING: f64 = 0.35;
/// Visits for something new.
const CURIOUS: f64 = 0.06;
/// New items that the curious choose from.
const LATEST: usize = 12;

/// A small family of items that many suddenly want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// The items' ids, the most wanted first.
    pub items: Vec<String>,
    /// How many events there had been when it began.
    pub start_event: u64,
}

/// A shop at work: an endless stream of entries, first the items that it has, then what its
/// visitors do and, between that, new items. See [`ShopSettings`].
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
    /// Of its own, so that a list that is looked at changes that visit alone.
    glances: Xoshiro256PlusPlus,
    assortment: ShopCatalog,
    walk: NextItemSampler,
    /// The categories that each customer likes.
    tastes: Vec<[usize; LIKINGS.len()]>,
    likings: WeightedSampler,
    /// The categories as they are sought at the moment, and until when that holds.
    season: (WeightedSampler, Timestamp),
    /// When each open visit goes on. The number of the visit comes second, so that there are no
    /// ties.
    agenda: BinaryHeap<Reverse<(Timestamp, u64)>>,
    visits: FxHashMap<u64, ShopVisit>,
    /// The open visit of each user who is there.
    present: FxHashMap<String, u64>,
    next_visit: (Timestamp, u64),
    /// Items that are to be told of before the next event.
    told: VecDeque<ItemChange>,
    arrived: Vec<ShopItemIx>,
    trend: Option<(Trend, Vec<ShopItemIx>)>,
    events: u64,
}

impl ShopSimulator {
    /// Opens a shop.
    ///
    /// # Errors
    /// If its settings are out of their ranges.
    pub fn new(settings: ShopSettings) -> Result<Self, ShopSettingsError> {
        settings.check()?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
        let assortment = ShopCatalog::new(settings.items, &mut random);
        let categories = assortment.category_count();
        let tastes = (0..settings.customers).map(|_| [(); LIKINGS.len()].map(|()| random.gen_range(0..categories))).collect();
        let told = assortment.items().iter().map(|article| change(article, settings.opens_at)).collect();
        let mut glances = random.clone();
        glances.jump();
        Ok(Self {
            season: (season(categories, 0.0), settings.opens_at.saturating_add(SEASON_STEP_MS)),
            next_visit: (settings.opens_at, 0),
            settings,
            random,
            glances,
            assortment,
            walk: NextItemSampler::new(),
            tastes,
            likings: WeightedSampler::new(LIKINGS.into_iter()),
            agenda: BinaryHeap::new(),
            visits: FxHashMap::default(),
            present: FxHashMap::default(),
            told,
            arrived: Vec::new(),
            trend: None,
            events: 0,
        })
    }

    /// How many events there have been.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.events
    }

    /// How many items have arrived since it opened.
    #[must_use]
    pub fn new_item_count(&self) -> usize {
        self.arrived.len()
    }

    /// Whether an item has arrived since it opened.
    #[must_use]
    pub fn is_new_item(&self, item_id: &str) -> bool {
        self.assortment.find(item_id).is_some_and(|place| place >= self.settings.items)
    }

    /// What is trending, if anything is.
    #[must_use]
    pub fn trend(&self) -> Option<&Trend> {
        self.trend.as_ref().map(|(trend, _)| trend)
    }

    /// Shows a list to a visitor, best first, who may click one of its items next. It changes
    /// nothing for somebody who is not there.
    pub fn show_list<'i>(&mut self, user: &str, items: impl IntoIterator<Item = &'i str>) {
        let list: Vec<_> = items.into_iter().filter_map(|item| self.assortment.find(item)).collect();
        if let Some(visit) = self.present.get(user).and_then(|number| self.visits.get_mut(number)) {
            visit.view_list(&list, &self.assortment, &mut self.glances);
        }
    }

    /// A span of time of so many milliseconds on average, as between arrivals that know nothing of
    /// each other.
    fn span(&mut self, mean: f64) -> Timestamp {
        (-(1.0 - self.random.r#gen::<f64>()).ln() * mean) as Timestamp
    }

    /// Lets somebody in.
    fn welcome(&mut self) {
        let (now, number) = self.next_visit;
        self.next_visit = (now.saturating_add(self.span(BETWEEN_VISITS_MS)), number + 1);
        let customer = self.random.gen_range(0..self.tastes.len());
        let known = format!("customer-{customer}");
        let comes_once = self.random.gen_bool(ONCE) || self.present.contains_key(&known);
        let item = self.wish(if comes_once { None } else { self.tastes.get(customer).copied() }, now);
        let user = if comes_once { format!("guest-{number}") } else { known };
        self.present.insert(user.clone(), number);
        self.visits.insert(number, ShopVisit::new(user, format!("visit-{number}"), item));
        self.agenda.push(Reverse((now, number)));
    }

    /// The item that somebody comes for.
    fn wish(&mut self, taste: Option<[usize; LIKINGS.len()]>, now: Timestamp) -> ShopItemIx {
        if let Some((_, family)) = self.trend.as_ref()
            && self.random.gen_bool(TRENDING)
        {
            return family.get(self.likings.sample(&mut self.random)).copied().unwrap_or_default();
        }
        let latest = self.arrived.len().saturating_sub(LATEST)..self.arrived.len();
        if !latest.is_empty() && self.random.gen_bool(CURIOUS) {
            return self.arrived.get(self.random.gen_range(latest)).copied().unwrap_or_default();
        }
        let category = match taste {
            Some(taste) if self.random.gen_bool(TASTE) => taste.get(self.likings.sample(&mut self.random)).copied().unwrap_or_default(),
            _ => self.sought(now),
        };
        self.assortment.sample_popular(category, &mut self.random)
    }

    /// A category, as they are sought in this season.
    fn sought(&mut self, now: Timestamp) -> usize {
        if now >= self.season.1 {
            let year = (now - self.settings.opens_at) as f64 / YEAR_MS;
            self.season = (season(self.assortment.category_count(), year), now.saturating_add(SEASON_STEP_MS));
        }
        self.season.0.sample(&mut self.random)
    }

    /// Lets a visitor act.
    fn act(&mut self, now: Timestamp, number: u64) -> Option<Event> {
        let visit = self.visits.get_mut(&number)?;
        let (kind, place, goes_on) = visit.next_event(&self.assortment, &self.walk, &mut self.random);
        let event = Event {
            event_id: Some(format!("{}-{}", self.settings.seed, self.events)),
            user_id: visit.user.clone(),
            session_id: Some(visit.id.clone()),
            kind,
            item_id: self.assortment.get(place).map(|article| article.id.clone()),
            value: None,
            timestamp: now,
            properties: None,
        };
        if goes_on {
            let next = now.saturating_add(self.span(BETWEEN_EVENTS_MS));
            self.agenda.push(Reverse((next, number)));
        } else if let Some(visit) = self.visits.remove(&number) {
            self.present.remove(&visit.user);
        }
        self.events += 1;
        self.turn(now);
        Some(event)
    }

    /// Whatever comes with this number of events: a new item, the beginning or the end of a trend.
    fn turn(&mut self, now: Timestamp) {
        let (arrivals, trends) = (self.settings.new_item_interval, self.settings.trend_interval);
        if arrivals > 0 && self.events.is_multiple_of(arrivals) {
            let place = self.assortment.add_new_item(&mut self.random);
            self.arrived.push(place);
            self.told.extend(self.assortment.get(place).map(|article| change(article, now)));
        }
        if trends > 0 && self.events >= trends {
            let phase = self.events % trends;
            if phase == 0 {
                self.trend = Some(self.begin_trend());
            } else if phase == trends / 2 {
                self.trend = None;
            }
        }
    }

    fn begin_trend(&mut self) -> (Trend, Vec<ShopItemIx>) {
        let category = self.random.gen_range(0..self.assortment.category_count());
        let mut family = vec![self.assortment.sample_unpopular(category, &mut self.random)];
        while family.len() < LIKINGS.len() {
            let other = self.assortment.sample_unpopular(category, &mut self.random);
            if !family.contains(&other) {
                family.push(other);
            }
        }
        self.assortment.link_family(&family);
        let ids = family.iter().filter_map(|place| self.assortment.get(*place)).map(|article| article.id.clone());
        (Trend { items: ids.collect(), start_event: self.events }, family)
    }
}

impl Iterator for ShopSimulator {
    type Item = Entry;

    /// There is always a next entry.
    fn next(&mut self) -> Option<Entry> {
        if let Some(item) = self.told.pop_front() {
            return Some(Entry::Item(item));
        }
        loop {
            match self.agenda.peek() {
                Some(&Reverse((now, number))) if now <= self.next_visit.0 => {
                    self.agenda.pop();
                    if let Some(event) = self.act(now, number) {
                        return Some(Entry::Event(event));
                    }
                }
                _ => self.welcome(),
            }
        }
    }
}

/// What the catalog is told of an item.
fn change(article: &ShopItem, timestamp: Timestamp) -> ItemChange {
    ItemChange { item_id: article.id.clone(), timestamp, operation: ItemOperation::Put(article.item.clone()) }
}

/// How much each category is sought, so many years after the opening: each has its season at
/// another time.
fn season(categories: usize, year: f64) -> WeightedSampler {
    WeightedSampler::new((0..categories).map(|category| 1.0 + SEASON * (TAU * (year + category as f64 / categories as f64)).sin()))
}
