//! Benchmarks stand in `benches/`; here is what several of them need.

use std::path::PathBuf;

/// Where benchmarks put their files: `WOODCHUCK_BENCH_DIRECTORY`, or else `otherwise`.
#[must_use]
pub fn directory(otherwise: &str) -> PathBuf {
    std::env::var_os("WOODCHUCK_BENCH_DIRECTORY")
        .map_or_else(|| PathBuf::from(otherwise), PathBuf::from)
}

/// The middle one of some values; of an even number, the upper of the two.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures the variants by turns, so that what is compared ran within seconds: every other round
/// backwards, so that nobody always comes first. What was measured, by variant and round.
pub fn by_turns<V: Copy, T>(
    variants: &[V],
    rounds: usize,
    mut measure: impl FnMut(V) -> T,
) -> Vec<Vec<T>> {
    let mut measured: Vec<Vec<T>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            measured[index].push(measure(variants[index]));
        }
    }
    measured
}
