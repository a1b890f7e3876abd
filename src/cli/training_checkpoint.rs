//! Reads and writes checkpoint files of offline trainings.

use anyhow::{Context, bail};
use std::path::Path;

use crate::learner::OfflineTraining;
use crate::store::{StoreError, codec, open_checkpoint, write_checkpoint};

/// First value of the payload: a tag and the format version. The tag distinguishes these files from
/// the daemon's checkpoints.
const FORMAT_TAG: &str = "sequor training 1";

/// Replaces the file atomically with the state of a training. In the header, the number of finished
/// epochs takes the place of the journal offset.
pub(super) fn write_training_checkpoint(file: &Path, training: &OfflineTraining) -> anyhow::Result<()> {
    let epochs = training.epochs().len() as u64;
    write_checkpoint::<StoreError>(file, epochs, |sink| Ok(codec::encode_to(&(FORMAT_TAG, training), sink)?))?;
    Ok(())
}

/// Reads the state of a training.
pub(super) fn read_training_checkpoint(file: &Path) -> anyhow::Result<OfflineTraining> {
    let mut source = open_checkpoint(file)?;
    let length = source.remaining();
    let tag: String = codec::decode_from(&mut source, length).unwrap_or_default();
    if tag != FORMAT_TAG {
        bail!("{} is not a training checkpoint, or another version of sequor wrote it", file.display());
    }
    let training: OfflineTraining =
        codec::decode_from(&mut source, length).with_context(|| format!("{} cannot be used", file.display()))?;
    if training.network_settings().has_former_interest_head() {
        bail!(
            "{} cannot be used: its network also predicts event values (`network.interest_weight`), which networks no longer do: the interest models replaced it. Train a network on the recording again",
            file.display()
        );
    }
    if source.remaining() > 0 {
        bail!("{} cannot be used: it contains extra bytes after the training", file.display());
    }
    Ok(training)
}
