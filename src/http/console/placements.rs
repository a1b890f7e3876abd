//! The placements and rules.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use actix_web::web::Data;
use maud::{Markup, html};

use crate::domain::{ItemBoost, Objective, PlacementConfig, RankingRule, RuleConsequence};
use crate::http::console::format::{NO_VALUE_TEXT, format_count, format_timestamp};
use crate::http::console::layout::page_or_problem;
use crate::http::console::placement_editor::{placement_form, rule_form};
use crate::http::state::ApiState;
use crate::services::placements::CompiledPlacements;

/// The content security policy of the page. In addition to that of the other pages, it allows images
/// of other sites, because a preview shows the images of items.
const PLACEMENTS_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

pub(in crate::http) async fn placements_page(api: Data<ApiState>) -> HttpResponse {
    let now = api.clock.now();
    let content = page_content(&api.placements.current(), |rule| rule.is_valid_at(now));
    let mut page = page_or_problem("Placements", "Placements", Ok(content));
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PLACEMENTS_SECURITY_POLICY));
    page
}

fn page_content(current: &CompiledPlacements, is_valid: impl Fn(&RankingRule) -> bool) -> Markup {
    let (placements, rules) = (current.table().placements(), current.table().rules());
    html! {
        p.lead id="placement-counts" data-fresh {
            (format_count(placements.len() as u64)) " placements and " (format_count(rules.len() as u64)) " rules. A change applies to the next list. "
            code { "PUT /v1/placements/NAME" } ", " code { "PUT /v1/rules/ID" } " and " code { "sequor admin" } " change them, too."
        }
        script src="/console/placements.js" defer {}
        section.card id="placements" data-fresh {
            h2 { "Placements" }
            @if placements.is_empty() { p.empty { "There are no placements yet." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Placements" {
                    table {
                        thead { tr { th scope="col" { "Name" } th scope="col" { "Type" } th.number scope="col" { "Limit" } th scope="col" { "Filter" } th scope="col" { "Boosts" } th scope="col" { "Objective" } th scope="col" { "Change" } } }
                        tbody { @for (name, config) in placements { (placement_row(name, config)) } }
                    }
                }
            }
        }
        (placement_form())
        section.card id="rules" data-fresh {
            h2 { "Rules" }
            p.note { "Rules apply in the order hide, boost, require, promote. Within one kind, the rule with the larger priority applies first." }
            @if rules.is_empty() { p.empty { "There are no rules yet." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Rules" {
                    table {
                        thead { tr { th scope="col" { "Id" } th scope="col" { "Effect" } th scope="col" { "Placements" } th scope="col" { "Context" } th.number scope="col" { "Priority" } th scope="col" { "Valid (UTC)" } th scope="col" { "Now" } th scope="col" { "Change" } } }
                        tbody { @for (id, rule) in rules { (rule_row(id, rule, is_valid(rule))) } }
                    }
                }
            }
        }
        (rule_form())
    }
}

fn placement_row(name: &str, config: &PlacementConfig) -> Markup {
    let limit = config.limit.map_or_else(|| NO_VALUE_TEXT.to_owned(), |limit| format_count(limit as u64));
    let boosts: Vec<_> = config.boosts.iter().map(describe_boost).collect();
    html! {
        tr {
            th scope="row" { (name) }
            td { (config.kind.name()) }
            td.number { (limit) }
            td { code { (config.filter.as_deref().unwrap_or(NO_VALUE_TEXT)) } }
            td { (if boosts.is_empty() { NO_VALUE_TEXT.to_owned() } else { boosts.join("; ") }) }
            td { (config.objective.map_or(NO_VALUE_TEXT, Objective::name)) }
            td { (edit_button("placements", name)) }
        }
    }
}

fn rule_row(id: &str, rule: &RankingRule, is_valid: bool) -> Markup {
    let placements = &rule.condition.placements;
    let time = |time: Option<_>| time.map_or_else(|| NO_VALUE_TEXT.to_owned(), format_timestamp);
    html! {
        tr {
            th scope="row" { (id) }
            td { (describe_consequence(&rule.consequence)) }
            td { (if placements.is_empty() { "all lists".to_owned() } else { placements.join(", ") }) }
            td { code { (rule.condition.context_filter.as_deref().unwrap_or(NO_VALUE_TEXT)) } }
            td.number { (rule.priority) }
            td { (time(rule.valid_from)) " to " (time(rule.valid_until)) }
            td { (match (rule.is_enabled, is_valid) { (false, _) => "disabled", (true, true) => "applies", (true, false) => "out of time" }) }
            td { (edit_button("rules", id)) }
        }
    }
}

/// A button that loads a placement or rule into its form.
fn edit_button(editor: &str, key: &str) -> Markup {
    html! { button type="button" data-edit=(editor) data-key=(key) aria-label=(format!("Edit {key}")) { "Edit" } }
}

fn describe_boost(ItemBoost { filter, factor }: &ItemBoost) -> String {
    format!("{factor} × {filter}")
}

fn describe_consequence(consequence: &RuleConsequence) -> String {
    let percent = |share: f32| format!("{} %", share * 100.0);
    match consequence {
        RuleConsequence::Promote { item_id, position } => format!("promote {item_id} to position {position}"),
        RuleConsequence::Boost(boost) => format!("boost {}", describe_boost(boost)),
        RuleConsequence::Hide { filter } => format!("hide {filter}"),
        RuleConsequence::Require { filter, min_share, max_share } => {
            let min = min_share.map(|share| format!(" at least {}", percent(share)));
            let max = max_share.map(|share| format!(" at most {}", percent(share)));
            format!("require{}{} of {filter}", min.unwrap_or_default(), max.unwrap_or_default())
        }
    }
}
