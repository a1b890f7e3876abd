//! Rules of merchandisers: they promote, boost, hide or require items in lists.

use super::{ItemBoost, Timestamp};
use serde::{Deserialize, Serialize};

/// The lists to which a rule applies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCondition {
    /// The placements of the lists. Empty: all lists, also those without a placement.
    pub placements: Vec<String>,
    /// A filter expression that the context item of the list must satisfy. A list without context
    /// item does not satisfy it.
    pub context_filter: Option<String>,
}

/// What a rule does with a list. New variants must be added at the end, because the encoding numbers
/// them by position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleConsequence {
    /// Puts an item at a position of the list.
    Promote {
        /// The item.
        item_id: String,
        /// The position, counted from 1.
        position: usize,
    },
    /// Multiplies the scores of items by a factor.
    Boost(ItemBoost),
    /// Removes the items that satisfy a filter.
    Hide {
        /// The filter expression.
        filter: String,
    },
    /// Requires that the items that satisfy a filter have a share of the list.
    Require {
        /// The filter expression.
        filter: String,
        /// The smallest share, 0 to 1.
        min_share: Option<f32>,
        /// The largest share, 0 to 1.
        max_share: Option<f32>,
    },
}

/// A rule of a merchandiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingRule {
    /// The lists to which the rule applies.
    pub condition: RuleCondition,
    /// What the rule does.
    pub consequence: RuleConsequence,
    /// The rule does not apply before this time.
    pub valid_from: Option<Timestamp>,
    /// The rule does not apply from this time on.
    pub valid_until: Option<Timestamp>,
    /// Among rules of one kind, the rule with the larger priority applies first.
    pub priority: i32,
    /// Whether the rule applies at all.
    #[serde(rename = "enabled")]
    pub is_enabled: bool,
}

impl RankingRule {
    /// Maximum number of placements that the condition of a rule names.
    pub const MAX_PLACEMENTS: usize = 64;

    /// Whether the rule applies at time `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.is_enabled
            && self.valid_from.is_none_or(|from| from <= now)
            && self.valid_until.is_none_or(|until| now < until)
    }

    /// Whether the rule applies to the lists of a placement; `None` stands for lists without one.
    #[must_use]
    pub fn applies_to_placement(&self, placement: Option<&str>) -> bool {
        let placements = &self.condition.placements;
        placements.is_empty() || placement.is_some_and(|name| placements.iter().any(|other| other == name))
    }

    /// Whether there can be a list to which both this rule and `other` apply, if only placements and
    /// validity count.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.condition.placements, &other.condition.placements);
        let share_placement = ours.is_empty() || theirs.is_empty() || ours.iter().any(|name| theirs.contains(name));
        let begins_before_end = |a: &Self, b: &Self| match (a.valid_from, b.valid_until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        let both_enabled = self.is_enabled && other.is_enabled;
        both_enabled && share_placement && begins_before_end(self, other) && begins_before_end(other, self)
    }
}

/// An operation on a rule. New variants must be added at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOperation {
    /// Creates or replaces the rule.
    Put(RankingRule),
    /// Deletes the rule.
    Delete,
}

/// A change of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleChange {
    /// The id of the rule.
    pub id: String,
    /// The time of the change.
    pub timestamp: Timestamp,
    /// The operation.
    pub operation: RuleOperation,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(placements: &[&str], valid_from: Option<Timestamp>, valid_until: Option<Timestamp>) -> RankingRule {
        RankingRule {
            condition: RuleCondition {
                placements: placements.iter().map(|name| (*name).to_owned()).collect(),
                context_filter: None,
            },
            consequence: RuleConsequence::Hide { filter: "price > 9".to_owned() },
            valid_from,
            valid_until,
            priority: 0,
            is_enabled: true,
        }
    }

    #[test]
    fn a_rule_is_valid_from_its_first_until_before_its_last_time() {
        let window = rule(&[], Some(10), Some(20));
        assert_eq!([9, 10, 19, 20].map(|now| window.is_valid_at(now)), [false, true, true, false]);
        assert!(!RankingRule { is_enabled: false, ..window }.is_valid_at(15));
        assert!(rule(&[], None, None).is_valid_at(Timestamp::MIN));
    }

    #[test]
    fn a_rule_without_placements_applies_to_every_list() {
        let (all, cart) = (rule(&[], None, None), rule(&["cart"], None, None));
        assert!(all.applies_to_placement(None) && all.applies_to_placement(Some("home")));
        assert_eq!(
            [None, Some("home"), Some("cart")].map(|name| cart.applies_to_placement(name)),
            [false, false, true]
        );
    }

    #[test]
    fn rules_overlap_if_placements_and_times_do() {
        let early = rule(&["cart"], None, Some(10));
        assert!(!early.overlaps(&rule(&[], Some(10), None)), "the end is exclusive");
        assert!(early.overlaps(&rule(&[], Some(9), None)) && rule(&["home", "cart"], None, None).overlaps(&early));
        assert!(!early.overlaps(&rule(&["home"], None, None)));
    }
}
