//! A user's sequence in a compact form, for sequences that stay in memory.

use super::{EarlierSession, UserSequence};
use crate::domain::{Step, Timestamp};

/// The step has an item.
const HAS_ITEM: u8 = 1;
/// The step starts a session.
const STARTS_SESSION: u8 = 1 << 1;
/// The step has another kind than the preceding step.
const HAS_KIND: u8 = 1 << 2;
/// The step has another value than the preceding step.
const HAS_VALUE: u8 = 1 << 3;
/// The step that precedes the first one.
const BEFORE_FIRST: Step = Step { item: None, kind: 0, starts_session: false, at: 0, value: 1.0 };

/// A [`UserSequence`] in one allocation without spare capacity: about 8 bytes a step, where a
/// [`Step`] takes 24. Items are varints, times are varints of the difference to the preceding step,
/// and a kind or value is left out if it equals that of the preceding step.
///
/// The form exists in memory only. It is not the stored form.
///
/// ```
/// use sequor_core::domain::{PackedSequence, Step, UserSequence};
///
/// let mut sequence = UserSequence::default();
/// let step = |number| Step { item: Some(number), kind: 0, starts_session: false, at: 1_000, value: 1.0 };
/// (0..50).for_each(|number| drop(sequence.push(0, step(number), None, 1_800_000)));
/// let packed = PackedSequence::from(&sequence);
/// assert_eq!(packed.unpack(), sequence);
/// assert!(packed.byte_len() < 200);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedSequence {
    /// Empty for the default sequence.
    bytes: Box<[u8]>,
}

impl PackedSequence {
    /// Restores the sequence.
    #[must_use]
    pub fn unpack(&self) -> UserSequence {
        // `from` alone creates the bytes, so they are complete unless they are empty.
        Unpacker { rest: &self.bytes }.sequence().unwrap_or_default()
    }

    /// Size of the packed form in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

impl From<&UserSequence> for PackedSequence {
    fn from(sequence: &UserSequence) -> Self {
        if *sequence == UserSequence::default() {
            return Self::default();
        }
        let expected = 64 + 8 * (sequence.steps.len() + sequence.kept_steps.len());
        let mut packer = Packer { bytes: Vec::with_capacity(expected) };
        packer.sequence(sequence);
        // A copy has the exact size. Allocators shrink a block in place, and keep what is cut off.
        Self { bytes: Box::from(packer.bytes.as_slice()) }
    }
}

struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    fn sequence(&mut self, sequence: &UserSequence) {
        self.number(u64::from(sequence.session_number));
        self.number(sequence.session_start);
        self.text(sequence.session_id.as_deref());
        self.steps(&sequence.steps);
        self.steps(&sequence.kept_steps);
        self.number(sequence.earlier_sessions.len() as u64);
        for earlier in &sequence.earlier_sessions {
            self.number(u64::from(earlier.sessions_after) << 1 | u64::from(earlier.is_late));
            self.number(earlier.session_start);
            self.text(earlier.session_id.as_deref());
        }
    }

    /// Writes seven bits a byte, the lowest first. The highest bit of a byte tells that more follow.
    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.map_or(0, |text| text.len() as u64 + 1));
        self.bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn steps(&mut self, steps: &[Step]) {
        self.number(steps.len() as u64);
        let mut before = BEFORE_FIRST;
        for step in steps {
            let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
            let (has_kind, has_value) = (step.kind != before.kind, step.value.to_bits() != before.value.to_bits());
            self.bytes.push(
                flag(step.item.is_some(), HAS_ITEM)
                    | flag(step.starts_session, STARTS_SESSION)
                    | flag(has_kind, HAS_KIND)
                    | flag(has_value, HAS_VALUE),
            );
            if let Some(item) = step.item {
                self.number(u64::from(item));
            }
            if has_kind {
                self.bytes.push(step.kind);
            }
            if has_value {
                self.bytes.extend_from_slice(&step.value.to_bits().to_le_bytes());
            }
            self.number(fold_sign(step.at.wrapping_sub(before.at)));
            before = *step;
        }
    }
}

struct Unpacker<'b> {
    rest: &'b [u8],
}

impl Unpacker<'_> {
    fn sequence(&mut self) -> Option<UserSequence> {
        let mut sequence = UserSequence {
            session_number: self.number()? as u32,
            session_start: self.number()?,
            session_id: self.text()?,
            steps: self.steps()?,
            kept_steps: self.steps()?,
            earlier_sessions: Vec::new(),
        };
        for _ in 0..self.number()? {
            let (packed, session_start) = (self.number()?, self.number()?);
            sequence.earlier_sessions.push(EarlierSession {
                sessions_after: (packed >> 1) as u32,
                session_start,
                session_id: self.text()?,
                is_late: packed & 1 == 1,
            });
        }
        Some(sequence)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> Option<Option<String>> {
        let Some(length) = self.number()?.checked_sub(1) else { return Some(None) };
        let (text, rest) = self.rest.split_at_checked(length as usize)?;
        self.rest = rest;
        Some(Some(String::from_utf8_lossy(text).into_owned()))
    }

    fn steps(&mut self) -> Option<Vec<Step>> {
        let length = self.number()? as usize;
        let mut steps = Vec::with_capacity(length.min(self.rest.len()));
        let mut step = BEFORE_FIRST;
        for _ in 0..length {
            let flags = self.byte()?;
            step.starts_session = flags & STARTS_SESSION != 0;
            step.item = if flags & HAS_ITEM == 0 { None } else { Some(self.number()? as u32) };
            if flags & HAS_KIND != 0 {
                step.kind = self.byte()?;
            }
            if flags & HAS_VALUE != 0 {
                let (bits, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                step.value = f32::from_bits(u32::from_le_bytes(*bits));
            }
            step.at = step.at.wrapping_add(unfold_sign(self.number()?));
            steps.push(step);
        }
        Some(steps)
    }
}

/// Maps numbers near 0 to small numbers: 0, -1, 1, -2 … become 0, 1, 2, 3 …
fn fold_sign(number: Timestamp) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unfold_sign(number: u64) -> Timestamp {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_step() -> impl Strategy<Value = Step> {
        let times = prop_oneof![any::<i64>(), 1_700_000_000_000..1_700_000_100_000_i64];
        let values = prop_oneof![Just(1.0), Just(-1.0), Just(f32::INFINITY), -1e9_f32..1e9];
        (prop::option::of(any::<u32>()), prop_oneof![Just(0), any::<u8>()], any::<bool>(), times, values)
            .prop_map(|(item, kind, starts_session, at, value)| Step { item, kind, starts_session, at, value })
    }

    fn any_id() -> impl Strategy<Value = Option<String>> {
        prop::option::of("\\PC{0,20}")
    }

    fn any_earlier_session() -> impl Strategy<Value = EarlierSession> {
        (any::<u32>(), any::<u64>(), any_id(), any::<bool>()).prop_map(
            |(sessions_after, session_start, session_id, is_late)| EarlierSession {
                sessions_after,
                session_start,
                session_id,
                is_late,
            },
        )
    }

    proptest! {
        #[test]
        fn unpacking_restores_every_sequence(
            session_number in any::<u32>(), session_start in any::<u64>(), session_id in any_id(),
            steps in prop::collection::vec(any_step(), 0..60), kept_steps in prop::collection::vec(any_step(), 0..9),
            earlier_sessions in prop::collection::vec(any_earlier_session(), 0..9),
        ) {
            let sequence = UserSequence { session_number, session_start, session_id, steps, earlier_sessions, kept_steps };
            prop_assert_eq!(PackedSequence::from(&sequence).unpack(), sequence);
        }
    }

    #[test]
    fn the_default_sequence_takes_no_allocation() {
        let packed = PackedSequence::from(&UserSequence::default());
        assert_eq!((packed.byte_len(), packed.unpack()), (0, UserSequence::default()));
    }

    #[test]
    fn a_full_sequence_of_a_catalog_of_a_million_items_takes_at_most_ten_bytes_a_step() {
        let mut sequence = UserSequence::default();
        for number in 0..UserSequence::MAX_STEPS as u32 {
            let (item, gap) = (number * 7_919 * 23 % 1_000_000, 20_000 + i64::from(number) * 731 % 60_000);
            let kind = u8::from(number % 10 == 9);
            let at = 1_700_000_000_000 + i64::from(number) * gap;
            let value = if kind == 0 { 1.0 } else { 3.0 };
            sequence.push(
                u64::from(number),
                Step { item: Some(item), kind, starts_session: false, at, value },
                Some("visit-123456"),
                1_800_000,
            );
        }
        let packed = PackedSequence::from(&sequence);
        assert_eq!(sequence.steps.len(), UserSequence::MAX_STEPS);
        assert!(packed.byte_len() <= 10 * UserSequence::MAX_STEPS, "{}", packed.byte_len());
        assert!(size_of::<PackedSequence>() == 16 && size_of::<Step>() == 24);
    }
}
