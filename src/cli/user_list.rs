//! The recommendations of a user, as a batch list.

use serde::{Deserialize, Serialize};

/// The list of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct UserList {
    /// Absent in a response of the API.
    #[serde(default)]
    pub(super) user_id: String,
    /// Best first.
    pub(super) items: Vec<UserListItem>,
    /// The reason why the list is not personalised or not full.
    pub(super) fallback: String,
}

/// An item of a [`UserList`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct UserListItem {
    pub(super) item_id: String,
    pub(super) score: f32,
    pub(super) source: String,
}

impl UserList {
    /// The list of a user in a response of the API.
    pub(super) fn from_response(user: String, response: &[u8]) -> serde_json::Result<Self> {
        Ok(Self { user_id: user, ..serde_json::from_slice(response)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
