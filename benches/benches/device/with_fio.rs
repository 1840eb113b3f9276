//! The cases through fio, where it is installed: its engine `io_uring` with direct I/O, the file and
//! the buffers registered, as many submitted and taken at a time as there are, like the bare ring.
//!
//! **Huge pages.** fio asks for huge pages with `iomem=mmaphuge` and `shmhuge` only, which need pages
//! that an administrator has reserved (`vm.nr_hugepages`). Without them, its C library can be told to
//! advise huge pages for memory that comes from the heap ([`HUGE_PAGES`]; glibc 2.35 or later,
//! elsewhere it changes nothing), and fio to take its buffers from there. `iomem_align`, which fio
//! adds to the address, moves them beyond the page that the heap shares with earlier allocations.

use std::path::Path;
use std::process::Command;

use woodchuck_io::ceiling::Access;

use crate::{Case, FILE_BYTES, Figures};

/// Tells glibc to advise huge pages for the heap, to take even large allocations from it, and to
/// leave room behind them, so that the last page is whole, too.
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:\
                          glibc.malloc.top_pad=16777216";

/// Whether the program is there.
pub(crate) fn is_installed() -> bool {
    Command::new("fio").arg("--version").output().is_ok_and(|output| output.status.success())
}

pub(crate) fn run(case: Case, path: &Path) -> Figures {
    let access = case.access.expect("fio sends no messages");
    let does = if access == Access::Read { "randread" } else { "write" };
    let mut command = Command::new("fio");
    command.env("GLIBC_TUNABLES", HUGE_PAGES);
    command.args(["--output-format=json", "--name=global", "--ioengine=io_uring", "--direct=1"]);
    command.args(["--registerfiles=1", "--fixedbufs=1", "--iomem=malloc", "--iomem_align=2M"]);
    // It would keep account of the blocks it has read, and change what it writes.
    command.args(["--norandommap=1", "--scramble_buffers=0", "--allow_file_create=0"]);
    // Of its three times only the one from the submission to the end.
    command.args(["--lat_percentiles=1", "--clat_percentiles=0"]);
    command.args(["--disable_clat=1", "--disable_slat=1"]);
    command.arg(format!("--filename={}", path.display()));
    command.args([format!("--size={FILE_BYTES}"), format!("--rw={does}")]);
    if access == Access::DurableWrite {
        command.arg("--sync=dsync");
    }
    let depth = case.depth;
    command.args([format!("--bs={}", case.bytes), format!("--iodepth={depth}")]);
    command.args([
        format!("--iodepth_batch_submit={depth}"),
        "--iodepth_batch_complete_min=1".to_owned(),
        format!("--iodepth_batch_complete_max={depth}"),
    ]);
    for (job, operations) in [("warm-up", case.operations / 4), ("measured", case.operations)] {
        command.args([format!("--name={job}"), "--stonewall".to_owned()]);
        // Over and over, instead of once through the file.
        command.arg(format!("--io_size={}", operations * case.bytes as u64));
    }
    let output = command.output().expect("fio runs");
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8_lossy(&output.stdout);
    figures(&report, access, case.operations).unwrap_or_else(|| panic!("no figures: {report}"))
}

/// The figures of the second job in fio's report, if it did all operations without an error.
fn figures(report: &str, access: Access, operations: u64) -> Option<Figures> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    let job = report.get("jobs")?.get(1)?;
    let done = job.get(if access == Access::Read { "read" } else { "write" })?;
    if job.get("error")?.as_i64()? != 0 || done.get("total_ios")?.as_u64()? != operations {
        return None;
    }
    let median = done.get("lat_ns")?.get("percentile")?.get("50.000000")?.as_f64()? / 1000.0;
    // Shares of the run in percent, and the run in milliseconds.
    let percent = job.get("usr_cpu")?.as_f64()? + job.get("sys_cpu")?.as_f64()?;
    let runtime = job.get("job_runtime")?.as_f64()?;
    let busy = percent / 100.0 * runtime * 1000.0 / operations as f64;
    Some(Figures { rate: done.get("iops")?.as_f64()?, median, busy })
}
