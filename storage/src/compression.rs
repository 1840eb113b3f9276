//! How a block's bytes are made fewer.

use rkyv::{Archive, Deserialize, Serialize};

use crate::error::StorageError;
use crate::options::within;

/// How data blocks are compressed. A block that does not become smaller by an eighth stays as it
/// is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all: values are handed out from what was read.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: dense.
    Zstd {
        /// From 1 to 19.
        level: u8,
    },
}

/// How one block is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    None,
    Lz4,
    Zstd,
}

impl Method {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Compression {
    pub(crate) fn check(self) -> Result<(), StorageError> {
        match self {
            Self::Zstd { level } => within("the level of compression", usize::from(level), 1, 19),
            Self::None | Self::Lz4 => Ok(()),
        }
    }

    /// As it stands in a table's properties.
    pub(crate) const fn numbers(self) -> (u8, u8) {
        match self {
            Self::None => (Method::None.number(), 0),
            Self::Lz4 => (Method::Lz4.number(), 0),
            Self::Zstd { level } => (Method::Zstd.number(), level),
        }
    }
}

/// Compresses blocks, and keeps what it needs for that.
pub(crate) struct Compressor {
    state: State,
    output: Vec<u8>,
}

enum State {
    None,
    Lz4(Box<lz4_flex::block::CompressTable>),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Result<Self, StorageError> {
        let state = match compression {
            Compression::None => State::None,
            Compression::Lz4 => State::Lz4(Box::default()),
            Compression::Zstd { level } => {
                let compressor = zstd::bulk::Compressor::new(i32::from(level));
                State::Zstd(compressor.map_err(|error| StorageError::io("prepare zstd", error))?)
            }
        };
        Ok(Self { state, output: Vec::new() })
    }

    /// The bytes, compressed if that makes them fewer by an eighth at least.
    pub(crate) fn compress<'a>(&'a mut self, bytes: &'a [u8]) -> (Method, &'a [u8]) {
        // What does not fit here does not gain enough.
        let most = bytes.len() - bytes.len() / 8;
        let done = match &mut self.state {
            State::None => None,
            State::Lz4(table) => {
                let bound = lz4_flex::block::get_maximum_output_size(bytes.len());
                self.output.resize(bound.max(self.output.len()), 0);
                let length =
                    lz4_flex::block::compress_into_with_table(bytes, &mut self.output, table);
                length.ok().map(|length| (Method::Lz4, length))
            }
            State::Zstd(compressor) => {
                self.output.resize(most.max(self.output.len()), 0);
                let length = compressor.compress_to_buffer(bytes, &mut self.output[..most]);
                length.ok().map(|length| (Method::Zstd, length))
            }
        };
        match done {
            Some((method, length)) if length <= most && length < bytes.len() => {
                (method, &self.output[..length])
            }
            _ => (Method::None, bytes),
        }
    }
}

/// The bytes that were compressed: `raw_bytes` of them, or `None` if these are not they. The caller
/// has bounded `raw_bytes`.
pub(crate) fn decompress(method: Method, bytes: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
    let mut raw = vec![0; raw_bytes];
    let length = match method {
        Method::None => return None,
        Method::Lz4 => lz4_flex::block::decompress_into(bytes, &mut raw).ok()?,
        Method::Zstd => zstd::bulk::decompress_to_buffer(bytes, &mut raw).ok()?,
    };
    (length == raw_bytes).then_some(raw)
}

#[cfg(test)]
mod tests {
    use woodchuck_io::RandomStream;

    use super::*;

    const ALL: [Compression; 3] =
        [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }];

    #[test]
    fn what_does_not_gain_stays_as_it_is() {
        let mut random = RandomStream::from_seed([1; 32]);
        for compression in ALL {
            let mut compressor = Compressor::new(compression).expect("it can be prepared");
            for length in [0, 1, 100, 5000, 100_000] {
                let mut noise = vec![0; length];
                random.fill(&mut noise);
                assert_eq!(compressor.compress(&noise), (Method::None, &noise[..]));
                let same = vec![3; length];
                let (method, stored) = compressor.compress(&same);
                assert_eq!(
                    method == Method::None,
                    compression == Compression::None || length < 100
                );
                if method != Method::None {
                    assert!(stored.len() <= length - length / 8);
                    assert_eq!(decompress(method, stored, length), Some(same.clone()));
                    assert_eq!(decompress(method, stored, length - 1), None);
                    assert_eq!(decompress(method, stored, length + 1), None);
                    assert_eq!(decompress(method, &stored[..stored.len() - 1], length), None);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_refused_or_decompressed_but_never_a_panic() {
        let mut random = RandomStream::from_seed([2; 32]);
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.below(60) as usize];
            random.fill(&mut bytes);
            for method in [Method::Lz4, Method::Zstd] {
                let length = random.below(300) as usize;
                if let Some(raw) = decompress(method, &bytes, length) {
                    assert_eq!(raw.len(), length);
                }
            }
        }
    }
}
