//! A file that is written from its beginning to its end, in large writes of which a few are in
//! flight.
//!
//! The fault model: any write may fail, and then nothing is known of the file any more. It is
//! never written again.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use woodchuck_io::{Buffer, Durability, File};

use crate::error::StorageError;
use crate::limits::PAGE_BYTES;
use crate::options::TableOptions;

const PAGE: u64 = PAGE_BYTES as u64;

type Write = Pin<Box<dyn Future<Output = (io::Result<()>, Buffer)>>>;

pub(crate) struct Output<F> {
    file: F,
    path: PathBuf,
    /// Where the next byte goes.
    position: u64,
    /// The bytes in front of `position` that no write has taken.
    chunk: Buffer,
    chunk_bytes: usize,
    in_flight: FuturesUnordered<Write>,
    writes_in_flight: usize,
    /// Set by the first failure, for ever.
    has_failed: bool,
}

impl<F: File> Output<F> {
    pub(crate) fn new(file: F, path: PathBuf, options: &TableOptions) -> Self {
        Self {
            file,
            path,
            position: 0,
            chunk: Buffer::with_capacity(options.chunk_bytes),
            chunk_bytes: options.chunk_bytes,
            in_flight: FuturesUnordered::new(),
            writes_in_flight: options.writes_in_flight,
            has_failed: false,
        }
    }

    /// Where the next byte goes.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) const fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn settle(&mut self, result: io::Result<()>) -> Result<(), StorageError> {
        result.map_err(|error| {
            self.has_failed = true;
            StorageError::io(format!("write {}", self.path.display()), error)
        })
    }

    /// Adds bytes behind the others.
    pub(crate) async fn append(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(self.chunk_bytes - self.chunk.len());
            self.chunk.extend_from_slice(&bytes[..taken]);
            self.position += taken as u64;
            bytes = &bytes[taken..];
            if self.chunk.len() == self.chunk_bytes {
                self.begin_write().await?;
            }
        }
        Ok(())
    }

    /// Adds so many zeros.
    pub(crate) async fn pad(&mut self, mut zeros: usize) -> Result<(), StorageError> {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        while zeros > 0 {
            let taken = zeros.min(PAGE_BYTES);
            self.append(&ZEROS[..taken]).await?;
            zeros -= taken;
        }
        Ok(())
    }

    /// Begins to write the chunk, which is whole pages, once there is room in flight.
    async fn begin_write(&mut self) -> Result<(), StorageError> {
        while self.in_flight.len() >= self.writes_in_flight {
            self.end_write().await?;
        }
        let empty = Buffer::with_capacity(self.chunk_bytes);
        let chunk = std::mem::replace(&mut self.chunk, empty);
        assert!(chunk.len().is_multiple_of(PAGE_BYTES), "pages are written whole");
        let offset = self.position - chunk.len() as u64;
        let write = self.file.write_at(chunk, offset, Durability::Volatile);
        self.in_flight.push(Box::pin(write));
        // Begins it, and takes what is done already.
        while let Some(Some((result, _))) = self.in_flight.next().now_or_never() {
            self.settle(result)?;
        }
        Ok(())
    }

    async fn end_write(&mut self) -> Result<(), StorageError> {
        match self.in_flight.next().await {
            Some((result, _)) => self.settle(result),
            None => Ok(()),
        }
    }

    /// Waits until nothing is in flight, whether it failed or not.
    pub(crate) async fn quiesce(&mut self) -> Result<(), StorageError> {
        let mut first = Ok(());
        while !self.in_flight.is_empty() {
            first = first.and(self.end_write().await);
        }
        first
    }

    /// Writes all that was added, padded to a page, and makes it and the file's length durable.
    pub(crate) async fn sync(&mut self) -> Result<(), StorageError> {
        let zeros = (PAGE - self.position % PAGE) % PAGE;
        self.pad(zeros as usize).await?;
        if !self.chunk.is_empty() {
            self.begin_write().await?;
        }
        self.quiesce().await?;
        let synced = self.file.sync_data().await;
        self.settle(synced)
    }
}
