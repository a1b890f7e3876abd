//! The recommendations of a user, as a batch list.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::domain::Recommendation;

/// The list of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct UserList {
    /// Absent in a response of the API.
    #[serde(default)]
    pub(super) user_id: String,
    /// Best first.
    pub(super) items: Vec<UserListItem>,
    /// The reason why the list is not personalised or not full.
    pub(super) fallback: Cow<'static, str>,
}

/// An item of a [`UserList`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct UserListItem {
    pub(super) item_id: String,
    pub(super) score: f32,
    pub(super) source: Cow<'static, str>,
}

impl UserList {
    /// The list of a user in a response of the API.
    pub(super) fn from_response(user: String, response: &[u8]) -> serde_json::Result<Self> {
        Ok(Self { user_id: user, ..serde_json::from_slice(response)? })
    }

    /// The list of a user that this process has computed.
    pub(super) fn from_recommendation(user: String, list: Recommendation) -> Self {
        let items = list.items.into_iter().map(|item| UserListItem {
            item_id: item.item_id,
            score: item.score,
            source: item.source.as_str().into(),
        });
        Self { user_id: user, items: items.collect(), fallback: list.fallback.as_str().into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Fallback, RecommendedItem, RemovalCounts, SourceName};

    #[test]
    fn a_computed_list_equals_that_of_its_response() {
        use Fallback::{EmptyCatalog, FilteredOut, None, Unavailable, UnknownItems, UnknownUser};
        for fallback in [None, UnknownUser, UnknownItems, EmptyCatalog, FilteredOut, Unavailable] {
            let item = |source: SourceName| RecommendedItem {
                item_id: format!("item \"{source:?}\""),
                score: -1.0 / 3.0,
                source,
                interest: Option::None,
                explanation: Option::None,
                details: Option::None,
                rules: Vec::new(),
            };
            let list = Recommendation {
                recommendation_id: "r1".to_owned(),
                weights_version: 1,
                items: SourceName::ALL.into_iter().map(item).collect(),
                fallback,
                removed: RemovalCounts::default(),
                interest_kind: Option::None,
                placement: Option::None,
                removed_by_rules: Vec::new(),
            };
            let response = serde_json::to_vec(&list).unwrap();
            let parsed = UserList::from_response("ann".to_owned(), &response).unwrap();
            assert_eq!(UserList::from_recommendation("ann".to_owned(), list), parsed);
        }
    }
}
