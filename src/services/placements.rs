//! Placements and rules: their compiled form, the rules of a list, and changes.

use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

use crate::actors::error::RequestError;
use crate::actors::handles::{IngestHandle, RecommenderHandle};
use crate::domain::{
    Attributes, Catalog, Entry, ItemBoost, ItemIx, Offset, PlacementChange, PlacementConfig, PlacementOperation,
    PlacementTable, RankingRule, RuleChange, RuleConsequence, RuleOperation, Timestamp,
};
use crate::learner::{BoostRule, HideRule, ItemFilter, ListRules, PromoteRule, ShareRule};
use crate::services::ingest::{FullQueuePolicy, ingest};
use crate::services::rule_warnings::{RuleWarningContext, rule_warnings};

/// Largest number of items in which to look for an item that satisfies the filters of a rule.
const MAX_SCANNED_ITEMS: usize = 200_000;

/// A placement with its filters compiled.
#[derive(Debug)]
pub struct CompiledPlacement {
    /// The name of the placement.
    pub name: Arc<str>,
    /// The configuration.
    pub config: PlacementConfig,
    /// The compiled filter of the configuration.
    pub filter: Option<ItemFilter>,
    boosts: Vec<BoostRule>,
}

/// A rule with its filters compiled.
#[derive(Debug)]
struct CompiledRule {
    id: Arc<str>,
    rule: RankingRule,
    context_filter: Option<ItemFilter>,
    /// The filter of the consequence.
    filter: Option<Arc<ItemFilter>>,
}

/// Whether a rule applies to a list, and if it does not, the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleApplication {
    /// The rule applies.
    Applies,
    /// The rule is disabled.
    Disabled,
    /// The rule is not valid at the time of the list.
    OutOfTime,
    /// The rule is for other placements.
    OtherPlacement,
    /// The list has no context item that satisfies the condition.
    OtherContext,
}

/// All placements and rules, with their filters compiled.
#[derive(Debug, Default)]
pub struct CompiledPlacements {
    /// The table from which this was compiled.
    table: Arc<PlacementTable>,
    placements: BTreeMap<String, CompiledPlacement>,
    /// In the order of application: the largest priority first, then the smallest id.
    rules: Vec<CompiledRule>,
    no_rules: Arc<ListRules>,
}

/// What the rules read of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The last context item.
    pub item: Option<ItemIx>,
    /// The values of the context.
    pub values: &'a Attributes,
}

/// A change was not made.
#[derive(Debug, thiserror::Error)]
pub enum PlacementChangeError {
    /// There are too many placements or rules.
    #[error("there are {limit} {what} already; delete one first")]
    TooMany {
        /// `placements` or `rules`.
        what: &'static str,
        /// Their largest number.
        limit: usize,
    },
    /// The placement or rule to delete does not exist.
    #[error("there is nothing to delete")]
    Unknown,
    /// The journal did not accept the change.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A change that is in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementReceipt {
    /// The journal offset after the change.
    pub offset: Option<Offset>,
    /// Probable mistakes, in words.
    pub warnings: Vec<String>,
}

impl CompiledPlacements {
    fn compile(table: Arc<PlacementTable>) -> Self {
        let placements = table.placements().iter();
        let placements = placements.map(|(name, config)| (name.clone(), compile_placement(name, config))).collect();
        let mut rules: Vec<_> = table.rules().iter().filter_map(|(id, rule)| compile_rule(id, rule)).collect();
        // The table lists the rules by id, and the sort is stable.
        rules.sort_by_key(|compiled| std::cmp::Reverse(compiled.rule.priority));
        Self { table, placements, rules, no_rules: Arc::default() }
    }

    /// The placements and rules as they were put.
    #[must_use]
    pub fn table(&self) -> &PlacementTable {
        &self.table
    }

    /// The placement with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&CompiledPlacement> {
        self.placements.get(name)
    }

    /// The names of all placements, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.placements.keys().map(String::as_str)
    }

    /// These placements and rules with a change of a rule.
    #[must_use]
    pub fn with_change(&self, change: RuleChange) -> Self {
        let mut table = PlacementTable::clone(&self.table);
        table.apply(&Entry::Rule(change));
        Self::compile(Arc::new(table))
    }

    /// Whether a rule applies at time `now` to a list of a placement in a context. `None` for an unknown
    /// rule.
    #[must_use]
    pub fn rule_application(
        &self,
        id: &str,
        placement: Option<&CompiledPlacement>,
        context: RequestContext<'_>,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Option<RuleApplication> {
        let name = placement.map(|placement| &*placement.name);
        let compiled = self.rules.iter().find(|compiled| &*compiled.id == id);
        compiled.map(|compiled| compiled.application(name, context, catalog, now))
    }

    /// The rules that apply at time `now` to a list of a placement in a context. Their filters have the
    /// values of the context. `number_of` returns the number of an item.
    #[must_use]
    pub fn rules_of_list(
        &self,
        placement: Option<&CompiledPlacement>,
        context: RequestContext<'_>,
        catalog: &Catalog,
        number_of: impl Fn(&str) -> Option<ItemIx>,
        now: Timestamp,
    ) -> Arc<ListRules> {
        let boosts = placement.map_or(&[][..], |placement| &placement.boosts);
        if self.rules.is_empty() && boosts.is_empty() {
            return Arc::clone(&self.no_rules);
        }
        let name = placement.map(|placement| &*placement.name);
        let mut rules = ListRules { boost: boosts.to_vec(), ..ListRules::default() };
        for compiled in &self.rules {
            if compiled.application(name, context, catalog, now) == RuleApplication::Applies {
                compiled.add_to(&mut rules, &number_of);
            }
        }
        Arc::new(rules.with_context(context.values))
    }
}

impl CompiledRule {
    fn application(
        &self,
        placement: Option<&str>,
        context: RequestContext<'_>,
        catalog: &Catalog,
        now: Timestamp,
    ) -> RuleApplication {
        let is_in_context = |filter: &ItemFilter| {
            let item = context.item.and_then(|item| catalog.get(item));
            item.is_some_and(|item| filter.with_context(context.values).matches(item))
        };
        match () {
            () if !self.rule.is_enabled => RuleApplication::Disabled,
            () if !self.rule.is_valid_at(now) => RuleApplication::OutOfTime,
            () if !self.rule.applies_to_placement(placement) => RuleApplication::OtherPlacement,
            () if !self.context_filter.as_ref().is_none_or(is_in_context) => RuleApplication::OtherContext,
            () => RuleApplication::Applies,
        }
    }

    fn add_to(&self, rules: &mut ListRules, number_of: &impl Fn(&str) -> Option<ItemIx>) {
        let rule = Arc::clone(&self.id);
        match (&self.rule.consequence, self.filter.clone()) {
            (RuleConsequence::Promote { item_id, position }, _) => {
                let promotion = number_of(item_id).map(|item| PromoteRule { rule, item, position: *position });
                rules.promote.extend(promotion);
            }
            (RuleConsequence::Boost(ItemBoost { factor, .. }), Some(filter)) => {
                rules.boost.push(BoostRule { rule, filter, factor: *factor });
            }
            (RuleConsequence::Hide { .. }, Some(filter)) => rules.hide.push(HideRule { rule, filter }),
            (RuleConsequence::Require { min_share, max_share, .. }, Some(filter)) => {
                let (min, max) = (min_share.unwrap_or(0.0), max_share.unwrap_or(1.0));
                rules.require.push(ShareRule { rule, filter, min, max });
            }
            (_, None) => {}
        }
    }
}

/// Parses a filter of the journal. The API has parsed it before, so it is invalid only if another
/// version of the daemon accepted it.
fn compile_filter(owner: &str, text: &str) -> Option<ItemFilter> {
    ItemFilter::parse(text)
        .inspect_err(|error| {
            tracing::error!(
                owner,
                error = error as &dyn std::error::Error,
                "a stored filter is invalid; it is ignored"
            );
        })
        .ok()
}

fn compile_placement(name: &str, config: &PlacementConfig) -> CompiledPlacement {
    let rule: Arc<str> = format!("placement:{name}").into();
    let boost = |boost: &ItemBoost| {
        let filter = Arc::new(compile_filter(&rule, &boost.filter)?);
        Some(BoostRule { rule: Arc::clone(&rule), filter, factor: boost.factor })
    };
    CompiledPlacement {
        name: Arc::from(name),
        filter: config.filter.as_deref().and_then(|text| compile_filter(&rule, text)),
        boosts: config.boosts.iter().filter_map(boost).collect(),
        config: config.clone(),
    }
}

/// `None` if a filter of the rule is invalid.
fn compile_rule(id: &str, rule: &RankingRule) -> Option<CompiledRule> {
    let filter = match &rule.consequence {
        RuleConsequence::Promote { .. } => None,
        RuleConsequence::Boost(ItemBoost { filter, .. })
        | RuleConsequence::Hide { filter }
        | RuleConsequence::Require { filter, .. } => Some(Arc::new(compile_filter(id, filter)?)),
    };
    let context_filter = match &rule.condition.context_filter {
        Some(text) => Some(compile_filter(id, text)?),
        None => None,
    };
    Some(CompiledRule { id: Arc::from(id), rule: rule.clone(), context_filter, filter })
}

/// Reads and changes placements and rules.
#[derive(Clone)]
pub struct PlacementService {
    ingest: IngestHandle,
    recommender: RecommenderHandle,
    compiled: Arc<ArcSwap<CompiledPlacements>>,
    /// Held during a change, so that the limits on the numbers of placements and rules are exact.
    changing: Arc<Mutex<()>>,
}

impl PlacementService {
    /// Creates the service.
    #[must_use]
    pub fn new(ingest: IngestHandle, recommender: RecommenderHandle) -> Self {
        Self { ingest, recommender, compiled: Arc::default(), changing: Arc::default() }
    }

    /// The current placements and rules. Filters are compiled once after each change.
    #[must_use]
    pub fn current(&self) -> Arc<CompiledPlacements> {
        let (compiled, table) = (self.compiled.load_full(), self.recommender.placements());
        if Arc::ptr_eq(&compiled.table, &table) {
            return compiled;
        }
        let compiled = Arc::new(CompiledPlacements::compile(table));
        self.compiled.store(Arc::clone(&compiled));
        compiled
    }

    /// Puts or deletes a placement.
    ///
    /// # Errors
    /// [`PlacementChangeError`] if the change is not possible.
    pub async fn change_placement(&self, change: PlacementChange) -> Result<PlacementReceipt, PlacementChangeError> {
        let _changing = self.changing.lock().await;
        let table = self.recommender.placements();
        let (count, is_known) = (table.placements().len(), table.placements().contains_key(&change.name));
        let is_put = matches!(change.operation, PlacementOperation::Put(_));
        check_change("placements", PlacementTable::MAX_PLACEMENTS, count, is_known, is_put)?;
        self.append(Entry::Placement(change), Vec::new()).await
    }

    /// Puts or deletes a rule. The receipt warns of conflicts with other rules.
    ///
    /// # Errors
    /// [`PlacementChangeError`] if the change is not possible.
    pub async fn change_rule(&self, change: RuleChange) -> Result<PlacementReceipt, PlacementChangeError> {
        let _changing = self.changing.lock().await;
        let table = self.recommender.placements();
        let (count, is_known) = (table.rules().len(), table.rules().contains_key(&change.id));
        let is_put = matches!(change.operation, RuleOperation::Put(_));
        check_change("rules", PlacementTable::MAX_RULES, count, is_known, is_put)?;
        let warnings = match &change.operation {
            RuleOperation::Put(rule) => self.warnings_of(&change.id, rule, &table, change.timestamp),
            RuleOperation::Delete => Vec::new(),
        };
        self.append(Entry::Rule(change), warnings).await
    }

    /// The probable mistakes of a rule among the other rules of a table at time `now`, in words.
    #[must_use]
    pub fn warnings_of(&self, id: &str, rule: &RankingRule, table: &PlacementTable, now: Timestamp) -> Vec<String> {
        let (catalog, dictionary) = (self.recommender.catalog(), self.recommender.dictionary());
        let attributes_of = |item: &str| dictionary.get(item).and_then(|item| catalog.get(item)).cloned();
        let matches_any_item = |filter: &ItemFilter| {
            let is_unknown = !(1..=MAX_SCANNED_ITEMS).contains(&catalog.described_count());
            is_unknown || catalog.described_items().any(|item| filter.matches(item))
        };
        let context =
            RuleWarningContext { table, now, attributes_of: &attributes_of, matches_any_item: &matches_any_item };
        rule_warnings(id, rule, &context)
    }

    async fn append(&self, entry: Entry, warnings: Vec<String>) -> Result<PlacementReceipt, PlacementChangeError> {
        let outcome = ingest(&self.ingest, [entry], None, FullQueuePolicy::Fail).await?;
        Ok(PlacementReceipt { offset: outcome.offset, warnings })
    }
}

fn check_change(
    what: &'static str,
    limit: usize,
    count: usize,
    is_known: bool,
    is_put: bool,
) -> Result<(), PlacementChangeError> {
    match (is_put, is_known) {
        (true, false) if count >= limit => Err(PlacementChangeError::TooMany { what, limit }),
        (false, false) => Err(PlacementChangeError::Unknown),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Item, ItemOperation, RuleCondition};

    /// A request without context item and values.
    fn no_context(values: &Attributes) -> RequestContext<'_> {
        RequestContext { item: None, values }
    }

    fn rule(priority: i32, consequence: RuleConsequence) -> RankingRule {
        RankingRule {
            condition: RuleCondition::default(),
            consequence,
            valid_from: None,
            valid_until: None,
            priority,
            is_enabled: true,
        }
    }

    fn put_rule(table: &mut PlacementTable, id: &str, rule: RankingRule) {
        table.apply(&Entry::Rule(RuleChange { id: id.to_owned(), timestamp: 0, operation: RuleOperation::Put(rule) }));
    }

    fn hide(filter: &str) -> RuleConsequence {
        RuleConsequence::Hide { filter: filter.to_owned() }
    }

    #[test]
    fn rules_apply_in_the_order_of_priority_and_id() {
        let mut table = PlacementTable::default();
        for (id, priority) in [("b", 1), ("a", 1), ("low", 0), ("high", 2)] {
            put_rule(&mut table, id, rule(priority, hide("price > 5")));
        }
        let compiled = CompiledPlacements::compile(Arc::new(table));
        let rules = compiled.rules_of_list(None, no_context(&Attributes::default()), &Catalog::default(), |_| None, 0);
        assert_eq!(rules.hide.iter().map(|hide| &*hide.rule).collect::<Vec<_>>(), ["high", "a", "b", "low"]);
    }

    #[test]
    fn conditions_select_the_rules_of_a_list() {
        let mut table = PlacementTable::default();
        let config = PlacementConfig {
            boosts: vec![ItemBoost { filter: "brand = leaf".to_owned(), factor: 2.0 }],
            ..PlacementConfig::default()
        };
        table.apply(&Entry::Placement(PlacementChange {
            name: "cart".to_owned(),
            timestamp: 0,
            operation: PlacementOperation::Put(config),
        }));
        let cart = RuleCondition { placements: vec!["cart".to_owned()], context_filter: None };
        put_rule(&mut table, "cart", RankingRule { condition: cart, ..rule(0, hide("price > 5")) });
        let tea = RuleCondition { placements: Vec::new(), context_filter: Some("category = tea".to_owned()) };
        put_rule(&mut table, "tea", RankingRule { condition: tea, ..rule(0, hide("price > 6")) });
        put_rule(&mut table, "later", RankingRule { valid_from: Some(10), ..rule(0, hide("price > 7")) });
        let mut catalog = Catalog::default();
        let attributes = Item { categories: vec!["tea".to_owned()], ..Item::default() };
        catalog.apply(1, &ItemOperation::Put(attributes));
        let compiled = CompiledPlacements::compile(Arc::new(table));
        let names = |placement: Option<&str>, context: Option<ItemIx>, now: Timestamp| -> Vec<String> {
            let placement = placement.and_then(|name| compiled.find(name));
            let context = RequestContext { item: context, values: &Attributes::default() };
            let rules = compiled.rules_of_list(placement, context, &catalog, |_| None, now);
            let hide = rules.hide.iter().map(|hide| hide.rule.to_string());
            rules.boost.iter().map(|boost| boost.rule.to_string()).chain(hide).collect()
        };
        assert_eq!(names(None, None, 0), Vec::<String>::new());
        assert_eq!(names(None, Some(0), 10), ["later"], "item 0 has no category");
        assert_eq!(names(Some("cart"), Some(1), 9), ["placement:cart", "cart", "tea"]);
    }
}
