//! A bar on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, `length` long. It is drawn only if stderr is a terminal and `wanted`.
pub(crate) fn bar(length: u64, unit: &str, wanted: bool) -> ProgressBar {
    let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{elapsed}}, {{eta}} left {{msg}}");
    // A template that is wrong is a mistake of ours; the plain bar does then.
    bar.with_style(
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// As [`bar`], for bytes.
pub(crate) fn bytes_bar(length: u64, wanted: bool) -> ProgressBar {
    let bar = bar(length, "bytes", wanted);
    let template = "{bar:40} {binary_bytes}/{binary_total_bytes}, {elapsed}, {eta} left";
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
