//! `woodchuck verify`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use woodchuck_cli::exit::Exit;

use crate::data::{Folder, complains, exits, json, text, told, woodchuck};

#[test]
fn a_healthy_directory_is_clean_and_stays_as_it_is() {
    let folder = Folder::filled("healthy");
    let before = folder.content();
    let output = told("verify", &folder.data(), "");
    exits(&output, Exit::Done);
    assert_eq!(text(&output.stderr), "");
    assert!(text(&output.stdout).contains("clean: all that was acknowledged is there"));
    let output = told("verify", &folder.data(), "--json");
    exits(&output, Exit::Done);
    let verified = json(&output);
    assert_eq!(verified["verdict"], "clean");
    assert_eq!(verified["shards"], 2);
    assert_eq!(verified["cluster_id"].as_str().map(str::len), Some(32));
    let commits: u64 = (0..2).filter_map(|log| verified["logs"][log]["commits"].as_u64()).sum();
    assert_eq!(commits, 1 + 4 * crate::data::VALUES as u64, "the topic, and the batches");
    for log in verified["logs"].as_array().expect("logs") {
        assert_eq!(log["verdict"], "clean");
        assert!(log["segments"].as_u64() > Some(1), "{log}");
        assert!(log["next_frame"].is_string() && log["damage"].is_null());
    }
    assert!(folder.content() == before);
    // A log by itself.
    let output = told("verify", &folder.log(1), "--json");
    exits(&output, Exit::Done);
    assert_eq!(json(&output)["logs"][0]["commits"], verified["logs"][1]["commits"]);
    assert_eq!(json(&output)["shards"], serde_json::Value::Null);
    assert!(folder.content() == before);
}

/// Any byte that is covered by a checksum, headers and payloads alike.
#[test]
fn damage_is_found_wherever_it_is() {
    let folder = Folder::filled("damaged");
    let before = folder.content();
    let segment = folder.segments(1)[0].clone();
    for at in [20, 4096 + 40, 4096 + 2000, 8 * 4096 + 500, 8 * 4096 + 60] {
        folder.flip(&segment, at);
        let damaged = folder.content();
        let output = told("verify", &folder.data(), "--json");
        exits(&output, Exit::Damaged);
        let verified = json(&output);
        assert_eq!(verified["verdict"], "damaged");
        assert_eq!(verified["logs"][0]["verdict"], "clean");
        let log = &verified["logs"][1];
        assert_eq!(log["verdict"], "corrupt", "byte {at}");
        for field in ["segment", "first_lost", "lost_below", "evidence"] {
            assert!(log["damage"][field].is_string(), "{log}");
        }
        let message = log["message"].as_str().expect("a message");
        assert!(message.contains("woodchuck repair DIR --to NEW_DIR"), "{message}");
        let output = told("verify", &folder.data(), "");
        exits(&output, Exit::Damaged);
        assert!(text(&output.stdout).contains("damaged: acknowledged data is lost"));
        assert!(folder.content() == damaged);
        folder.flip(&segment, at);
    }
    assert!(folder.content() == before);
}

#[test]
fn a_torn_tail_is_told_and_is_no_damage() {
    let folder = Folder::filled("torn");
    // The witness that closes the log is lost in part: nothing stands behind it.
    let segment = folder.segments(0).pop().expect("a segment");
    let bytes = std::fs::read(&segment).expect("readable");
    let last = (0..bytes.len()).step_by(4096).rfind(|&at| bytes[at..].starts_with(b"WCKFRAME"));
    folder.flip(&segment, last.expect("a frame") + 60);
    let before = folder.content();
    let output = told("verify", &folder.data(), "--json");
    exits(&output, Exit::Done);
    let verified = json(&output);
    assert_eq!(verified["verdict"], "torn_tail");
    assert_eq!(verified["logs"][0]["torn_tail"]["frames"], 1);
    let output = told("verify", &folder.data(), "");
    exits(&output, Exit::Done);
    assert!(text(&output.stdout).contains("never acknowledged; opening drops them"));
    assert!(folder.content() == before);
}

#[test]
fn missing_segments_and_logs_are_damage() {
    let folder = Folder::filled("missing");
    std::fs::remove_file(&folder.segments(1)[0]).expect("removed");
    let output = told("verify", &folder.data(), "--json");
    exits(&output, Exit::Damaged);
    assert_eq!(json(&output)["logs"][1]["verdict"], "corrupt");
    std::fs::remove_dir_all(folder.log(1)).expect("removed");
    let before = folder.content();
    let output = told("verify", &folder.data(), "--json");
    exits(&output, Exit::Damaged);
    assert_eq!(json(&output)["logs"][1]["verdict"], "missing");
    assert!(folder.content() == before && !folder.log(1).exists());
}

#[test]
fn a_segment_of_another_version_is_told_as_such() {
    let folder = Folder::filled("version");
    let segment = folder.segments(0)[0].clone();
    let mut bytes = std::fs::read(&segment).expect("readable");
    // The payload of the start frame says the version first; both checksums are made right again.
    bytes[96] = 3;
    let sum = crc32c(&bytes[96..96 + 24]);
    bytes[80..84].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32c(&bytes[..92]);
    bytes[92..96].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&segment, bytes).expect("written");
    let output = told("verify", &folder.data(), "--json");
    exits(&output, Exit::WrongVersion);
    assert_eq!(json(&output)["logs"][0]["verdict"], "wrong_version");
    complains(&told("inspect log", &folder.data(), ""), Exit::WrongVersion, &["format version 3"]);
    let to = format!("--to {}", folder.path("new").display());
    complains(&told("repair", &folder.data(), &to), Exit::WrongVersion, &["format version 3"]);
}

/// CRC-32C, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82F6_3B78 } else { sum >> 1 };
        }
    }
    !sum
}

#[test]
fn the_identity_is_checked() {
    let folder = Folder::filled("identity");
    let identity = folder.data().join("woodchuck.id");
    folder.flip(&identity, 25);
    complains(&told("verify", &folder.data(), ""), Exit::Damaged, &["its checksum does not match"]);
    let mut bytes = std::fs::read(&identity).expect("readable");
    bytes[25] ^= 0x10;
    bytes[16] = 2;
    let sum = crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&identity, bytes).expect("written");
    complains(&told("verify", &folder.data(), ""), Exit::WrongVersion, &["format version 2"]);
    std::fs::remove_file(&identity).expect("removed");
    complains(&told("verify", &folder.data(), ""), Exit::Damaged, &["no woodchuck.id"]);
    // A log can be looked at all the same.
    exits(&told("verify", &folder.log(0), ""), Exit::Done);
}

#[test]
fn a_directory_in_use_is_refused_by_all_tools() {
    let folder = Folder::filled("locked");
    let mut serve = woodchuck()
        .args(["serve", "--kafka", "127.0.0.1:0", "--io", "posix", "--data"])
        .arg(folder.data())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let talk = BufReader::new(serve.stderr.take().expect("piped"));
    let listens = talk.lines().map_while(Result::ok).any(|line| line.contains("127.0.0.1:"));
    assert!(listens, "the broker says where it listens");
    let to = format!("--to {} --yes", folder.path("new").display());
    let outputs = [
        told("verify", &folder.data(), ""),
        told("verify", &folder.log(0), ""),
        told("inspect log", &folder.data(), ""),
        told("inspect log", &folder.log(1), "--json"),
        told("repair", &folder.data(), &to),
    ];
    serve.kill().expect("killed");
    serve.wait().expect("it ends");
    for output in outputs {
        complains(&output, Exit::Locked, &["in use by another process", "stop the broker"]);
    }
    assert!(!folder.path("new").exists());
    exits(&told("verify", &folder.data(), ""), Exit::Done);
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let folder = Folder::new("nothing");
    std::fs::write(folder.path("theirs"), "untouched").expect("written");
    let none = folder.path("none");
    complains(&told("verify", &none, ""), Exit::Failed, &["there is no"]);
    complains(&told("verify", &folder.path(""), ""), Exit::Failed, &["is no data directory"]);
    complains(&told("verify", &folder.path("theirs"), ""), Exit::Failed, &["not a directory"]);
    for words in ["verify --no-such-flag", "verify --json=3", "inspect", "inspect nothing"] {
        exits(&told(words, &none, ""), Exit::Usage);
    }
    exits(&woodchuck().arg("verify").output().expect("the binary runs"), Exit::Usage);
    assert!(!none.exists());
}
