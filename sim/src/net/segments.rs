//! The bytes of packets: segments as they were written, shared and never copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::fault_kind::FaultKind;
use crate::kernel::Kernel;
use crate::limits::CORRUPT_BYTES;
use crate::site::Site;

/// The first `bytes` of some segments.
pub(super) fn take_front(segments: &mut VecDeque<Bytes>, mut bytes: usize) -> VecDeque<Bytes> {
    let mut front = VecDeque::new();
    while bytes > 0 {
        let first = segments.front_mut().expect("there are more bytes than are taken");
        let part = first.split_to(bytes.min(first.len()));
        bytes -= part.len();
        if !part.is_empty() {
            front.push_back(part);
        }
        if first.is_empty() {
            segments.pop_front();
        }
    }
    front
}

/// Changes a bit, or all bytes of a burst.
pub(super) fn corrupt(
    segments: &mut VecDeque<Bytes>,
    bytes: usize,
    node: u32,
    kernel: &mut Kernel,
) {
    let mut at = kernel.choose(Site::NetCorruptBytes, node, bytes as u64) as usize;
    let how = kernel.choose(Site::NetCorruptBytes, node, 8 + CORRUPT_BYTES as u64) as usize;
    let (mask, length) = if how < 8 { (1 << how, 1) } else { (0xA5, how - 7) };
    let hit = segments.iter_mut().find(|segment| {
        let here = at < segment.len();
        at -= if here { 0 } else { segment.len() };
        here
    });
    let hit = hit.expect("the place lies within the bytes");
    let mut changed = BytesMut::from(&hit[..]);
    changed[at..].iter_mut().take(length).for_each(|byte| *byte ^= mask);
    *hit = changed.freeze();
    kernel.fault(FaultKind::CorruptPacket, node, "corrupt packet");
}
