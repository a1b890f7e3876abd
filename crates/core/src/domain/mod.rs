//! Plain data types that all layers share: events, items, sessions, candidates, recommendations. No
//! I/O, no clock, no randomness.

mod attributes;
mod candidate;
mod catalog;
mod catalog_item;
mod change_order;
mod consent;
mod entry;
mod erasure;
mod event;
mod event_kind;
mod expiry;
mod ids;
mod intern_table;
mod item;
mod item_description;
mod item_details;
mod item_vector;
mod item_vectors;
mod merge;
mod model_change;
mod node_role;
mod objective;
mod origin;
mod paged_vec;
mod placeholder_ids;
mod placement_config;
mod placement_table;
mod ranking_rule;
mod recent_users;
mod shared_queue;
mod step;
mod stored_entry;
mod type_error;
mod user_sequence;

pub use attributes::{
    AttributeValue, AttributeView, Attributes, AttributesPatch, MAX_ATTRIBUTE_LIST_LEN, MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_TEXT_BYTES, MAX_ATTRIBUTES, MAX_CONTEXT_TEXT_BYTES, MAX_CONTEXT_VALUES, UserAttributesChange,
};
pub use candidate::{
    Candidate, Fallback, InfluentialEvent, ItemExplanation, ObjectiveEffect, PredictedInterest, Recommendation,
    RecommendedItem, RemovalCounts, RuleRemovals, SourceName,
};
pub use catalog::Catalog;
pub use catalog_item::CatalogItem;
pub use consent::{Consent, ConsentChange, WithConsent};
pub use entry::{Entry, Impression, ImpressionItem};
pub use erasure::UserErasure;
pub use event::{Event, EventDetails};
pub use event_kind::{EventKind, EventKinds, InterestScale, KindRule};
pub use expiry::{Expiry, ExpiryCutoffs};
pub use ids::{ItemIx, KindId, Offset, Timestamp};
pub use item::{Item, ItemChange, ItemOperation, ItemPatch};
pub use item_description::ItemDescription;
pub use item_details::{ItemDetails, ItemDetailsPatch, MAX_TITLE_BYTES, MAX_URL_BYTES};
pub use item_vector::{ItemVector, MAX_VECTOR_DIMENSION, MAX_VECTOR_NAME_BYTES, MAX_VECTOR_NAMES, VectorPatch};
pub use item_vectors::{ItemVectors, QuantisedVector, VectorError};
pub use merge::UserMerge;
pub use model_change::{ModelChange, ModelChangeCause, ModelOperation};
pub use node_role::NodeRole;
pub use objective::Objective;
pub use origin::{Origin, OriginHash, OriginHasher, Purge};
pub use paged_vec::{ItemFlags, PagedVec};
pub use placeholder_ids::PlaceholderIds;
pub use placement_config::{
    ImpressionLimitAction, ItemBoost, PlacementChange, PlacementConfig, PlacementKind, PlacementOperation,
};
pub use placement_table::PlacementTable;
pub use ranking_rule::{RankingRule, RuleChange, RuleCondition, RuleConsequence, RuleOperation};
pub use recent_users::{RecentUser, RecentUsers, SharedUsers};
pub use shared_queue::SharedQueue;
pub use step::Step;
pub use type_error::describe_type_error;
pub use user_sequence::{EarlierSession, PackedSequence, Placement, UserSequence};
