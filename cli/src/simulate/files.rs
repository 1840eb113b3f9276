//! The command's own files: recordings and reports.
#![expect(clippy::disallowed_methods, reason = "no shard runs here; these are the user's files")]

use std::path::Path;

/// The text of a file. Errors name it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Writes a file, in a folder that is made if it is missing.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    let write = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)
    };
    write().map_err(|error: std::io::Error| format!("cannot write {}: {error}", path.display()))
}
