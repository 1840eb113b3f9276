//! The report of a run: one page of HTML, for whoever has to find out what went wrong.
//!
//! The page holds everything it needs, asks nothing of any network and works from a file. Its
//! centre is a diagram: time from left to right, a lane for each shard of each machine, packets as
//! lines between lanes, disk operations below the lane that asked for them, operations of clients
//! under all of them, and what struck. It opens where a property was violated. Around it stand what
//! was violated, the commands to see it again, the properties, what the seed drew, which faults
//! mattered, the tape and the end of the trace.
//!
//! **How data flows.** [`Report::html`] is a pure function of a run and its chronicle. `gather`
//! matches what belongs together in the chronicle and cuts it; `sections` writes what stands around
//! the diagram; `text` makes strings safe for where they are put. `draw.js` draws, and
//! `input.js` listens.
//!
//! **What is bounded.** A page tells of the latest [`REPORTED_OCCURRENCES`] occurrences, the first
//! [`REPORTED_CHOICES`] choices of the tape, and says what it leaves out.

mod gather;
mod sections;
mod text;

use std::fmt::Write as _;

use crate::chronicle::Chronicle;
use crate::limits::{REPORTED_CHOICES, REPORTED_OCCURRENCES};
use crate::scenario::{Run, Verdict};

use text::escaped;

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The run.
    pub run: &'a Run,
    /// What happened in it.
    pub chronicle: &'a Chronicle,
    /// What a reader may want to type: a word for what it does, and the command.
    pub commands: Vec<(String, String)>,
    /// How much of the chronicle's end the diagram shows.
    pub occurrences: usize,
    /// How many choices of the tape are listed.
    pub choices: usize,
}

impl<'a> Report<'a> {
    /// A report without commands, of the usual size.
    #[must_use]
    pub const fn new(run: &'a Run, chronicle: &'a Chronicle) -> Self {
        Self {
            run,
            chronicle,
            commands: Vec::new(),
            occurrences: REPORTED_OCCURRENCES,
            choices: REPORTED_CHOICES,
        }
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let gathered = gather::gather(self.run, self.chronicle, self.occurrences);
        let Run { scenario, seed, .. } = self.run;
        let (_, verdict) = verdict(&self.run.verdict);
        let mut page =
            String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
        // Writing to a string does not fail, here and below.
        let _ = writeln!(page, "<title>{verdict}: {} {seed}</title>", escaped(scenario));
        page.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n");
        page.push_str(include_str!("page.css"));
        page.push_str("</style>\n<main>\n");
        sections::head(&mut page, self);
        sections::diagram(&mut page, self, &gathered);
        sections::properties_and_strikes(&mut page, self.run, &gathered);
        sections::world(&mut page, self.run);
        sections::tape(&mut page, self.run, self.choices);
        sections::trace(&mut page, &self.run.trace);
        page.push_str(
            "</main>\n<div id=\"tip\"></div>\n<script type=\"application/json\" id=\"data\">",
        );
        gathered.write_json(&mut page);
        page.push_str("</script>\n<script>\n\"use strict\";\n(() => {\n");
        page.push_str(include_str!("draw.js"));
        page.push_str(include_str!("input.js"));
        page.push_str("})();\n</script>\n</html>\n");
        page
    }
}

/// A verdict's name for the style sheet and for people.
const fn verdict(verdict: &Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Passed => ("passed", "passed"),
        Verdict::Failed(_) => ("failed", "failed"),
        Verdict::Inconclusive(_) => ("inconclusive", "inconclusive"),
        Verdict::Stopped => ("stopped", "stopped early"),
    }
}

#[cfg(test)]
mod tests;
