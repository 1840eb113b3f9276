//! What is done to a log that was closed, to see that it is noticed.

use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_wal::LogError;

use super::model::Entry;
use super::process::{DIRECTORY, Ending, Orders};
use super::{BLOCK, BODY_REFUSED, DAMAGE_REFUSED, Plan, REPAIRED};

/// Commits that are submitted before the log is damaged.
const COMMITS_TO_DAMAGE: u64 = 40;

/// Damage that was done.
struct Damage {
    /// Whether the commit is lost for certain. Where a segment is lost that holds copies, the
    /// originals may be there.
    exact: bool,
    /// Whether putting the file's bytes back undoes it.
    undone: bool,
}

impl Plan {
    pub(super) async fn damage(&self) {
        let usual = Orders { commits: COMMITS_TO_DAMAGE, bytes: 900, ..Orders::look() };
        self.start(self.with_lanes(usual));
        self.ended().await;
        self.judge().await;
        let Some(entry) = self.draw_needed() else { return };
        let disk = self.world().disk(self.machine);
        let is_body = entry.is_body;
        let kind = if is_body { "body" } else { "wal" };
        let path = format!("{DIRECTORY}/{:016x}.{kind}", entry.location.segment);
        let whole = disk.read(&path).unwrap_or_default();
        let Damage { exact, undone } = if is_body {
            self.damage_body(&entry, &path, &whole)
        } else {
            self.damage_frame(&entry, &path, &whole)
        };
        let before = self.contents();
        self.start(Orders::look());
        self.ended().await;
        let ending = self.shared.ending.take();
        let noticed = match &ending {
            Some(Ending::Refused(LogError::Corrupt { first_lost, lost_below, .. })) => {
                first_lost < lost_below && (!exact || first_lost.get() <= entry.lsn.get())
            }
            _ => false,
        };
        if !noticed {
            return self.violated("notices", format!("{entry:?} was damaged: {ending:?}")).await;
        }
        self.director.observer().hit(DAMAGE_REFUSED);
        self.director.observer().count("corrupt", 1);
        if is_body {
            self.director.observer().hit(BODY_REFUSED);
            self.director.observer().count("bodies damaged", 1);
        }
        if self.contents() != before {
            let files = before.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>();
            return self.violated("changes-nothing", format!("{files:?} were there")).await;
        }
        if undone {
            disk.write(&path, &whole);
            self.start(Orders::look());
            self.ended().await;
            self.judge().await;
            self.director.observer().hit(REPAIRED);
        }
    }

    /// All files, and what they hold.
    fn contents(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let disk = self.world().disk(self.machine);
        let files = disk.files().into_iter();
        files.map(|path| (path.clone(), disk.read(&path))).collect()
    }

    /// A commit that the log still needs.
    fn draw_needed(&self) -> Option<Entry> {
        let model = self.shared.model.borrow();
        let mut known: Vec<&Entry> =
            model.needed().iter().filter(|entry| entry.length > 0).collect();
        if self.habits.in_lanes && self.choose(2) == 1 && known.iter().any(|entry| entry.is_body) {
            known.retain(|entry| entry.is_body);
        }
        let index = self.choose(known.len().max(1) as u64) as usize;
        known.get(index).map(|&entry| entry.clone())
    }

    /// Damages a commit's place in a frame, or its segment.
    fn damage_frame(&self, entry: &Entry, path: &str, whole: &[u8]) -> Damage {
        let disk = self.world().disk(self.machine);
        let at = entry.location.offset + self.choose(entry.length as u64);
        let block = at / BLOCK * BLOCK;
        let newest = {
            let model = self.shared.model.borrow();
            let newest = model.kept.iter().rfind(|kept| !kept.is_body);
            newest.map(|newest| newest.location.segment)
        };
        match self.choose(6) {
            0 => disk.flip_bit(path, at, self.choose(8) as u8),
            1 => disk.zero(path, block, BLOCK_BYTES),
            2 => {
                disk.break_block(path, block);
                // It stays so until a process writes there, and none does.
                return Damage { exact: true, undone: false };
            }
            3 => {
                disk.zero(path, 0, BLOCK_BYTES);
                return Damage { exact: false, undone: true };
            }
            // The newest alone is not missed.
            4 if newest != Some(entry.location.segment) => {
                disk.remove(path);
                return Damage { exact: false, undone: true };
            }
            _ => self.misdirect(path, block, whole),
        }
        Damage { exact: true, undone: true }
    }

    /// Damages a commit's place in a file of bodies, or that file.
    fn damage_body(&self, entry: &Entry, path: &str, whole: &[u8]) -> Damage {
        let disk = self.world().disk(self.machine);
        let at = entry.location.offset + self.choose(entry.length as u64);
        let block = at / BLOCK * BLOCK;
        match self.choose(6) {
            0 => disk.flip_bit(path, at, self.choose(8) as u8),
            1 => disk.zero(path, block, BLOCK_BYTES),
            2 => {
                disk.break_block(path, block);
                return Damage { exact: true, undone: false };
            }
            3 => disk.remove(path),
            // Cut short, in front of that block or behind some of its bytes.
            4 => disk.write(path, &whole[..(block + self.choose(2) * (at - block)) as usize]),
            _ => self.misdirect(path, block, whole),
        }
        Damage { exact: true, undone: true }
    }

    /// A write that was meant for another place.
    fn misdirect(&self, path: &str, block: u64, whole: &[u8]) {
        let from = ((block + BLOCK) % whole.len() as u64) as usize;
        let disk = self.world().disk(self.machine);
        disk.overwrite(path, block, &whole[from..from + BLOCK_BYTES]);
    }
}
