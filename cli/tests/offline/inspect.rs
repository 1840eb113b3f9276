//! `woodchuck inspect log`.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;
use woodchuck_cli::exit::Exit;

use crate::data::{Folder, VALUES, exits, json_lines, text, told, woodchuck};

fn of_type<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == name).collect()
}

#[test]
fn a_healthy_log_is_shown_frame_by_frame() {
    let folder = Folder::filled("inspect");
    let before = folder.content();
    let output = told("inspect log", &folder.data(), "--frames --operations --json");
    exits(&output, Exit::Done);
    let lines = json_lines(&output);
    assert_eq!(of_type(&lines, "log").len(), 2);
    assert!(of_type(&lines, "damage").is_empty());
    for verdict in of_type(&lines, "verdict") {
        assert_eq!(verdict["verdict"], "clean");
    }
    let operations = of_type(&lines, "operation");
    let appends = operations.iter().filter(|line| line["operation"] == "append");
    assert_eq!(appends.count(), 4 * VALUES);
    let created = operations.iter().find(|line| line["operation"] == "create_topic");
    assert_eq!(created.map(|line| &line["topic"]), Some(&Value::from("orders")));
    for frame in of_type(&lines, "frame") {
        assert_eq!(frame["whole"], true);
        assert_ne!(frame["follows"], false);
        for number in ["frame", "watermark", "trim"] {
            assert!(frame[number].as_str().is_some_and(|text| text.parse::<u64>().is_ok()));
        }
        assert!(frame["offset"].is_u64() && frame["segment"].as_str().map(str::len) == Some(16));
    }
    let frames = of_type(&lines, "frame").len() as u64;
    let counted = of_type(&lines, "segment_end");
    let counted: u64 = counted.iter().filter_map(|line| line["frames"].as_u64()).sum();
    assert_eq!(frames, counted);
    // The tables say the same.
    let output = told("inspect log", &folder.data(), "--frames --operations");
    exits(&output, Exit::Done);
    let shown = text(&output.stdout);
    assert!(shown.contains("create topic orders"), "{shown}");
    assert!(shown.contains("append 1 records at offset 3 to partition 1"), "{shown}");
    assert_eq!(shown.matches("verdict: clean").count(), 2);
    assert!(!shown.contains('!'), "{shown}");
    assert!(folder.content() == before);
}

#[test]
fn damage_is_shown_with_what_stands_behind_it() {
    let folder = Folder::filled("inspect-damaged");
    let all = json_lines(&told("inspect log", &folder.log(1), "--frames --json"));
    let segment = folder.segments(1)[0].clone();
    // A header in one place, a payload in another.
    folder.flip(&segment, 2 * 4096 + 50);
    folder.flip(&segment, 5 * 4096 + 500);
    let before = folder.content();
    let output = told("inspect log", &folder.log(1), "--frames --json");
    exits(&output, Exit::Done);
    let lines = json_lines(&output);
    assert_eq!(of_type(&lines, "frame").len() + 1, of_type(&all, "frame").len());
    let damages = of_type(&lines, "damage");
    let places: Vec<_> = damages.iter().filter_map(|damage| damage["offset"].as_u64()).collect();
    assert!(places.contains(&(2 * 4096)) && places.contains(&(5 * 4096)), "{damages:?}");
    assert!(damages.iter().any(|damage| damage["harm"] == "acknowledged"));
    let verdict = of_type(&lines, "verdict")[0].clone();
    assert_eq!(verdict["verdict"], "corrupt");
    assert_eq!(verdict["damage"]["offset"], 2 * 4096);
    let broken = of_type(&lines, "frame").into_iter().find(|frame| frame["whole"] == false);
    assert_eq!(broken.map(|frame| frame["offset"].as_u64()), Some(Some(5 * 4096)));
    let shown = text(&told("inspect log", &folder.log(1), "").stdout);
    assert!(shown.contains("verdict: corrupt") && shown.contains("(acknowledged)"), "{shown}");
    // All but the first, which has the directory.
    for line in shown.lines().skip(1) {
        assert!(line.chars().count() <= 100 && line.trim_end() == line, "{line:?}");
    }
    assert!(folder.content() == before);
}

/// As `head` does it.
#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let folder = Folder::filled("inspect-head");
    let mut child = woodchuck()
        .args(["inspect", "log", "--frames", "--operations", "--json"])
        .arg(folder.data())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut some = [0; 10];
    child.stdout.take().expect("piped").read_exact(&mut some).expect("it prints");
    let output = child.wait_with_output().expect("it ends");
    exits(&output, Exit::Done);
    assert_eq!(text(&output.stderr), "");
}
