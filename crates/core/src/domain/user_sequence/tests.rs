use super::*;
use crate::domain::{EventKind, EventKinds, Expiry, KindId};
use proptest::prelude::*;

fn step(at: Timestamp) -> Step {
    Step { item: Some(1), kind: 0, starts_session: false, at, value: 1.0 }
}

/// The times of the steps by session.
fn sessions(sequence: &UserSequence) -> Vec<Vec<Timestamp>> {
    let times = |session: Range<usize>| sequence.steps[session].iter().map(|step| step.at).collect();
    sequence.sessions().into_iter().map(times).collect()
}

#[test]
fn an_idle_gap_or_a_new_id_starts_a_session() {
    let mut sequence = UserSequence::default();
    let mut starts = |offset, at, id| sequence.push(offset, step(at), id, 10).starts_session();
    assert!(starts(0, 0, Some("a")));
    assert!(!starts(1, 10, Some("a")), "a gap of exactly the limit does not start a session");
    assert!(starts(2, 21, Some("a")));
    assert!(starts(3, 22, Some("b")));
    assert!(!starts(4, 23, None), "an event without an id belongs to the current session");
    assert_eq!((sequence.session_number, sequence.session_start), (3, 3));
    assert_eq!(sequence.current_session().len(), 2);
}

#[test]
fn only_the_last_steps_are_kept() {
    let mut sequence = UserSequence::default();
    for at in 0..200 {
        sequence.push(at as u64, step(at), None, 10);
    }
    assert_eq!(sequence.steps.len(), UserSequence::MAX_STEPS);
    assert_eq!(sequence.steps[0].at, 150);
    assert_eq!(
        sequence.current_session().len(),
        UserSequence::MAX_STEPS,
        "the session start itself has left the window"
    );
}

#[test]
fn late_events_form_a_session_of_their_own_and_the_current_one_goes_on() {
    let mut sequence = UserSequence::default();
    for (offset, at) in [1_000, 1_001, 500, 501, 1_002, 502].into_iter().enumerate() {
        sequence.push(offset as u64, step(at), None, 10);
    }
    assert_eq!(sessions(&sequence), [vec![500, 501, 502], vec![1_000, 1_001, 1_002]]);
    assert_eq!((sequence.session_number, sequence.session_start), (2, 0));
    assert_eq!(
        sequence.earlier_sessions,
        [EarlierSession { sessions_after: 1, session_start: 2, session_id: None, is_late: true }]
    );
    let placement = sequence.place(503, None, 10);
    assert_eq!((placement.session_start, placement.session_end), (Some(2), 4));
    assert_eq!(placement.preceding(&sequence).len(), 3);
}

#[test]
fn two_ids_in_turn_are_two_sessions() {
    let mut sequence = UserSequence::default();
    let mut placements = Vec::new();
    for (offset, (at, id)) in [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "a"), (5, "b")].into_iter().enumerate() {
        placements.push(sequence.push(offset as u64, step(at), Some(id), 10));
    }
    assert_eq!(sessions(&sequence), [vec![0, 2, 4], vec![1, 3, 5]]);
    assert_eq!((sequence.session_number, sequence.session_start, sequence.session_id.as_deref()), (2, 1, Some("b")));
    assert_eq!(placements.iter().filter(|placement| placement.starts_session()).count(), 2);
    assert_eq!(placements[2].session_start, Some(0));
    // After an idle gap, the id starts a new session.
    assert!(sequence.push(6, step(15), Some("b"), 10).continues_current);
    assert!(sequence.push(7, step(16), Some("a"), 10).starts_session());
    assert_eq!(sessions(&sequence), [vec![0, 2, 4], vec![1, 3, 5, 15], vec![16]]);
}

#[test]
fn a_late_event_joins_the_session_of_its_id() {
    let mut sequence = UserSequence::default();
    for (offset, (at, id)) in
        [(0, Some("a")), (3, Some("b")), (8, Some("b")), (5, Some("a")), (4, None), (1, Some("c"))]
            .into_iter()
            .enumerate()
    {
        sequence.push(offset as u64, step(at), id, 10);
    }
    assert_eq!(sessions(&sequence), [vec![1], vec![0, 5], vec![3, 4, 8]]);
    assert_eq!((sequence.session_number, sequence.session_start), (3, 1));
    // The session of the late event goes on.
    assert!(!sequence.push(6, step(9), Some("c"), 10).starts_session());
    assert_eq!(sessions(&sequence), [vec![0, 5], vec![3, 4, 8], vec![1, 9]]);
    assert_eq!(sequence.session_start, 5);
}

#[test]
fn an_event_older_than_all_remembered_steps_is_left_out() {
    let mut sequence = UserSequence::default();
    (100..150).for_each(|at| {
        sequence.push(at as u64, step(at), None, 10);
    });
    let before = sequence.clone();
    let placement = sequence.push(200, step(99), None, 10);
    assert!(!placement.is_kept && placement.starts_session() && !placement.is_current);
    assert_eq!(sequence, before);
    sequence.push(201, step(100), None, 10);
    assert_eq!((sequence.steps.len(), sequence.steps[0].at), (50, 100));
}

#[test]
fn the_number_of_remembered_sessions_is_bounded() {
    let mut sequence = UserSequence::default();
    for at in 0..40 {
        sequence.push(at as u64, step(at), Some(&format!("s{at}")), 1_000);
    }
    assert_eq!(sequence.earlier_sessions.len(), UserSequence::MAX_EARLIER_SESSIONS);
    assert_eq!(sequence.earlier_sessions[0].session_id.as_deref(), Some("s38"));
    assert!(!sequence.push(40, step(40), Some("s31"), 1_000).starts_session());
    assert!(sequence.push(41, step(41), Some("s3"), 1_000).starts_session());
    let mut late = UserSequence::default();
    late.push(0, step(10_000), None, 10);
    (1..40).for_each(|n| {
        late.push(n, step(10_000 - 100 * n as i64), None, 10);
    });
    assert_eq!((late.sessions().len(), late.earlier_sessions.len()), (40, UserSequence::MAX_EARLIER_SESSIONS));
}

/// Builds a sequence from events in this order.
fn sequence_of(events: &[(u64, i64)]) -> UserSequence {
    let mut sequence = UserSequence::default();
    for (offset, at) in events {
        sequence.push(*offset, step(*at), None, 10);
    }
    sequence
}

/// Checks the invariants of every sequence.
fn check_invariants(sequence: &UserSequence) {
    let sessions = sessions(sequence);
    assert!(sequence.steps.len() <= UserSequence::MAX_STEPS);
    assert!(sessions.iter().all(|times| times.is_sorted()), "{sessions:?}");
    assert!(sessions.is_sorted_by_key(|times| times.last().copied()), "{sessions:?}");
    assert!(sequence.earlier_sessions.len() <= UserSequence::MAX_EARLIER_SESSIONS);
    let mut numbers: Vec<u32> = sequence.earlier_sessions.iter().map(|earlier| earlier.sessions_after).collect();
    assert!(
        numbers.iter().all(|after| (1..sessions.len() as u32).contains(after)),
        "{numbers:?} of {}",
        sessions.len()
    );
    assert!(numbers.is_sorted(), "{numbers:?}");
    numbers.dedup();
    assert_eq!(numbers.len(), sequence.earlier_sessions.len());
}

proptest! {
    #[test]
    fn merged_users_equal_one_user_with_all_events(gaps in proptest::collection::vec((0_i64..16, any::<bool>()), 0..120)) {
        let mut at = 0;
        // All times differ, so that the order is unique.
        let events: Vec<_> = (0_u64..).zip(gaps).map(|(offset, (gap, own))| { at += gap + 1; (offset, at, own) }).collect();
        let of = |wanted: &dyn Fn(bool) -> bool| -> Vec<_> {
            events.iter().filter(|(_, _, own)| wanted(*own)).map(|(offset, at, _)| (*offset, *at)).collect()
        };
        let mut merged = sequence_of(&of(&|own| own));
        merged.merge(&sequence_of(&of(&|own| !own)), 10);
        let one = sequence_of(&of(&|_| true));
        prop_assert_eq!(&merged.steps, &one.steps);
        if events.len() <= UserSequence::MAX_STEPS {
            prop_assert_eq!(merged.session_number, one.session_number);
        }
        let current = merged.current_session().len();
        if current < UserSequence::MAX_STEPS {
            let names: Vec<_> = events.iter().rev().take(current).map(|(offset, ..)| *offset).collect();
            prop_assert!(names.is_empty() || names.contains(&merged.session_start), "the session start is one of its events: {} of {:?}", merged.session_start, names);
        }
    }

    #[test]
    fn order_of_arrival_does_not_matter(
        gaps in proptest::collection::vec((0_i64..16, any::<bool>()), 1..50),
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let mut at = 0;
        let in_order: Vec<_> = (0_u64..).zip(gaps).map(|(offset, (gap, own))| { at += gap + 1; (offset, at, own) }).collect();
        let mut shuffled = in_order.clone();
        for (a, b) in swaps {
            shuffled.swap(a.index(in_order.len()), b.index(in_order.len()));
        }
        let all = |events: &[(u64, i64, bool)]| sequence_of(&events.iter().map(|(offset, at, _)| (*offset, *at)).collect::<Vec<_>>());
        let (one, late) = (all(&in_order), all(&shuffled));
        check_invariants(&late);
        prop_assert_eq!(&one.steps, &late.steps);
        prop_assert_eq!(one.session_number, late.session_number);
        // The same holds for a merge of two users whose events came late.
        let part = |wanted: bool| all(&shuffled.iter().filter(|(.., own)| *own == wanted).copied().collect::<Vec<_>>());
        let mut merged = part(true);
        merged.merge(&part(false), 10);
        check_invariants(&merged);
        prop_assert_eq!(&one.steps, &merged.steps);
        prop_assert_eq!(one.session_number, merged.session_number);
    }

    #[test]
    fn invariants_hold_with_ids_merges_and_expiry(
        events in proptest::collection::vec((-30_i64..20, 0_u8..4, any::<bool>(), 0_u8..40), 1..150),
    ) {
        let (mut now, mut one, mut two) = (0, UserSequence::default(), UserSequence::default());
        for (offset, (gap, id, own, act)) in (0_u64..).zip(events) {
            now += gap.max(0);
            let id = ["", "a", "b", "c"][usize::from(id)];
            let id = Some(id).filter(|id| !id.is_empty());
            let user = if own { &mut one } else { &mut two };
            let before = user.clone();
            let placement = user.push(offset, step(now + gap.min(0)), id, 10);
            if placement.is_kept {
                prop_assert_eq!(placement.is_current, placement.session_end == user.steps.len());
                prop_assert_eq!(user.steps.iter().filter(|step| step.at == now + gap.min(0)).count() > 0, true);
                let (sessions, start) = (user.sessions(), placement.preceding(&before).len());
                let session = sessions.iter().find(|session| session.end == placement.session_end);
                prop_assert!(session.is_some(), "{:?} {:?}", placement, sessions);
                prop_assert!(start <= session.unwrap().len());
            } else {
                prop_assert_eq!(&before, &*user);
            }
            match act {
                0 => { one.merge(&two.clone(), 10); two = UserSequence::default(); check_invariants(&one); }
                1 => {
                    let cutoffs = crate::domain::Expiry { events: vec![(crate::domain::EventKind::View, now - 15)], ..Default::default() }.cutoffs(&crate::domain::EventKinds::default());
                    one.expire(&cutoffs);
                    let numbers: Vec<_> = one.earlier_sessions.iter().map(|earlier| earlier.sessions_after as usize).collect();
                    prop_assert!(numbers.iter().all(|after| *after > 0 && *after < one.sessions().len()));
                }
                _ => {}
            }
            check_invariants(&one);
            check_invariants(&two);
        }
    }
}

#[test]
fn a_start_by_id_stays_and_the_session_id_is_that_of_the_last_step() {
    let mut ann = UserSequence::default();
    ann.push(0, step(0), Some("a"), 10);
    ann.push(1, step(5), Some("b"), 10);
    let mut anon = UserSequence::default();
    anon.push(2, step(3), Some("c"), 10);
    anon.push(3, step(9), None, 10);
    ann.merge(&anon, 10);
    assert_eq!(
        ann.steps.iter().map(|step| (step.at, step.starts_session)).collect::<Vec<_>>(),
        [(0, true), (3, false), (5, true), (9, false)]
    );
    assert_eq!((ann.session_number, ann.session_start, ann.session_id.as_deref()), (2, 1, Some("c")));
    let before = ann.clone();
    ann.merge(&UserSequence::default(), 10);
    assert_eq!(ann, before);
}

/// A step of a kind on an item, with a value.
fn step_of(item: u32, kind: KindId, value: f32, at: Timestamp) -> Step {
    Step { item: Some(item), kind, starts_session: false, at, value }
}

#[test]
fn dismissals_and_purchases_outlive_the_steps() {
    let kinds = EventKinds::default();
    assert_eq!(kinds.id_of(&EventKind::Purchase), Some(EventKinds::PURCHASE));
    let dismiss = kinds.id_of(&EventKind::Dismiss).unwrap();
    let mut sequence = UserSequence::default();
    let push = |sequence: &mut UserSequence, step: Step| {
        sequence.push(step.at as u64, step, None, 10);
    };
    push(&mut sequence, step_of(7, dismiss, -1.0, 0));
    push(&mut sequence, step_of(8, EventKinds::PURCHASE, 5.0, 1));
    push(&mut sequence, step_of(9, dismiss, -1.0, 2));
    push(&mut sequence, step_of(9, 0, 1.0, 3));
    push(&mut sequence, step_of(7, dismiss, -1.0, 4));
    (10..70).for_each(|at| push(&mut sequence, step_of(1, 0, 1.0, at)));
    let kept =
        |sequence: &UserSequence| sequence.kept_steps.iter().map(|step| (step.item, step.at)).collect::<Vec<_>>();
    assert_eq!(kept(&sequence), [(Some(8), 1), (Some(7), 4)], "item 9 was selected again");
    // A dismissal that comes too late for the steps is kept, too.
    push(&mut sequence, step_of(6, dismiss, -1.0, 3));
    push(&mut sequence, step_of(7, dismiss, -1.0, 2));
    assert_eq!(kept(&sequence), [(Some(8), 1), (Some(6), 3), (Some(7), 4)]);
    let mut other = UserSequence::default();
    push(&mut other, step_of(7, 0, 1.0, 5));
    push(&mut other, step_of(5, EventKinds::PURCHASE, 5.0, 6));
    (10..70).for_each(|at| push(&mut other, step_of(2, 0, 1.0, at)));
    let mut merged = other.clone();
    merged.merge(&sequence, 10);
    sequence.merge(&other, 10);
    // The view of item 7 is no step any more.
    assert_eq!(kept(&sequence), [(Some(8), 1), (Some(6), 3), (Some(7), 4), (Some(5), 6)]);
    assert_eq!(kept(&merged), kept(&sequence));
    (0..200).for_each(|at| push(&mut sequence, step_of(100 + at, dismiss, -1.0, 100 + i64::from(at))));
    assert_eq!(sequence.kept_steps.len(), UserSequence::MAX_KEPT_STEPS);
    let expiry = Expiry { events: vec![(EventKind::Dismiss, 1_000)], ..Expiry::default() };
    assert!(sequence.expire(&expiry.cutoffs(&kinds)) && sequence.kept_steps.is_empty());
}
