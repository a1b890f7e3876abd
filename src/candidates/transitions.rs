//! What follows what: item-to-item transitions.

use super::{Channel, Moment, Row, Rows, Slate, Source};
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Transitions over a window, over the next step alone, and their reverse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transitions {
    window: Rows,
    next: Rows,
    reverse: Rows,
    /// Items remembered per row.
    capacity: usize,
}

/// How many steps back an event is counted as following.
const WINDOW: usize = 10;
/// Each further step back weighs this much less in the sum over the session.
const STEP_BACK: f32 = 0.8;

impl Transitions {
    /// Rows of at most `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { window: Rows::default(), next: Rows::default(), reverse: Rows::default(), capacity }
    }
}

/// Adds a row's items to the slate on several channels at once, each with its factor.
fn pour<const N: usize>(row: Option<&Row>, channels: [(Channel, f32); N], slate: &mut Slate) {
    let Some(row) = row else { return };
    for (item, weight) in row.iter() {
        slate.add_all(item, channels.map(|(channel, factor)| (channel, factor * weight)));
    }
    for (channel, factor) in channels {
        slate.weigh(channel, factor * row.total());
    }
}

impl Source for Transitions {
    fn name(&self) -> SourceName {
        SourceName::Transitions
    }

    fn learn(&mut self, moment: &Moment<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for (distance, before) in moment.recent().take(WINDOW).enumerate() {
            let weight = 1.0 / (distance + 1) as f32;
            self.window.change(before, |row| {
                row.age(0.99);
                row.add(item, weight, self.capacity);
            });
            self.reverse.change(item, |row| {
                if distance == 0 {
                    row.age(0.95);
                }
                row.add(before, weight, self.capacity);
            });
            if distance == 0 {
                self.next.change(before, |row| {
                    row.age(0.95);
                    row.add(item, 1.0, self.capacity);
                });
            }
        }
    }

    fn dismiss(&mut self, moment: &Moment<'_>, item: ItemIx) {
        if let Some(last) = moment.recent().next() {
            self.window.change(last, |row| row.halve(item));
            self.next.change(last, |row| row.halve(item));
        }
    }

    fn gather(&self, moment: &Moment<'_>, slate: &mut Slate) {
        let mut factor = 1.0;
        for (back, item) in moment.recent().take(WINDOW).enumerate() {
            let row = self.window.get(item);
            match back {
                0 => {
                    pour(row, [(Channel::Windows, factor), (Channel::Window, 1.0)], slate);
                    pour(self.next.get(item), [(Channel::Next, 1.0)], slate);
                    pour(self.reverse.get(item), [(Channel::Reverse, 1.0)], slate);
                }
                1 => pour(row, [(Channel::Windows, factor), (Channel::Previous, 1.0)], slate),
                _ => pour(row, [(Channel::Windows, factor)], slate),
            }
            factor *= STEP_BACK;
        }
    }

    fn entries(&self) -> usize {
        self.window.len()
    }

    fn bytes(&self) -> usize {
        self.window.bytes() + self.next.bytes() + self.reverse.bytes()
    }
}
