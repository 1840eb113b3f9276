//! The bytes of one commit of the manifest.
//!
//! The fault model: the log has checked what it hands out, so what is wrong here was written wrong.
//! It is checked all the same: any bytes give a record or an error, and take memory in proportion
//! to their length.
//!
//! ```text
//! 0         1      2       8        16
//! +---------+------+-------+--------+-------------
//! | version | kind | zeros | number | rkyv archive
//! +---------+------+-------+--------+-------------
//! ```
//!
//! | kind | archive | number |
//! |---|---|---|
//! | 1 edit | a list of changes | of the edit: 1, 2, 3, ... |
//! | 2 begin of a snapshot | the store, the reserved numbers | of the last edit that the snapshot holds |
//! | 3 part of a snapshot | its place among the parts, a list of changes | the same |
//! | 4 end of a snapshot | how many parts, a checksum of all their archives | the same |

use rkyv::rancor::Error;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::change::Change;

/// Version of the format. A change of any byte's meaning changes it.
pub(crate) const VERSION: u8 = 1;

pub(crate) const HEADER_BYTES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) store: u128,
    pub(crate) numbers_below: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Part {
    /// How many parts are in front of it.
    pub(crate) index: u64,
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) parts: u64,
    /// See [`chain`].
    pub(crate) checksum: u64,
}

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Edit(Vec<Change>),
    Begin(Begin),
    Part(Part),
    End(End),
}

/// A commit of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) number: u64,
    pub(crate) body: Body,
}

/// Why a commit is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Damaged(String),
    WrongVersion(u8),
}

impl From<String> for Invalid {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

/// The checksum of a snapshot's parts so far: XXH3-64 of the part's commit, with that of the parts
/// in front of it as the seed, and 0 as that of none.
pub(crate) fn chain(checksum: u64, part: &[u8]) -> u64 {
    xxh3_64_with_seed(part, checksum)
}

fn archive<T>(value: &T) -> Result<Vec<u8>, String>
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            rkyv::util::AlignedVec,
            rkyv::ser::allocator::ArenaHandle<'a>,
            Error,
        >,
    >,
{
    let bytes = rkyv::to_bytes::<Error>(value).map_err(|error| error.to_string())?;
    Ok(bytes.to_vec())
}

impl Record {
    pub(crate) fn new(number: u64, body: Body) -> Self {
        Self { number, body }
    }

    /// Its bytes. Only what is larger than an archive can be makes it fail.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let (kind, archive) = match &self.body {
            Body::Edit(changes) => (1, archive(changes)?),
            Body::Begin(begin) => (2, archive(begin)?),
            Body::Part(part) => (3, archive(part)?),
            Body::End(end) => (4, archive(end)?),
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + archive.len());
        bytes.extend_from_slice(&[VERSION, kind, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&archive);
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let Some((head, archive)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(format!("a commit has {} bytes", bytes.len()).into());
        };
        let [version, kind, zeros @ .., _, _, _, _, _, _, _, _] = head;
        if *version != VERSION {
            return Err(Invalid::WrongVersion(*version));
        }
        if zeros.iter().any(|&byte| byte != 0) {
            return Err("a commit has something where zeros are".to_owned().into());
        }
        let number = head.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let invalid = |error: Error| format!("a commit of kind {kind} is no archive: {error}");
        let body = match kind {
            1 => Body::Edit(rkyv::from_bytes::<Vec<Change>, Error>(archive).map_err(invalid)?),
            2 => Body::Begin(rkyv::from_bytes::<Begin, Error>(archive).map_err(invalid)?),
            3 => Body::Part(rkyv::from_bytes::<Part, Error>(archive).map_err(invalid)?),
            4 => Body::End(rkyv::from_bytes::<End, Error>(archive).map_err(invalid)?),
            _ => return Err(format!("a commit has the kind {kind}, which there is not").into()),
        };
        Ok(Self { number, body })
    }
}
