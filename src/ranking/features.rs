//! What the ranker is told of each candidate and of the moment.

use super::lanes::ln;
use super::Mood;
use crate::recall::{CHANNELS, Channel, FACTS, Moment, Slate};

/// Features of a candidate.
pub const ITEM: usize = CHANNELS + CHANNELS + FACTS;
/// Features of a moment.
pub const MOMENT: usize = 3 * CHANNELS;

/// The features of one moment.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// `(candidates, ITEM)`
    pub items: Vec<[f32; ITEM]>,
    /// The moment's
    pub moment: Vec<f32>,
}

impl Features {
    /// Fills them.
    pub fn fill(&mut self, slate: &Slate, moment: &Moment<'_>, mood: &Mood) {
        pulp::Arch::new().dispatch(Fill { features: self, slate, moment, mood });
    }
}

#[inline(always)]
fn fill(features: &mut Features, slate: &Slate, moment: &Moment<'_>, mood: &Mood) {
    let totals = slate.totals();
    let mut scale = [0.0f32; CHANNELS];
    for (scale, total) in scale.iter_mut().zip(totals) {
        *scale = if *total > 0.0 { 1.0 / total } else { 0.0 };
    }
    features.items.clear();
    features.items.resize(slate.len(), [0.0; ITEM]);
    for ((_, evidence, facts), out) in slate.rows().zip(&mut features.items) {
        for lane in 0..CHANNELS {
            out[lane] = (ln(evidence[lane] * scale[lane] + 1e-4) + 9.210_34) * 0.2;
        }
        for lane in 0..CHANNELS {
            out[CHANNELS + lane] = ln(1.0 + evidence[lane]) * 0.3;
        }
        let mut named = 0.0;
        for lane in 0..CHANNELS {
            named += f32::from(evidence[lane] > 0.0);
        }
        out[2 * CHANNELS..].copy_from_slice(facts);
        out[2 * CHANNELS + crate::recall::Fact::Named as usize] = named * 0.1;
        out[2 * CHANNELS + crate::recall::Fact::Neighbours as usize] = evidence[Channel::Holders as usize] * 0.1;
    }
    let out = &mut features.moment;
    out.clear();
    out.extend(totals.iter().map(|total| ln(1.0 + total) * 0.3));
    out.extend(mood.given);
    out.resize(MOMENT, 0.0);
    let misc = &mut out[2 * CHANNELS..];
    misc[0] = (1.0 + moment.steps.len() as f32).ln() * 0.3;
    let mut recent = moment.recent();
    let (last, before) = (recent.next(), recent.next());
    misc[1] = f32::from(last.is_some() && moment.recent().skip(1).any(|item| Some(item) == last));
    misc[2] = f32::from(last.is_some() && last == before);
    if let [.., a, b] = moment.steps {
        misc[3] = (1.0 + (b.at - a.at).max(0) as f32 / 1000.0).ln() * 0.15;
    }
    misc[4] = mood.repeats;
    misc[5] = mood.hits;
}

struct Fill<'a> {
    features: &'a mut Features,
    slate: &'a Slate,
    moment: &'a Moment<'a>,
    mood: &'a Mood,
}

impl pulp::NullaryFnOnce for Fill<'_> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        fill(self.features, self.slate, self.moment, self.mood);
    }
}
