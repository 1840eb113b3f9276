//! What was measured of a data directory's volume, in a file of that directory.
//!
//! ```json
//! {
//!   "durable_writes": [{ "block_bytes": 4096, "depth": 1, "per_second": 9120.5 }],
//!   "frames_in_flight": 4,
//!   "version": 1
//! }
//! ```
//! with one entry of `durable_writes` for each size and depth. What a reader uses is
//! `frames_in_flight`, so that a person may set it; the rates say where it came from.
//!
//! The file is written under another name, made durable and then renamed: whoever looks finds it
//! whole or not at all. It is nothing but what a measurement would find again, so that one that is
//! damaged, or of another version, is measured anew and replaced.

use std::io;
use std::path::Path;

use serde_json::{Value, json};
use woodchuck::{VOLUME_NAME, VOLUME_NEW_NAME};
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, File, OpenMode};

use super::choice::Rates;
use crate::limits::FLIGHT_DEPTH_MAX;

const VERSION: u64 = 1;

/// What the file of a data directory says of the frames in flight: `None` if there is no such file.
///
/// # Errors
/// Why it says nothing, as the end of a sentence that begins with its name.
pub(crate) async fn read<D: Disk>(disk: &D, data: &Path) -> Result<Option<usize>, String> {
    let unread = |error: io::Error| format!("cannot be read ({error})");
    let file = match disk.open(&data.join(VOLUME_NAME), OpenMode::Read).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unread)?,
    };
    let (read, block) = file.read_at(Buffer::with_capacity(BLOCK_BYTES), 0).await;
    read.map_err(unread)?;
    decode(&block).map(Some)
}

/// Writes the file, durably and in one step.
///
/// # Errors
/// If any step fails. Then the file is as it was, or, if the last step failed, may be the new one.
pub(crate) async fn write<D: Disk>(disk: &D, data: &Path, rates: &Rates) -> io::Result<()> {
    let new = data.join(VOLUME_NEW_NAME);
    let file = disk.open(&new, OpenMode::CreateNew).await?;
    let written = async {
        let text = encode(rates);
        let mut block = Buffer::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(text.as_bytes());
        block.pad_to_block();
        file.write_at(block, 0, Durability::Volatile).await.0?;
        file.truncate(text.len() as u64).await?;
        file.sync_data().await?;
        disk.rename(&new, &data.join(VOLUME_NAME)).await
    };
    if let Err(error) = written.await {
        // What is told is why it was not written; what is left is removed at the next start.
        let _removed = disk.remove(&new).await;
        return Err(error);
    }
    disk.sync_directory(data).await
}

fn encode(rates: &Rates) -> String {
    let entries = rates.entries().map(|(block_bytes, depth, rate)| {
        let per_second = (rate * 10.0).round() / 10.0;
        json!({ "block_bytes": block_bytes, "depth": depth, "per_second": per_second })
    });
    let record = json!({
        "version": VERSION,
        "frames_in_flight": rates.frames_in_flight(),
        "durable_writes": entries.collect::<Vec<_>>(),
    });
    let text = format!("{record:#}\n");
    assert!(text.len() <= BLOCK_BYTES, "a record of {} bytes", text.len());
    text
}

fn decode(text: &[u8]) -> Result<usize, String> {
    let damaged = |what: &str| Err(format!("is damaged ({what})"));
    let Ok(record) = serde_json::from_slice::<Value>(text) else {
        return damaged("it is not JSON");
    };
    match record["version"].as_u64() {
        Some(VERSION) => {}
        Some(other) => return Err(format!("has version {other}, and this one reads {VERSION}")),
        None => return damaged("it has no version"),
    }
    let frames = record["frames_in_flight"].as_u64().and_then(|frames| frames.try_into().ok());
    match frames {
        Some(frames) if (1..=FLIGHT_DEPTH_MAX).contains(&frames) => Ok(frames),
        _ => damaged("frames_in_flight is not 1 to 16"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FLIGHT_BLOCK_BYTES, FLIGHT_DEPTHS};

    fn rates(rate: f64) -> Rates {
        let mut rates = Rates([[rate; FLIGHT_DEPTHS.len()]; FLIGHT_BLOCK_BYTES.len()]);
        for (row, depths) in rates.0.iter_mut().zip([FLIGHT_DEPTHS; 2]) {
            for (rate, depth) in row.iter_mut().zip(depths) {
                *rate *= depth.min(8) as f64;
            }
        }
        rates
    }

    #[test]
    fn a_record_comes_back_whatever_the_rates_are() {
        for rate in [1e-3, 0.1, 12_345.678_9, 1e12, f64::MAX / 1e3] {
            let text = encode(&rates(rate));
            assert_eq!(decode(text.as_bytes()), Ok(8), "{text}");
        }
        let text = encode(&rates(1000.06));
        let record: Value = serde_json::from_str(&text).expect("JSON");
        let writes = record["durable_writes"].as_array().expect("a list");
        assert_eq!(writes.len(), FLIGHT_BLOCK_BYTES.len() * FLIGHT_DEPTHS.len());
        assert_eq!(writes[1], json!({ "block_bytes": 4096, "depth": 2, "per_second": 2000.1 }));
    }

    #[test]
    fn what_is_not_a_record_is_refused_with_why() {
        let text = encode(&rates(1000.0));
        for end in 0..text.len() - 2 {
            assert!(decode(&text.as_bytes()[..end]).is_err(), "cut off at {end}");
        }
        for (wrong, told) in [
            ("", "is not JSON"),
            ("[]", "has no version"),
            (r#"{"version":"1","frames_in_flight":4}"#, "has no version"),
            (r#"{"version":2,"frames_in_flight":4}"#, "has version 2, and this one reads 1"),
            (r#"{"version":1}"#, "is not 1 to 16"),
            (r#"{"version":1,"frames_in_flight":0}"#, "is not 1 to 16"),
            (r#"{"version":1,"frames_in_flight":17}"#, "is not 1 to 16"),
            (r#"{"version":1,"frames_in_flight":-4}"#, "is not 1 to 16"),
            (r#"{"version":1,"frames_in_flight":4.5}"#, "is not 1 to 16"),
            (r#"{"version":1,"frames_in_flight":"4"}"#, "is not 1 to 16"),
        ] {
            let refused = decode(wrong.as_bytes()).expect_err(wrong);
            assert!(refused.contains(told), "{wrong}: {refused}");
        }
        assert!(decode(&[0xFF; 100]).is_err());
        assert_eq!(decode(br#"{"version":1,"frames_in_flight":3}"#), Ok(3), "a person's own");
    }
}
