//! What people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use woodchuck_sim::scenario::{Run, RunOptions, Tally, Verdict};
use woodchuck_sim::{FaultGroup, FaultKind, Faults};

use super::arguments::{DEFAULT_SCENARIO, flags};
use super::campaign::{Idle, Played, judge_run};
use crate::exit::Exit;
use crate::text::number;

/// Groups of faults, in the order in which they are told.
const GROUPS: [FaultGroup; 3] = [FaultGroup::Disk, FaultGroup::Network, FaultGroup::Machine];

pub(super) const fn group_name(group: FaultGroup) -> &'static str {
    match group {
        FaultGroup::Disk => "disk",
        FaultGroup::Network => "network",
        FaultGroup::Machine => "machine",
    }
}

/// A time in the two largest units that it has.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{:.3} ms", time.as_secs_f64() * 1e3),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

pub(super) fn scenarios() -> String {
    let all = woodchuck_scenarios::all();
    let width = all.iter().map(|scenario| scenario.name().len()).max().unwrap_or_default();
    let line = |name: &str, about: &str| format!("{name:width$}  {about}");
    let lines = all.iter().map(|scenario| line(scenario.name(), scenario.about()));
    lines.collect::<Vec<_>>().join("\n")
}

/// How the world of a run is named on a command line.
fn named(run: &Run, options: &RunOptions) -> String {
    format!("{} {}{}", run.scenario, run.seed, flags(options))
}

/// The command that plays a run of a seed again.
pub(super) fn reproduce(run: &Run, options: &RunOptions) -> String {
    replay(&named(run, options))
}

fn replay(named: &str) -> String {
    let default = format!("{DEFAULT_SCENARIO} ");
    format!("woodchuck sim replay {}", named.strip_prefix(&default).unwrap_or(named))
}

/// What to type about a run whose world is named so: a word for what it does, and the command.
pub(super) fn commands(run: &Run, named: &str) -> Vec<(String, String)> {
    let mut commands = vec![("reproduce".to_owned(), replay(named))];
    let verb = match judge_run(run) {
        Exit::Violated => "shrink",
        Exit::Nondeterministic => "diverge",
        _ => return commands,
    };
    for verb in [verb, "report"] {
        commands.push((verb.to_owned(), format!("woodchuck sim {verb} {named}")));
    }
    commands
}

/// The head of a failure: what does not hold, where and when, and why.
fn violation(run: &Run) -> String {
    let Some(violation) = run.violation() else { return String::new() };
    let mut told = format!(
        "FAILED {}  seed {}  t={:.6}s  step {}",
        violation.property,
        run.seed,
        violation.time.as_secs_f64(),
        number(violation.step),
    );
    // Writing to a string does not fail, here and below.
    if let Some(machine) = &violation.machine {
        let _ = write!(told, "  machine {machine}");
    }
    told.push('\n');
    for line in violation.explanation.lines() {
        let _ = writeln!(told, "  {line}");
    }
    told
}

/// A failure, and what to do about it.
pub(super) fn failure(run: &Run, options: &RunOptions, saved: Option<&Path>) -> String {
    let mut told = violation(run);
    push_commands(&mut told, &commands(run, &named(run, options)));
    if let Some(saved) = saved {
        let _ = writeln!(told, "  saved     : {} (check this file in)", saved.display());
    }
    told
}

fn push_commands(told: &mut String, commands: &[(String, String)]) {
    for (what, command) in commands {
        let _ = writeln!(told, "  {what:<10}: {command}");
    }
}

/// A failure that was made simpler, and what to do about it.
pub(super) fn shrunk(run: &Run, saved: Option<&Path>) -> String {
    let mut told = violation(run);
    if let Some(saved) = saved {
        let named = saved.display().to_string();
        push_commands(&mut told, &commands(run, &named));
        let _ = writeln!(told, "  saved     : {named} (check this file in)");
    }
    told
}

/// What happened in one world.
pub(super) fn run(run: &Run, options: &RunOptions) -> String {
    let mut told = match &run.verdict {
        Verdict::Failed(violated) => {
            format!("{}\nlatest events:\n{}\n", violation(run), violated.trace.trim_end())
        }
        _ => format!("{run}\n"),
    };
    let counted = |map: &BTreeMap<&'static str, u64>| {
        let all = map.iter().map(|(name, count)| format!("{name} {}", number(*count)));
        all.collect::<Vec<_>>().join(", ")
    };
    let mattered = FaultKind::ALL
        .iter()
        .map(|kind| (kind.name(), run.statistics.faults(*kind)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let hit = counted(&run.marks);
    let _ = writeln!(told);
    for (what, text) in [
        ("seed", format!("{} of {}, {} faults", run.seed, run.scenario, options.regime.name())),
        ("knobs", run.faults.to_string()),
        ("tasks", format!("picked by {}", run.policy.name())),
        ("drawn", counted(&run.drawn)),
        ("properties", run.properties.join(", ")),
        ("marks", hit),
        ("counted", counted(&run.counts)),
        ("faults", counted(&mattered)),
        ("events", number(run.statistics.all_events())),
        ("trace", format!("{:016x}", run.trace_hash)),
    ] {
        if !text.is_empty() {
            let _ = writeln!(told, "  {what:<10}: {text}");
        }
    }
    told
}

/// What a campaign came to. The last line is for programs too.
pub(super) fn campaign(played: &Played, idle: &Idle, exit: Exit) -> String {
    let tally = &played.tally;
    let mut told = String::new();
    if !idle.faults.is_empty() {
        let names: Vec<&str> = idle.faults.iter().map(|kind| kind.name()).collect();
        let _ =
            writeln!(told, "FAILED these faults never changed an outcome: {}\n", names.join(", "));
    }
    if !idle.marks.is_empty() {
        let _ = writeln!(told, "FAILED these marks were never hit: {}\n", idle.marks.join(", "));
    }
    let _ = writeln!(told, "{}", summary(played, exit));
    let _ = write!(told, "worlds: {} passed, {} failed", tally.passed, tally.failures.len());
    if tally.inconclusive > 0 {
        let _ = write!(told, ", {} inconclusive", tally.inconclusive);
    }
    let mut separator = ";";
    for (what, count) in &tally.counts {
        let _ = write!(told, "{separator} {what} {}", number(*count));
        separator = ",";
    }
    let _ = writeln!(told, "{separator} events {}", number(tally.events));
    told
}

/// A campaign in one line.
fn summary(played: &Played, exit: Exit) -> String {
    let Played { tally, real, .. } = played;
    let verdict = match exit {
        Exit::Done => "ok",
        Exit::Interrupted => "interrupted",
        Exit::Inconclusive => "inconclusive",
        _ => "failed",
    };
    let seconds = real.as_secs_f64().max(1e-9);
    let hit = tally.marks.values().filter(|count| **count > 0).count();
    let (ratio, rate) = (tally.simulated.as_secs_f64() / seconds, tally.events as f64 / seconds);
    format!(
        "{verdict} {} worlds · {} simulated in {} (x{}) · {} events/s · faults: {} · {hit}/{} marks \
         hit · {} worlds run twice",
        number(tally.worlds()),
        time(tally.simulated),
        time(*real),
        number(ratio as u64),
        number(rate as u64),
        groups(tally),
        tally.marks.len(),
        number(tally.twice),
    )
}

/// How often faults of each group changed an outcome.
fn groups(tally: &Tally) -> String {
    let of = |group: FaultGroup| {
        let kinds = FaultKind::ALL.iter().filter(|kind| kind.group() == group);
        let count = kinds.map(|kind| tally.faults[*kind as usize]).sum();
        format!("{} {}", number(count), group_name(group))
    };
    GROUPS.map(of).join(", ")
}

/// Every knob, and what each kind of fault did.
pub(super) fn faults(tally: &Tally) -> String {
    let mut told = String::new();
    let head = ["knob", "usual", "when on", "regime", "what it does"].map(str::to_owned);
    let knobs = Faults::knobs().map(|knob| {
        let (least, most) = knob.range;
        let range = format!("{}..{}", number(least.into()), number(most.into()));
        let regime = knob.regime.name().to_owned();
        let description = knob.description.trim().to_owned();
        [knob.name.to_owned(), number(knob.usual.into()), range, regime, description]
    });
    table(&mut told, std::iter::once(head).chain(knobs).collect());
    let _ = writeln!(told, "\nin {} worlds of {}:\n", number(tally.worlds()), tally.scenario);
    let head = ["fault", "of", "times", "worlds", "what happened"].map(str::to_owned);
    let kinds = FaultKind::ALL.iter().map(|kind| {
        let (times, worlds) =
            (tally.faults[*kind as usize], tally.worlds_with_fault[*kind as usize]);
        let description = kind.description().to_owned();
        let group = group_name(kind.group()).to_owned();
        [kind.name().to_owned(), group, number(times), number(worlds), description]
    });
    table(&mut told, std::iter::once(head).chain(kinds).collect());
    told
}

/// Rows, with each column but the last as wide as its widest cell.
fn table(told: &mut String, rows: Vec<[String; 5]>) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.push_str(&row[4]);
        let _ = writeln!(told, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_leave_out_the_default_scenario_where_they_may() {
        assert_eq!(replay("broker 42 --unrestricted"), "woodchuck sim replay 42 --unrestricted");
        assert_eq!(replay("other 42"), "woodchuck sim replay other 42");
        assert_eq!(replay("a/broker-42.tape"), "woodchuck sim replay a/broker-42.tape");
    }

    #[test]
    fn times_are_told_in_their_largest_units() {
        let told = [0.25, 1.5, 61.0, 3700.0, 42.1 * 86_400.0];
        let told = told.map(|seconds| time(Duration::from_secs_f64(seconds)));
        assert_eq!(told, ["250.000 ms", "1.5 s", "1 min 01 s", "1 h 01 min", "42 d 02 h"]);
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let row = |cells: [&str; 5]| cells.map(str::to_owned);
        let mut told = String::new();
        table(&mut told, vec![row(["a", "b", "c", "d", "e"]), row(["long", "x", "y", "z", ""])]);
        assert_eq!(told, "a     b  c  d  e\nlong  x  y  z\n");
    }
}
