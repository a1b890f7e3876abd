//! From a sequence of steps to what the network reads.

use crate::domain::{Kinds, Step};
use crate::nn::{Input, Position, Window, gap_bucket};

/// What the network reads of the step at `place`: the gap is that to the step before it, none for the oldest one remembered.
#[must_use]
pub(super) fn input(steps: &[Step], place: usize) -> Option<Input> {
    let step = steps.get(place)?;
    let before = place.checked_sub(1).and_then(|before| steps.get(before));
    let gap = before.map_or(0, |before| gap_bucket(step.at.saturating_sub(before.at)));
    Some(Input { item: step.item, kind: step.kind, gap, boundary: step.boundary })
}

/// The training window over the last steps: at most `most` positions, each with the step after it as its target if that was a choice.
/// `None` if there is nothing to predict in it.
#[must_use]
pub(super) fn training_window(session: u64, steps: &[Step], kinds: &Kinds, most: usize) -> Option<Window> {
    let last = steps.len().checked_sub(1)?;
    let first = last.saturating_sub(most);
    let positions: Vec<Position> = (first..last)
        .filter_map(|place| {
            let next = steps.get(place + 1)?;
            let target = next.item.filter(|_| kinds.rule(next.kind).target);
            Some(Position { input: input(steps, place)?, target, value: next.value })
        })
        .collect();
    positions.iter().any(|position| position.target.is_some()).then_some(Window { session, positions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    fn steps(kinds: &Kinds, items: &[(u32, Kind)]) -> Vec<Step> {
        let step = |(at, (item, kind)): (usize, &(u32, Kind))| Step {
            item: Some(*item),
            kind: kinds.id(kind).unwrap(),
            boundary: at == 0,
            at: at as i64 * 1000,
            value: 1.0,
        };
        items.iter().enumerate().map(step).collect()
    }

    #[test]
    fn a_kind_that_only_informs_is_an_input_and_no_target() {
        let kinds = Kinds::default();
        let steps = steps(&kinds, &[(1, Kind::View), (2, Kind::Dismiss), (3, Kind::View)]);
        let window = training_window(7, &steps, &kinds, 20).unwrap();
        let targets: Vec<_> = window.positions.iter().map(|position| position.target).collect();
        assert_eq!(targets, [None, Some(3)]);
        assert_eq!(window.positions[1].input.item, Some(2));
    }

    #[test]
    fn the_window_holds_the_last_positions_only() {
        let kinds = Kinds::default();
        let steps = steps(&kinds, &(0..40).map(|item| (item, Kind::View)).collect::<Vec<_>>());
        let window = training_window(7, &steps, &kinds, 5).unwrap();
        assert_eq!(window.positions.len(), 5);
        assert_eq!(window.positions[4].target, Some(39));
        assert_eq!(window.positions[0].input.item, Some(34));
    }

    #[test]
    fn one_event_teaches_nothing() {
        let kinds = Kinds::default();
        assert!(training_window(7, &steps(&kinds, &[(1, Kind::View)]), &kinds, 20).is_none());
        assert!(training_window(7, &[], &kinds, 20).is_none());
    }
}
