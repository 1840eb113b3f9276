//! The chronicle as lines of text.

use std::fmt;

use super::{Chronicle, Happening, Occurrence};
use Happening as H;

impl Chronicle {
    /// The name of a machine.
    #[must_use]
    pub fn machine_name(&self, machine: usize) -> &str {
        self.machines.get(machine).map_or("?", String::as_str)
    }

    /// An occurrence as one line, without an end of line.
    #[must_use]
    pub fn line(&self, occurrence: &Occurrence) -> String {
        let Occurrence { time, machine, shard, what } = occurrence;
        let time = time.as_nanos() as f64 / 1_000_000.0;
        let machine = self.machine_name(*machine);
        format!("{time:>14.6} ms  {machine}/{shard}  {}", self.describe(what))
    }

    /// What happened, as a phrase.
    #[must_use]
    pub fn describe(&self, what: &Happening) -> String {
        match what {
            H::Started { process } => format!("process {process} starts"),
            H::Exited { process } => format!("process {process} exits"),
            H::AskedToStop => "is asked to stop".to_owned(),
            H::Killed => "is killed".to_owned(),
            H::OsCrashed => "crash of the operating system".to_owned(),
            H::PowerCut => "power cut".to_owned(),
            H::Paused => "is paused".to_owned(),
            H::Booted => "is switched on".to_owned(),
            H::Resumed => "goes on".to_owned(),
            H::Controlled { note } => (*note).to_owned(),
            H::Fault { kind, note } => format!("fault {}: {note}", kind.name()),
            H::Lost { kind, count } => format!("{count} {}", kind.name()),
            H::TaskPanicked { task, message } => format!("task \"{task}\" panics: {message}"),
            H::Note { text } => text.clone(),
            H::OperationBegan { operation, client, text } => {
                format!("client {client} begins {}: {text}", operation.number())
            }
            H::OperationEnded { operation, client, outcome } => {
                format!("client {client} ends {}: {outcome}", operation.number())
            }
            H::DiskSubmitted { .. } | H::DiskHappened { .. } | H::DiskCompleted { .. } => {
                describe_disk(what)
            }
            _ => self.describe_network(what),
        }
    }

    fn describe_network(&self, what: &Happening) -> String {
        let name = |machine: &usize| self.machine_name(*machine);
        match what {
            H::LinkBlocked { to } => format!("packets to {} are held back", name(to)),
            H::LinkHealed { to } => format!("packets to {} pass again", name(to)),
            H::ConnectionOpened { connection, to } => {
                format!("connection {connection} to {} opens", name(to))
            }
            H::ConnectionRefused { to } => format!("connection to {to} is refused"),
            H::ConnectionUnanswered { to } => format!("nobody answers at {to}"),
            H::ConnectionReset { connection, error } => {
                format!("connection {connection} breaks: {error}")
            }
            H::ConnectionClosed { connection } => format!("connection {connection} is closed"),
            H::PacketSent { packet, connection, to, bytes } => {
                format!("packet {packet} to {} on {connection}, {bytes} bytes", name(to))
            }
            H::PacketArrived { packet, connection, from, bytes, rest } => {
                let part = if *rest > 0 { format!(", {rest} to come") } else { String::new() };
                let from = name(from);
                format!("packet {packet} from {from} on {connection} arrives, {bytes} bytes{part}")
            }
            H::PacketLost { packet, connection, from } => {
                format!("packet {packet} from {} on {connection} reaches nobody", name(from))
            }
            other => unreachable!("{other:?} is not of the network"),
        }
    }
}

fn describe_disk(what: &Happening) -> String {
    let failed = |error: &Option<std::io::ErrorKind>| {
        error.map_or_else(String::new, |error| format!(", failed: {error}"))
    };
    match what {
        H::DiskSubmitted { operation, kind, path, bytes } => {
            let path = path.as_deref().unwrap_or("a file without a name");
            let bytes = if *bytes > 0 { format!(", {bytes} bytes") } else { String::new() };
            format!("disk {operation} {kind:?} {path}{bytes}")
        }
        H::DiskHappened { operation, error } => {
            format!("disk {operation} happens{}", failed(error))
        }
        H::DiskCompleted { operation, kind, bytes, error } => {
            let bytes = if *bytes > 0 { format!(", {bytes} bytes") } else { String::new() };
            format!("disk {operation} {kind:?} completes{bytes}{}", failed(error))
        }
        other => unreachable!("{other:?} is not of a disk"),
    }
}

impl fmt::Display for Chronicle {
    /// One line for each occurrence.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            writeln!(formatter, "{} earlier occurrences are forgotten", self.forgotten)?;
        }
        self.occurrences.iter().try_for_each(|it| writeln!(formatter, "{}", self.line(it)))
    }
}
