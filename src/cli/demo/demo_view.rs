//! Live view of the demo. On a terminal, a page is redrawn in place; otherwise, each update prints
//! a line.

use console::{Term, style, truncate_str};
use indicatif::HumanCount;
use std::io;
use std::time::Duration;

use super::demo_stats::{DemoMetrics, DemoStats, DemoSummary, TrendProgress};

/// Width of a sparkline.
const SPARKLINE_COLUMNS: usize = 48;
/// Levels of a sparkline, from 0 to the maximum.
const SPARKLINE_LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Output of the demo.
pub(super) struct DemoView {
    out: Term,
    /// Number of lines of the last page.
    line_count: usize,
}

impl DemoView {
    pub(super) fn new(out: Term) -> Self {
        Self { out, line_count: 0 }
    }

    /// Prints the URLs of the daemon.
    pub(super) fn print_addresses(&self, admin: &str, api: &str, shop: Option<&str>) -> io::Result<()> {
        self.out.write_line(&format!("admin page  {}", style(format!("{admin}/")).bold()))?;
        if let Some(shop) = shop {
            self.out.write_line(&format!("shop        {}", style(format!("{shop}/")).bold()))?;
        }
        self.out.write_line(&format!("API         {api}    (Ctrl-C ends the demo)"))
    }

    /// Updates the view.
    pub(super) fn update(&mut self, elapsed: Duration, stats: &DemoStats) -> io::Result<()> {
        if !self.out.is_term() {
            return self.out.write_line(&status_line(elapsed, stats));
        }
        let width = usize::from(self.out.size().1);
        let lines = page_lines(stats);
        self.out.clear_last_lines(self.line_count)?;
        for line in &lines {
            self.out.write_line(&truncate_str(line, width.saturating_sub(1), "…"))?;
        }
        self.line_count = lines.len();
        Ok(())
    }

    /// Prints the summary.
    pub(super) fn print_summary(&self, summary: &DemoSummary) -> io::Result<()> {
        summary_lines(summary).iter().try_for_each(|line| self.out.write_line(line))
    }
}

/// The current values on one line.
fn status_line(elapsed: Duration, stats: &DemoStats) -> String {
    let now = stats.metrics_curve().last().copied().unwrap_or_default();
    let trend = stats.trends.last().map_or_else(String::new, |trend| format!("  trend {}", describe_trend(trend)));
    let new = if stats.new_item_count > 0 {
        format!("  new items {:.1} % of recommended", stats.new_item_share() * 100.0)
    } else {
        String::new()
    };
    format!(
        "{:>4} s  events {:>7}  {:>6.0}/s  Recall@20 {:.3}  MRR@20 {:.3}{new}{trend}",
        elapsed.as_secs(),
        stats.events,
        stats.events_per_second(),
        now.recall_at_20,
        now.mrr_at_20
    )
}

fn page_lines(stats: &DemoStats) -> Vec<String> {
    let curve = stats.metrics_curve();
    let now = curve.last().copied().unwrap_or_default();
    let spark = |value: fn(&DemoMetrics) -> f64| sparkline(&curve.iter().map(value).collect::<Vec<_>>());
    let row = |name: &str, text: String| format!("  {name:<14}{text}");
    let lag = if stats.lag_entries == 0 {
        String::new()
    } else {
        format!("   learning lags {} entries behind", stats.lag_entries)
    };
    let mut lines = vec![
        String::new(),
        row("events", format!("{:<8} {:.0}/s{lag}", HumanCount(stats.events).to_string(), stats.events_per_second())),
        row("Recall@20", format!("{:.3}    {}", now.recall_at_20, style(spark(|figures| figures.recall_at_20)).cyan())),
        row("MRR@20", format!("{:.3}    {}", now.mrr_at_20, style(spark(|figures| figures.mrr_at_20)).cyan())),
    ];
    if let Some(trend) = stats.trends.last() {
        lines.push(row("trend", describe_trend(trend)));
    }
    let highlight = |item: &String| {
        let is_trend_item = stats.trends.last().is_some_and(|trend| trend.items.contains(item));
        if is_trend_item { style(item).yellow().bold().to_string() } else { item.clone() }
    };
    lines.push(row("trending", stats.trending.iter().take(8).map(highlight).collect::<Vec<_>>().join("  ")));
    if stats.new_item_count > 0 {
        let share = stats.new_item_share() * 100.0;
        lines.push(row(
            "new items",
            format!("{} arrived; {share:.1} % of recommended items are new", HumanCount(stats.new_item_count as u64)),
        ));
    }
    if let Some(example) = &stats.example {
        lines.push(row(
            &truncate_str(&example.user, 13, "…"),
            format!("viewed       {}", example.recent_items.join(" › ")),
        ));
        lines.push(row("", format!("recommended  {}", style(example.recommended_items.join("  ")).green())));
    }
    lines
}

fn describe_trend(trend: &TrendProgress) -> String {
    let TrendProgress { items, since_event, found_after_events } = trend;
    let items = items.join(", ");
    match found_after_events {
        Some(after) => {
            format!("{items} since event {}: detected after {} events", HumanCount(*since_event), HumanCount(*after))
        }
        None => format!("{items} since event {}: not detected yet", HumanCount(*since_event)),
    }
}

fn summary_lines(summary: &DemoSummary) -> Vec<String> {
    let (events, steps) = (HumanCount(summary.events), HumanCount(summary.steps));
    let mut lines = vec![
        String::new(),
        format!("{events} events in {:.0} s, {steps} of them evaluated before they were learned", summary.seconds),
    ];
    if let (Some(first), Some(last)) = (summary.first_tenth, summary.last_tenth) {
        lines.push(format!(
            "  Recall@20  {:.3} in the first tenth, {:.3} in the last",
            first.recall_at_20, last.recall_at_20
        ));
        lines
            .push(format!("  MRR@20     {:.3} in the first tenth, {:.3} in the last", first.mrr_at_20, last.mrr_at_20));
    }
    lines.extend(summary.trends.iter().map(|trend| format!("  trend      {}", describe_trend(trend))));
    let new = &summary.new_items;
    if new.arrived > 0 {
        let share = new.share_of_recommended * 100.0;
        lines.push(format!(
            "  new items  {} arrived, {} of them were recommended; {share:.1} % of recommended items were new",
            new.arrived, new.recommended
        ));
    }
    let lists = &summary.recommendations;
    let clicked = if lists.clicked > 0 {
        format!(", {} of their items clicked", HumanCount(lists.clicked))
    } else {
        String::new()
    };
    lines.push(format!("  lists      {} shown{clicked}", HumanCount(lists.answered)));
    lines
}

/// Draws values as one line of block characters, scaled to the maximum. If there are more values
/// than characters, neighbouring values are averaged.
fn sparkline(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(1e-9, f64::max);
    let level = |value: f64| SPARKLINE_LEVELS.get(((value / highest * 8.0) as usize).min(7)).copied().unwrap_or(' ');
    let chunk = values.len().div_ceil(SPARKLINE_COLUMNS).max(1);
    values.chunks(chunk).map(|values| level(values.iter().sum::<f64>() / values.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_spans_from_zero_to_the_maximum() {
        assert_eq!(sparkline(&[0.0, 0.2, 0.4]), "▁▅█");
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0.5; 1_000]).chars().count(), 48);
    }
}
