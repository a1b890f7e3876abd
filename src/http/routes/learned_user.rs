//! What the model has learned about a user: the long-term profile and the ratings.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::domain::{ItemIx, KindId, Timestamp};
use crate::http::state::ApiState;

/// The part of the published model that is about one user: the second line of an export.
#[derive(Serialize)]
pub(super) struct LearnedUserBody {
    entry: &'static str,
    /// Number of earlier sessions with target events.
    sessions: u32,
    /// The items of the earlier sessions, the largest count first.
    items: Vec<ProfileItemBody>,
    /// Counts of the items, summed by category; the largest first.
    categories: Vec<ProfileGroupBody>,
    /// Counts of the items, summed by brand; the largest first.
    brands: Vec<ProfileGroupBody>,
    /// The ratings and other event values from which values are predicted; oldest first.
    ratings: Vec<RatingBody>,
}

#[derive(Serialize)]
struct ProfileItemBody {
    item_id: String,
    /// Number of target events on the item. The count halves with every 8 sessions of the user.
    count: f32,
    /// Number of sessions since the latest session with the item, including that session.
    sessions_ago: u32,
    /// The kind of the latest event on the item.
    r#type: String,
    /// The time of the latest event on the item.
    timestamp: Timestamp,
}

#[derive(Serialize)]
struct ProfileGroupBody {
    name: String,
    count: f32,
}

#[derive(Serialize)]
struct RatingBody {
    item_id: String,
    r#type: String,
    value: f32,
    timestamp: Timestamp,
}

/// The groups with their summed counts, the largest first. Among equal counts, in the order of the
/// names.
fn groups_by_count(counts: impl IntoIterator<Item = (String, f32)>) -> Vec<ProfileGroupBody> {
    let mut sums = BTreeMap::<String, f32>::new();
    counts.into_iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
    let mut groups: Vec<_> = sums.into_iter().map(|(name, count)| ProfileGroupBody { name, count }).collect();
    groups.sort_by(|a, b| b.count.total_cmp(&a.count));
    groups
}

impl LearnedUserBody {
    /// What the published model has learned about a user; `None` if it holds nothing about the user.
    /// `user` is the id into which all other ids of the user were merged.
    pub(super) fn read(api: &ApiState, user: &str) -> Option<Self> {
        let recommender = &api.system.recommender;
        let (snapshot, catalog) = (recommender.snapshot(), recommender.catalog());
        let name = |item: ItemIx| recommender.dictionary().name(item).map(|name| name.to_string());
        let kind = |kind: KindId| recommender.kinds().name_of(kind).unwrap_or_default().to_owned();
        let ratings: Vec<_> = snapshot
            .interests()
            .ratings_of(user)
            .filter_map(|(of, item, value, timestamp)| {
                Some(RatingBody { item_id: name(item)?, r#type: kind(of), value, timestamp })
            })
            .collect();
        let profile = snapshot.profile_of(user);
        if profile.is_none() && ratings.is_empty() {
            return None;
        }
        let counts = || profile.into_iter().flat_map(|profile| profile.counts());
        let described = || counts().filter_map(|known| Some((catalog.get(known.item)?, known.count)));
        let categories = described()
            .flat_map(|(item, count)| item.categories().iter().map(move |category| (category.to_string(), count)));
        let brands = described().filter_map(|(item, count)| Some((item.brand()?.to_string(), count)));
        let mut items: Vec<_> = counts()
            .filter_map(|known| {
                Some(ProfileItemBody {
                    item_id: name(known.item)?,
                    count: known.count,
                    sessions_ago: known.sessions_ago,
                    r#type: kind(known.kind),
                    timestamp: known.at,
                })
            })
            .collect();
        items.sort_by(|a, b| b.count.total_cmp(&a.count));
        Some(Self {
            entry: "profile",
            sessions: profile.map_or(0, |profile| profile.session_count()),
            items,
            categories: groups_by_count(categories),
            brands: groups_by_count(brands),
            ratings,
        })
    }
}
