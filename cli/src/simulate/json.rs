//! What programs read. Times are nanoseconds.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use woodchuck_sim::scenario::{Campaign, Run, RunOptions, Tally, Verdict, Violation};
use woodchuck_sim::{FaultKind, Faults};

use super::campaign::{Idle, Played};
use super::tell;
use crate::exit::Exit;

/// World times end long before 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An object of what is known by name.
fn object<'a>(named: impl IntoIterator<Item = (&'a str, u64)>) -> Value {
    let fields = named.into_iter().map(|(name, number)| (name.to_owned(), number.into()));
    Value::Object(fields.collect::<Map<_, _>>())
}

pub(super) fn scenarios() -> Value {
    let all = woodchuck_scenarios::all();
    all.iter()
        .map(|scenario| json!({ "name": scenario.name(), "about": scenario.about() }))
        .collect()
}

fn violation(violation: &Violation) -> Value {
    json!({
        "property": violation.property,
        "time": nanoseconds(violation.time),
        "step": violation.step,
        "machine": violation.machine,
        "explanation": violation.explanation,
        "fingerprint": violation.fingerprint(),
        "trace": violation.trace.lines().collect::<Vec<_>>(),
    })
}

const fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Inconclusive(_) => "inconclusive",
        Verdict::Stopped => "stopped",
    }
}

pub(super) fn run(run: &Run, options: &RunOptions) -> Value {
    let inconclusive = match &run.verdict {
        Verdict::Inconclusive(why) => Some(why),
        _ => None,
    };
    let mattered = FaultKind::ALL
        .iter()
        .map(|kind| (kind.name(), run.statistics.faults(*kind)))
        .filter(|(_, count)| *count > 0);
    let counted = |map: &std::collections::BTreeMap<&'static str, u64>| {
        object(map.iter().map(|(name, count)| (*name, *count)))
    };
    json!({
        "scenario": run.scenario,
        "seed": run.seed,
        "regime": options.regime.name(),
        "verdict": verdict(&run.verdict),
        "violation": run.violation().map(violation),
        "inconclusive": inconclusive,
        "simulated": nanoseconds(run.elapsed),
        "events": run.statistics.all_events(),
        "choices": run.statistics.choices,
        "trace_hash": format!("{:016x}", run.trace_hash),
        "policy": run.policy.name(),
        "knobs": object(run.faults.iter().map(|(knob, value)| (knob.name, u64::from(value)))),
        "drawn": counted(&run.drawn),
        "properties": run.properties,
        "marks": counted(&run.marks),
        "counts": counted(&run.counts),
        "faults": object(mattered),
        "reproduce": tell::reproduce(run, options),
    })
}

pub(super) fn campaign(
    campaign: &Campaign,
    played: &Played,
    idle: &Idle,
    saved: &[Option<PathBuf>],
    exit: Exit,
) -> Value {
    let Played { tally, real, interrupted } = played;
    let failures = tally.failures.iter().zip(saved).map(|(failed, saved)| {
        let mut told = run(failed, &campaign.options(failed.seed));
        told["saved"] = saved.as_ref().map(|path| path.display().to_string()).into();
        told
    });
    json!({
        "scenario": tally.scenario,
        "seeds": { "first": campaign.seeds.start, "end": campaign.seeds.end },
        "regime": campaign.regime.name(),
        "set": object(campaign.knobs.iter().map(|(name, value)| (&**name, u64::from(*value)))),
        "passed": tally.passed,
        "failed": tally.failures.len(),
        "inconclusive": tally.inconclusive,
        "twice": tally.twice,
        "interrupted": interrupted,
        "simulated": nanoseconds(tally.simulated),
        "real": nanoseconds(*real),
        "events": tally.events,
        "counts": object(tally.counts.iter().map(|(name, count)| (*name, *count))),
        "marks": object(tally.marks.iter().map(|(name, count)| (*name, *count))),
        "faults": kinds(tally),
        "idle_faults": idle.faults.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "missed_marks": idle.marks,
        "failures": failures.collect::<Vec<_>>(),
        "exit": exit.code(),
    })
}

/// What each kind of fault did in the worlds of a campaign.
fn kinds(tally: &Tally) -> Value {
    let kind = |kind: &FaultKind| {
        json!({
            "name": kind.name(),
            "group": tell::group_name(kind.group()),
            "description": kind.description(),
            "times": tally.faults[*kind as usize],
            "worlds": tally.worlds_with_fault[*kind as usize],
        })
    };
    FaultKind::ALL.iter().map(kind).collect()
}

pub(super) fn faults(tally: &Tally) -> Value {
    let knobs = Faults::knobs().map(|knob| {
        json!({
            "name": knob.name,
            "description": knob.description.trim(),
            "usual": knob.usual,
            "least": knob.range.0,
            "most": knob.range.1,
            "regime": knob.regime.name(),
        })
    });
    json!({
        "scenario": tally.scenario,
        "worlds": tally.worlds(),
        "knobs": knobs.collect::<Vec<_>>(),
        "kinds": kinds(tally),
    })
}
