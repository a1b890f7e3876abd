//! Plain data that every room speaks: events, items, sessions, candidates, recommendations. No I/O, no clock, no randomness.

mod candidate;
mod catalog;
mod consent;
mod consents;
mod dictionary;
mod entry;
mod erasure;
mod event;
mod expiry;
mod item;
mod kind;
mod links;
mod merge;
mod pages;
mod session;
mod steering;

pub use candidate::{Candidate, Explained, Fallback, MovedBy, Recommendation, Recommended, Removed, SourceName};
pub use catalog::Catalog;
pub use consent::{Consent, ConsentChange, Said};
pub use consents::{Agreed, Consents, Keeper, NewConsents, Verdict};
pub use dictionary::{Dictionary, ItemIx};
pub use entry::{Entry, Impression, Offset, Shown};
pub use erasure::Erasure;
pub use event::{Event, Timestamp};
pub use expiry::{Expired, Expiry};
pub use item::{Item, ItemAct, ItemChange, ItemPatch};
pub use kind::{Kind, KindId, KindRule, Kinds};
pub use links::{Link, Linker, Linking, Links, NewLinks};
pub use merge::Merge;
pub use pages::Pages;
pub use session::{Session, Step};
pub use steering::{Cause, ModelAct, ModelChange};
