//! The session's own items, and how often an item is chosen again once seen.

use super::{Channel, Fact, Moment, Slate, Source};
use crate::domain::{Pages, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Per item: how often it came, and how often as a repetition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Own {
    items: Pages<(f32, f32), 64>,
}

impl Source for Own {
    fn name(&self) -> SourceName {
        SourceName::Session
    }

    fn learn(&mut self, moment: &Moment<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        if item as usize >= self.items.len() {
            self.items.grow(item as usize + 1, Default::default);
        }
        if let Some((came, repeated)) = self.items.get_mut(item as usize) {
            *came += 1.0;
            if moment.recent().any(|seen| seen == item) {
                *repeated += 1.0;
            }
        }
    }

    fn gather(&self, moment: &Moment<'_>, slate: &mut Slate) {
        let mut weight = 1.0;
        for item in moment.recent() {
            slate.add(item, Channel::Own, weight);
            slate.weigh(Channel::Own, weight);
            weight *= 0.8;
        }
    }

    fn describe(&self, moment: &Moment<'_>, slate: &mut Slate) {
        let last = moment.recent().next();
        for (item, evidence, facts) in slate.describe() {
            let rate = self.items.get(item as usize).map_or(0.0, |(came, repeated)| (repeated + 0.5) / (came + 2.0));
            facts[Fact::Repeated as usize] = rate;
            facts[Fact::Last as usize] = f32::from(Some(item) == last);
            if evidence[Channel::Own as usize] > 0.0 {
                let place = moment.recent().position(|seen| seen == item).unwrap_or(0);
                let times = moment.recent().filter(|seen| *seen == item).count();
                facts[Fact::Seen as usize] = 1.0;
                facts[Fact::Place as usize] = 1.0 / (place + 1) as f32;
                facts[Fact::Times as usize] = times as f32;
                facts[Fact::SeenRepeated as usize] = rate;
                facts[Fact::BeforeLast as usize] = f32::from(place == 1);
            }
        }
    }

    fn entries(&self) -> usize {
        self.items.len()
    }

    fn bytes(&self) -> usize {
        self.items.len() * size_of::<(f32, f32)>()
    }
}
