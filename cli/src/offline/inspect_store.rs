//! `woodchuck inspect manifest`, `table` and `block`.
//!
//! They take no lock: nothing that they look at is changed while it is there. Of a store that a
//! broker has open they show a moment.

use std::path::PathBuf;

use serde_json::{Value, json};
use woodchuck_io::mapped::{MappedDisk, MappedFile, at_once};
use woodchuck_storage::offline::{
    self, BlockContent, FoundBlock, Inspection, StoredEntry, stray_block,
};
use woodchuck_storage::{
    Keyspace, KeyspaceOptions, Kind, Properties, StorageError, Table, TableMetadata,
};

use super::stores::{
    damage, damage_json, digits, key, key_json, message, store_of, table_number, trouble,
};
use super::{Output, WIDTH, absolute, finished, identity};
use crate::exit::{Exit, Trouble, help};
use crate::limits::INSPECT_ENTRIES;
use crate::text::{bytes, number, wrap};

/// What `inspect manifest` does, for the help.
pub(super) const MANIFEST: &str = "\
Show what the manifest of a store says: keyspaces, levels, runs, tables, and which of these are
damaged or missing. Tables that nothing speaks of are shown as orphans: opening removes them.

DIR is the directory of a store, or of its manifest, or a segment of that. Nothing is written, and a
broker may have the store open: then a moment is shown, and a table that has just been made or
removed may be told as an orphan, or as missing. The last line is the verdict that opening would
give. With --json there is one object a line, told apart by its type: store, keyspace, table,
damaged_table, orphan, left_alone, verdict.";

/// What `inspect table` does, for the help.
pub(super) const TABLE: &str = "\
Show what is in a table: what it says of itself, and each block with its place, what it is for, its
keys, and whether it is whole. The file may have any name. Nothing is written.

Works on a damaged table, and goes on behind the damage. With --json there is one object a line,
told apart by its type: table, block, entry, verdict.";

/// What `inspect block` does, for the help.
pub(super) const BLOCK: &str = "\
Show what is in one block of a table, or why it is damaged, and which keys it had.

OFFSET is any place in the block, as damage is told with. If the table cannot be opened any more, it
is the block's first byte. With --json there is one object a line, told apart by its type: block,
entry, indexed_block.";

pub(super) fn examples(which: &str) -> String {
    match which {
        "manifest" => help(&[
            "inspect manifest data/shard-0000/store",
            "inspect manifest data/shard-0000/store --json",
        ]),
        "table" => help(&[
            "inspect table data/shard-0000/store/0000000000000007.table",
            "inspect table 0000000000000007.table --entries --limit 20",
        ]),
        _ => help(&["inspect block 0000000000000007.table --at 4096"]),
    }
}

#[derive(clap::Args)]
pub(crate) struct ManifestArguments {
    /// The directory of a store, or of its manifest, or a segment of that.
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct TableArguments {
    /// The file of a table.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Show entries: key, commit, kind, when they end, bytes of the value.
    #[arg(long)]
    entries: bool,

    /// How many entries to show.
    #[arg(long, value_name = "COUNT", default_value_t = INSPECT_ENTRIES, requires = "entries")]
    limit: u64,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct BlockArguments {
    /// The file of a table.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// A place in the block, in bytes from the file's beginning.
    #[arg(long, value_name = "OFFSET")]
    at: u64,

    /// How many entries to show.
    #[arg(long, value_name = "COUNT", default_value_t = INSPECT_ENTRIES)]
    limit: u64,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn manifest(arguments: &ManifestArguments) -> Result<Exit, Trouble> {
    let path = absolute(&arguments.path)?;
    let inspected = at_once(async {
        let store = store_of(path).await?;
        offline::inspect(&MappedDisk, &store).await
    });
    let found = finished(inspected)?.map_err(|error| trouble(&error))?;
    let mut output = Output::new();
    match arguments.json {
        true => manifest_json(&mut output, &found),
        false => tell_manifest(&mut output, &found),
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn tell_manifest(output: &mut Output, found: &Inspection) {
    let shown = found.directory.display();
    if let Some(version) = &found.version {
        output.line(format_args!(
            "{shown}: store {}, edit {}, numbers below {}",
            identity(version.store()),
            version.number(),
            version.numbers_below()
        ));
        version.keyspaces().for_each(|keyspace| tell_keyspace(output, keyspace));
    } else {
        output.line(format_args!("{shown}: no version can be told"));
    }
    for damaged in &found.damaged {
        indented(output, &format!("! {}", damage(&damaged.damage)));
    }
    for orphan in &found.orphans {
        let name = table_number(orphan.number);
        output.line(format_args!("  orphan {name}.table, {}", bytes(orphan.bytes)));
    }
    for left in &found.left_alone {
        indented(output, &format!("not the store's: {}: {}", left.name, left.reason));
    }
    indented(output, &format!("verdict: {}", verdict(found)));
}

/// One line of what opening would say.
fn verdict(found: &Inspection) -> String {
    match &found.verdict {
        Ok(_) if !found.damaged.is_empty() => {
            format!("opens; {} live tables are damaged or missing", found.damaged.len())
        }
        Ok(_) if found.version.is_none() => "a store that was never completely made".to_owned(),
        Ok(_) => format!(
            "opens; {} edits, {} commits of {} in the manifest",
            number(found.edits),
            number(found.commits),
            bytes(found.bytes)
        ),
        Err(error) => message(error),
    }
}

fn strategy(options: &KeyspaceOptions) -> String {
    let KeyspaceOptions { strategy, prefix, merge_operator, compression } = options;
    let prefix = prefix.map_or(String::new(), |prefix| format!(", prefixes {prefix:?}"));
    let merge = merge_operator.as_ref().map_or(String::new(), |name| format!(", merges by {name}"));
    format!("{strategy:?}, compression {compression:?}{prefix}{merge}")
}

fn tell_keyspace(output: &mut Output, keyspace: &Keyspace) {
    output.line(format_args!(
        "  keyspace {} {}: {}; flushed up to commit {}",
        keyspace.id(),
        key(keyspace.name().as_bytes()),
        strategy(keyspace.options()),
        keyspace.flushed()
    ));
    for (level, runs) in keyspace.levels().iter().enumerate() {
        let tables: Vec<_> = runs.runs().flat_map(|run| run.tables()).collect();
        if tables.is_empty() {
            continue;
        }
        output.line(format_args!(
            "    level {level}: {} runs, {} tables, {}, {} entries",
            runs.runs().count(),
            number(tables.len() as u64),
            bytes(tables.iter().map(|table| table.file_bytes).sum()),
            number(tables.iter().map(|table| table.entries).sum())
        ));
        for table in tables {
            let TableMetadata { entries, range_tombstones, file_bytes, run, .. } = &**table;
            let end = if table.is_largest_excluded { ", excluded" } else { "" };
            output.line(format_args!(
                "      run {run}  {}  {:>10}  {} entries, {} range tombstones, commits {} to {}",
                table_number(table.number),
                bytes(*file_bytes),
                number(*entries),
                number(*range_tombstones),
                table.smallest_sequence,
                table.largest_sequence
            ));
            output.line(format_args!(
                "        keys {} to {}{end}",
                key(&table.smallest_key),
                key(&table.largest_key)
            ));
        }
    }
}

fn manifest_json(output: &mut Output, found: &Inspection) {
    let version = found.version.as_deref();
    output.line(json!({
        "type": "store",
        "path": found.directory.display().to_string(),
        "store": version.map(|version| identity(version.store())),
        "edit": version.map(|version| digits(version.number())),
        "numbers_below": version.map(|version| digits(version.numbers_below())),
    }));
    for keyspace in version.into_iter().flat_map(|version| version.keyspaces()) {
        let options = keyspace.options();
        output.line(json!({
            "type": "keyspace",
            "keyspace": digits(keyspace.id()),
            "name": keyspace.name(),
            "strategy": format!("{:?}", options.strategy),
            "compression": format!("{:?}", options.compression),
            "prefix": options.prefix.map(|prefix| format!("{prefix:?}")),
            "merge_operator": options.merge_operator,
            "flushed": digits(keyspace.flushed()),
            "levels": keyspace.levels().len(),
        }));
        keyspace.tables().for_each(|table| output.line(metadata_json(table)));
    }
    for damaged in &found.damaged {
        output.line(json!({
            "type": "damaged_table",
            "table": table_number(damaged.table.number),
            "keyspace": digits(damaged.table.keyspace),
            "damage": damage_json(&damaged.damage),
        }));
    }
    for orphan in &found.orphans {
        let table = table_number(orphan.number);
        output.line(json!({ "type": "orphan", "table": table, "bytes": orphan.bytes }));
    }
    for left in &found.left_alone {
        output.line(json!({ "type": "left_alone", "name": left.name, "reason": left.reason }));
    }
    let error = found.verdict.as_ref().err();
    output.line(json!({
        "type": "verdict",
        "verdict": match error {
            None if !found.damaged.is_empty() => "damaged",
            None => "clean",
            Some(error) if error.is_corrupt() => "damaged",
            Some(_) => "unreadable",
        },
        "message": error.map(message),
        "edits": found.edits,
        "commits": found.commits,
        "bytes": found.bytes,
    }));
}

fn metadata_json(table: &TableMetadata) -> Value {
    json!({
        "type": "table",
        "table": table_number(table.number),
        "keyspace": digits(table.keyspace),
        "level": table.level,
        "run": digits(table.run),
        "smallest_key": key_json(&table.smallest_key),
        "largest_key": key_json(&table.largest_key),
        "largest_excluded": table.is_largest_excluded,
        "smallest_sequence": digits(table.smallest_sequence),
        "largest_sequence": digits(table.largest_sequence),
        "entries": table.entries,
        "range_tombstones": table.range_tombstones,
        "file_bytes": table.file_bytes,
    })
}

pub(super) fn table(arguments: &TableArguments) -> Result<Exit, Trouble> {
    let path = absolute(&arguments.file)?;
    let opened = finished(at_once(Table::open_alone(&MappedDisk, &path)))?;
    let table: Table<MappedFile> = opened.map_err(|error| trouble(&error))?;
    let mut output = Output::new();
    let properties = table.properties();
    match arguments.json {
        true => output.line(properties_json(&table)),
        false => {
            let size = bytes(table.file_bytes());
            output.line(format_args!("{}: {}, {size}", path.display(), table.id()));
            tell_properties(&mut output, properties);
            output.line("  blocks:");
        }
    }
    let limit = if arguments.entries { arguments.limit } else { 0 };
    let (mut blocks, mut damaged, mut shown, mut entries) = (0_u64, 0_u64, 0, 0);
    let visited = table.blocks(|block| {
        blocks += 1;
        damaged += u64::from(block.content.is_err());
        tell_block(&mut output, &block, arguments.json);
        if let Ok(BlockContent::Entries(found)) = &block.content
            && arguments.entries
        {
            entries += found.len() as u64;
            for entry in found.iter().take((limit - shown) as usize) {
                shown += 1;
                tell_entry(&mut output, &entry, arguments.json);
            }
        }
    });
    finished(at_once(visited))?;
    if arguments.json {
        let verdict = if damaged > 0 { "damaged" } else { "clean" };
        output.line(json!({
            "type": "verdict", "verdict": verdict, "blocks": blocks, "damaged_blocks": damaged,
            "entries_not_shown": entries - shown,
        }));
    } else {
        if entries > shown {
            output.line(format_args!("  {} entries are not shown", number(entries - shown)));
        }
        match damaged {
            0 => output.line(format_args!("  verdict: all {} blocks are whole", number(blocks))),
            _ => output.line(format_args!(
                "  verdict: {} of {} blocks are damaged or cannot be read",
                number(damaged),
                number(blocks)
            )),
        }
    }
    output.finish()?;
    Ok(Exit::Done)
}

pub(super) fn block(arguments: &BlockArguments) -> Result<Exit, Trouble> {
    let path = absolute(&arguments.file)?;
    let read = at_once(async {
        let opened: Result<Table<MappedFile>, _> = Table::open_alone(&MappedDisk, &path).await;
        match opened {
            Ok(table) => table.block_at(arguments.at).await,
            // What the table says of its blocks is lost, and a block may be there all the same.
            Err(StorageError::Corrupt(_)) => stray_block(&MappedDisk, &path, arguments.at).await,
            Err(error) => Err(error),
        }
    });
    let found = finished(read)?.map_err(|error| trouble(&error))?;
    let mut output = Output::new();
    tell_block(&mut output, &found, arguments.json);
    match &found.content {
        Ok(BlockContent::Entries(entries)) => {
            let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
            for entry in entries.iter().take(limit) {
                tell_entry(&mut output, &entry, arguments.json);
            }
            let rest = entries.len().saturating_sub(limit);
            if rest > 0 && !arguments.json {
                output.line(format_args!("  {} entries are not shown", number(rest as u64)));
            }
        }
        Ok(BlockContent::Index(blocks)) => {
            for block in blocks {
                let offline::IndexEntry { separator, offset, bytes } = block;
                match arguments.json {
                    true => output.line(json!({
                        "type": "indexed_block", "offset": offset, "bytes": bytes,
                        "separator": key_json(separator),
                    })),
                    false => output.line(format_args!(
                        "    {offset:>12}{bytes:>10}  up to {}",
                        key(separator)
                    )),
                }
            }
        }
        Ok(BlockContent::Properties(properties)) if !arguments.json => {
            tell_properties(&mut output, properties);
        }
        _ => {}
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn tell_properties(output: &mut Output, properties: &Properties) {
    for (name, value) in properties_of(properties) {
        output.line(format_args!("  {name:20}{value}"));
    }
}

fn properties_of(properties: &Properties) -> [(&'static str, String); 12] {
    let Properties { entries, deletions, merges, expiring, range_tombstones, .. } = properties;
    let expiry = match (properties.earliest_expiry_ms, properties.latest_expiry_ms) {
        (Some(first), Some(last)) => format!("from {first} to {last} ms"),
        _ => "none".to_owned(),
    };
    [
        ("entries", format!("{entries}: {deletions} deletions, {merges} merge operands")),
        ("expiring", format!("{expiring}, {expiry}")),
        ("range tombstones", number(*range_tombstones)),
        ("smallest key", key(&properties.smallest_key)),
        ("largest key", key(&properties.largest_key)),
        ("commits", format!("{} to {}", properties.smallest_sequence, properties.largest_sequence)),
        ("keys and values", bytes(properties.user_bytes)),
        (
            "data blocks",
            format!(
                "{} of {} asked for; {} of {} uncompressed",
                number(properties.data_blocks),
                bytes(u64::from(properties.block_bytes)),
                bytes(properties.stored_bytes),
                bytes(properties.raw_bytes)
            ),
        ),
        ("padding", bytes(properties.padding_bytes)),
        ("index partitions", number(properties.partitions)),
        (
            "compression",
            format!("{} level {}", properties.compression, properties.compression_level),
        ),
        (
            "filters",
            format!(
                "{} bits a key, prefixes {:?}",
                properties.filter_bits_per_key, properties.prefix
            ),
        ),
    ]
}

fn properties_json(table: &Table<MappedFile>) -> Value {
    let (id, of) = (table.id(), table.properties());
    json!({
        "type": "table",
        "store": identity(id.store),
        "keyspace": digits(id.keyspace),
        "table": table_number(id.number),
        "file_bytes": table.file_bytes(),
        "entries": of.entries,
        "deletions": of.deletions,
        "merges": of.merges,
        "expiring": of.expiring,
        "range_tombstones": of.range_tombstones,
        "smallest_key": key_json(&of.smallest_key),
        "largest_key": key_json(&of.largest_key),
        "smallest_sequence": digits(of.smallest_sequence),
        "largest_sequence": digits(of.largest_sequence),
        "earliest_expiry_ms": of.earliest_expiry_ms.map(digits),
        "latest_expiry_ms": of.latest_expiry_ms.map(digits),
        "user_bytes": of.user_bytes,
        "data_blocks": of.data_blocks,
        "raw_bytes": of.raw_bytes,
        "stored_bytes": of.stored_bytes,
        "padding_bytes": of.padding_bytes,
        "partitions": of.partitions,
        "compression": of.compression,
        "compression_level": of.compression_level,
        "block_bytes": of.block_bytes,
        "partition_bytes": of.partition_bytes,
        "filter_bits_per_key": of.filter_bits_per_key,
        "prefix": of.prefix.map(|prefix| format!("{prefix:?}")),
    })
}

fn tell_block(output: &mut Output, block: &FoundBlock, json: bool) {
    let FoundBlock { kind, offset, bytes, partition, keys, content } = block;
    let entries = match content {
        Ok(BlockContent::Entries(entries)) => Some(entries.len()),
        Ok(BlockContent::Index(blocks)) => Some(blocks.len()),
        _ => None,
    };
    if json {
        let error = content.as_ref().err();
        output.line(json!({
            "type": "block",
            "kind": kind,
            "offset": offset,
            "bytes": bytes,
            "partition": partition,
            "keys_above": keys.as_ref().map(|(above, _)| key_json(above)),
            "keys_to": keys.as_ref().map(|(_, to)| key_json(to)),
            "entries": entries,
            "whole": error.is_none(),
            "error": error.map(message),
        }));
        return;
    }
    let kind = kind.replace('_', " ");
    let partition = partition.map_or(String::new(), |partition| format!("partition {partition}"));
    let entries = entries.map_or(String::new(), |entries| format!("{entries} entries"));
    let keys = keys.as_ref().map_or(String::new(), |(_, to)| format!("up to {}", key(to)));
    let row = format!("  {offset:>12}{bytes:>10}  {kind:16}  {partition:13}  {entries:14}  {keys}");
    output.line(row.trim_end());
    if let Err(error) = content {
        indented(output, &format!("! {}", message(error)));
    }
}

/// What a kind of entry is called.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Deletion => "deletion",
        Kind::Value => "value",
        Kind::ExpiringValue => "expiring_value",
        Kind::SeparatedValue => "separated_value",
        Kind::Merge => "merge",
        Kind::RangeDeletion => "range_deletion",
    }
}

fn tell_entry(output: &mut Output, entry: &StoredEntry, json: bool) {
    let StoredEntry { user_key, sequence, kind, expires_at_ms, value } = entry;
    let end = (*kind == Kind::RangeDeletion).then_some(&value[..]);
    if json {
        output.line(json!({
            "type": "entry",
            "key": key_json(user_key),
            "sequence": digits(*sequence),
            "kind": kind_name(*kind),
            "expires_at_ms": expires_at_ms.map(digits),
            "value_bytes": if end.is_some() { 0 } else { value.len() },
            "end": end.map(key_json),
        }));
        return;
    }
    let more = match (end, expires_at_ms) {
        (Some(end), _) => format!("up to {}", key(end)),
        (None, Some(expiry)) => format!("{} bytes, ends at {expiry} ms", value.len()),
        (None, None) => format!("{} bytes", value.len()),
    };
    let kind = kind_name(*kind).replace('_', " ");
    output.line(format_args!("    {}  commit {sequence}  {kind}  {more}", key(user_key)));
}

fn indented(output: &mut Output, text: &str) {
    for line in wrap(text, WIDTH - 2) {
        output.line(format_args!("  {line}"));
    }
}
