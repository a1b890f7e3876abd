use super::super::testing::event;
use super::super::{Durability, Store, StoreOptions};
use super::checkpoint_file::{HEADER_BYTES, IO_BUFFER_BYTES};
use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};

fn checkpoints(keep: usize) -> (tempfile::TempDir, Checkpoints) {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::open(&dir.path().join("checkpoints"), keep).unwrap();
    (dir, checkpoints)
}

fn write_payload(checkpoints: &Checkpoints, offset: Offset, payload: &[u8]) {
    let length = checkpoints
        .write::<StoreError>(offset, |writer| {
            writer.write_all(payload).map_err(StoreError::io("writing", Path::new("")))
        })
        .unwrap();
    assert_eq!(length, payload.len() as u64);
}

fn newest_payload(checkpoints: &Checkpoints) -> Option<(Offset, Vec<u8>)> {
    let mut reader = checkpoints.open_newest(Offset::MAX).unwrap()?;
    let (offset, length) = (reader.offset(), reader.remaining());
    let mut payload = Vec::new();
    reader.read_to_end(&mut payload).unwrap();
    assert_eq!(payload.len() as u64, length);
    Some((offset, payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_checkpoint_damaged_anywhere_is_skipped(
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        index in any::<prop::sample::Index>(),
        damage in prop_oneof![(0..8_u8).prop_map(Some), Just(None)],
    ) {
        let (_dir, checkpoints) = checkpoints(3);
        write_payload(&checkpoints, 7, b"the older one");
        write_payload(&checkpoints, 9, &payload);
        let path = checkpoints.path(9);
        let mut bytes = std::fs::read(&path).unwrap();
        let index = index.index(bytes.len());
        match damage {
            Some(bit) => bytes[index] ^= 1 << bit,
            None => bytes.truncate(index),
        }
        std::fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(newest_payload(&checkpoints), Some((7, b"the older one".to_vec())));
        bytes.extend(b"more");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(newest_payload(&checkpoints), Some((7, b"the older one".to_vec())));
    }
}

#[test]
fn pieces_of_any_size_give_the_same_file() {
    let (_dir, checkpoints) = checkpoints(2);
    let payload: Vec<u8> = (0..3 * IO_BUFFER_BYTES + 5).map(|index| (index % 251) as u8).collect();
    write_payload(&checkpoints, 1, &payload);
    let whole = std::fs::read(checkpoints.path(1)).unwrap();
    for piece_bytes in [1, 4, 1000, IO_BUFFER_BYTES - 1, IO_BUFFER_BYTES, IO_BUFFER_BYTES + 1] {
        let fill = |writer: &mut CheckpointWriter| {
            let mut pieces = payload.chunks(piece_bytes);
            pieces.try_for_each(|piece| writer.write_all(piece)).map_err(StoreError::io("writing", Path::new("")))
        };
        assert_eq!(checkpoints.write(1, fill).unwrap(), payload.len() as u64);
        assert!(std::fs::read(checkpoints.path(1)).unwrap() == whole, "pieces of {piece_bytes} bytes");

        let mut reader = checkpoints.open_at(1).unwrap();
        let mut piece = vec![0; piece_bytes];
        for expected in payload.chunks_exact(piece_bytes) {
            reader.read_exact(&mut piece).unwrap();
            assert!(piece == expected, "pieces of {piece_bytes} bytes");
        }
        assert_eq!(reader.remaining(), (payload.len() % piece_bytes) as u64);
    }
}

#[test]
fn a_read_beyond_the_payload_is_an_error() {
    let (_dir, checkpoints) = checkpoints(1);
    write_payload(&checkpoints, 1, b"three");
    let mut reader = checkpoints.open_at(1).unwrap();
    assert_eq!(reader.read_exact(&mut [0; 6]).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    reader.read_exact(&mut [0; 4]).unwrap();
    assert_eq!((reader.remaining(), reader.read(&mut [0; 4]).unwrap(), reader.remaining()), (1, 1, 0));
}

#[test]
fn the_newest_checkpoint_is_read_and_the_oldest_are_removed() {
    let (_dir, checkpoints) = checkpoints(2);
    assert_eq!(newest_payload(&checkpoints), None);
    for offset in [5, 40, 300] {
        write_payload(&checkpoints, offset, &vec![offset as u8; 1_000_000]);
    }
    assert_eq!(checkpoints.offsets().unwrap(), [40, 300]);
    assert_eq!(newest_payload(&checkpoints), Some((300, vec![44; 1_000_000])));
}

#[test]
fn later_checkpoints_of_another_run_do_not_push_out_new_ones() {
    let (_dir, checkpoints) = checkpoints(2);
    for offset in [100, 120, 140] {
        write_payload(&checkpoints, offset, b"another run");
    }
    for (offset, expected) in [
        (20, vec![20, 120, 140]),
        (40, vec![20, 40, 120, 140]),
        (60, vec![40, 60, 120, 140]),
        (119, vec![60, 119, 120, 140]),
        (121, vec![120, 121, 140]),
        (140, vec![121, 140]),
    ] {
        write_payload(&checkpoints, offset, b"this run");
        assert_eq!(checkpoints.offsets().unwrap(), expected);
    }
    assert_eq!(newest_payload(&checkpoints), Some((140, b"this run".to_vec())));
}

#[test]
fn a_checkpoint_ahead_of_the_journal_is_skipped() {
    let (_dir, checkpoints) = checkpoints(2);
    write_payload(&checkpoints, 5, b"five");
    write_payload(&checkpoints, 6, b"six");
    assert_eq!(checkpoints.open_newest(5).unwrap().unwrap().offset(), 5);
    assert!(checkpoints.open_newest(4).unwrap().is_none());
}

#[test]
fn a_renamed_checkpoint_is_skipped() {
    let (_dir, checkpoints) = checkpoints(2);
    write_payload(&checkpoints, 5, b"five");
    std::fs::rename(checkpoints.path(5), checkpoints.path(6)).unwrap();
    assert_eq!(newest_payload(&checkpoints), None);
}

#[test]
fn a_failed_write_keeps_existing_checkpoints_and_leaves_no_file() {
    let (dir, checkpoints) = checkpoints(1);
    write_payload(&checkpoints, 5, b"five");
    let failed = checkpoints.write(6, |writer| {
        writer.write_all(b"half").unwrap();
        Err(StoreError::NeedsReopen { dir: "d".into() })
    });
    assert!(matches!(failed, Err(StoreError::NeedsReopen { .. })));
    assert_eq!(newest_payload(&checkpoints), Some((5, b"five".to_vec())));
    assert_eq!(dir.path().join("checkpoints").read_dir().unwrap().count(), 1);
}

#[test]
fn opening_removes_unfinished_checkpoints_but_no_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let checkpoints = store.checkpoints(1).unwrap();
    write_payload(&checkpoints, 5, b"five");
    let (unfinished, foreign) =
        (checkpoints.path(6).with_extension(UNFINISHED_EXTENSION), dir.path().join("checkpoints/7.checkpoint"));
    std::fs::write(&unfinished, "half").unwrap();
    std::fs::write(&foreign, "not ours: too few digits").unwrap();
    let checkpoints = store.checkpoints(1).unwrap();
    assert!(!unfinished.exists() && foreign.exists());
    assert_eq!(checkpoints.offsets().unwrap(), [5]);
}

#[test]
fn an_encoded_value_can_be_streamed_through_a_checkpoint() {
    let (_dir, checkpoints) = checkpoints(1);
    let weights: Vec<f32> = (0..10_000).map(|n| n as f32).collect();
    checkpoints.write::<StoreError>(1, |writer| Ok(super::super::codec::encode_to(&weights, writer)?)).unwrap();
    let mut reader = checkpoints.open_newest(1).unwrap().unwrap();
    assert_eq!(super::super::codec::decode_from::<Vec<f32>, _>(&mut reader, 50_000).unwrap(), weights);
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn an_existing_file_is_replaced_only_by_a_complete_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trained.ckpt");
    let write_payload = |bytes: &'static [u8], fails: bool| {
        write_checkpoint::<StoreError>(&path, 3, |writer| {
            writer.write_all(bytes).map_err(StoreError::io("writing", Path::new("")))?;
            if fails { Err(StoreError::NeedsReopen { dir: "d".into() }) } else { Ok(()) }
        })
    };
    let read_payload = || {
        let mut reader = open_checkpoint(&path)?;
        let mut payload = Vec::new();
        reader.read_to_end(&mut payload).unwrap();
        Ok::<_, StoreError>((reader.offset(), payload))
    };
    assert!(read_payload().unwrap_err().to_string().contains("trained.ckpt"));
    write_payload(b"one", false).unwrap();
    write_payload(b"half of", true).unwrap_err();
    assert_eq!(read_payload().unwrap(), (3, b"one".to_vec()));
    write_payload(b"two and more", false).unwrap();
    assert_eq!(read_payload().unwrap(), (3, b"two and more".to_vec()));
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);

    let whole = std::fs::read(&path).unwrap();
    let error_of = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read_payload().unwrap_err().to_string()
    };
    assert!(
        error_of(&whole[..whole.len() - 2]).contains("truncated or damaged: its payload has 10 bytes instead of 12")
    );
    assert!(error_of(&[&whole[..HEADER_BYTES], b"two and lore"].concat()).contains("its checksum does not match"));
    assert!(error_of(b"PK").contains("it does not start with the magic bytes"));
}

#[test]
fn the_pretrained_state_can_only_be_set_before_the_first_entry() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert!(store.pretrained_state().unwrap().is_none());
    let set = |bytes: &'static [u8]| {
        store.set_pretrained_state::<StoreError>(|writer| {
            writer.write_all(bytes).map_err(StoreError::io("writing", Path::new("")))
        })
    };
    set(b"weights").unwrap();
    store.journal().append(&[event(1)], Durability::ProcessCrash).unwrap();
    assert!(matches!(set(b"others"), Err(StoreError::JournalNotEmpty { entries: 1, .. })));
    let mut payload = Vec::new();
    store.pretrained_state().unwrap().unwrap().read_to_end(&mut payload).unwrap();
    assert_eq!(payload, b"weights");
    std::fs::write(dir.path().join("origin"), "something else").unwrap();
    assert!(store.pretrained_state().is_err());
}

#[test]
fn keep_last_written_ignores_the_offsets_of_checkpoints() {
    let (_dir, checkpoints) = checkpoints(usize::MAX);
    for offset in [5, 9, 7, 5] {
        write_payload(&checkpoints, offset, b"payload");
        // Some file systems store file times only with this precision.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    checkpoints.keep_last_written(2).unwrap();
    assert_eq!(checkpoints.offsets().unwrap(), [5, 7]);
    checkpoints.keep_last_written(2).unwrap();
    assert_eq!(checkpoints.offsets().unwrap(), [5, 7]);
}
