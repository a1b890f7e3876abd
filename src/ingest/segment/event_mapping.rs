//! Maps the event names of Segment messages to kinds of event.

use crate::domain::EventKind;
use rustc_hash::FxHashMap;

/// Default mapping: events of Segment's commerce and video specifications that concern an item, and
/// the names `Page` and `Screen` for the calls of that name. `None` ignores an event.
/// <https://segment.com/docs/connections/spec/ecommerce/v2/>
const DEFAULT_MAPPING: [(&str, Option<EventKind>); 41] = [
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

/// Maps event names to kinds. Names are case-insensitive (ASCII).
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentEventMapping(FxHashMap<String, Option<EventKind>>);

impl Default for SegmentEventMapping {
    fn default() -> Self {
        Self(DEFAULT_MAPPING.iter().map(|(name, kind)| (name.to_ascii_lowercase(), kind.clone())).collect())
    }
}

impl SegmentEventMapping {
    /// The default mapping with overrides; `None` ignores an event.
    #[must_use]
    pub fn with_overrides<'n>(overrides: impl IntoIterator<Item = (&'n str, Option<EventKind>)>) -> Self {
        let mut names = Self::default();
        names.0.extend(overrides.into_iter().map(|(name, kind)| (name.to_ascii_lowercase(), kind)));
        names
    }

    /// The kind of an event name: `Some(None)` if the event is ignored, `None` if the name is
    /// unmapped.
    pub(in crate::ingest) fn lookup(&self, name: &str) -> Option<Option<&EventKind>> {
        self.0.get(&name.to_ascii_lowercase()).map(Option::as_ref)
    }
}
