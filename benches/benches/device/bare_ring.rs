//! The ceiling: a ring that does nothing else.

use std::path::Path;

use woodchuck_io::ceiling::{Took, Transfers};
use woodchuck_io::runtime::CompletionMode;

use crate::{Case, FILE_BYTES};

pub(crate) fn run(case: Case, registered: bool, path: &Path) -> Took {
    let plan = Transfers {
        access: case.access.expect("a bare ring has no shards"),
        bytes: case.bytes,
        in_flight: case.depth,
        transfers: case.operations,
        file_bytes: FILE_BYTES,
        completion_mode: CompletionMode::default(),
        registered_buffers: registered,
        registered_file: registered,
        wait_for: 1,
    };
    plan.measure_in(path).expect("rings and direct I/O are allowed here")
}
