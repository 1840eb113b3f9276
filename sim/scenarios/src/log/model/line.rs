//! Which commits are those that an opening found.

use std::collections::{BTreeMap, VecDeque};

use woodchuck_wal::{Lane, Recovered};

use super::{Model, Promise, UNIQUE_BYTES, first_word};

impl Model {
    /// Which commits were found, if they must be those of the present line and of those that wait.
    pub(super) fn present_line(
        &self,
        found: &[Recovered],
        promise: Promise,
    ) -> Result<Vec<u64>, String> {
        let needed = self.kept.len() - self.needed().len();
        let start = found.first().map_or(needed, |first| {
            self.kept.partition_point(|entry| entry.lsn < first.lsn).min(needed)
        });
        let known = &self.kept[start..];
        let must = match promise {
            Promise::Everything => known.len(),
            _ => known.partition_point(|entry| Some(entry.lsn) < self.witnessed),
        };
        if found.len() < must {
            return Err(format!(
                "{must} commits must be there, the last in frame {}, and {} are",
                known[must - 1].lsn,
                found.len()
            ));
        }
        if found.len() > known.len() + self.pending_count() {
            let more = found.len() - known.len() - self.pending_count();
            return Err(format!("{more} commits that nobody submitted since the latest recovery"));
        }
        let mut line = Vec::with_capacity(found.len());
        for (entry, recovered) in known.iter().zip(found) {
            self.check_commit(entry.id, recovered)?;
            line.push(entry.id);
        }
        self.follow_lanes(&found[line.len()..], &mut line)?;
        Ok(line)
    }

    /// Adds to a line what was found behind it, if that is of those that wait, and in order.
    fn follow_lanes(&self, found: &[Recovered], line: &mut Vec<u64>) -> Result<(), String> {
        let mut lanes: Vec<VecDeque<u64>> = self.pending.values().cloned().collect();
        for recovered in found {
            let mut unlike = Err(format!("nothing waits, and frame {} is there", recovered.lsn));
            let next = lanes.iter_mut().find_map(|lane| {
                unlike = self.check_commit(*lane.front()?, recovered);
                if unlike.is_ok() { lane.pop_front() } else { None }
            });
            let Some(id) = next else { return unlike };
            self.overtaken(id, lanes.iter().filter_map(VecDeque::front))?;
            line.push(id);
        }
        Ok(())
    }

    fn check_commit(&self, id: u64, recovered: &Recovered) -> Result<(), String> {
        let (lsn, known) = (recovered.lsn, self.made(id).lsn);
        if recovered.bytes != self.bytes(id) {
            return Err(format!("in frame {lsn} there is something else than commit {id}"));
        }
        if known.is_some_and(|known| known != lsn) {
            return Err(format!("commit {id} of frame {known:?} is in frame {lsn}"));
        }
        // Frames may be carried over; bodies stay where they are.
        let (made, body) = (self.made(id), recovered.is_body.then_some(recovered.location));
        if body.is_some() && !made.is_large || known.is_some() && body != made.body {
            return Err(format!(
                "the body of commit {id} is at {body:?}, and was at {:?}",
                made.body
            ));
        }
        Ok(())
    }

    /// Which commits were found, if they may be of any line that there ever was.
    pub(super) fn any_line(&self, found: &[Recovered]) -> Result<Vec<u64>, String> {
        if self.made.iter().any(|made| made.lane.is_some()) {
            self.any_line_of_lanes(found)
        } else {
            self.any_single_line(found)
        }
    }

    /// As [`any_line`](Self::any_line), where each commit's content names it.
    fn any_line_of_lanes(&self, found: &[Recovered]) -> Result<Vec<u64>, String> {
        let mut line: Vec<u64> = Vec::with_capacity(found.len());
        let mut lasts: BTreeMap<Option<Lane>, u64> = BTreeMap::new();
        for recovered in found {
            let id = self.named(recovered)?;
            let made = self.made(id);
            let last = lasts.insert(made.lane, id);
            if last.is_some() && last != made.before {
                return Err(format!(
                    "commit {id} in frame {} is behind {last:?} of its lane, and was submitted \
                     behind {:?}",
                    recovered.lsn, made.before
                ));
            }
            if let (Some(front), Some(behind)) = (line.last(), made.behind)
                && *front != behind
            {
                return Err(format!("commit {id} was behind {behind}, and is behind {front}"));
            }
            line.push(id);
        }
        Ok(line)
    }

    /// The commit whose content this is.
    fn named(&self, recovered: &Recovered) -> Result<u64, String> {
        let lsn = recovered.lsn;
        let word = recovered.bytes.first_chunk::<8>().map(|word| u64::from_le_bytes(*word));
        let has_name = recovered.bytes.len() >= UNIQUE_BYTES;
        let taken = |&id: &u64| self.made(id).durable.is_some();
        let mut all = (0..self.made.len() as u64).filter(taken);
        let id = all.find(|&id| has_name && word == Some(first_word(id)));
        let id = id.ok_or_else(|| format!("in frame {lsn} is a commit that nobody submitted"))?;
        self.check_commit(id, recovered)?;
        Ok(id)
    }

    fn any_single_line(&self, found: &[Recovered]) -> Result<Vec<u64>, String> {
        // Short commits look alike, so that several lines may fit. A line follows from its last
        // commit, as each knows the one before it.
        let Some(first) = found.first() else { return Ok(Vec::new()) };
        let taken = |&id: &u64| self.made(id).durable.is_some();
        let all = || (0..self.made.len() as u64).filter(taken);
        let mut lasts: Vec<u64> =
            all().filter(|&id| self.check_commit(id, first).is_ok()).collect();
        for (index, recovered) in found.iter().enumerate().skip(1) {
            let follows =
                |&id: &u64| self.made(id).before.is_some_and(|before| lasts.contains(&before));
            let later = all().filter(follows);
            let later = later.filter(|&id| self.check_commit(id, recovered).is_ok()).collect();
            if lasts.is_empty() {
                break;
            }
            let earlier = std::mem::replace(&mut lasts, later);
            if lasts.is_empty() {
                return Err(format!(
                    "the commit in frame {}, the {}th that was found, was never submitted behind \
                     commit {earlier:?}",
                    recovered.lsn,
                    index + 1
                ));
            }
        }
        let mut last = lasts.last().copied();
        let mut line: Vec<u64> = Vec::with_capacity(found.len());
        while let Some(id) = last.filter(|_| line.len() < found.len()) {
            line.push(id);
            last = self.made(id).before;
        }
        line.reverse();
        if line.len() == found.len() {
            Ok(line)
        } else {
            Err(format!("in frame {} there is no commit that was submitted", first.lsn))
        }
    }

    /// What is missing in front was trimmed.
    pub(super) fn check_front(&self, found: &[Recovered], line: &[u64]) -> Result<(), String> {
        let mut lanes: Vec<Option<Lane>> = Vec::new();
        for (&id, recovered) in line.iter().zip(found) {
            let lane = self.made(id).lane;
            if lanes.contains(&lane) {
                continue;
            }
            // The first of the line, or of a lane.
            let behind = self.made(id).behind.filter(|_| lanes.is_empty());
            lanes.push(lane);
            let mut front = self.made(id).before.into_iter().chain(behind);
            let trim = self.trim_point();
            // What was never acknowledged nor served cannot have been trimmed either.
            let missing = front.find(|&id| self.made(id).lsn.is_none_or(|lsn| lsn >= trim));
            if let Some(missing) = missing {
                return Err(format!(
                    "commit {missing} of frame {:?} is missing in front of {}, and was not trimmed: \
                     {trim} was",
                    self.made(missing).lsn,
                    recovered.lsn,
                ));
            }
        }
        Ok(())
    }
}
