//! Results of trainings that several learners with the same state share, so that one of them trains
//! for all.

use super::training_report::TrainingReport;
use std::fmt;

/// Every training whose boundary is a multiple of this number is also done by the learners that
/// fetch its result, and compared.
pub(super) const BOUNDARIES_PER_CHECK: u64 = 1024;

/// The result of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedTraining {
    /// The [fingerprint](crate::nn::Trainer::fingerprint) of the trainer before the training.
    pub fingerprint: u64,
    /// The totals of the training.
    pub report: TrainingReport,
    /// The [changes](crate::nn::Trainer::encode_changes) of the training.
    pub changes: Vec<u8>,
}

/// Shares results of trainings with other learners that have the same state at each boundary.
/// Whether and when a result arrives changes nothing: without one, the learner trains itself, and
/// gets the same bytes.
pub trait TrainingExchange: fmt::Debug + Send + Sync {
    /// The result of the training that began at a boundary. May wait for some time. `None` if this
    /// learner must train.
    fn fetch(&self, boundary: u64) -> Option<SharedTraining>;

    /// Whether this learner publishes the results of its trainings.
    fn publishes(&self) -> bool;

    /// Publishes the result of the training that began at a boundary.
    fn publish(&self, boundary: u64, training: SharedTraining);

    /// Reports that a fetched result differs from that of this learner's training.
    fn report_difference(&self, boundary: u64);
}

impl SharedTraining {
    /// Encodes the result: six numbers of 64 bits, little-endian, and the changes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let TrainingReport { batches, skipped, examples, loss, gradient_norm } = self.report;
        let numbers = [self.fingerprint, batches, skipped, examples, loss.to_bits(), gradient_norm.to_bits()];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend_from_slice(&self.changes);
        bytes
    }

    /// Decodes a result; `None` if the bytes are too short.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, _) = bytes.as_chunks();
        let [fingerprint, batches, skipped, examples, loss, gradient_norm] = numbers.first_chunk::<6>()?;
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let report = TrainingReport {
            batches: number(batches),
            skipped: number(skipped),
            examples: number(examples),
            loss: f64::from_bits(number(loss)),
            gradient_norm: f64::from_bits(number(gradient_norm)),
        };
        let changes = bytes.get(6 * size_of::<u64>()..)?.to_vec();
        Some(Self { fingerprint: number(fingerprint), report, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_result_is_the_encoded_one() {
        let report = TrainingReport { batches: 1, skipped: 2, examples: 3, loss: 4.5, gradient_norm: -0.25 };
        for changes in [vec![], vec![1, 2, 3]] {
            let training = SharedTraining { fingerprint: 7, report, changes };
            assert_eq!(SharedTraining::from_bytes(&training.to_bytes()), Some(training));
        }
        assert_eq!(SharedTraining::from_bytes(&[0; 47]), None);
    }
}
