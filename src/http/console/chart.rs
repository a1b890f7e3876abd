//! Line charts over time as SVG, with the same values as a table for screen readers.

use maud::{Markup, html};

/// A line of a chart. Its points are ordered from left to right.
pub(in crate::http) struct ChartLine<'a> {
    /// The name in the legend.
    pub(in crate::http) name: &'a str,
    pub(in crate::http) points: Vec<(f64, f64)>,
}

/// A chart of at most two lines.
pub(in crate::http) struct TimeChart<'a> {
    /// The id of the HTML element, unique on the page. `console.js` finds the chart by this id to
    /// refresh it.
    pub(in crate::http) id: &'a str,
    pub(in crate::http) title: &'a str,
    /// The name of the horizontal axis, and the function that formats its values.
    pub(in crate::http) x_axis: (&'a str, &'a dyn Fn(f64) -> String),
    /// Formats a value of the vertical axis.
    pub(in crate::http) format_y: &'a dyn Fn(f64) -> String,
    /// The lines, at most two.
    pub(in crate::http) lines: Vec<ChartLine<'a>>,
}

/// Largest number of rows in the table that repeats the values of a chart.
const MAX_TABLE_ROWS: usize = 12;
/// Size of the plot in SVG units. The browser scales the plot to the available space.
const PLOT_WIDTH: f64 = 600.0;
const PLOT_HEIGHT: f64 = 160.0;

impl TimeChart<'_> {
    /// Renders the chart. `console.js` refreshes the chart while the page is open.
    pub(in crate::http) fn render(&self) -> Markup {
        self.figure(true)
    }

    /// Renders a chart that is not refreshed.
    pub(in crate::http) fn render_fixed(&self) -> Markup {
        self.figure(false)
    }

    fn figure(&self, is_live: bool) -> Markup {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right) =
            points().fold((f64::INFINITY, f64::NEG_INFINITY), |(left, right), (x, _)| (left.min(*x), right.max(*x)));
        let top = round_up_to_axis_value(points().map(|(_, y)| *y).fold(0.0, f64::max));
        html! {
            figure.card.chart id=(self.id) data-fresh[is_live] {
                figcaption {
                    h2 { (self.title) }
                    ul.legend {
                        @for (number, line) in self.lines.iter().enumerate() {
                            li {
                                svg.key viewBox="0 0 20 8" aria-hidden="true" focusable="false" { path class=(css_class(number)) d="M0 4 H20" {} }
                                (line.name)
                                @if let Some((_, y)) = line.points.last() { strong { ((self.format_y)(*y)) } }
                            }
                        }
                    }
                }
                @if left < right {
                    div.plot {
                        div.ups aria-hidden="true" { @for part in [1.0, 0.5, 0.0] { span { (trim_trailing_zeros(&(self.format_y)(top * part))) } } }
                        svg viewBox=(format!("0 0 {PLOT_WIDTH} {PLOT_HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(self.text_description()) {
                            @for part in [0.0, 0.25, 0.5, 0.75, 1.0] { path.grid d=(format!("M0 {} H{PLOT_WIDTH}", PLOT_HEIGHT * part)) {} }
                            @for (number, line) in self.lines.iter().enumerate() {
                                path class=(css_class(number)) d=(svg_path(&line.points, (left, right), top)) {}
                            }
                        }
                        div.acrosses aria-hidden="true" {
                            @for part in [0.0, 0.5, 1.0] { span { ((self.x_axis.1)(left + (right - left) * part)) } }
                        }
                    }
                    (self.values_table())
                } @else {
                    p.empty { "Not enough data yet." }
                }
            }
        }
    }

    fn text_description(&self) -> String {
        let ends = self.lines.iter().filter_map(|line| {
            let ((_, first), (_, last)) = line.points.first().zip(line.points.last())?;
            Some(format!("{} from {} to {}", line.name, (self.format_y)(*first), (self.format_y)(*last)))
        });
        format!("{}: {}", self.title, ends.collect::<Vec<_>>().join("; "))
    }

    fn values_table(&self) -> Markup {
        let longest = self.lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
        let step = longest.div_ceil(MAX_TABLE_ROWS).max(1);
        let row = |place: usize| self.lines.iter().find_map(|line| line.points.get(place)).map(|(x, _)| *x);
        html! {
            details {
                summary { "Show as table" }
                div.scroll tabindex="0" role="region" aria-label=(format!("{}: table", self.title)) {
                    table {
                        thead { tr { th scope="col" { (self.x_axis.0) } @for line in &self.lines { th.number scope="col" { (line.name) } } } }
                        tbody {
                            @for place in (0..longest).rev().step_by(step).collect::<Vec<_>>().into_iter().rev() {
                                @if let Some(x) = row(place) {
                                    tr {
                                        th scope="row" { ((self.x_axis.1)(x)) }
                                        @for line in &self.lines { td.number { @if let Some((_, y)) = line.points.get(place) { ((self.format_y)(*y)) } } }
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

/// Removes trailing zeros from an axis label: `0.5000` becomes 0.5, `10.0 ms` becomes 10 ms.
fn trim_trailing_zeros(label: &str) -> String {
    let (number, unit) = label.split_at(label.find(' ').unwrap_or(label.len()));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{unit}")
}

fn css_class(number: usize) -> &'static str {
    if number == 0 { "line first" } else { "line second" }
}

/// The SVG path of a line.
fn svg_path(points: &[(f64, f64)], (left, right): (f64, f64), top: f64) -> String {
    let place = |(x, y): &(f64, f64)| {
        format!(
            "{:.1} {:.1}",
            (x - left) / (right - left) * PLOT_WIDTH,
            PLOT_HEIGHT - (y / top).clamp(0.0, 1.0) * PLOT_HEIGHT
        )
    };
    points
        .iter()
        .enumerate()
        .map(|(number, point)| format!("{}{}", if number == 0 { "M" } else { "L" }, place(point)))
        .collect()
}

/// Rounds a value up to 1, 2, 4, 5 or 8 times a power of ten.
fn round_up_to_axis_value(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_at_a_round_value() {
        assert_eq!(["0.5000", "10.0 ms", "4,000", "0.000"].map(trim_trailing_zeros), ["0.5", "10 ms", "4,000", "0"]);
        assert_eq!([0.0, 0.71, 1.0, 3.1, 8.1, 420.0].map(round_up_to_axis_value), [1.0, 0.8, 1.0, 4.0, 10.0, 500.0]);
    }

    #[test]
    fn line_spans_the_plot() {
        assert_eq!(svg_path(&[(2.0, 0.0), (3.0, 1.0), (4.0, 9.0)], (2.0, 4.0), 2.0), "M0.0 160.0L300.0 80.0L600.0 0.0");
    }

    #[test]
    fn renders_a_table_and_reports_missing_data() {
        let (across, up) = (|x: f64| format!("x{x}"), |y: f64| format!("y{y}"));
        let chart = |points| TimeChart {
            id: "i",
            title: "T",
            x_axis: ("X", &across),
            format_y: &up,
            lines: vec![ChartLine { name: "L", points }],
        };
        let drawn = chart((0..30).map(|x| (f64::from(x), f64::from(x * 2))).collect()).render().into_string();
        assert!(
            drawn.contains("<th scope=\"row\">x29</th><td class=\"number\">y58</td>")
                && drawn.contains("T: L from y0 to y58"),
            "{drawn}"
        );
        assert!(drawn.matches("<th scope=\"row\">").count() <= MAX_TABLE_ROWS);
        assert!(chart(vec![(1.0, 1.0)]).render().into_string().contains("Not enough data"));
    }
}
