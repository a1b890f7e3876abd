//! Conversion of steps to network inputs and training windows.

use crate::domain::{EventKinds, Step};
use crate::nn::{StepInput, TrainingPosition, TrainingWindow, gap_bucket};

/// Returns the network input of the step at `index`. The gap is the time since the previous step;
/// the first step has gap 0.
#[must_use]
pub(super) fn step_input(steps: &[Step], index: usize) -> Option<StepInput> {
    let step = steps.get(index)?;
    let before = index.checked_sub(1).and_then(|before| steps.get(before));
    let gap = before.map_or(0, |before| gap_bucket(step.at.saturating_sub(before.at)));
    Some(StepInput { item: step.item, kind: step.kind, gap_bucket: gap, starts_session: step.starts_session })
}

/// Returns the training window over the last steps, with at most `max_positions` positions. The
/// target of a position is the target item of the next step, if that step has one. The weight of a
/// target is that of the step's kind. Returns `None` if no position has a target.
#[must_use]
pub(super) fn training_window(
    session: u64,
    steps: &[Step],
    kinds: &EventKinds,
    max_positions: usize,
) -> Option<TrainingWindow> {
    let last = steps.len().checked_sub(1)?;
    let first = last.saturating_sub(max_positions);
    let positions: Vec<TrainingPosition> = (first..last)
        .filter_map(|index| {
            let next = steps.get(index + 1)?;
            let target = next.target_item(kinds);
            Some(TrainingPosition { input: step_input(steps, index)?, target, weight: kinds.weight_of(next.kind) })
        })
        .collect();
    positions.iter().any(|position| position.target.is_some()).then_some(TrainingWindow { session, positions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventKind, KindRule};

    fn steps_of_kinds(kinds: &EventKinds, items: &[(u32, EventKind)]) -> Vec<Step> {
        let step = |(at, (item, kind)): (usize, &(u32, EventKind))| Step {
            item: Some(*item),
            kind: kinds.id_of(kind).unwrap(),
            starts_session: at == 0,
            at: at as i64 * 1000,
            value: 1.0,
        };
        items.iter().enumerate().map(step).collect()
    }

    #[test]
    fn non_target_kind_is_an_input_but_not_a_target() {
        let kinds = EventKinds::default();
        let steps = steps_of_kinds(&kinds, &[(1, EventKind::View), (2, EventKind::Dismiss), (3, EventKind::View)]);
        let window = training_window(7, &steps, &kinds, 20).unwrap();
        let targets: Vec<_> = window.positions.iter().map(|position| position.target).collect();
        assert_eq!(targets, [None, Some(3)]);
        assert_eq!(window.positions[1].input.item, Some(2));
    }

    #[test]
    fn a_target_has_the_weight_of_its_kind() {
        let mut kinds = EventKinds::default();
        let rule = KindRule { weight: 5.0, ..KindRule::new(&EventKind::Purchase, true, 1.0) };
        kinds.set_rule(EventKind::Purchase, rule);
        let steps = steps_of_kinds(&kinds, &[(1, EventKind::View), (2, EventKind::Purchase), (3, EventKind::View)]);
        let window = training_window(7, &steps, &kinds, 20).unwrap();
        assert_eq!(window.positions.iter().map(|position| position.weight).collect::<Vec<_>>(), [5.0, 1.0]);
    }

    #[test]
    fn a_training_window_contains_only_the_last_positions() {
        let kinds = EventKinds::default();
        let steps = steps_of_kinds(&kinds, &(0..40).map(|item| (item, EventKind::View)).collect::<Vec<_>>());
        let window = training_window(7, &steps, &kinds, 5).unwrap();
        assert_eq!(window.positions.len(), 5);
        assert_eq!(window.positions[4].target, Some(39));
        assert_eq!(window.positions[0].input.item, Some(34));
    }

    #[test]
    fn a_single_event_gives_no_training_window() {
        let kinds = EventKinds::default();
        assert!(training_window(7, &steps_of_kinds(&kinds, &[(1, EventKind::View)]), &kinds, 20).is_none());
        assert!(training_window(7, &[], &kinds, 20).is_none());
    }
}
