//! The list of sessions, and the inspection of one session.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use maud::{Markup, html};
use std::collections::BTreeMap;

use crate::domain::RecommendedItem;
use crate::http::console::format::{NO_VALUE_TEXT, detail_page_path, format_count, format_seconds, format_timestamp};
use crate::http::console::layout::{page_or_problem, share_bar, value_tile};
use crate::http::routes::admin::sessions::{
    CandidatesView, HiddenStateView, RankedCandidate, RecommendationPreview, SequenceStep, SessionInspection,
    SessionList, SessionSummary, SessionsQuery,
};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::ingest::IdKind;

/// The path of the list of sessions. The page of a session is below this path.
const SESSIONS_PATH: &str = "/console/sessions";
/// Largest number of candidates that the page shows per source.
const MAX_CANDIDATES_PER_SOURCE: usize = 10;

pub(in crate::http) async fn list_page(api: Data<ApiState>, query: Query<SessionsQuery>) -> HttpResponse {
    page_or_problem("Sessions", "Sessions", list_content(api, query.into_inner()).await)
}

async fn list_content(api: Data<ApiState>, query: SessionsQuery) -> Result<Markup, Problem> {
    let users = SessionList::collect(api, &query).await?;
    Ok(html! {
        form.search action=(SESSIONS_PATH) method="get" role="search" {
            label for="user" { "User id begins with" }
            input id="user" name="user" type="search" value=(query.user) autocomplete="off" spellcheck="false";
            button { "Search" }
        }
        section.card id="users" data-fresh {
            @if users.sessions.is_empty() {
                p.empty { @if query.user.is_empty() { "There are no sessions yet." } @else { "No user id has this prefix." } }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Users" {
                    table {
                        thead { tr {
                            th scope="col" { "User" }
                            th scope="col" { "In memory" }
                            th.number scope="col" { "Sessions" }
                            th.number scope="col" { "Events" }
                            th scope="col" { "Last item" }
                            th scope="col" { "Last event (UTC)" }
                        } }
                        tbody { @for line in &users.sessions { (session_row(line)) } }
                    }
                }
                @if users.has_more { p.note { "There are more users. Search by the beginning of the id." } }
            }
        }
    })
}

fn session_row(line: &SessionSummary) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(detail_page_path(SESSIONS_PATH, &line.user)) { (line.user) } }
            td { @match line.idle_seconds {
                Some(idle) => span.badge data-state="good" { "live" @if idle > 0 { ", idle " (format_count(idle)) " s" } },
                None => span.badge { "stored" },
            } }
            td.number { (line.sessions) }
            td.number { (line.events) }
            td { @match &line.last_item { Some(item) => (item_link(item)), None => (NO_VALUE_TEXT) } }
            td { @match line.last_at { Some(at) => (format_timestamp(at)), None => (NO_VALUE_TEXT) } }
        }
    }
}

fn item_link(item: &str) -> Markup {
    html! { a href=(detail_page_path("/console/items", item)) { (item) } }
}

pub(in crate::http) async fn session_detail_page(api: Data<ApiState>, user: Path<String>) -> HttpResponse {
    let user = api.rules.internal_id(IdKind::User, user.into_inner());
    let title = format!("Session of {user}");
    page_or_problem(
        "Sessions",
        &title,
        SessionInspection::collect(api, user).await.map(|inspection| session_content(&inspection)),
    )
}

fn session_content(inspection: &SessionInspection) -> Markup {
    let norm = inspection.hidden.as_ref().map_or(NO_VALUE_TEXT.to_owned(), |hidden| format!("{:.3}", hidden.norm));
    let version =
        inspection.hidden.as_ref().map_or(NO_VALUE_TEXT.to_owned(), |hidden| format_count(hidden.weights_version));
    html! {
        p.lead { "The state of this user, and how a recommendation is computed from it, stage by stage. This page changes nothing and records no impression." }
        dl.tiles.six {
            (value_tile("Sessions", &format_count(u64::from(inspection.sessions)), None, "in total"))
            (value_tile("Events", &format_count(inspection.sequence.len() as u64), None, "in the sequence"))
            (value_tile("State norm", &norm, None, "norm of o"))
            (value_tile("State weights", &version, None, "weights version"))
            (value_tile("Ranked by", &format_count(inspection.answer.weights_version), None, "weights version"))
            (value_tile("Candidates", &format_count(inspection.candidates.kept as u64), None, &format!("of {} generated", format_count(inspection.candidates.generated as u64))))
        }
        (sequence_section(&inspection.sequence, inspection.session_id.as_deref()))
        @if let Some(hidden) = &inspection.hidden { (hidden_state_section(hidden)) }
        (candidates_section(&inspection.candidates))
        (ranking_section(&inspection.ranking))
        (recommendation_section(&inspection.answer))
    }
}

fn sequence_section(steps: &[SequenceStep], session_id: Option<&str>) -> Markup {
    let gaps = std::iter::once(None).chain(steps.windows(2).map(|pair| match pair {
        [before, after] => Some((after.at - before.at).max(0) as f64 / 1000.0),
        _ => None,
    }));
    html! {
        section.card {
            h2 { "1. Sequence" }
            p.note { "Oldest first" @if let Some(id) = session_id { "; the current session is " code { (id) } } "." }
            ol.strip {
                @for (step, gap) in steps.iter().zip(gaps) {
                    li.boundary[step.starts_session] {
                        @if step.starts_session { span.border { "new session" @if let Some(gap) = gap { ", " (format_seconds(gap)) " later" } } }
                        span.kind { (step.kind) }
                        @match &step.item { Some(item) => (item_link(item)), None => span { "no item" } }
                        span.when title=(format_timestamp(step.at)) { @match gap {
                            Some(gap) if !step.starts_session => { "+" (format_seconds(gap)) },
                            _ => (format_timestamp(step.at)),
                        } }
                    }
                }
            }
        }
    }
}

/// Describes a vector of the hidden state. The first letter of its name tells what it is.
fn vector_meaning(name: &str) -> &'static str {
    match name.chars().next() {
        Some('h') => "output of the cell",
        Some('c') => "memory of the cell",
        Some('m') => "decayed sum of earlier inputs",
        Some('x') => "latest input",
        _ => "output, against which items are scored",
    }
}

fn hidden_state_section(hidden: &HiddenStateView) -> Markup {
    html! {
        section.card {
            h2 { "2. Hidden state" }
            p.note { "Each cell is one number: " span.key-pos { "above 0" } ", " span.key-neg { "below 0" } "; the intensity is relative to the largest value of the row." }
            table.heat {
                thead { tr { th scope="col" { "Vector" } th scope="col" { "Values" } th.number scope="col" { "Norm" } } }
                tbody {
                    @for vector in &hidden.vectors {
                        tr {
                            th scope="row" { b { (vector.name) } span.note { (vector_meaning(&vector.name)) } }
                            td { (render_heat_strip(&vector.name, &vector.values)) }
                            td.number { (format!("{:.3}", vector.norm)) }
                        }
                    }
                }
            }
        }
    }
}

/// Renders a vector as a row of coloured cells, in colours that are safe for colour-blind users.
pub(in crate::http) fn render_heat_strip(name: &str, values: &[f32]) -> Markup {
    let largest = values.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let (least, most) =
        values.iter().fold((0.0_f32, 0.0_f32), |(least, most), value| (least.min(*value), most.max(*value)));
    let label = format!("{name}: {} values from {least:.3} to {most:.3}", values.len());
    html! {
        svg.strip-heat viewBox=(format!("0 0 {} 10", values.len().max(1))) preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (place, value) in values.iter().enumerate() {
                rect class=(if *value < 0.0 { "neg" } else { "pos" }) x=(place) width="1" height="10" fill-opacity=(format!("{:.2}", value.abs() / largest)) {}
            }
        }
    }
}

fn candidates_section(candidates: &CandidatesView) -> Markup {
    html! {
        section.card {
            h2 { "3. Candidates" }
            p.note { "The candidates of each source, best first, with their share of the source's evidence and their final rank." }
            div.sources {
                @for list in candidates.sources.iter().filter(|list| !list.items.is_empty()) {
                    div.source {
                        h3 { (list.source.as_str()) span.note { (list.candidate_count) " ranked" } }
                        table {
                            thead { tr { th scope="col" { "Item" } th scope="col" { "Share" } th.number scope="col" { "Rank" } } }
                            tbody {
                                @for place in list.items.iter().take(MAX_CANDIDATES_PER_SOURCE) {
                                    tr {
                                        th scope="row" { (item_link(&place.item)) }
                                        td.metered { (share_bar(f64::from(place.share))) span { (format!("{:.3}", place.share)) } }
                                        td.number { @match place.rank { Some(rank) => { "#" (rank) }, None => { "not ranked" } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ranking_section(ranking: &[RankedCandidate]) -> Markup {
    let (least, most) = ranking
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), one| (least.min(one.score), most.max(one.score)));
    let share = |score: f32| f64::from((score - least) / (most - least).max(f32::MIN_POSITIVE)) * 0.95 + 0.05;
    html! {
        section.card {
            h2 { "4. Ranking" }
            p.note { "The best candidates, with the scores that the ranker gave them. Scores are comparable only within one ranking. Expand a row to see the features." }
            div.scroll tabindex="0" role="region" aria-label="Ranking" {
                table {
                    thead { tr {
                        th.number scope="col" { "#" }
                        th scope="col" { "Item" }
                        th scope="col" { "Score" }
                        th scope="col" { "Source" }
                        th scope="col" { "Rank in each source" }
                        th scope="col" { "Features" }
                    } }
                    tbody {
                        @for (place, one) in ranking.iter().enumerate() {
                            tr {
                                td.number { (place + 1) }
                                th scope="row" { (item_link(&one.item)) }
                                td.metered { (share_bar(share(one.score))) span { (format!("{:.3}", one.score)) } }
                                td { (one.source.as_str()) }
                                td { span.tags { @for (source, rank) in &one.ranks { span.tag { (source) " #" (rank) } } } }
                                td { details { summary { (one.evidence.len() + one.features.len()) " values" } (feature_values("Evidence", &one.evidence)) (feature_values("Features", &one.features)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn feature_values(name: &str, values: &BTreeMap<&'static str, f32>) -> Markup {
    html! {
        p.note { (name) }
        dl.figures { @for (name, value) in values { div { dt { (name) } dd { (format!("{value:.3}")) } } } }
    }
}

fn recommendation_section(answer: &RecommendationPreview) -> Markup {
    let removed = answer.removed.total();
    html! {
        section.card {
            h2 { "5. Recommendation" }
            p.note { "The recommendation that this user would get now" @if removed > 0 { "; " (removed) " ranked candidates were left out" } "." }
            ol.answer { @for item in &answer.items { li { (item_link(&item.item_id)) span.reason { (recommendation_reason(item)) } } } }
        }
    }
}

fn recommendation_reason(item: &RecommendedItem) -> Markup {
    let moved = item.explanation.as_ref().and_then(|explained| explained.moved_by.as_ref());
    let shares = item.explanation.iter().flat_map(|explained| &explained.sources);
    html! {
        "from " (item.source.as_str())
        @if let Some(moved) = moved {
            "; the " (moved.kind)
            @if let Some(other) = &moved.item_id { " of " (other) }
            @match moved.events_back { 0 => { ", the last event," }, back => { ", " (back) @if back == 1 { " event back," } @else { " events back," } } }
            " moved it to #" (moved.rank)
            @match moved.rank_without { Some(without) => { " from #" (without) }, None => { ": without it, the item would not be a candidate" } }
        }
        @if let Some(interest) = item.interest {
            "; predicted value " (format!("{:.2} ({:.2} to {:.2})", interest.value, interest.low, interest.high))
        }
        "."
        span.tags { @for (source, share) in shares { span.tag { (source) " " (format!("{share:.3}")) } } }
    }
}
