//! Byte compatibility: data that an earlier build of format 5 wrote must be readable, and writing it
//! again must give the same bytes.
//!
//! `migrations/fixtures/full-5` holds a data directory of format 5 as `data.tar.gz`. The build that
//! wrote this directory had other names for most types, fields and modules. The journal holds
//! events of every kind, impressions, catalog changes, a merge, consents, two erasures and model
//! changes. The daemon stopped cleanly, so the checkpoint and the event ids exist. The other files
//! are:
//!
//! | File | Content |
//! |---|---|
//! | `settings.toml` | settings of the daemon, with a small network, without its `interest_weight = 0.5` |
//! | `recording.csv` | input of `sequor train` and `sequor import` |
//! | `access.log` | input of `sequor tail` |
//! | `keys.json`, `keys-after-revocation.json` | API keys, before and after one was revoked |
//! | `verify.json` | the report of that build's `sequor verify` on the data directory |
//! | `sha256.txt` | digests of that build's output for these files |
//! | `training-with-interest-head.gz` | a checkpoint of `sequor train` with `network.interest_weight = 0.5` |
//! | `origin-with-interest-head.gz` | the pretrained network that a data directory got from that checkpoint |
//!
//! That build's network had a second output, the interest head, which later builds removed. A daemon
//! therefore does not continue from the checkpoint, but learns the journal again. The digests are
//! those of a network without this head; the last build that had the head gives the same digests if
//! the head is disabled.
//!
//! If two fields of the same type swap places, a file keeps its length and still decodes. So the
//! tests also learn the journal again and compare the checkpoint's digest.
//!
//! The digests hold for all vector instructions. The numeric kernels sum in a fixed number of lanes
//! for every vector width, and use fused multiply-add in every version. The case `counts` omits the
//! network and the ranker's training, so it needs no vector arithmetic. If this case holds and the
//! other cases fail, then the arithmetic has changed rather than the layout.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use sequor::learner::{LearnerState, OfflineTraining, PretrainedNetwork};
use sequor::nn::HiddenState;
use sequor::store::{Store, StoreOptions, codec, open_checkpoint, write_checkpoint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::daemon::{DaemonHome, run_sequor, sequor_command};

/// Number of journal entries in the fixture.
const ENTRY_COUNT: u64 = 356;

/// The settings of learning are part of the learned state. The defaults of these settings have
/// changed.
const FORMER_DEFAULTS: [&str; 5] = [
    "clusters.exact_up_to=150000",
    "network.loss=cross_entropy",
    "network.input_dropout=0.5",
    "network.hidden_dropout=0.5",
    "network.optimiser=adagrad",
];

/// Settings under which the journal is learned again. Together these settings use every type of
/// network cell, every optimiser and every loss function.
const REBUILD_SETTINGS: [(&str, &[&str]); 7] = [
    ("counts", &["recall.without=[\"network\"]", "learning.teach_every=1000000"]),
    ("counts-and-ranker", &["recall.without=[\"network\"]"]),
    ("lstm-adagrad", &[]),
    ("normalised-softmax", &["network.loss=normalised_softmax"]),
    ("row-adagrad", &["network.loss=normalised_softmax", "network.optimiser=row_adagrad"]),
    (
        "gru-adam",
        &[
            "network.cell=gru",
            "network.optimiser=adam",
            "network.layers=2",
            "network.tied=false",
            "network.loss=bpr_max",
            "network.session_targets=certain",
        ],
    ),
    (
        "rnn-sgd",
        &[
            "network.cell=rnn",
            "network.optimiser=sgd",
            "network.learning_rate=0.01",
            "network.session_targets=negatives",
            "network.kinds=false",
        ],
    ),
];

fn fixture_path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures/full-5").join(file)
}

/// A home with a copy of the fixture's data directory.
fn home_from_fixture() -> DaemonHome {
    let home = DaemonHome::new();
    let archive = flate2::read::GzDecoder::new(File::open(fixture_path("data.tar.gz")).unwrap());
    tar::Archive::new(archive).unpack(home.data_dir()).unwrap();
    home
}

fn golden_digest(name: &str) -> String {
    let rows = fs::read_to_string(fixture_path("sha256.txt")).unwrap();
    let digest = rows.lines().find_map(|row| row.strip_prefix(name)?.strip_prefix(" = "));
    digest.unwrap_or_else(|| panic!("no digest of {name}")).to_owned()
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a command under the fixture's settings and expects success.
fn run_successfully(arguments: &[&str], settings: &[&str]) -> Output {
    let config = fixture_path("settings.toml");
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let common = ["--config", config.to_str().unwrap()];
    let output = run_sequor(&arguments.iter().copied().chain(common).chain(settings).collect::<Vec<_>>());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The payload of a checkpoint file.
fn checkpoint_payload(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    open_checkpoint(file).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Asserts that the bytes decode to a value that encodes to the same bytes.
fn assert_round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let value: T = codec::decode(bytes).unwrap();
    assert!(codec::encode(&value).unwrap() == bytes, "a {} is encoded to different bytes", std::any::type_name::<T>());
}

fn checkpoint_path(home: &DaemonHome) -> PathBuf {
    home.data_dir().join(format!("checkpoints/{ENTRY_COUNT:020}.checkpoint"))
}

#[test]
fn data_directory_of_the_earlier_build_verifies() {
    let home = home_from_fixture();
    let data = home.data_dir();
    let report = home.dir().join("report.json");
    run_successfully(&["verify", "--data-dir", path_text(&data), "--json", path_text(&report)], &[]);
    let read = |file: &Path| -> Value { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() };
    let (mut found, mut expected) = (read(&report), read(&fixture_path("verify.json")));
    // The two reports differ in the path of the directory.
    [&mut found, &mut expected].iter_mut().for_each(|report| drop(report.as_object_mut().unwrap().remove("data_dir")));
    // The earlier build did not report differences that follow from changed settings.
    assert_eq!(found.as_object_mut().unwrap().remove("differences"), Some(json!([])));
    assert_eq!(found, expected);
    let export = run_successfully(&["export", "--data-dir", path_text(&data)], &[]).stdout;
    assert_eq!(sha256_hex(&export), golden_digest("export"));
    let erased =
        String::from_utf8(run_successfully(&["erasures", "--data-dir", path_text(&data)], &[]).stdout).unwrap();
    assert_eq!(
        erased.lines().collect::<Vec<_>>(),
        [
            r#"{"asked":1795837488357,"erased":"283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247"}"#,
            r#"{"asked":1795837492566,"erased":"3268151e52d97b4cacf97f5b46a5c76c8416e928e137e3b3dc447696a29afbaa"}"#,
        ]
    );
}

#[test]
fn checkpoint_and_hidden_states_round_trip() {
    let home = home_from_fixture();
    // The ranker of the earlier build has fewer features. Decoding adds the others.
    let state: LearnerState = codec::decode(&checkpoint_payload(&checkpoint_path(&home))).unwrap();
    assert_round_trip::<LearnerState>(&codec::encode(&state).unwrap());
    let store = Store::open_existing(home.data_dir(), &StoreOptions::default()).unwrap();
    let records: Vec<_> = store.sessions().iter().unwrap().map(|read| read.unwrap().1).collect();
    let hidden: Vec<_> = records.iter().filter(|record| !record.hidden_state.is_empty()).collect();
    assert!(hidden.len() > 3, "{} of {} records have a hidden state", hidden.len(), records.len());
    hidden.iter().for_each(|record| assert_round_trip::<HiddenState>(&record.hidden_state));
}

#[test]
fn daemon_learns_again_if_the_checkpoint_has_an_interest_head() {
    let home = home_from_fixture();
    let addresses: Value = serde_json::from_slice(&fs::read(home.data_dir().join("addresses.json")).unwrap()).unwrap();
    assert_eq!(addresses, json!({ "api": "http://127.0.0.1:38825", "admin": "http://127.0.0.1:40655" }));
    let config = format!("--config={}", path_text(&fixture_path("settings.toml")));
    let settings = [&["network.hidden=2", "network.negatives=8", &config], &FORMER_DEFAULTS[..]].concat();
    let daemon = home.start(&settings);
    daemon.wait_until_learned(ENTRY_COUNT);
    daemon.assert_healthy();
    assert_eq!(daemon.terminate().code(), Some(0));
    let learned = fs::read(checkpoint_path(&home)).unwrap();
    let rebuilt = home_from_fixture();
    run_successfully(&["rebuild", "--data-dir", path_text(&rebuilt.data_dir())], &FORMER_DEFAULTS);
    assert!(learned == fs::read(checkpoint_path(&rebuilt)).unwrap(), "the state differs from that of a rebuild");
}

/// A change of these digests means that the same journal is learned to other bytes. Such a change
/// must be intended, and the ranking quality must not suffer.
#[test]
fn rebuild_gives_the_recorded_checkpoints() {
    let expected = REBUILD_SETTINGS.map(|(name, _)| (name, golden_digest(&format!("rebuild {name}"))));
    for level in ["best", "avx2", "portable"] {
        let digests = REBUILD_SETTINGS.map(|(name, settings)| (name, digest_of_rebuilt_state(settings, level)));
        assert_eq!(digests, expected, "SEQUOR_SIMD = {level}");
    }
}

/// Learns the journal of the fixture again. Returns the digest of the learned state.
fn digest_of_rebuilt_state(settings: &[&str], simd_level: &str) -> String {
    let home = home_from_fixture();
    let mut command = sequor_command();
    command.args(["rebuild", "--data-dir", path_text(&home.data_dir())]).env("SEQUOR_SIMD", simd_level);
    command.args(["--config", path_text(&fixture_path("settings.toml"))]);
    command.args(FORMER_DEFAULTS.iter().chain(settings).flat_map(|setting| ["--set", *setting]));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let payload = checkpoint_payload(&checkpoint_path(&home));
    // The earlier build wrote the learned state alone. Later builds append further parts to it.
    let (state, appended) = codec::decode_prefix::<LearnerState>(&payload).unwrap();
    let state_bytes = &payload[..payload.len() - appended.len()];
    assert!(codec::encode(&state).unwrap() == state_bytes, "the state is encoded to different bytes");
    let state_alone = home.dir().join("state.checkpoint");
    write_checkpoint(&state_alone, ENTRY_COUNT, |file| file.write_all(state_bytes).map_err(anyhow::Error::from))
        .unwrap();
    sha256_hex(&fs::read(state_alone).unwrap())
}

#[test]
fn training_and_pretrained_network_equal_those_of_the_earlier_build() {
    let home = DaemonHome::new();
    let trained = home.dir().join("trained");
    let training = [&["train.epochs=3", "train.validation=0.2", "train.batch=8"], &FORMER_DEFAULTS[..]].concat();
    run_successfully(
        &["train", path_text(&fixture_path("recording.csv")), "--checkpoint", path_text(&trained)],
        &training,
    );
    assert_round_trip::<(String, OfflineTraining)>(&checkpoint_payload(&trained));
    assert_eq!(sha256_hex(&fs::read(&trained).unwrap()), golden_digest("training"));

    let config = format!("--config={}", path_text(&fixture_path("settings.toml")));
    let checkpoint = format!("--checkpoint={}", path_text(&trained));
    let settings =
        [&[config.as_str(), "network.hidden=2", "network.negatives=8", &checkpoint], &FORMER_DEFAULTS[..]].concat();
    assert_eq!(home.start(&settings).terminate().code(), Some(0));
    let origin = home.data_dir().join("origin");
    assert_round_trip::<PretrainedNetwork>(&checkpoint_payload(&origin));
    assert_eq!(sha256_hex(&fs::read(&origin).unwrap()), golden_digest("origin"));
}

#[test]
fn networks_with_an_interest_head_are_refused() {
    let home = home_from_fixture();
    let unpack = |name: &str, to: &Path| {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(File::open(fixture_path(name)).unwrap()).read_to_end(&mut bytes).unwrap();
        fs::write(to, bytes).unwrap();
    };
    let trained = home.dir().join("trained");
    unpack("training-with-interest-head.gz", &trained);
    let recording = fixture_path("recording.csv");
    for command in ["evaluate", "train"] {
        let mut arguments = vec![command, path_text(&recording), "--checkpoint", path_text(&trained)];
        arguments.extend((command == "train").then_some("--resume"));
        let output = run_sequor(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("`network.interest_weight`") && stderr.contains("Train a network"), "{stderr}");
    }
    unpack("origin-with-interest-head.gz", &home.data_dir().join("origin"));
    let output = home.start_expecting_failure(&[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("started with a pretrained network that also predicts event values"), "{stderr}");
}

#[test]
fn key_file_round_trips() {
    let home = DaemonHome::new();
    let keys = home.data_dir().join("keys.json");
    fs::create_dir_all(home.data_dir()).unwrap();
    fs::copy(fixture_path("keys.json"), &keys).unwrap();
    let output = run_sequor(&["key", "revoke", "9947b65f", "--data-dir", path_text(&home.data_dir())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        fs::read_to_string(&keys).unwrap(),
        fs::read_to_string(fixture_path("keys-after-revocation.json")).unwrap()
    );
}

#[test]
fn import_and_tail_resume_from_their_progress_files() {
    let home = DaemonHome::new();
    let recording = home.dir().join("recording.csv");
    fs::copy(fixture_path("recording.csv"), &recording).unwrap();
    run_successfully(&["import", path_text(&recording), "--data-dir", path_text(&home.data_dir())], &[]);
    let target = json!(home.data_dir().canonicalize().unwrap());
    let state = home.dir().join("recording.csv.import");
    let progress: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
    let imported = &progress["targets"][0];
    assert!(imported["target"].as_str().unwrap().starts_with(target.as_str().unwrap()), "{progress}");
    assert_eq!((&imported["digest"], &imported["through"]), (&json!("c01728f701af2419bee74f82cf8d8a02"), &json!(401)));
    // The command reads the progress file, so a second run sends nothing.
    let second_import =
        run_successfully(&["import", path_text(&recording), "--data-dir", path_text(&home.data_dir())], &[]);
    assert!(
        String::from_utf8_lossy(&second_import.stdout).lines().any(|line| line.ends_with(" 400")),
        "rows that were sent before"
    );

    let log = home.dir().join("access.log");
    fs::copy(fixture_path("access.log"), &log).unwrap();
    let daemon = home.start(&[]);
    let tail = || {
        let rule = "view=^/product/(?P<item>[^/?]+)";
        let output = run_sequor(&["tail", "--once", path_text(&log), "--rule", rule, "--url", daemon.api_url()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(home.dir().join("access.log.sequor")).unwrap()
    };
    let noted = tail();
    let inode = fs::metadata(&log).unwrap().ino();
    let expected_place =
        format!(r#"{{"place":{{"inode":{inode},"offset":267,"mark":"9168ed752e5cfb952c585e6a63e46343"}},"key":["#);
    let key =
        noted.strip_prefix(&expected_place).unwrap_or_else(|| panic!("{noted} does not begin with {expected_place}"));
    assert_eq!(key.strip_suffix("]}").unwrap().split(',').filter(|byte| byte.parse::<u8>().is_ok()).count(), 16);
    // A second run uses the same pseudonym key and sends nothing twice.
    assert_eq!(tail(), noted);
}
