//! `RocksDB`, by its own `db_bench` as it is installed here: to build it would take longer than all
//! that is measured.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Figures, RECORD_BYTES};

const PROGRAM: &str = "db_bench";

/// Of a second, as `/proc` counts CPU time.
const TICK_MICROS: f64 = 10_000.0;

pub(crate) fn is_there() -> bool {
    let mut command = Command::new(PROGRAM);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Random keys, so that it can be told how long to go on; each put is a commit that is in the log
/// and synced before it returns. The CPU time is that of the whole program.
pub(crate) fn measure(writers: usize, directory: &Path) -> Figures {
    let output = Command::new(PROGRAM)
        .args(["--benchmarks=fillrandom", "--sync=1", "--disable_wal=0", "--key_size=16"])
        .args(["--num=10000000", "--duration=2", "--histogram=1", "--compression_type=none"])
        .arg(format!("--value_size={RECORD_BYTES}"))
        .arg(format!("--threads={writers}"))
        .arg(format!("--db={}", directory.join("rocksdb").display()))
        .output()
        .expect("db_bench runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |before: &str, after: &str| {
        let number = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
        let number = number.and_then(|(number, _)| number.trim().parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("no figure behind {before:?}: {output:?}"))
    };
    let commits = figure(" seconds ", " operations;");
    Figures {
        rate: figure("micros/op ", " ops/sec"),
        median: figure("P50: ", " "),
        late: figure("P99: ", " "),
        busy: children_busy_micros() / commits,
    }
}

/// CPU time of the children that this process has waited for.
fn children_busy_micros() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("the kernel tells");
    // Behind the name, which ends with the last bracket, come the fields from the third on; the
    // 16th and 17th count.
    let (_, fields) = text.rsplit_once(')').expect("the name of the process");
    let ticks = fields.split_whitespace().skip(13).take(2);
    ticks.map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() * TICK_MICROS
}
