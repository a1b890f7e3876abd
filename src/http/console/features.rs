//! The declared features and what they contribute to the ranking.

use maud::{Markup, html};

use crate::http::console::format::format_count;
use crate::http::routes::admin::features::{FeaturesView, QualityView};

/// The section of the model page; empty if no feature is declared.
pub(super) fn features_section(view: &FeaturesView) -> Markup {
    if view.features.is_empty() {
        return html! {};
    }
    html! {
        section.card {
            h2 { "Declared features" }
            p.note {
                "The gain of a feature is the quality of the ranking minus its quality without the feature, over about the last 8192 of "
                (format_count(view.sampled_events)) " sampled events."
            }
            div.scroll tabindex="0" role="region" aria-label="Declared features" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Feature" } th scope="col" { "Operands" } th.number scope="col" { "Weights" }
                            th.number scope="col" { "Candidates" } th.number scope="col" { "Gain in Recall@20" } th.number scope="col" { "Gain in MRR@20" }
                        }
                    }
                    tbody {
                        @for feature in &view.features {
                            tr {
                                th scope="row" { (feature.name) }
                                td { code { (feature.operands) } }
                                td.number { (format_count(feature.weights)) }
                                td.number { (format!("{:.0} %", 100.0 * feature.candidate_share)) }
                                (gain_cells(feature.gain))
                            }
                        }
                        tr { th scope="row" { "All" } td {} td {} td {} (gain_cells(view.gain)) }
                    }
                }
            }
        }
    }
}

fn gain_cells(gain: QualityView) -> Markup {
    html! {
        td.number { (format!("{:+.4}", gain.recall_at_20)) }
        td.number { (format!("{:+.4}", gain.mrr_at_20)) }
    }
}
