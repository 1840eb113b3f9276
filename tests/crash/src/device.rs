//! A block device in memory with a volatile write cache.
//!
//! **Fault model.** A write that completed is seen by every later read, and is lost or kept at a
//! power cut as the seed decides, until a flush has completed: sector by sector, so that writes are
//! reordered and torn. The write or flush at which the power goes is itself in flight: it may have
//! reached the medium, in part or whole, and is answered with an error, as is everything after it.

use std::time::Duration;

use woodchuck_io::RandomStream;

use crate::limits::{SECTOR_BYTES, UNTORN_BYTES, WRITE_US};
use crate::random::stream;

/// The device has no power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPower;

/// A write since the last flush.
struct Unflushed {
    offset: u64,
    bytes: Vec<u8>,
}

/// What a power cut did to the writes since the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Writes that were not flushed.
    pub writes: u64,
    /// Their sectors that reached the medium.
    pub sectors_kept: u64,
    /// Their sectors that did not.
    pub sectors_lost: u64,
}

/// How a power cut chooses among the writes since the last flush.
#[derive(Clone, Copy)]
enum Choice {
    /// All reached the medium.
    Everything,
    /// None did.
    Nothing,
    /// Each did or did not, whole.
    Writes,
    /// Each sector did or did not.
    Sectors,
    /// Those before a point did, one was torn there, those behind it did not.
    Earliest,
    /// Those behind a point did, those before it did not.
    Latest,
}

/// The device.
pub struct Device {
    /// What is there after a power cut, before the unflushed writes are chosen from.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Writes since the last flush, in order: `current` is `durable` with all of them.
    unflushed: Vec<Unflushed>,
    powered: bool,
    /// The power goes when so many more writes and flushes have come.
    cut_after: Option<u64>,
    /// Answers flushes without doing anything: for showing that the checks notice.
    ignores_flushes: bool,
    random: RandomStream,
    requests: u64,
    last_cut: Cut,
}

impl Device {
    /// A device full of zeros. `bytes` is a multiple of [`SECTOR_BYTES`].
    #[must_use]
    pub fn new(bytes: usize, seed: u64, ignores_flushes: bool) -> Self {
        assert!(bytes.is_multiple_of(SECTOR_BYTES), "{bytes} bytes are not whole sectors");
        Self {
            durable: vec![0; bytes],
            current: vec![0; bytes],
            unflushed: Vec::new(),
            powered: true,
            cut_after: None,
            ignores_flushes,
            random: stream(seed, "device"),
            requests: 0,
            last_cut: Cut::default(),
        }
    }

    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.current.len()
    }

    /// Whether it has power.
    #[must_use]
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Writes and flushes so far.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// What the last power cut did.
    #[must_use]
    pub const fn last_cut(&self) -> Cut {
        self.last_cut
    }

    /// What stands at `offset`: up to `length` bytes, fewer at the end of the device.
    pub fn read(&self, offset: u64, length: usize) -> Result<&[u8], NoPower> {
        if !self.powered {
            return Err(NoPower);
        }
        let start = usize::try_from(offset).map_or(self.current.len(), |at| at.min(self.bytes()));
        let end = start.saturating_add(length).min(self.current.len());
        Ok(&self.current[start..end])
    }

    /// Takes a write. It must lie within the device and be whole sectors; the result says if it
    /// does.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, NoPower> {
        if !self.powered {
            return Err(NoPower);
        }
        let Some(start) = self.place(offset, bytes.len()) else { return Ok(false) };
        self.current[start..start + bytes.len()].copy_from_slice(bytes);
        self.unflushed.push(Unflushed { offset, bytes: bytes.to_vec() });
        self.count()?;
        Ok(true)
    }

    /// Makes all writes so far durable.
    pub fn flush(&mut self) -> Result<(), NoPower> {
        if !self.powered {
            return Err(NoPower);
        }
        self.count()?;
        if !self.ignores_flushes {
            for write in std::mem::take(&mut self.unflushed) {
                let start =
                    self.place(write.offset, write.bytes.len()).expect("checked when written");
                self.durable[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
            }
        }
        Ok(())
    }

    /// Lets the power go when `requests` more writes and flushes have come: the last of them is in
    /// flight then. Zero takes back what was asked for before.
    pub fn cut_after(&mut self, requests: u64) {
        self.cut_after = (requests > 0).then_some(requests);
    }

    /// How long the next write or flush takes until it is answered.
    pub fn takes(&mut self) -> Duration {
        Duration::from_micros(self.random.below(WRITE_US))
    }

    /// Cuts the power. Nothing happens if there is none.
    pub fn cut(&mut self) {
        if !self.powered {
            return;
        }
        self.powered = false;
        self.cut_after = None;
        let unflushed = std::mem::take(&mut self.unflushed);
        let choice = [
            Choice::Everything,
            Choice::Nothing,
            Choice::Writes,
            Choice::Sectors,
            Choice::Sectors,
            Choice::Earliest,
            Choice::Latest,
        ][self.random.below(7) as usize];
        let point = self.random.below(unflushed.len() as u64 + 1) as usize;
        // How many in sixteen survive, where each is asked.
        let share = 1 + self.random.below(15);
        let mut cut = Cut { writes: unflushed.len() as u64, ..Cut::default() };
        for (index, write) in unflushed.iter().enumerate() {
            let whole = match choice {
                Choice::Everything => Some(true),
                Choice::Nothing => Some(false),
                Choice::Writes => Some(self.random.below(16) < share),
                Choice::Sectors => None,
                Choice::Earliest if index == point => None,
                Choice::Earliest => Some(index < point),
                Choice::Latest => Some(index >= point),
            };
            let untorn = write.offset < UNTORN_BYTES;
            let whole = whole.or_else(|| untorn.then(|| self.random.below(16) < share));
            for (number, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                if whole.unwrap_or_else(|| self.random.below(16) < share) {
                    let start = write.offset as usize + number * SECTOR_BYTES;
                    self.durable[start..start + sector.len()].copy_from_slice(sector);
                    cut.sectors_kept += 1;
                } else {
                    cut.sectors_lost += 1;
                }
            }
        }
        self.current.copy_from_slice(&self.durable);
        self.last_cut = cut;
    }

    /// Turns the power on again.
    pub fn power_on(&mut self) {
        self.powered = true;
    }

    /// Counts a request, and cuts the power if it is the one.
    fn count(&mut self) -> Result<(), NoPower> {
        self.requests += 1;
        let Some(left) = self.cut_after.as_mut() else { return Ok(()) };
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        self.cut();
        Err(NoPower)
    }

    /// Where a write stands in the image, if it lies within it and is whole sectors.
    fn place(&self, offset: u64, length: usize) -> Option<usize> {
        let start = usize::try_from(offset).ok()?;
        let whole = start.is_multiple_of(SECTOR_BYTES) && length.is_multiple_of(SECTOR_BYTES);
        let end = start.checked_add(length)?;
        (whole && end <= self.current.len()).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 10;

    fn written(seed: u64, ignores_flushes: bool) -> Device {
        let mut device = Device::new(BYTES, seed, ignores_flushes);
        assert_eq!(device.write(8192, &[1; 4096]), Ok(true));
        device.flush().expect("power");
        for block in [8192, 16384, 20480] {
            assert_eq!(device.write(block, &[2; 4096]), Ok(true));
        }
        device.cut();
        device.power_on();
        device
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_chosen_by_the_sector() {
        let (mut all, mut none, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let device = written(seed, false);
            let overwritten = device.read(8192, 4096).expect("power").to_vec();
            assert!(overwritten.chunks(512).all(|s| s == [1; 512] || s == [2; 512]), "{seed}");
            let fresh = device.read(16384, 8192).expect("power").to_vec();
            assert!(fresh.chunks(512).all(|s| s == [0; 512] || s == [2; 512]), "{seed}");
            let new = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 2).count();
            match new(&overwritten) + new(&fresh) {
                0 => none += 1,
                12288 => all += 1,
                count => torn += usize::from(!count.is_multiple_of(4096)),
            }
        }
        assert!(all > 5 && none > 5 && torn > 20, "{all} all, {none} none, {torn} torn");
    }

    #[test]
    fn a_device_that_ignores_flushes_loses_what_was_flushed() {
        let lost = |seed| written(seed, true).read(8192, 4096).expect("power").contains(&0);
        assert!((0..50).any(lost));
    }

    #[test]
    fn the_power_goes_at_the_request_that_was_asked_for() {
        let mut device = Device::new(BYTES, 1, false);
        device.cut_after(1);
        device.cut_after(0);
        device.cut_after(3);
        assert_eq!(device.write(0, &[1; 512]), Ok(true));
        device.flush().expect("power");
        assert_eq!(device.write(512, &[1; 512]), Err(NoPower));
        assert!(!device.is_powered());
        assert_eq!(device.flush(), Err(NoPower));
        assert_eq!(device.read(0, 512), Err(NoPower));
        device.power_on();
        assert_eq!(device.read(0, 512), Ok([1; 512].as_slice()));
        assert_eq!(device.requests(), 3);
    }

    #[test]
    fn a_flush_in_flight_promises_nothing() {
        let kept = |seed| {
            let mut device = Device::new(BYTES, seed, false);
            assert_eq!(device.write(0, &[1; 512]), Ok(true));
            device.cut_after(1);
            assert_eq!(device.flush(), Err(NoPower));
            device.power_on();
            device.read(0, 512).expect("power")[0] == 1
        };
        assert!((0..50).any(kept) && !(0..50).all(kept));
    }

    #[test]
    fn writes_outside_or_across_sectors_are_refused() {
        let mut device = Device::new(BYTES, 1, false);
        assert_eq!(device.write(BYTES as u64, &[1; 512]), Ok(false));
        assert_eq!(device.write(u64::MAX - 511, &[1; 512]), Ok(false));
        assert_eq!(device.write(256, &[1; 512]), Ok(false));
        assert_eq!(device.write(0, &[1; 100]), Ok(false));
        assert_eq!(device.requests(), 0);
    }
}
