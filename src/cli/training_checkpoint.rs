//! Trainings in files.

use anyhow::{Context, bail};
use std::path::Path;

use crate::learner::OfflineTraining;
use crate::store::{StoreError, codec, open_checkpoint, write_checkpoint};

/// Begins the payload, so that it is not taken for what a daemon keeps in such files. The number is
/// that of the layout.
const FORMAT_TAG: &str = "sequor training 1";

/// Writes a training in place of what was there, once it is whole. The checkpoint's number is that
/// of the epochs done.
pub(super) fn write(file: &Path, training: &OfflineTraining) -> anyhow::Result<()> {
    let epochs = training.epochs().len() as u64;
    write_checkpoint::<StoreError>(file, epochs, |sink| Ok(codec::encode_to(&(FORMAT_TAG, training), sink)?))?;
    Ok(())
}

/// Reads a training.
pub(super) fn read(file: &Path) -> anyhow::Result<OfflineTraining> {
    let mut source = open_checkpoint(file)?;
    let length = source.remaining();
    let kind: String = codec::decode_from(&mut source, length).unwrap_or_default();
    if kind != FORMAT_TAG {
        bail!("{} is not the checkpoint of a training, or not of this version of sequor", file.display());
    }
    let training = codec::decode_from(&mut source, length).with_context(|| format!("{} cannot be used", file.display()))?;
    if source.remaining() > 0 {
        bail!("{} cannot be used: it goes on after the training", file.display());
    }
    Ok(training)
}
