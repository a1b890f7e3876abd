//! The layout and components that all pages share.

use actix_web::{HttpResponse, ResponseError};
use maud::{DOCTYPE, Markup, html};

use crate::http::schema::problem::Problem;

/// The name and the path of each page in the navigation.
const NAVIGATION_PAGES: [(&str, &str); 9] = [
    ("Overview", "/console"),
    ("Sessions", "/console/sessions"),
    ("Items", "/console/items"),
    ("Placements", "/console/placements"),
    ("Attribution", "/console/attribution"),
    ("Model", "/console/model"),
    ("Recall", "/console/recall"),
    ("Store", "/console/store"),
    ("Cluster", "/console/cluster"),
];

/// Renders a page. If `content` is a problem, renders a page that describes the problem. `place` is
/// the name of the navigation entry that is marked as the current page.
pub(in crate::http) fn page_or_problem(place: &str, title: &str, content: Result<Markup, Problem>) -> HttpResponse {
    match content {
        Ok(content) => render_page(HttpResponse::Ok(), place, title, content),
        Err(problem) => self::problem_page(&problem),
    }
}

/// Renders a problem as a page.
pub(in crate::http) fn problem_page(problem: &Problem) -> HttpResponse {
    let content = html! {
        section.card {
            p { (problem.detail_text()) }
            p { a href="/console" { "Back to the overview" } }
        }
    };
    render_page(HttpResponse::build(problem.status_code()), "", problem.title_text(), content)
}

fn render_page(
    mut response: actix_web::HttpResponseBuilder,
    place: &str,
    title: &str,
    content: Markup,
) -> HttpResponse {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Sequor" }
                link rel="icon" type="image/svg+xml" href="/console/icon.svg";
                link rel="stylesheet" href="/console/console.css";
                script src="/console/console.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to content" }
                header.bar {
                    a.brand href="/console" { img src="/console/icon.svg" alt="" width="24" height="24"; "Sequor" }
                    nav aria-label="Pages" {
                        @for (name, href) in NAVIGATION_PAGES {
                            a href=(href) aria-current=[(name == place).then_some("page")] { (name) }
                        }
                    }
                    span.pulse id="pulse" role="status" { span.dot aria-hidden="true" {} span { "not live" } }
                }
                main id="content" tabindex="-1" {
                    h1 { (title) }
                    (content)
                }
                dialog id="confirm" aria-labelledby="confirm-question" {
                    form method="dialog" {
                        p id="confirm-question" {}
                        div.actions {
                            button value="" { "Cancel" }
                            button.danger value="yes" { "Continue" }
                        }
                    }
                }
            }
        }
    };
    response.content_type("text/html; charset=utf-8").body(page.into_string())
}

/// A tile that shows a value with its name. If the value is part of the live status, `live` is its
/// path in the status and its format; `console.js` then updates the value.
pub(in crate::http) fn value_tile(name: &str, value: &str, live: Option<(&str, &str)>, note: &str) -> Markup {
    html! {
        div.tile {
            dt { (name) }
            dd data-live=[live.map(|(place, _)| place)] data-format=[live.map(|(_, format)| format)] { (value) }
            @if !note.is_empty() { dd.note { (note) } }
        }
    }
}

/// A bar that is filled up to `share` of its width, 0 to 1. Screen readers skip the bar, because
/// the same value is next to it as text.
pub(in crate::http) fn share_bar(share: f64) -> Markup {
    let width = format!("{:.1}", share.clamp(0.0, 1.0) * 100.0);
    html! {
        svg.meter viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track width="100" height="8" rx="1" {}
            rect.fill width=(width) height="8" rx="1" {}
        }
    }
}

/// A form. `console.js` asks the question `confirm`, if there is one, and sends the fields as JSON
/// to the path `to`. If the request succeeds, the script shows the text `done`. It replaces each
/// name in braces in this text by the member of the response with that name.
pub(in crate::http) fn operation_form(to: &str, confirm: Option<&str>, done: &str, content: Markup) -> Markup {
    html! {
        form.act data-post=(to) data-confirm=[confirm] data-done=(done) {
            div.fields { (content) }
            output role="status" {}
        }
    }
}
