//! The commits of a log that are proven, of a damaged one too.

use std::rc::Rc;

use woodchuck_io::File;

use super::Examination;
use crate::error::LogError;
use crate::reader::Reader;
use crate::recovery::{Bodies, Walk, references, replay_frame};
use crate::{Lsn, Recovered};

type Replay = fn(Recovered) -> Result<(), String>;

/// Hands out the commits that can be salvaged, frame by frame.
pub struct Salvage<'a, F> {
    examination: &'a Examination<F>,
    walk: Walk<F, Replay>,
    /// Segments that were not begun, as a place in `needed`.
    next: usize,
    reader: Option<Reader<F>>,
}

impl<F: File> Examination<F> {
    /// Reads again what can be salvaged: the commits of the frames from
    /// [`trim`](Self::trim) up to, not including, [`salvage_below`](Self::salvage_below). Of a log
    /// that is not damaged, these are all that opening would replay.
    #[must_use]
    pub fn salvage(&self) -> Salvage<'_, F> {
        // Frames are taken from the walk one by one, before it would replay them itself.
        let (trim, bodies) = (self.trim.get(), Rc::clone(&self.bodies));
        let walk = Walk::new(self.identity, trim, u64::MAX, bodies, unused as Replay);
        Salvage { examination: self, walk, next: 0, reader: None }
    }
}

fn unused(_: Recovered) -> Result<(), String> {
    Err("a salvage replays nothing".to_owned())
}

impl<F: File> Salvage<'_, F> {
    /// The commits of the next frame that has any, or `None` behind the last.
    ///
    /// # Errors
    /// [`LogError::Io`] if the disk fails, or gives less than when it was examined.
    pub async fn next(&mut self) -> Result<Option<Vec<Recovered>>, LogError> {
        let Examination { candidates, needed, trim, salvage_below, .. } = self.examination;
        while self.walk.next_lsn < salvage_below.get() {
            let index = match &self.reader {
                Some(_) => self.walk.end.0,
                None => {
                    let Some(&index) = needed.get(self.next) else { break };
                    self.next += 1;
                    if !self.walk.enter(index, &candidates[index])
                        || self.walk.next_lsn >= salvage_below.get()
                    {
                        break;
                    }
                    index
                }
            };
            let candidate = &candidates[index];
            let reader = self.reader.get_or_insert_with(|| candidate.reader());
            if !self.walk.step(reader, candidate).await? {
                self.reader = None;
                if self.walk.is_stuck() {
                    break;
                }
                continue;
            }
            let Some(recent) = self.walk.take_recent() else { continue };
            if recent.frame.lsn < trim.get() || recent.frame.commits == 0 {
                continue;
            }
            let mut commits = Vec::new();
            let mut collect = |commit| {
                commits.push(commit);
                Ok(())
            };
            let mut bodies = Bodies::new(Rc::clone(&self.walk.bodies));
            bodies.expect(references(&recent.frame)).await;
            replay_frame(&recent.frame, recent.place, &mut bodies, &mut collect).await?;
            return Ok(Some(commits));
        }
        let reached = self.walk.next_lsn;
        if reached < salvage_below.get() {
            return Err(LogError::io(
                format!("reading the log again up to frame {salvage_below}"),
                std::io::Error::other(format!(
                    "frame {} could be read before and cannot be now",
                    Lsn::new(reached)
                )),
            ));
        }
        Ok(None)
    }
}
