//! What is seen of the demo: a page that renews itself on a terminal, lines elsewhere.

use console::{Term, style, truncate_str};
use indicatif::HumanCount;
use std::io;
use std::time::Duration;

use super::demo_stats::{DemoFigures, DemoStats, DemoSummary, TrendProgress};

/// Columns of a curve.
const COLUMNS: usize = 48;
/// From nothing to the most.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Where the demo shows itself.
pub(super) struct DemoView {
    out: Term,
    /// Lines of the page that stand there now.
    line_count: usize,
}

impl DemoView {
    pub(super) fn new(out: Term) -> Self {
        Self { out, line_count: 0 }
    }

    /// Says where the daemon is.
    pub(super) fn print_addresses(&self, admin: &str, api: &str) -> io::Result<()> {
        self.out.write_line(&format!("admin page  {}", style(format!("{admin}/")).bold()))?;
        self.out.write_line(&format!("API         {api}    (Ctrl-C ends the demo)"))
    }

    /// Shows what there is to be seen.
    pub(super) fn update(&mut self, elapsed: Duration, tale: &DemoStats) -> io::Result<()> {
        if !self.out.is_term() {
            return self.out.write_line(&line(elapsed, tale));
        }
        let width = usize::from(self.out.size().1);
        let lines = page(tale);
        self.out.clear_last_lines(self.line_count)?;
        for line in &lines {
            self.out.write_line(&truncate_str(line, width.saturating_sub(1), "…"))?;
        }
        self.line_count = lines.len();
        Ok(())
    }

    /// Says what came of it all.
    pub(super) fn print_summary(&self, summary: &DemoSummary) -> io::Result<()> {
        summing_up(summary).iter().try_for_each(|line| self.out.write_line(line))
    }
}

/// All on one line.
fn line(elapsed: Duration, tale: &DemoStats) -> String {
    let now = tale.curve().last().copied().unwrap_or_default();
    let trend = tale.trends.last().map_or_else(String::new, |trend| format!("  trend {}", found(trend)));
    let new = if tale.new_item_count > 0 { format!("  new {:.1} % of recommended", tale.new_item_share() * 100.0) } else { String::new() };
    format!(
        "{:>4} s  events {:>7}  {:>6.0}/s  Recall@20 {:.3}  MRR@20 {:.3}{new}{trend}",
        elapsed.as_secs(),
        tale.events,
        tale.events_per_second(),
        now.recall_at_20,
        now.mrr_at_20
    )
}

fn page(tale: &DemoStats) -> Vec<String> {
    let curve = tale.curve();
    let now = curve.last().copied().unwrap_or_default();
    let spark = |value: fn(&DemoFigures) -> f64| sparkline(&curve.iter().map(value).collect::<Vec<_>>());
    let row = |name: &str, text: String| format!("  {name:<14}{text}");
    let behind = if tale.lag_entries == 0 { String::new() } else { format!("   learning is {} behind", tale.lag_entries) };
    let mut lines = vec![
        String::new(),
        row("events", format!("{:<8} {:.0}/s{behind}", HumanCount(tale.events).to_string(), tale.events_per_second())),
        row("Recall@20", format!("{:.3}    {}", now.recall_at_20, style(spark(|figures| figures.recall_at_20)).cyan())),
        row("MRR@20", format!("{:.3}    {}", now.mrr_at_20, style(spark(|figures| figures.mrr_at_20)).cyan())),
    ];
    if let Some(trend) = tale.trends.last() {
        lines.push(row("a trend", found(trend)));
    }
    let hot = |item: &String| {
        let wanted = tale.trends.last().is_some_and(|trend| trend.items.contains(item));
        if wanted { style(item).yellow().bold().to_string() } else { item.clone() }
    };
    lines.push(row("trending", tale.trending.iter().take(8).map(hot).collect::<Vec<_>>().join("  ")));
    if tale.new_item_count > 0 {
        let share = tale.new_item_share() * 100.0;
        lines.push(row(
            "new items",
            format!("{} arrived; {share:.1} % of what was recommended is new", HumanCount(tale.new_item_count as u64)),
        ));
    }
    if let Some(example) = &tale.example {
        lines.push(row(&truncate_str(&example.user, 13, "…"), format!("looked at  {}", example.recent_items.join(" › "))));
        lines.push(row("", format!("may like   {}", style(example.recommended_items.join("  ")).green())));
    }
    lines
}

fn found(trend: &TrendProgress) -> String {
    let TrendProgress { items, since_event, found_after_events } = trend;
    let items = items.join(", ");
    match found_after_events {
        Some(after) => format!("{items} from event {} on: found after {}", HumanCount(*since_event), HumanCount(*after)),
        None => format!("{items} from event {} on: not found yet", HumanCount(*since_event)),
    }
}

fn summing_up(summary: &DemoSummary) -> Vec<String> {
    let (events, steps) = (HumanCount(summary.events), HumanCount(summary.steps));
    let mut lines = vec![String::new(), format!("{events} events in {:.0} s, {steps} of them tests before they taught", summary.seconds)];
    if let (Some(first), Some(last)) = (summary.first_tenth, summary.last_tenth) {
        lines.push(format!("  Recall@20  {:.3} in the first tenth, {:.3} in the last", first.recall_at_20, last.recall_at_20));
        lines.push(format!("  MRR@20     {:.3} in the first tenth, {:.3} in the last", first.mrr_at_20, last.mrr_at_20));
    }
    lines.extend(summary.trends.iter().map(|trend| format!("  trend      {}", found(trend))));
    let new = &summary.new_items;
    if new.arrived > 0 {
        let share = new.share_of_recommended * 100.0;
        lines.push(format!(
            "  new items  {} arrived, {} of them were recommended: {share:.1} % of all recommended",
            new.arrived, new.recommended
        ));
    }
    let given = &summary.recommendations;
    let clicked = if given.clicked > 0 { format!(", {} of their items clicked", HumanCount(given.clicked)) } else { String::new() };
    lines.push(format!("  lists      {} given{clicked}", HumanCount(given.answered)));
    lines
}

/// A curve in one line of text, from 0 to the highest value; where there are too many values, their
/// means.
fn sparkline(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(1e-9, f64::max);
    let level = |value: f64| LEVELS.get(((value / highest * 8.0) as usize).min(7)).copied().unwrap_or(' ');
    let stretch = values.len().div_ceil(COLUMNS).max(1);
    values.chunks(stretch).map(|values| level(values.iter().sum::<f64>() / values.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_spans_from_nothing_to_its_highest() {
        assert_eq!(sparkline(&[0.0, 0.2, 0.4]), "▁▅█");
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[0.5; 1_000]).chars().count(), 48);
    }
}
