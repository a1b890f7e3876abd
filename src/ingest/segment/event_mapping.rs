//! What the names of Segment's events mean.

use crate::domain::EventKind;
use rustc_hash::FxHashMap;

/// The events of Segment's specifications for commerce and video that say something of an item, and the names that the calls `page` and `screen` go by. `None`: nothing is taken of it.
/// <https://segment.com/docs/connections/spec/ecommerce/v2/>
const USUAL: [(&str, Option<EventKind>); 41] = [
    ("Product Viewed", Some(EventKind::View)),
    ("Product Clicked", Some(EventKind::Click)),
    ("Product Added", Some(EventKind::Cart)),
    ("Wishlist Product Added to Cart", Some(EventKind::Cart)),
    ("Product Added to Wishlist", Some(EventKind::Like)),
    ("Product Shared", Some(EventKind::Share)),
    ("Product Reviewed", Some(EventKind::Rate)),
    ("Products Searched", Some(EventKind::Search)),
    ("Order Completed", Some(EventKind::Purchase)),
    ("Product Removed", Some(EventKind::Dismiss)),
    ("Video Content Started", Some(EventKind::Play)),
    ("Article Viewed", Some(EventKind::View)),
    ("Article Shared", Some(EventKind::Share)),
    ("Page", None),
    ("Screen", None),
    ("Product List Viewed", None),
    ("Product List Filtered", None),
    ("Product Removed from Wishlist", None),
    ("Cart Viewed", None),
    ("Cart Shared", None),
    ("Checkout Started", None),
    ("Checkout Step Viewed", None),
    ("Checkout Step Completed", None),
    ("Payment Info Entered", None),
    ("Order Updated", None),
    ("Order Refunded", None),
    ("Order Cancelled", None),
    ("Promotion Viewed", None),
    ("Promotion Clicked", None),
    ("Coupon Entered", None),
    ("Coupon Applied", None),
    ("Coupon Denied", None),
    ("Coupon Removed", None),
    ("Video Playback Started", None),
    ("Video Playback Paused", None),
    ("Video Playback Resumed", None),
    ("Video Playback Completed", None),
    ("Video Playback Interrupted", None),
    ("Video Content Playing", None),
    ("Video Content Completed", None),
    ("Application Opened", None),
];

/// The kind that each name of an event stands for. Upper and lower case are the same.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentEventMapping(FxHashMap<String, Option<EventKind>>);

impl Default for SegmentEventMapping {
    fn default() -> Self {
        Self(USUAL.iter().map(|(name, kind)| (name.to_ascii_lowercase(), kind.clone())).collect())
    }
}

impl SegmentEventMapping {
    /// The usual names, and what else is said of names: a kind, or nothing.
    #[must_use]
    pub fn with_overrides<'n>(said: impl IntoIterator<Item = (&'n str, Option<EventKind>)>) -> Self {
        let mut names = Self::default();
        names.0.extend(said.into_iter().map(|(name, kind)| (name.to_ascii_lowercase(), kind)));
        names
    }

    /// What a name stands for: `Some(None)` if nothing is to be taken of it, `None` if it is not known.
    pub(super) fn lookup(&self, name: &str) -> Option<Option<&EventKind>> {
        self.0.get(&name.to_ascii_lowercase()).map(Option::as_ref)
    }
}
