//! Benchmarks stand in `benches/`.
