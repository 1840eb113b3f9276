//! The first and the last page of a table's file.
//!
//! ```text
//! first page                                  last page
//! at  bytes                                   at  bytes
//!  0   8   magic        "WCKTABLE"             0   8   magic        "WCKTBEND"
//!  8   4   version                             8   4   version
//! 12   4   page bytes                         12   4   page bytes
//! 16  16   store                              16  16   store
//! 32   8   keyspace                           32   8   keyspace
//! 40   8   number                             40   8   number
//! 48   8   checksum     of bytes 0..48        48   8   file bytes
//! 56  ..   zeros                              56  12   top-level index  u64 offset, u32 bytes
//!                                             68  12   properties       the same
//!                                             80  12   range tombstones the same; zeros if none
//!                                             92   4   zero
//!                                             96   8   checksum     of bytes 0..96
//!                                            104  ..   zeros
//! ```
//!
//! Checksums are XXH3-64 without a seed: who looks at a file of unknown origin shall be told which
//! table it is. Neither reaches into a second sector, so neither is ever torn.

use xxhash_rust::xxh3::xxh3_64;

use super::TableId;
use super::index::Place;
use crate::limits::PAGE_BYTES;

/// Version of the format. A change of any byte's meaning changes it.
pub(crate) const VERSION: u32 = 1;

const HEADER_MAGIC: [u8; 8] = *b"WCKTABLE";
const FOOTER_MAGIC: [u8; 8] = *b"WCKTBEND";
const HEADER_BYTES: usize = 56;
const FOOTER_BYTES: usize = 104;
const PAGE: u64 = PAGE_BYTES as u64;

const _: () = assert!(FOOTER_BYTES <= 512, "it stands in one sector, which no disk tears");

/// Why a page is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Damaged(String),
    WrongVersion(u32),
}

/// What the last page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) file_bytes: u64,
    pub(crate) top_index: Place,
    pub(crate) properties: Place,
    pub(crate) range_tombstones: Option<Place>,
}

fn begin(magic: [u8; 8], id: TableId) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    page[..8].copy_from_slice(&magic);
    page[8..12].copy_from_slice(&VERSION.to_le_bytes());
    page[12..16].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
    page[16..48].copy_from_slice(&id.encode());
    page
}

fn seal(page: &mut [u8; PAGE_BYTES], bytes: usize) {
    let checksum = xxh3_64(&page[..bytes - 8]);
    page[bytes - 8..bytes].copy_from_slice(&checksum.to_le_bytes());
}

/// The first page.
pub(crate) fn encode_header(id: TableId) -> [u8; PAGE_BYTES] {
    let mut page = begin(HEADER_MAGIC, id);
    seal(&mut page, HEADER_BYTES);
    page
}

/// Checks what both pages begin with.
fn check(page: &[u8], magic: [u8; 8], bytes: usize, id: TableId) -> Result<(), Invalid> {
    let damaged = |what: String| Err(Invalid::Damaged(what));
    let Some(head) = page.get(..bytes) else {
        return damaged("the page is cut short".to_owned());
    };
    if head[..8] != magic {
        return damaged("it does not begin as a table does".to_owned());
    }
    if xxh3_64(&head[..bytes - 8]).to_le_bytes() != head[bytes - 8..] {
        return damaged("its checksum is wrong".to_owned());
    }
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if version != VERSION {
        return Err(Invalid::WrongVersion(version));
    }
    if head[12..16] != (PAGE_BYTES as u32).to_le_bytes() {
        return damaged("it has pages of another size".to_owned());
    }
    let found = TableId::decode(head[16..48].first_chunk().expect("32 bytes"));
    if found != id {
        return damaged(format!("it is {found}, not {id}"));
    }
    Ok(())
}

/// Checks the first page.
pub(crate) fn check_header(page: &[u8], id: TableId) -> Result<(), Invalid> {
    check(page, HEADER_MAGIC, HEADER_BYTES, id)
}

/// Which table a first page says that its file is, if it is whole and of this version.
pub(crate) fn header_id(page: &[u8]) -> Option<TableId> {
    let id = TableId::decode(page.get(16..48)?.first_chunk()?);
    check_header(page, id).ok().map(|()| id)
}

impl Footer {
    /// The last page.
    pub(crate) fn encode(&self, id: TableId) -> [u8; PAGE_BYTES] {
        let mut page = begin(FOOTER_MAGIC, id);
        page[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        let none = Place { offset: 0, bytes: 0 };
        let tombstones = self.range_tombstones.unwrap_or(none);
        for (at, place) in [(56, self.top_index), (68, self.properties), (80, tombstones)] {
            page[at..at + 8].copy_from_slice(&place.offset.to_le_bytes());
            page[at + 8..at + 12].copy_from_slice(&place.bytes.to_le_bytes());
        }
        seal(&mut page, FOOTER_BYTES);
        page
    }

    /// What the last page of a file of `file_bytes` says. Its places lie in the file.
    pub(crate) fn decode(page: &[u8], id: TableId, file_bytes: u64) -> Result<Self, Invalid> {
        check(page, FOOTER_MAGIC, FOOTER_BYTES, id)?;
        let long = |at: usize| {
            page[at..at + 8].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
        };
        let place =
            |at: usize| Place { offset: long(at), bytes: (long(at + 8) & 0xffff_ffff) as u32 };
        let tombstones = place(80);
        let is_none = tombstones == Place { offset: 0, bytes: 0 };
        let footer = Self {
            file_bytes: long(48),
            top_index: place(56),
            properties: place(68),
            range_tombstones: (!is_none).then_some(tombstones),
        };
        if footer.file_bytes != file_bytes {
            return Err(Invalid::Damaged(format!(
                "the file has {file_bytes} bytes, it was written with {}",
                footer.file_bytes
            )));
        }
        let places = [Some(footer.top_index), Some(footer.properties), footer.range_tombstones];
        match places.into_iter().flatten().find(|place| !place.is_within(PAGE..file_bytes - PAGE)) {
            Some(place) => Err(Invalid::Damaged(format!("it speaks of a block {place}"))),
            None => Ok(footer),
        }
    }
}
