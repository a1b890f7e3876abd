//! What the ranker is told of each candidate and of the moment.

use super::Mood;
use crate::candidates::lanes::ln;
use crate::candidates::{CHANNELS, Channel, FACTS, Fact, Moment, Slate};

/// Features of a candidate: the logarithm of its share on each channel, of the weight behind it, and the facts.
pub const ITEM: usize = 2 * CHANNELS + FACTS;
/// Features of a moment: on each channel the evidence, the largest share and the session's mood; the facts of the last item; the session's shape.
pub const MOMENT: usize = 3 * CHANNELS + FACTS + SHAPE;
/// Features of a session's shape.
const SHAPE: usize = 8;

/// The features of one moment, reused from moment to moment.
#[derive(Debug, Clone)]
pub struct Features {
    /// `(candidates, ITEM)`, all about 0 to 2.
    pub raw: Vec<[f32; ITEM]>,
    /// `(MOMENT)`, all about 0 to 2.
    pub raw_moment: [f32; MOMENT],
    /// `(candidates, ITEM)`, brought to one scale: what the ranker sees.
    pub items: Vec<[f32; ITEM]>,
    /// `(MOMENT)`, likewise.
    pub moment: [f32; MOMENT],
}

impl Default for Features {
    fn default() -> Self {
        Self { raw: Vec::new(), raw_moment: [0.0; MOMENT], items: Vec::new(), moment: [0.0; MOMENT] }
    }
}

impl Features {
    /// Computes the raw features of the slate's kept candidates. `confidence` is the network's largest log-probability, if there is a network.
    pub fn fill(&mut self, slate: &Slate, moment: &Moment<'_>, mood: &Mood, confidence: Option<f32>) {
        pulp::Arch::new().dispatch(Items { raw: &mut self.raw, slate });
        let mut recent = moment.recent();
        let (last, before) = (recent.next(), recent.next());
        let gap = match moment.steps {
            [.., before, last] => last.at.saturating_sub(before.at).max(0) as f32 / 1000.0,
            _ => 0.0,
        };
        let shape: [f32; SHAPE] = [
            ln(1.0 + moment.steps.len() as f32) * 0.3,
            f32::from(last.is_some() && moment.recent().skip(1).any(|item| Some(item) == last)),
            f32::from(last.is_some() && last == before),
            ln(1.0 + gap) * 0.15,
            mood.repeats,
            mood.held,
            confidence.map_or(0.0, |log_probability| (log_probability.max(-12.0) + 12.0) / 12.0),
            f32::from(moment.steps.last().is_some_and(|step| step.boundary)),
        ];
        let evidence = slate.totals().iter().map(|total| ln(1.0 + total) * 0.3);
        let best = self.raw.iter().fold([0.0f32; CHANNELS], |mut best, item| {
            best.iter_mut().zip(item).for_each(|(best, share)| *best = best.max(*share));
            best
        });
        let facts = last.and_then(|last| self.raw.get(slate.position(last)?)?.last_chunk()).copied().unwrap_or([0.0; FACTS]);
        for (out, x) in self.raw_moment.iter_mut().zip(evidence.chain(best).chain(mood.given).chain(facts).chain(shape)) {
            *out = x;
        }
    }
}

struct Items<'a> {
    raw: &'a mut Vec<[f32; ITEM]>,
    slate: &'a Slate,
}

impl pulp::NullaryFnOnce for Items<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { raw, slate } = self;
        let scale = slate.totals().map(|total| if total > 0.0 { 1.0 / total } else { 0.0 });
        let (mut plain, mut logarithmic) = ([0.0; FACTS], [0.0; FACTS]);
        for fact in Fact::ALL {
            (plain[fact as usize], logarithmic[fact as usize]) = fact.scale();
        }
        raw.clear();
        raw.resize(slate.len(), [0.0; ITEM]);
        for ((evidence, facts, named), out) in slate.rows().zip(raw) {
            for lane in 0..CHANNELS {
                // From 0 for a share of nothing to 1.84 for all.
                out[lane] = (ln(evidence[lane] * scale[lane] + 1e-4) + 9.210_34) * 0.2;
            }
            for lane in 0..CHANNELS {
                out[CHANNELS + lane] = ln(1.0 + evidence[lane]) * 0.3;
            }
            let mut facts = *facts;
            facts[Fact::Named as usize] = named as f32;
            facts[Fact::Holders as usize] = evidence[Channel::Holders as usize];
            for lane in 0..FACTS {
                out[2 * CHANNELS + lane] = plain[lane] * facts[lane] + logarithmic[lane] * ln(1.0 + facts[lane]);
            }
        }
    }
}
