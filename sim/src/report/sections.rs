//! What stands around the diagram.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::gather::{Gathered, Kind};
use super::text::{escaped, number, time};
use super::{Report, verdict};
use crate::fault_kind::FaultKind;
use crate::scenario::{Run, Verdict};

/// Strikes that are listed.
const STRIKES: usize = 500;

/// The verdict, what it is about, and what to type.
pub(super) fn head(page: &mut String, report: &Report<'_>) {
    let run = report.run;
    let (class, name) = verdict(&run.verdict);
    let violation = run.violation();
    let title = violation.map_or("", |violation| violation.property.as_str());
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        page,
        "<header>\n<h1><span class=\"verdict {class}\">{name}</span> {} <span class=\"quiet\">{} \
         seed {}</span></h1>",
        escaped(title),
        escaped(run.scenario),
        run.seed
    );
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(violation) = violation {
        facts.push(("at", time(violation.time)));
        facts.push(("step", number(violation.step)));
        facts.extend(violation.machine.iter().map(|machine| ("on", escaped(machine))));
    }
    facts.push(("simulated", time(run.elapsed)));
    facts.push(("events", number(run.statistics.all_events())));
    facts.push(("trace", format!("{:016x}", run.trace_hash)));
    page.push_str("<div class=\"facts\">");
    for (what, text) in facts {
        let _ = write!(page, "<span>{what} <b>{text}</b></span> ");
    }
    page.push_str("</div>\n");
    let why = match &run.verdict {
        Verdict::Failed(violation) => Some(violation.explanation.as_str()),
        Verdict::Inconclusive(why) => Some(why.as_str()),
        _ => None,
    };
    if let Some(why) = why {
        let _ = writeln!(page, "<div class=\"why mono\">{}</div>", escaped(why));
    }
    page.push_str("<dl class=\"commands\">");
    for (what, command) in &report.commands {
        let _ =
            writeln!(page, "<dt>{}</dt><dd><code>{}</code></dd>", escaped(what), escaped(command));
    }
    page.push_str("</dl>\n</header>\n");
}

/// The diagram's place, its buttons, and the list under it.
pub(super) fn diagram(page: &mut String, report: &Report<'_>, gathered: &Gathered) {
    page.push_str("<section class=\"panel\">\n<div id=\"bar\">");
    let moment = if gathered.violated { "violation" } else { "end" };
    let _ = write!(
        page,
        "<button id=\"whole\">whole run</button><button id=\"moment\">{moment}</button>\
         <button id=\"before\">‹ strike</button><button id=\"next\">strike ›</button>"
    );
    for (kind, name, color) in Kind::ALL {
        let count = gathered.told.iter().filter(|told| told.kind == kind).count() as u64;
        if count > 0 {
            let _ = write!(
                page,
                "<label><input type=\"checkbox\" checked id=\"kind-{name}\"><i \
                 style=\"background:var(--{color})\"></i>{name} <span \
                 class=\"quiet\">{}</span></label>",
                number(count)
            );
        }
    }
    page.push_str(
        "<input type=\"search\" id=\"search\" placeholder=\"find, such as: packet 12\">\
         <span class=\"gap\"></span><span id=\"range\"></span></div>\n\
         <canvas id=\"overview\"></canvas>\n\
         <canvas id=\"diagram\" tabindex=\"0\"></canvas>\n<div class=\"keys\">\
         <kbd>wheel</kbd> zooms, <kbd>drag</kbd> moves, <kbd>click</kbd> chooses; <kbd>+</kbd> \
         <kbd>-</kbd> <kbd>←</kbd> <kbd>→</kbd>, <kbd>0</kbd> whole run, <kbd>v</kbd> violation or \
         end, <kbd>n</kbd> <kbd>p</kbd> next and previous strike, <kbd>/</kbd> find. ",
    );
    if gathered.cut > 0 {
        let _ = write!(
            page,
            "<b>The {} earliest occurrences are left out; shown are the latest {}.</b>",
            number(gathered.cut),
            number(gathered.told.len() as u64)
        );
    }
    page.push_str("</div>\n");
    legend(page);
    page.push_str("<div id=\"list\"></div>\n<div class=\"keys\"><span id=\"listed\">");
    if report.chronicle.occurrences.is_empty() {
        page.push_str("no chronicle was kept");
    }
    page.push_str("</span></div>\n<noscript>The diagram needs scripts.</noscript>\n</section>\n");
}

/// What colours and shapes mean.
fn legend(page: &mut String) {
    page.push_str("<div class=\"keys\">");
    for (color, opacity, what) in [
        ("running", "1", "process runs"),
        ("paused", "1", "paused"),
        ("down", "1", "struck down"),
        ("good", ".85", "operation was answered"),
        ("bad", ".85", "was refused or failed"),
        ("unsure", ".6", "nobody knows"),
        ("disk", ".9", "disk operation, with a tick where it happened, red at its end if cut off"),
        ("message", "1", "packet, dashed if it reached nobody"),
    ] {
        let style = format!("background:var(--{color});opacity:{opacity}");
        let _ = write!(page, "<i style=\"{style}\"></i>{what}");
    }
    page.push_str("</div>\n");
}

/// A table of what is known by name. Nothing is written if nothing is.
fn table(page: &mut String, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(page, "<section class=\"panel\"><h2>{title}</h2><div class=\"scroll\"><table>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><td>{name}</td><td class=\"number\">{value}</td></tr>");
    }
    page.push_str("</table></div></section>\n");
}

/// Which properties hold, which marks were hit, and what struck when.
pub(super) fn properties_and_strikes(page: &mut String, run: &Run, gathered: &Gathered) {
    page.push_str("<div class=\"grid\">\n");
    let violated = run.violation().map(|violation| violation.property.as_str());
    let held = match &run.verdict {
        Verdict::Passed | Verdict::Inconclusive(_) => "<span class=\"good\">holds</span>",
        _ => "<span class=\"quiet\">held so far</span>",
    };
    let mut names: Vec<&str> = run.properties.clone();
    names.extend(violated.filter(|violated| !run.properties.contains(violated)));
    let mut rows: Vec<(String, String)> = names
        .iter()
        .map(|name| {
            let broken = "<span class=\"bad\">does not hold</span>";
            (escaped(name), if violated == Some(*name) { broken } else { held }.to_owned())
        })
        .collect();
    if violated.is_none() {
        let all = "what bots and the world report".to_owned();
        rows.push((all, held.to_owned()));
    }
    table(page, "Properties", &rows);
    let marks = run.marks.iter().map(|(mark, count)| {
        let hit = if *count > 0 {
            format!("<span class=\"good\">hit {}</span>", number(*count))
        } else {
            "<span class=\"quiet\">not in this run</span>".to_owned()
        };
        (escaped(mark), hit)
    });
    table(page, "Marks", &marks.collect::<Vec<_>>());
    strikes(page, gathered);
    page.push_str("</div>\n");
}

/// What was done to machines, and when. A click goes there.
fn strikes(page: &mut String, gathered: &Gathered) {
    let shown = [Kind::Strike, Kind::Control, Kind::Panic, Kind::Link];
    let strikes: Vec<_> = gathered.told.iter().filter(|told| shown.contains(&told.kind)).collect();
    let title = if strikes.len() > STRIKES { "What struck, the latest" } else { "What struck" };
    let latest = &strikes[strikes.len().saturating_sub(STRIKES)..];
    if latest.is_empty() {
        return;
    }
    let _ = write!(page, "<section class=\"panel\"><h2>{title}</h2><div class=\"scroll\"><table>");
    for told in latest {
        let lane = gathered.lanes.get(told.lane).map_or("?", String::as_str);
        let machine = lane.rsplit_once('/').map_or(lane, |(machine, _)| machine);
        let class = if told.kind == Kind::Control { "" } else { "bad" };
        let _ = write!(
            page,
            "<tr><td class=\"number when\"><a data-time=\"{}\">{:.6} ms</a></td><td \
             class=\"when\">{}</td><td class=\"{class}\">{}</td></tr>",
            told.time,
            told.time as f64 / 1e6,
            escaped(machine),
            escaped(&told.text)
        );
    }
    page.push_str("</table></div></section>\n");
}

/// Numbers by name.
fn counts(map: &BTreeMap<&'static str, u64>) -> Vec<(String, String)> {
    map.iter().map(|(name, count)| (escaped(name), number(*count))).collect()
}

/// What the seed made of the world, and what that did.
pub(super) fn world(page: &mut String, run: &Run) {
    page.push_str("<div class=\"grid\">\n");
    let knobs = run.faults.iter().filter(|(_, value)| *value > 0).map(|(knob, value)| {
        let name =
            format!("<span title=\"{}\">{}</span>", escaped(knob.description.trim()), knob.name);
        (name, number(value.into()))
    });
    let mut knobs: Vec<_> = knobs.collect();
    knobs.push(("tasks are picked".to_owned(), run.policy.name().to_owned()));
    table(page, "Knobs that are on", &knobs);
    table(page, "Drawn by the stage", &counts(&run.drawn));
    let mattered = FaultKind::ALL.iter().map(|kind| (kind, run.statistics.faults(*kind)));
    let mattered = mattered.filter(|(_, count)| *count > 0).map(|(kind, count)| {
        let title = escaped(kind.description());
        (format!("<span title=\"{title}\">{}</span>", kind.name()), number(count))
    });
    table(page, "Faults that changed an outcome", &mattered.collect::<Vec<_>>());
    table(page, "Counted", &counts(&run.counts));
    page.push_str("</div>\n");
}

/// The tape: how many choices each site has, and the first of them.
pub(super) fn tape(page: &mut String, run: &Run, most: usize) {
    let Some(tape) = &run.tape else { return };
    page.push_str("<div class=\"grid\">\n");
    let sites = tape.sites().into_iter();
    let sites = sites.map(|(site, count)| (site.name().to_owned(), number(count as u64)));
    let title = format!("Choices on the tape: {}", number(tape.len() as u64));
    table(page, &title, &sites.collect::<Vec<_>>());
    let _ = write!(
        page,
        "<section class=\"panel\"><h2>Tape</h2><details{}><summary>site, node, count \
         and value of {} \
         choices",
        if tape.len() <= 100 { " open" } else { "" },
        number(tape.len().min(most) as u64)
    );
    if tape.len() > most {
        let _ = write!(page, ", of {}", number(tape.len() as u64));
    }
    page.push_str("</summary><pre>");
    for (name, value) in tape.iter().take(most) {
        let _ = writeln!(page, "{} {} {} {value}", name.site.name(), name.node, name.count);
    }
    page.push_str("</pre></details></section>\n</div>\n");
}

/// The end of the trace.
pub(super) fn trace(page: &mut String, trace: &str) {
    if trace.is_empty() {
        return;
    }
    let lines = trace.lines().count() as u64;
    let _ = writeln!(
        page,
        "<section class=\"panel\"><h2>Trace, the last {} lines</h2><pre \
         id=\"trace\">{}</pre></section>",
        number(lines),
        escaped(trace.trim_end())
    );
}
