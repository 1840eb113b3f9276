//! `woodchuck repair`.

use std::path::Path;

use woodchuck_cli::exit::Exit;

use crate::data::{Folder, VALUES, complains, exits, expected, json, read_all, text, told};

fn repair(folder: &Folder, target: &Path, more: &str) -> std::process::Output {
    told("repair", &folder.data(), &format!("--to {} {more}", target.display()))
}

#[test]
fn nothing_is_written_without_leave() {
    let folder = Folder::filled("repair-asks");
    folder.flip(&folder.segments(1)[0], 6 * 4096 + 30);
    let (before, target) = (folder.content(), folder.path("new"));
    for json in ["", "--json"] {
        let output = repair(&folder, &target, json);
        complains(&output, Exit::Unconfirmed, &["nothing was written", "--yes"]);
        assert!(!output.stdout.is_empty());
    }
    assert!(!target.exists() && folder.content() == before);
}

/// What was in front of the damage is served, and nothing else; and the report said so.
#[test]
fn what_is_in_front_of_the_damage_is_served() {
    let folder = Folder::filled("repair");
    let segment = folder.segments(1)[1].clone();
    folder.flip(&segment, 3 * 4096 + 1000);
    let (before, target) = (folder.content(), folder.path("new"));
    let output = repair(&folder, &target, "--yes --json");
    exits(&output, Exit::Done);
    assert_eq!(text(&output.stderr), "");
    let report = json(&output);
    assert_eq!(report["written"], true);
    assert_eq!(report["has_losses"], true);
    assert_eq!(report["logs"][0]["loss"], serde_json::Value::Null);
    let loss = &report["logs"][1]["loss"];
    let generation = segment.file_stem().expect("a name").to_string_lossy().into_owned();
    assert_eq!(loss["segment"], generation);
    assert_eq!(loss["offset"], 3 * 4096);
    assert!(loss["readable_commits"].as_u64() > Some(10), "{loss}");
    assert!(folder.content() == before, "the original is as it was");

    let verified = json(&told("verify", &target, "--json"));
    assert_eq!(verified["verdict"], "clean");
    let original = json(&told("verify", &folder.data(), "--json"));
    assert_eq!(verified["cluster_id"], original["cluster_id"]);
    let (found, all) = (read_all(&target), expected());
    let mut cut = 0;
    for (partition, values) in &found {
        assert!(all[partition].starts_with(values), "partition {partition}");
        if values.len() < VALUES {
            cut += 1;
            let told = report["cut_partitions"].as_array().expect("a list");
            let told = told.iter().find(|told| told["partition"] == *partition);
            let told = told.expect("the report names every partition that was cut");
            assert_eq!(told["end"], values.len());
            assert_eq!(told["ended"], VALUES);
            assert_eq!(told["topic"], "orders");
        }
    }
    assert_eq!(cut, 2, "the partitions of one of two shards");
    let kept: usize = found.values().map(Vec::len).sum();
    let commits = |log: usize| report["logs"][log]["commits"].as_u64().unwrap_or_default();
    assert_eq!(kept as u64 + 1, commits(0) + commits(1), "and the topic");
}

/// The chain of checksums is broken, and everything else is right: what stands behind the broken
/// link is of another history.
#[test]
fn a_frame_whose_link_is_wrong_is_not_kept() {
    let folder = Folder::filled("repair-link");
    let segment = folder.segments(1)[0].clone();
    let mut bytes = std::fs::read(&segment).expect("readable");
    let header = &mut bytes[4 * 4096..5 * 4096];
    header[76] ^= 1;
    let sum = crate::verify::crc32c(&header[..92]);
    header[92..96].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&segment, bytes).expect("written");
    let target = folder.path("new");
    let output = repair(&folder, &target, "--yes --json");
    exits(&output, Exit::Done);
    let report = json(&output);
    assert_eq!(report["logs"][1]["loss"]["offset"], 4 * 4096);
    // Start and three frames of data stand in front of it.
    assert_eq!(report["logs"][1]["commits"], 3);
    let kept: usize = read_all(&target).values().map(Vec::len).sum();
    assert_eq!(kept, 2 * VALUES + 3);
}

#[test]
fn a_healthy_directory_is_copied_whole() {
    let folder = Folder::filled("repair-healthy");
    let target = folder.path("new");
    let output = repair(&folder, &target, "--yes");
    exits(&output, Exit::Done);
    assert!(text(&output.stdout).contains("this directory needs no repair"));
    assert_eq!(read_all(&target), expected());
}

/// Without the first shard's log nobody knows the topics: it is said what cannot be served.
#[test]
fn the_loss_of_topics_is_told() {
    let folder = Folder::filled("repair-topics");
    folder.flip(&folder.segments(0)[0], 4096 + 10);
    let target = folder.path("new");
    let output = repair(&folder, &target, "--yes --json");
    exits(&output, Exit::Done);
    let report = json(&output);
    assert_eq!(report["unknown_topics"][0]["records"], 2 * VALUES);
    assert_eq!(report["unknown_topics"][0]["partitions"], 2);
    assert!(read_all(&target).is_empty(), "no topic is known");
    let again = repair(&folder, &folder.path("other"), "");
    assert!(text(&again.stdout).contains("is not known any more"), "{}", text(&again.stdout));
}

#[test]
fn a_missing_log_is_told_and_begins_anew() {
    let folder = Folder::filled("repair-missing");
    std::fs::remove_dir_all(folder.log(1)).expect("removed");
    let target = folder.path("new");
    let output = repair(&folder, &target, "--yes --json");
    exits(&output, Exit::Done);
    assert!(json(&output)["logs"][1]["loss"]["evidence"].is_string());
    let found = read_all(&target);
    let counts: usize = found.values().map(Vec::len).sum();
    assert_eq!((found.len(), counts), (4, 2 * VALUES));
}

#[test]
fn a_target_that_is_there_is_refused() {
    let folder = Folder::filled("repair-target");
    let before = folder.content();
    let (there, file) = (folder.path("there"), folder.path("file"));
    std::fs::create_dir(&there).expect("made");
    std::fs::write(&file, "theirs").expect("written");
    for target in [&there, &file] {
        for more in ["", "--yes"] {
            complains(&repair(&folder, target, more), Exit::Failed, &["is there already"]);
        }
    }
    assert_eq!(std::fs::read_dir(&there).expect("there").count(), 0);
    let within = folder.data().join("new");
    complains(&repair(&folder, &within, "--yes"), Exit::Usage, &["in the damaged directory"]);
    exits(&told("repair", &folder.data(), ""), Exit::Usage);
    complains(
        &told("repair", &folder.log(0), &format!("--to {}", folder.path("new").display())),
        Exit::Failed,
        &["directory of one log"],
    );
    assert!(folder.content() == before && !folder.path("new").exists());
}

/// What an interrupted repair leaves is opened by nobody.
#[test]
fn half_a_repair_is_not_served() {
    let folder = Folder::filled("repair-half");
    let target = folder.path("new");
    exits(&repair(&folder, &target, "--yes"), Exit::Done);
    std::fs::remove_file(target.join("woodchuck.id")).expect("it is written last");
    let output = told("serve --io posix --kafka 127.0.0.1:0 --data", &target, "");
    exits(&output, Exit::Failed);
    assert!(text(&output.stderr).contains("incomplete"), "{}", text(&output.stderr));
    complains(&told("verify", &target, ""), Exit::Damaged, &["interrupted repair"]);
}
