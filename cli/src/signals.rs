//! SIGTERM and SIGINT: the first asks to stop, the second ends the process at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit::Exit;

/// Signals that are caught, and wait for somebody to look at them.
pub(crate) struct Caught(Signals);

/// As long as it lives, signals do what they were said to do.
pub(crate) struct Watching(Handle);

impl Caught {
    /// Catches the signals from now on.
    pub(crate) fn new() -> Result<Self, String> {
        Signals::new([SIGTERM, SIGINT]).map(Self).map_err(|error| failed(&error))
    }

    /// Calls `stop` at the first signal, those that have come already included.
    pub(crate) fn watch(self, stop: impl FnOnce() + Send + 'static) -> Result<Watching, String> {
        let Self(mut signals) = self;
        let handle = signals.handle();
        let watch = move || {
            let mut stop = Some(stop);
            for _ in signals.forever() {
                match stop.take() {
                    Some(stop) => stop(),
                    None => std::process::exit(Exit::Interrupted.code().into()),
                }
            }
        };
        #[expect(clippy::disallowed_types, reason = "signals are the process's, not a shard's")]
        let watcher = std::thread::Builder::new().name("signals".to_owned());
        watcher.spawn(watch).map_err(|error| failed(&error))?;
        Ok(Watching(handle))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn failed(error: &std::io::Error) -> String {
    format!("cannot watch for signals: {error}")
}
