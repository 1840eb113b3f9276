//! Whether this kernel gives this process the ring that is needed.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use crate::limits::{RING_COMPLETIONS, RING_SUBMISSIONS};
use crate::runtime::CompletionMode;

/// A ring for the calling thread alone.
pub(super) fn build(mode: CompletionMode) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        // One bad entry does not hold back those behind it.
        .setup_submit_all()
        .setup_taskrun_flag()
        .setup_cqsize(RING_COMPLETIONS);
    match mode {
        CompletionMode::Cooperative => builder.setup_coop_taskrun(),
        CompletionMode::Deferred => builder.setup_defer_taskrun(),
    };
    builder.dontfork().build(RING_SUBMISSIONS)
}

/// Sets up a ring as shards do and checks that it can do all they ask.
pub(crate) fn probe(mode: CompletionMode) -> io::Result<()> {
    let ring = build(mode)
        .map_err(|error| io::Error::new(error.kind(), format!("setting up a ring: {error}")))?;
    let features = ring.params();
    let needed = [
        ("NODROP", features.is_feature_nodrop()),
        ("EXT_ARG", features.is_feature_ext_arg()),
        ("FAST_POLL", features.is_feature_fast_poll()),
        ("SUBMIT_STABLE", features.is_feature_submit_stable()),
        ("CQE_SKIP", features.is_feature_skip_cqe_on_success()),
    ];
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|error| {
        io::Error::new(error.kind(), format!("asking what rings can do: {error}"))
    })?;
    let operations = [
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
    .map(|(name, code)| (name, known.is_supported(code)));
    let missing: Vec<&str> = needed
        .into_iter()
        .chain(operations)
        .filter_map(|(name, present)| (!present).then_some(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("this kernel's rings lack {}", missing.join(", "));
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
