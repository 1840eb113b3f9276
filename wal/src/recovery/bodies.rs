//! Files of bodies, as recovery finds them.
//!
//! A frame that refers to a body was built when the body was durable. So whatever a crash did, a body
//! that is missing, or not what was written, is damage.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, File};

use crate::error::LogError;
use crate::format::{Name, Reference, checksum};
use crate::reader::{is_damage, read_whole};
use crate::segments::Folder;

/// The files of bodies in a log's directory.
pub(crate) struct BodyFiles<F> {
    files: BTreeMap<u64, Found<F>>,
}

/// A file of bodies, and its length.
pub(crate) struct Found<F> {
    pub(crate) file: F,
    pub(crate) length: u64,
}

impl<F: File> BodyFiles<F> {
    pub(crate) async fn open<D: Disk<File = F>>(
        folder: &Folder<D>,
        generations: &[u64],
    ) -> Result<Self, LogError> {
        let mut files = BTreeMap::new();
        for &generation in generations {
            let name = Name::Bodies(generation);
            let file = folder.open(name).await?;
            let length = file.length().await;
            let length =
                length.map_err(|error| folder.problem("measuring", &folder.file(name), error))?;
            files.insert(generation, Found { file, length });
        }
        Ok(Self { files })
    }

    /// All of them, by generation.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, &Found<F>)> {
        self.files.iter().map(|(&generation, found)| (generation, found))
    }

    pub(crate) fn highest_generation(&self) -> u64 {
        self.files.last_key_value().map_or(0, |(&generation, _)| generation)
    }

    /// A body, or what is wrong with it. Fails for what says nothing about the data.
    pub(crate) async fn read(
        &self,
        reference: &Reference,
    ) -> Result<Result<Bytes, String>, LogError> {
        let &Reference { generation, offset, length, .. } = reference;
        let name = Name::Bodies(generation);
        let place = format!("its commit of {length} bytes at offset {offset} of {name}");
        let Some(found) = self.files.get(&generation) else {
            return Ok(Err(format!("{place} is lost: there is no such file")));
        };
        let bytes = (length as usize).next_multiple_of(BLOCK_BYTES);
        if offset + bytes as u64 > found.length {
            let has = found.length;
            return Ok(Err(format!("{place} is lost: the file has {has} bytes")));
        }
        if bytes == 0 {
            return Ok(Ok(Bytes::new()));
        }
        let body = match read_patiently(&found.file, offset, bytes).await {
            Ok(buffer) => Bytes::from_owner(buffer).slice(..length as usize),
            Err(error) if is_damage(&error) => {
                return Ok(Err(format!("{place} cannot be read: {error}")));
            }
            Err(error) => {
                return Err(LogError::io(format!("reading {name} at offset {offset}"), error));
            }
        };
        if checksum(&body) != reference.checksum {
            return Ok(Err(format!("{place} is not what was written")));
        }
        Ok(Ok(body))
    }
}

/// Reads whole blocks; each by itself, like those of frames, if the disk fails to read them together:
/// an error of a moment is no damage.
async fn read_patiently<F: File>(file: &F, offset: u64, bytes: usize) -> io::Result<Buffer> {
    match read_whole(file, offset, bytes).await {
        Err(error) if is_damage(&error) => {}
        read => return read,
    }
    let mut whole = Buffer::with_capacity(bytes);
    while whole.len() < bytes {
        let block = read_whole(file, offset + whole.len() as u64, BLOCK_BYTES).await?;
        whole.extend_from_slice(&block);
    }
    Ok(whole)
}
