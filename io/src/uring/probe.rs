//! Whether this kernel gives this process the ring that is needed.

use std::io;

use io_uring::{Builder, IoUring, Probe, opcode};

use crate::limits::{BLOCK_BYTES, RING_COMPLETIONS, RING_SUBMISSIONS};
use crate::probe::{Ability, Rings};
use crate::runtime::CompletionMode;

/// Bytes in front of the queues of a ring, in the kernel's memory.
const RING_HEADER_BYTES: usize = 320;

/// Bytes of an entry of the submission queue, of its index, and of the completion queue.
const SUBMISSION_BYTES: usize = 64;
const INDEX_BYTES: usize = 4;
const COMPLETION_BYTES: usize = 16;

/// Bytes that kernels count as locked memory for each ring, if they count rings at all.
pub(crate) const fn locked_bytes() -> usize {
    let (submissions, completions) = (RING_SUBMISSIONS as usize, RING_COMPLETIONS as usize);
    let queues = RING_HEADER_BYTES + submissions * INDEX_BYTES + completions * COMPLETION_BYTES;
    queues.next_multiple_of(BLOCK_BYTES)
        + (submissions * SUBMISSION_BYTES).next_multiple_of(BLOCK_BYTES)
}

/// Asks for one flag of a ring that is to be set up.
type SetFlag = fn(&mut Builder) -> &mut Builder;

/// The flags that rings are set up with.
fn setup(mode: CompletionMode) -> [(&'static str, SetFlag); 4] {
    [
        ("SINGLE_ISSUER", Builder::setup_single_issuer),
        // One bad entry does not hold back those behind it.
        ("SUBMIT_ALL", Builder::setup_submit_all),
        ("TASKRUN_FLAG", Builder::setup_taskrun_flag),
        match mode {
            CompletionMode::Cooperative => ("COOP_TASKRUN", Builder::setup_coop_taskrun),
            CompletionMode::Deferred => ("DEFER_TASKRUN", Builder::setup_defer_taskrun),
        },
    ]
}

/// The names of the flags that rings are set up with.
pub(crate) fn flags(mode: CompletionMode) -> Vec<&'static str> {
    setup(mode).into_iter().map(|(name, _)| name).collect()
}

/// A ring for the calling thread alone.
pub(super) fn build(mode: CompletionMode) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    for (_, set) in setup(mode) {
        set(&mut builder);
    }
    builder.setup_cqsize(RING_COMPLETIONS).dontfork().build(RING_SUBMISSIONS).map_err(|error| {
        let hint = match error.raw_os_error() {
            // Kernels since about 6.14 count the queues.
            Some(libc::ENOMEM) => {
                "; a ring may count as locked memory, some 100 KiB a shard: see `ulimit -l`"
            }
            _ => "",
        };
        io::Error::new(error.kind(), format!("setting up a ring: {error}{hint}"))
    })
}

/// Sets up a ring as shards do and checks that it can do all they ask.
pub(crate) fn probe(mode: CompletionMode) -> io::Result<()> {
    let missing = look(mode)?.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("this kernel's rings lack {}", missing.join(", "));
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Sets up a ring as shards do and looks at what it can do.
pub(crate) fn look(mode: CompletionMode) -> io::Result<Rings> {
    let ring = build(mode)?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|error| {
        io::Error::new(error.kind(), format!("asking what rings can do: {error}"))
    })?;
    let features = ring.params();
    let operation = |(name, code)| (name, known.is_supported(code));
    let needed = [
        ("NODROP", features.is_feature_nodrop()),
        ("EXT_ARG", features.is_feature_ext_arg()),
        ("FAST_POLL", features.is_feature_fast_poll()),
        ("SUBMIT_STABLE", features.is_feature_submit_stable()),
        ("CQE_SKIP", features.is_feature_skip_cqe_on_success()),
    ];
    let needed_operations = [
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ]
    .map(operation);
    let other = [
        ("NATIVE_WORKERS", features.is_feature_native_workers()),
        ("RSRC_TAGS", features.is_feature_resource_tagging()),
        ("LINKED_FILE", features.is_feature_linked_file()),
        ("RECVSEND_BUNDLE", features.is_feature_recvsend_bundle()),
        ("MIN_TIMEOUT", features.is_feature_min_timeout()),
    ];
    let other_operations = [
        ("READ_FIXED", opcode::ReadFixed::CODE),
        ("WRITE_FIXED", opcode::WriteFixed::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
        ("SEND_ZC", opcode::SendZc::CODE),
        ("URING_CMD", opcode::UringCmd16::CODE),
    ]
    .map(operation);
    Ok(Rings {
        needed: abilities(needed.into_iter().chain(needed_operations)),
        other: abilities(other.into_iter().chain(other_operations)),
    })
}

fn abilities(looked: impl Iterator<Item = (&'static str, bool)>) -> Vec<Ability> {
    looked.map(|(name, present)| Ability { name, present }).collect()
}
