//! Opening a log of 1 GiB, and what its files give when they are only read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use woodchuck_benches::on_one_shard;
use woodchuck_io::{Buffer, Disk, Env, File, OpenMode, Program};
use woodchuck_wal::{Log, LogError, LogOptions};

use crate::{Figures, MIB};

const RECORD_BYTES: usize = 1024;
const RECORDS: u64 = 1 << 20;
/// What is checksummed, in pieces of 1 MiB.
const CHECKSUM_PIECES: u64 = 8192;

/// Writes a log, and opens it twice, so that every opening that is measured finds the same: the
/// frames, an empty segment that the opening before it began, and a spare one, as it does behind a
/// process that lived for longer.
pub(crate) fn prepare(directory: &Path) {
    let directory = directory.join("recovery");
    on_one_shard(true, Fill { directory: directory.clone() });
    for _ in 0..2 {
        on_one_shard(true, Open { directory: directory.clone() });
    }
}

pub(crate) fn open(directory: &Path) -> Figures {
    let directory = directory.join("recovery");
    let bytes = files(&directory).into_iter().map(|(_, length)| length).sum();
    let elapsed = on_one_shard(true, Open { directory });
    figures(bytes, elapsed)
}

pub(crate) fn read(directory: &Path, in_flight: usize, buffers: usize, check: bool) -> Figures {
    let files = files(&directory.join("recovery"));
    let bytes = files.iter().map(|(_, length)| length).sum();
    figures(bytes, on_one_shard(true, Read { files, in_flight, buffers, check }))
}

/// Of memory that was not touched just before, as what was just read.
pub(crate) fn checksums() -> Figures {
    let pieces: Vec<Vec<u8>> = (0..64).map(|index| vec![index; MIB]).collect();
    let start = Instant::now();
    for number in 0..CHECKSUM_PIECES {
        std::hint::black_box(crc_fast::crc32_iscsi(&pieces[number as usize % pieces.len()]));
    }
    figures(CHECKSUM_PIECES * MIB as u64, start.elapsed())
}

/// MB a second.
fn figures(bytes: u64, elapsed: Duration) -> Figures {
    Figures { rate: bytes as f64 / 1e6 / elapsed.as_secs_f64(), median: 0.0, late: 0.0, busy: 0.0 }
}

/// The segments, and how long they are.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(directory).expect("the log is there");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut segments: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
    segments.sort_unstable();
    let length = |path: &PathBuf| std::fs::metadata(path).expect("it is there").len();
    segments.into_iter().map(|path| (path.clone(), length(&path))).collect()
}

#[derive(Clone)]
struct Fill {
    directory: PathBuf,
}

impl Program for Fill {
    type Output = ();

    async fn run<E: Env>(self, env: E) {
        let opened = Log::open(env, self.directory, LogOptions::default(), |_| Ok(())).await;
        let (log, _) = opened.expect("the log can be created");
        let record: Vec<u8> = (0..RECORD_BYTES).map(|index| index as u8).collect();
        let (mut submitted, mut acknowledged) = (0, 0);
        while acknowledged < RECORDS {
            while submitted < RECORDS {
                match log.submit(&[&record], ()) {
                    Ok(()) => submitted += 1,
                    Err((LogError::Busy { .. }, ())) => break,
                    Err((error, ())) => panic!("{error}"),
                }
            }
            acknowledged += log.committed().await.expect("the disk works").len() as u64;
        }
        log.close().await.expect("all is durable");
    }
}

#[derive(Clone)]
struct Open {
    directory: PathBuf,
}

impl Program for Open {
    type Output = Duration;

    async fn run<E: Env>(self, env: E) -> Duration {
        let mut found = 0;
        let start = Instant::now();
        let opened = Log::<E, ()>::open(env, self.directory, LogOptions::default(), |recovered| {
            found += recovered.bytes.len() as u64;
            Ok(())
        });
        let (log, _) = opened.await.expect("the log is whole");
        let elapsed = start.elapsed();
        assert_eq!(found, RECORDS * RECORD_BYTES as u64, "all records are found");
        log.close().await.expect("nothing is to be made durable");
        elapsed
    }
}

#[derive(Clone)]
struct Read {
    files: Vec<(PathBuf, u64)>,
    in_flight: usize,
    /// That are read into in turn: as much memory as opening works in, or as little as can be.
    buffers: usize,
    /// Whether to compute a checksum of each block.
    check: bool,
}

impl Program for Read {
    type Output = Duration;

    async fn run<E: Env>(self, env: E) -> Duration {
        let mut pieces = VecDeque::new();
        for (path, length) in self.files {
            let file = env.disk().open(&path, OpenMode::Read).await.expect("it is there");
            pieces.extend((0..length).step_by(MIB).map(|offset| (file.clone(), offset)));
        }
        let pieces = Rc::new(RefCell::new(pieces));
        let buffers: VecDeque<Buffer> = (0..self.buffers).map(|_| Buffer::zeroed(MIB)).collect();
        let buffers = Rc::new(RefCell::new(buffers));
        let start = Instant::now();
        let readers: Vec<_> = (0..self.in_flight)
            .map(|_| {
                let (pieces, buffers) = (Rc::clone(&pieces), Rc::clone(&buffers));
                env.spawn("reader", async move {
                    loop {
                        let next = pieces.borrow_mut().pop_front();
                        let Some((file, offset)) = next else { return };
                        let buffer = buffers.borrow_mut().pop_front();
                        let mut buffer = buffer.expect("one at least for each reader");
                        buffer.resize(0);
                        let (read, back) = file.read_at(buffer, offset).await;
                        assert_eq!(read.expect("the disk works"), MIB);
                        if self.check {
                            std::hint::black_box(crc_fast::crc32_iscsi(&back));
                        }
                        buffers.borrow_mut().push_back(back);
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await;
        }
        start.elapsed()
    }
}
