//! The declared features as the learner trains them: their model, and the attributes of users.

use crate::domain::{Attributes, Catalog, SharedUsers, UserAttributesChange, UserMerge};
use crate::ranking::{
    FeatureContext, FeatureDeclarations, FeatureModel, FeatureReport, FeatureValues, RankingWorkspace, ScoredTarget,
};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The model of the declared features, with the attributes of users at the learner's offset. A clone
/// shares all weights and users. Without declared features, everything is empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "StoredFeatures")]
pub struct LearnedFeatures {
    model: FeatureModel,
    /// Empty if no feature reads attributes of the user.
    #[serde(serialize_with = "serialize_users")]
    attributes: SharedUsers<Attributes>,
}

/// Serialised form of [`LearnedFeatures`].
#[derive(Deserialize)]
struct StoredFeatures {
    model: FeatureModel,
    attributes: BTreeMap<Arc<str>, Arc<Attributes>>,
}

impl From<StoredFeatures> for LearnedFeatures {
    fn from(StoredFeatures { model, attributes }: StoredFeatures) -> Self {
        let mut users = SharedUsers::default();
        attributes.into_iter().for_each(|(user, attributes)| users.insert_mut(user, attributes));
        Self { model, attributes: users }
    }
}

/// Writes the users in the order of their ids, so that equal tables have equal bytes.
fn serialize_users<S: Serializer>(users: &SharedUsers<Attributes>, serializer: S) -> Result<S::Ok, S::Error> {
    users.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
}

/// The declared features of a model, and the catalog from which they read the items.
#[derive(Debug, Clone, Copy)]
pub struct FeatureScorer<'a> {
    model: &'a FeatureModel,
    catalog: &'a Catalog,
}

impl FeatureScorer<'_> {
    /// Adds the features to the scores of the last candidates.
    pub(super) fn add_scores(
        &self,
        context: &FeatureContext<'_>,
        ranking: &mut RankingWorkspace,
        values: &mut FeatureValues,
    ) {
        self.model.add_scores(ranking.scored_items_mut(), self.catalog, context, values);
    }
}

impl LearnedFeatures {
    /// One in this many events measures the gains of the features.
    pub(super) const EVENTS_PER_GAIN_SAMPLE: u64 = 16;

    pub(super) fn new(declarations: FeatureDeclarations) -> Self {
        Self { model: FeatureModel::new(declarations), attributes: SharedUsers::default() }
    }

    /// The declared features.
    #[must_use]
    pub fn declarations(&self) -> &FeatureDeclarations {
        self.model.declarations()
    }

    /// What scoring needs; `None` if no feature is declared.
    pub(super) fn scorer<'a>(&'a self, catalog: &'a Catalog) -> Option<FeatureScorer<'a>> {
        (!self.declarations().is_empty()).then_some(FeatureScorer { model: &self.model, catalog })
    }

    /// The attributes of a user, if features read attributes of users.
    #[must_use]
    pub fn attributes_of(&self, user: &str) -> Option<&Attributes> {
        self.attributes.get(user).map(Arc::as_ref)
    }

    /// What the features contribute to the quality of the ranking.
    #[must_use]
    pub fn report(&self) -> FeatureReport {
        self.model.report()
    }

    /// Measures the gains of the features with an event, before the ranker learns from it.
    pub(super) fn measure(&mut self, ranking: &mut RankingWorkspace, values: &FeatureValues, target: Option<usize>) {
        if self.declarations().is_empty() {
            return;
        }
        let (items, scores) = ranking.scored_items_mut();
        self.model.measure(&ScoredTarget { items, scores, target }, values);
    }

    /// Learns from the last scored candidates, for which the ranker has computed the gradients of the
    /// scores.
    pub(super) fn learn(&mut self, ranking: &mut RankingWorkspace, values: &mut FeatureValues) {
        if self.declarations().is_empty() {
            return;
        }
        self.model.learn(ranking.scored_items_mut().1, values);
    }

    /// Restores the weights of an earlier state. Attributes of users are not part of the model.
    pub(super) fn roll_back(&mut self, earlier: &Self) {
        self.model.roll_back(&earlier.model);
    }

    /// Keeps the attributes of another state, from entries that the journal no longer contains.
    pub(super) fn keep_attributes(&mut self, other: Self) {
        if self.declarations().read_user() {
            self.attributes = other.attributes;
        }
    }

    /// Applies a change of a user's attributes.
    pub(super) fn change_attributes(&mut self, change: &UserAttributesChange) {
        if self.declarations().read_user() {
            let known = self.attributes_of(&change.user_id).cloned().unwrap_or_default();
            self.set_attributes(&change.user_id, known.patched(&change.patch));
        }
    }

    /// Merges two users. If both have an attribute of a name, the value of the remaining user stays.
    pub(super) fn merge_users(&mut self, merge: &UserMerge) {
        let Some(from) = self.attributes.get(merge.from.as_str()).cloned() else { return };
        let into = self.attributes_of(&merge.into).cloned().unwrap_or_default();
        self.remove_user(&merge.from);
        self.set_attributes(&merge.into, into.merged_with(&from));
    }

    /// Removes the attributes of a user. Weights are sums over many users and stay.
    pub(super) fn remove_user(&mut self, user: &str) {
        self.attributes.remove_mut(user);
    }

    fn set_attributes(&mut self, user: &str, attributes: Attributes) {
        if attributes.is_empty() {
            self.remove_user(user);
        } else {
            self.attributes.insert_mut(Arc::from(user), Arc::new(attributes));
        }
    }
}
