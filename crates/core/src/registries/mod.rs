//! Tables that are derived from the journal. Each has one writer, and its readers take no lock.
//!
//! - [`ItemDictionary`]: item names and their numbers.
//! - [`UserAliases`]: the ids of merged users.
//! - [`UserConsents`]: the consents that users have stated.
//! - [`PlacementWriter`]: the placements and rules.
//! - [`UserAttributes`]: the attributes of users.

mod aliases;
mod item_dictionary;
mod number_table;
mod placement_writer;
mod user_attributes;
mod user_consents;

pub use aliases::{AliasBatch, AliasChange, AliasWriter, UserAlias, UserAliases};
pub use item_dictionary::ItemDictionary;
pub use placement_writer::{PlacementRecord, PlacementWriter};
pub use user_attributes::{UserAttributes, UserAttributesRecord, UserAttributesWriter};
pub use user_consents::{ConsentBatch, ConsentRecord, ConsentVerdict, ConsentWriter, UserConsents};
