//! Consent levels in requests and responses.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::Consent;

/// A consent level. `none`: nothing of the user is stored. `session`: the user's events are used
/// only for the recommendations of this user. `full`: the model also learns from the events.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Consent)]
pub(in crate::http) enum ConsentBody {
    /// Nothing is stored.
    None,
    /// The user's events are used only for the recommendations of this user.
    Session,
    /// The model also learns from the events.
    Full,
}

impl From<Consent> for ConsentBody {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::None => Self::None,
            Consent::Session => Self::Session,
            Consent::Full => Self::Full,
        }
    }
}
