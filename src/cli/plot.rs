//! Line plots as SVG.

use anyhow::Context;
use plotters::prelude::*;
use std::path::Path;

/// A named series of points.
pub(super) struct PlotLine {
    /// Name in the legend.
    pub(super) name: &'static str,
    /// The points `(x, y)`, sorted by x in ascending order.
    pub(super) points: Vec<(f64, f64)>,
}

/// Colour-blind-safe palette [Okabe & Ito 2008].
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Draws a line plot with the axis labels `x` and `y`. The vertical axis starts at 0.
pub(super) fn draw_line_plot(file: &Path, title: &str, x: &str, y: &str, lines: &[PlotLine]) -> anyhow::Result<()> {
    try_draw_line_plot(file, title, x, y, lines).with_context(|| format!("cannot write the plot {}", file.display()))
}

fn try_draw_line_plot(file: &Path, title: &str, x: &str, y: &str, lines: &[PlotLine]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (left, right) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(left, right), (x, _)| (left.min(*x), right.max(*x)));
    let (left, right) = if left < right { (left, right) } else { (0.0, 1.0) };
    let highest = points().map(|(_, y)| *y).filter(|y| y.is_finite()).fold(0.1, f64::max);
    let root = SVGBackend::new(file, (960, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(left..right, 0.0..highest * 1.1)?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let series = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
        series
            .label(line.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}
