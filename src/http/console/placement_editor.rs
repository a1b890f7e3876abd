//! The forms that change placements and rules, and that preview a rule. `placements.js` sends them.

use maud::{Markup, html};

use crate::domain::{ImpressionLimitAction, Objective, PlacementKind};

/// The kinds of consequences, as the API names them.
const CONSEQUENCES: [&str; 4] = ["promote", "boost", "hide", "require"];

/// A labelled field. `placements.js` shows the problem of a field in the element after its input.
fn field(form: &str, name: &str, label: &str, input: Markup) -> Markup {
    html! {
        div.field {
            label for=(format!("{form}-{name}")) { (label) }
            (input)
            p.problem id=(format!("{form}-{name}-problem")) {}
        }
    }
}

fn text_field(form: &str, name: &str, label: &str, example: &str) -> Markup {
    field(
        form,
        name,
        label,
        html! {
            input id=(format!("{form}-{name}")) name=(name) placeholder=(example) autocomplete="off" spellcheck="false"
                aria-describedby=(format!("{form}-{name}-problem"));
        },
    )
}

fn number_field(form: &str, name: &str, label: &str) -> Markup {
    field(
        form,
        name,
        label,
        html! {
            input id=(format!("{form}-{name}")) name=(name) type="number" step="any" data-type="number" autocomplete="off"
                aria-describedby=(format!("{form}-{name}-problem"));
        },
    )
}

/// A selection. The first option has the empty value, and the text `empty` if there is one.
fn select_field(form: &str, name: &str, label: &str, empty: Option<&str>, values: &[&str]) -> Markup {
    field(
        form,
        name,
        label,
        html! {
            select id=(format!("{form}-{name}")) name=(name) aria-describedby=(format!("{form}-{name}-problem")) {
                @if let Some(empty) = empty { option value="" { (empty) } }
                @for value in values { option value=(value) { (value) } }
            }
        },
    )
}

/// The buttons of a form, and its message.
fn form_buttons(more: Markup) -> Markup {
    html! {
        div.row {
            button value="save" { "Save" }
            (more)
            button.danger type="button" data-action="delete" { "Delete" }
            button type="button" data-action="clear" { "Clear" }
        }
        output role="status" {}
    }
}

/// The form that creates, changes and deletes placements.
pub(super) fn placement_form() -> Markup {
    const FORM: &str = "placement";
    html! {
        section.card id="placement-editor" {
            h2 { "Create or change a placement" }
            form.editor data-editor="placements" {
                div.grid-fields {
                    (text_field(FORM, "placement", "Name", "home"))
                    (select_field(FORM, "type", "Type", Some("default"), &PlacementKind::ALL.map(PlacementKind::name)))
                    (number_field(FORM, "limit", "Limit"))
                    (text_field(FORM, "filter", "Filter", "available and price < 10"))
                    (select_field(FORM, "exclude_seen", "Exclude seen items", Some("default"), &["true", "false"]))
                    (number_field(FORM, "diversity", "Items per category"))
                    (text_field(FORM, "purchased_for", "Hide purchased items for", "30d"))
                    (text_field(FORM, "dismissed_for", "Hide dismissed items for", "30d"))
                    (text_field(FORM, "exclude_events", "Exclude by events", "purchase:365d,dismiss:30d"))
                    (text_field(FORM, "max_impressions", "Impression limit", "3/24h"))
                    (select_field(FORM, "impression_limit_action", "Items over the limit", Some("default"),
                        &ImpressionLimitAction::ALL.map(ImpressionLimitAction::name)))
                    (select_field(FORM, "objective", "Objective", Some("next event"), &Objective::ALL.map(Objective::name)))
                }
                (field(FORM, "boosts", "Boosts, one on each line: a factor and a filter", html! {
                    textarea id="placement-boosts" name="boosts" rows="2" placeholder="1.5 price < 10" spellcheck="false"
                        aria-describedby="placement-boosts-problem" {}
                }))
                (form_buttons(html! {}))
            }
        }
    }
}

/// The form that creates, changes, deletes and previews rules.
pub(super) fn rule_form() -> Markup {
    const FORM: &str = "rule";
    html! {
        section.card id="rule-editor" {
            h2 { "Create, change or preview a rule" }
            form.editor data-editor="rules" {
                div.grid-fields {
                    (text_field(FORM, "rule", "Id", "summer"))
                    (select_field(FORM, "kind", "Effect", None, &CONSEQUENCES))
                    div data-for="promote" { (text_field(FORM, "item_id", "Item", "teapot")) }
                    div data-for="promote" { (number_field(FORM, "position", "Position")) }
                    div data-for="boost hide require" { (text_field(FORM, "filter", "Filter of the items", "brand = leaf")) }
                    div data-for="boost" { (number_field(FORM, "factor", "Factor")) }
                    div data-for="require" { (number_field(FORM, "min_share", "Smallest share, 0 to 1")) }
                    div data-for="require" { (number_field(FORM, "max_share", "Largest share, 0 to 1")) }
                    (text_field(FORM, "placements", "Placements, separated by commas", "home, cart"))
                    (text_field(FORM, "context_filter", "Condition on the context item", "category = pots"))
                    (text_field(FORM, "valid_from", "Valid from", "2026-06-01T00:00:00+02:00"))
                    (text_field(FORM, "valid_until", "Valid until", "2026-09-01T00:00:00+02:00"))
                    (number_field(FORM, "priority", "Priority"))
                    (select_field(FORM, "enabled", "Enabled", None, &["true", "false"]))
                }
                fieldset {
                    legend { "List of the preview" }
                    div.grid-fields {
                        (text_field(FORM, "user_id", "User; empty for a new visitor", "ann"))
                        (text_field(FORM, "preview_placement", "Placement", "home"))
                        (text_field(FORM, "items", "Context items, separated by commas", "tea"))
                        (text_field(FORM, "at", "Time; empty for now", "2026-06-01T12:00:00+02:00"))
                    }
                }
                (form_buttons(html! { button value="preview" { "Preview" } }))
            }
            div.sides id="preview" hidden {
                @for (side, title) in [("without", "Without the rule"), ("with", "With the rule")] {
                    section aria-labelledby=(format!("preview-{side}-title")) {
                        h3 id=(format!("preview-{side}-title")) { (title) }
                        ol.preview id=(format!("preview-{side}")) {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemBoost, PlacementConfig};
    use crate::http::schema::placement_body::PlacementBody;

    /// A save replaces the whole configuration, so a field without an input would be lost.
    #[test]
    fn the_form_of_placements_has_an_input_for_every_field() {
        let form = placement_form().into_string();
        let config = PlacementConfig {
            limit: Some(8),
            exclude_seen: Some(true),
            max_impressions: Some((3, 1_000)),
            impression_limit_action: ImpressionLimitAction::Demote,
            objective: Some(Objective::Cvr),
            exclude_events: vec![("purchase".to_owned(), 1_000)],
            boosts: vec![ItemBoost { filter: "available".to_owned(), factor: 2.0 }],
            ..PlacementConfig::default()
        };
        let body = serde_json::to_value(PlacementBody::from(&config)).unwrap();
        let fields: Vec<_> = body.as_object().unwrap().keys().collect();
        assert!(fields.len() >= 8, "{fields:?}");
        for field in fields {
            assert!(form.contains(&format!("name=\"{field}\"")), "{field}");
        }
    }
}
