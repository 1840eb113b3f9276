//! What programs read. Names end with the unit; they stay as they are.

use serde_json::{Map, Value, json};
use woodchuck_io::probe::{Ability, AlignmentSource, DirectIo};
use woodchuck_io::runtime::{Backend, CompletionMode};

use super::measure::{Entry, Figures};
use super::report::{Report, Settings};
use super::scratch::SCRATCH_NAME;
use super::verdict::Sentence;
use crate::volume::Rates;

pub(super) fn report(report: &Report, verdict: &[Sentence]) -> Value {
    let measured = &report.measured;
    let memory = &report.machine.memory_lock;
    json!({
        "directory": report.directory.display().to_string(),
        "volume": volume(report),
        "direct_io": direct_io(report.direct_io),
        "io_uring": io_uring(report),
        "machine": {
            "kernel": report.machine.kernel,
            "cpus_online": report.machine.cpus_online,
            "cpus_allowed": report.machine.cpus_allowed,
            "cpus_affordable": report.machine.cpus_affordable,
            "load_average": report.machine.load_average,
            "memory_lock_bytes": memory.limit_bytes,
            "memory_lock_exempt": memory.exempt,
        },
        "scratch": {
            "path": report.directory.join(SCRATCH_NAME).display().to_string(),
            "size_bytes": report.scratch_bytes,
            "replaced_left_over": measured.replaced,
        },
        "measurement_seconds": report.each.as_secs_f64(),
        "backend": report.settings.backend.to_string(),
        "extents": {
            "block_bytes": report.settings.block_bytes,
            "extending": figures(&measured.extending),
            "allocated": measured.allocated.as_ref().map(figures),
            "overwritten": figures(&measured.overwritten),
        },
        "flush": {
            "block_bytes": report.settings.block_bytes,
            "clean": times(&measured.flush_clean),
            "after_write": times(&measured.flush_after_write),
            "write_then_flush": figures(&measured.write_then_flush),
            "durable_write": figures(&measured.overwritten),
        },
        "matrix": measured.matrix.iter().map(entry).collect::<Vec<_>>(),
        "flight": flight(&measured.flight),
        "settings": settings(&report.settings),
        "verdict": verdict.iter().map(sentence).collect::<Vec<_>>(),
    })
}

fn volume(report: &Report) -> Value {
    let volume = &report.volume;
    let block_device = volume.block_device.as_ref().map(|device| {
        json!({
            "volatile_cache": device.volatile_cache,
            "force_unit_access": device.force_unit_access,
            "rotational": device.rotational,
            "logical_block_bytes": device.logical_block_bytes,
        })
    });
    json!({
        "filesystem": volume.filesystem,
        "device": volume.device,
        "mount_point": volume.mount_point,
        "mount_options": volume.mount_options,
        "total_bytes": volume.total_bytes,
        "available_bytes": volume.available_bytes,
        "block_device": block_device,
    })
}

fn direct_io(direct_io: DirectIo) -> Value {
    match direct_io {
        DirectIo::Refused => json!({
            "taken": false,
            "memory_alignment_bytes": null,
            "offset_alignment_bytes": null,
            "source": null,
        }),
        DirectIo::Aligned { memory_bytes, offset_bytes, source } => json!({
            "taken": true,
            "memory_alignment_bytes": memory_bytes,
            "offset_alignment_bytes": offset_bytes,
            "source": match source {
                AlignmentSource::Kernel => "kernel",
                AlignmentSource::Trial => "trial",
            },
        }),
    }
}

fn io_uring(report: &Report) -> Value {
    let object = |abilities: &[Ability]| {
        let named = abilities.iter().map(|one| (one.name.to_owned(), one.present.into()));
        Value::Object(named.collect::<Map<_, _>>())
    };
    match &report.rings {
        Ok(rings) => json!({
            "usable": rings.missing().is_empty(),
            "refused": null,
            "needed": object(&rings.needed),
            "other": object(&rings.other),
        }),
        Err(why) => json!({ "usable": false, "refused": why, "needed": null, "other": null }),
    }
}

/// Figures of what moves no bytes.
fn times(figures: &Figures) -> Value {
    json!({
        "operations": figures.operations,
        "operations_per_second": figures.operations_per_second,
        "p50_us": figures.p50.as_nanos() as f64 / 1e3,
        "p99_us": figures.p99.as_nanos() as f64 / 1e3,
    })
}

fn figures(figures: &Figures) -> Value {
    let mut told = times(figures);
    told["mib_per_second"] = figures.mib_per_second.into();
    told
}

fn entry(entry: &Entry) -> Value {
    let mut told = figures(&entry.figures);
    told["operation"] = entry.operation.name().into();
    told["block_bytes"] = entry.block_bytes.into();
    told["depth"] = entry.depth.into();
    told
}

/// Rates of durable writes, by size and depth.
fn flight(rates: &Rates) -> Value {
    let entries = rates.entries().map(|(block_bytes, depth, rate)| {
        json!({ "block_bytes": block_bytes, "depth": depth, "operations_per_second": rate })
    });
    Value::Array(entries.collect())
}

fn settings(settings: &Settings) -> Value {
    let ring = (settings.backend == Backend::Uring).then(|| {
        json!({
            "flags": settings.ring_flags,
            "completion_mode": match settings.completion_mode {
                CompletionMode::Cooperative => "cooperative",
                CompletionMode::Deferred => "deferred",
            },
            "submissions": settings.ring_submissions,
            "completions": settings.ring_completions,
            "locked_bytes": settings.ring_locked_bytes,
        })
    });
    let helpers = (settings.backend == Backend::Posix).then_some(settings.helper_threads);
    json!({
        "backend": settings.backend.to_string(),
        "ring": ring,
        "helper_threads": helpers,
        "shards": settings.shards,
        "pinned": settings.pinned,
        "block_bytes": settings.block_bytes,
        "frames_in_flight": settings.frames_in_flight,
        "frames_in_flight_reason": settings.frames_in_flight_reason,
        "frame_bytes": settings.frame_bytes,
        "segment_bytes": settings.segment_bytes,
        "queue_bytes": settings.queue_bytes,
        "witness_delay_ms": settings.witness_delay.as_secs_f64() * 1e3,
    })
}

fn sentence(sentence: &Sentence) -> Value {
    json!({ "level": sentence.level.name(), "kind": sentence.kind, "text": sentence.text })
}
