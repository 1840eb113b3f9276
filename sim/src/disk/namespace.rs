//! Names: directories as processes see them, as the media holds them, and the journal between.
//!
//! Each creation, link, rename and removal is one change in a journal. A sync of a directory commits the
//! changes that touch it, and of the others those that they build on. A crash keeps some of the
//! rest: a prefix, or any that respect the order among the changes of one name. What no name leads
//! to after a crash is gone: so the content of a synced directory is lost if the directory's own
//! name was never synced in its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::file::FileData;
use crate::limits::{NAME_BYTES, PATH_BYTES};

/// Names a file or directory of one disk, whatever its path.
pub(super) type InodeNumber = u64;

/// The number of the root directory.
pub(super) const ROOT: InodeNumber = 0;

/// A file or a directory.
pub(super) enum Inode {
    /// Names, as seen and on media.
    Directory(Directory),
    /// Bytes.
    File(Box<FileData>),
}

/// A directory.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) visible: BTreeMap<String, InodeNumber>,
    pub(super) durable: BTreeMap<String, InodeNumber>,
}

/// A name in a directory comes to mean a file, or nothing.
#[derive(Clone, Debug)]
struct Edit {
    directory: InodeNumber,
    name: String,
    inode: Option<InodeNumber>,
}

/// Edits that happen together or not at all.
struct Change {
    sequence: u64,
    edits: Vec<Edit>,
    /// Whether the device said it was on media. It is in its cache.
    lied: bool,
}

/// All names of a disk, and what they name.
pub(super) struct Namespace {
    pub(super) inodes: BTreeMap<InodeNumber, Inode>,
    next_inode: InodeNumber,
    journal: Vec<Change>,
    /// How many files are open under each number.
    pub(super) open: BTreeMap<InodeNumber, u32>,
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            inodes: BTreeMap::from([(ROOT, Inode::Directory(Directory::default()))]),
            next_inode: ROOT + 1,
            journal: Vec::new(),
            open: BTreeMap::new(),
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

/// The names on the way from the root. An error if there can be no such path.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path holds a zero byte"));
    }
    let longest = bytes.split(|&byte| byte == b'/').map(<[u8]>::len).max().unwrap_or(0);
    if longest > NAME_BYTES || bytes.len() >= PATH_BYTES {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().expect("paths in the simulation are UTF-8"));
            }
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

impl Namespace {
    pub(super) fn directory(&self, inode: InodeNumber) -> Option<&Directory> {
        match self.inodes.get(&inode) {
            Some(Inode::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, inode: InodeNumber) -> &mut Directory {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Directory(directory)) => directory,
            _ => panic!("inode {inode} is no directory"),
        }
    }

    pub(super) fn file(&self, inode: InodeNumber) -> &FileData {
        match self.inodes.get(&inode) {
            Some(Inode::File(file)) => file,
            _ => panic!("inode {inode} is no file"),
        }
    }

    pub(super) fn file_mut(&mut self, inode: InodeNumber) -> &mut FileData {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) => file,
            _ => panic!("inode {inode} is no file"),
        }
    }

    /// What a path names.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<InodeNumber> {
        names(path)?.iter().try_fold(ROOT, |inode, &name| {
            let directory = self.directory(inode).ok_or(io::ErrorKind::NotADirectory)?;
            directory.visible.get(name).copied().ok_or_else(|| not_found(path))
        })
    }

    /// The directory a path lies in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(InodeNumber, String)> {
        let names = names(path)?;
        let (name, parents) = names.split_last().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = parents.iter().try_fold(ROOT, |inode, &name| {
            let directory = self.directory(inode).ok_or(io::ErrorKind::NotADirectory)?;
            directory.visible.get(name).copied().ok_or_else(|| not_found(path))
        })?;
        self.directory(parent).ok_or(io::ErrorKind::NotADirectory)?;
        Ok((parent, (*name).to_owned()))
    }

    /// Makes edits visible and notes them in the journal.
    fn change(&mut self, sequence: u64, edits: Vec<Edit>) {
        for Edit { directory, name, inode } in &edits {
            let names = &mut self.directory_mut(*directory).visible;
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
        self.journal.push(Change { sequence, edits, lied: false });
    }

    fn add(&mut self, inode: Inode) -> InodeNumber {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    pub(super) fn create_file(&mut self, path: &Path, sequence: u64) -> io::Result<InodeNumber> {
        let (directory, name) = self.place(path)?;
        if self.directory_mut(directory).visible.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.add(Inode::File(Box::default()));
        self.change(sequence, vec![Edit { directory, name, inode: Some(inode) }]);
        Ok(inode)
    }

    /// Creates a directory and those above it that are missing, each in a change of its own.
    pub(super) fn create_directory(&mut self, path: &Path, sequence: u64) -> io::Result<()> {
        let mut directory = ROOT;
        for name in names(path)? {
            let known = self.directory(directory).ok_or(io::ErrorKind::NotADirectory)?;
            directory = match known.visible.get(name) {
                Some(&inode) => inode,
                None => {
                    let inode = self.add(Inode::Directory(Directory::default()));
                    let name = name.to_owned();
                    self.change(sequence, vec![Edit { directory, name, inode: Some(inode) }]);
                    inode
                }
            };
        }
        self.directory(directory).ok_or(io::ErrorKind::AlreadyExists)?;
        Ok(())
    }

    /// Returns whether the new name meant something before.
    pub(super) fn rename(&mut self, from: &Path, to: &Path, sequence: u64) -> io::Result<bool> {
        let inode = self.resolve(from)?;
        let (old_directory, old_name) = self.place(from)?;
        let (directory, name) = self.place(to)?;
        let replaced = self.directory_mut(directory).visible.get(&name).copied();
        if replaced == Some(inode) {
            return Ok(false);
        }
        if replaced.is_some_and(|replaced| self.directory(replaced).is_some()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if self.directory(inode).is_some() {
            if replaced.is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if names(to)?.starts_with(&names(from)?) {
                let text = "a directory cannot be moved into itself";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let old = Edit { directory: old_directory, name: old_name, inode: None };
        self.change(sequence, vec![old, Edit { directory, name, inode: Some(inode) }]);
        Ok(replaced.is_some())
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path, sequence: u64) -> io::Result<()> {
        let inode = self.resolve(from)?;
        let (directory, name) = self.place(to)?;
        if self.directory_mut(directory).visible.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.directory(inode).is_some() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.change(sequence, vec![Edit { directory, name, inode: Some(inode) }]);
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, path: &Path, sequence: u64) -> io::Result<()> {
        let inode = self.resolve(path)?;
        let removed = self.directory(inode).ok_or(io::ErrorKind::NotADirectory)?;
        if !removed.visible.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (directory, name) = self.place(path)?;
        self.change(sequence, vec![Edit { directory, name, inode: None }]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, sequence: u64) -> io::Result<()> {
        let inode = self.resolve(path)?;
        if self.directory(inode).is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (directory, name) = self.place(path)?;
        self.change(sequence, vec![Edit { directory, name, inode: None }]);
        Ok(())
    }

    /// Which changes up to `asked` touch a directory, with those they build on.
    fn covered(&self, directory: InodeNumber, asked: u64) -> Vec<bool> {
        let mut touched = BTreeSet::from([directory]);
        let mut committed = vec![false; self.journal.len()];
        for (index, change) in self.journal.iter().enumerate().rev() {
            let touches = change.edits.iter().any(|edit| touched.contains(&edit.directory));
            if touches && change.sequence <= asked {
                committed[index] = true;
                touched.extend(change.edits.iter().map(|edit| edit.directory));
            }
        }
        committed
    }

    /// Commits the changes up to `asked` that touch a directory, with those they build on.
    pub(super) fn sync_directory(&mut self, directory: InodeNumber, asked: u64) {
        let mut flags = self.covered(directory, asked).into_iter();
        let (commit, keep): (Vec<Change>, Vec<Change>) = std::mem::take(&mut self.journal)
            .into_iter()
            .partition(|_| flags.next().expect("one flag a change"));
        self.journal = keep;
        commit.into_iter().for_each(|change| self.commit(change));
    }

    /// As [`sync_directory`](Self::sync_directory), but the device only says so.
    pub(super) fn pretend_sync(&mut self, directory: InodeNumber, asked: u64) {
        let covered = self.covered(directory, asked);
        for (change, covered) in self.journal.iter_mut().zip(covered) {
            change.lied |= covered;
        }
    }

    fn commit(&mut self, change: Change) {
        for Edit { directory, name, inode } in change.edits {
            let names = &mut self.directory_mut(directory).durable;
            match inode {
                Some(inode) => names.insert(name, inode),
                None => names.remove(&name),
            };
        }
    }

    /// How many changes are not on media.
    pub(super) fn uncommitted(&self) -> usize {
        self.journal.len()
    }

    /// Which changes that are not on media the device said were.
    pub(super) fn lied(&self) -> Vec<bool> {
        self.journal.iter().map(|change| change.lied).collect()
    }

    /// Keeps of some changes those that may be kept without the others: of each name, only those
    /// before the first that is lost.
    pub(super) fn respect_order(&self, kept: &mut [bool]) {
        let mut undone: BTreeSet<(InodeNumber, &str)> = BTreeSet::new();
        for (change, kept) in self.journal.iter().zip(kept) {
            let names = || change.edits.iter().map(|edit| (edit.directory, edit.name.as_str()));
            *kept &= !names().any(|name| undone.contains(&name));
            if !*kept {
                undone.extend(names());
            }
        }
    }

    /// A crash: of the changes in the journal those that are `kept` are on media, and the media is
    /// all there is.
    pub(super) fn crash(&mut self, kept: &[bool]) {
        assert_eq!(kept.len(), self.journal.len(), "a change is kept or lost");
        let journal = std::mem::take(&mut self.journal).into_iter().zip(kept);
        journal.filter(|(_, kept)| **kept).for_each(|(change, _)| self.commit(change));
        for inode in self.inodes.values_mut() {
            if let Inode::Directory(directory) = inode {
                directory.visible = directory.durable.clone();
            }
        }
        self.open.clear();
        self.sweep(&BTreeSet::new());
    }

    /// Files that names lead to: as seen, and with `hidden` also those that a crash could bring
    /// back, those that are open, and those changes speak of.
    pub(super) fn reachable(&self, hidden: bool) -> BTreeSet<InodeNumber> {
        let mut found = BTreeSet::from([ROOT]);
        let mut unvisited = vec![ROOT];
        if hidden {
            let edits = self.journal.iter().flat_map(|change| &change.edits);
            let named = edits.flat_map(|edit| edit.inode.into_iter().chain([edit.directory]));
            unvisited.extend(named.chain(self.open.keys().copied()));
            found.extend(unvisited.iter().copied());
        }
        while let Some(inode) = unvisited.pop() {
            let Some(directory) = self.directory(inode) else { continue };
            let durable = directory.durable.values().filter(|_| hidden);
            for &inode in directory.visible.values().chain(durable) {
                if found.insert(inode) {
                    unvisited.push(inode);
                }
            }
        }
        found
    }

    /// Forgets files that nothing can bring back. `used` are those that operations in flight need.
    pub(super) fn sweep(&mut self, used: &BTreeSet<InodeNumber>) {
        let reachable = self.reachable(true);
        self.inodes.retain(|inode, _| reachable.contains(inode) || used.contains(inode));
    }

    /// Paths of all files, as seen or on media.
    pub(super) fn paths(&self, durable: bool) -> Vec<(String, InodeNumber)> {
        let mut paths = Vec::new();
        let mut unvisited = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = unvisited.pop() {
            match self.inodes.get(&inode) {
                Some(Inode::Directory(directory)) => {
                    let names = if durable { &directory.durable } else { &directory.visible };
                    let below =
                        names.iter().map(|(name, &inode)| (format!("{path}/{name}"), inode));
                    unvisited.extend(below);
                }
                Some(Inode::File(_)) => paths.push((path, inode)),
                None => {}
            }
        }
        paths.sort();
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(namespace: &Namespace) -> Vec<String> {
        namespace.paths(false).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_sync_commits_one_directory_and_what_it_builds_on() {
        let mut names = Namespace::default();
        let path = Path::new;
        names.create_directory(path("/a"), 1).expect("new");
        names.create_directory(path("/b"), 2).expect("new");
        names.sync_directory(ROOT, 2);
        names.create_file(path("/a/x"), 3).expect("new");
        names.create_file(path("/a/other"), 4).expect("new");
        names.rename(path("/a/x"), path("/b/y"), 5).expect("there");
        let b = names.resolve(path("/b")).expect("there");
        names.sync_directory(b, 5);
        assert_eq!(names.uncommitted(), 0, "what the rename builds on went with it");
        names.create_file(path("/a/late"), 6).expect("new");
        names.crash(&[false]);
        assert_eq!(paths(&names), ["/a/other", "/b/y"]);
    }

    #[test]
    fn a_file_with_two_names_is_there_while_one_of_them_is() {
        // The link, the removal of the old name, both or neither: of each name by itself.
        for (kept, expected) in [
            ([false, false], &["/a"][..]),
            ([true, false], &["/a", "/d/b"]),
            ([false, true], &[]),
            ([true, true], &["/d/b"]),
        ] {
            let mut names = Namespace::default();
            names.create_directory(Path::new("/d"), 1).expect("new");
            let inode = names.create_file(Path::new("/a"), 2).expect("new");
            names.sync_directory(ROOT, 2);
            names.link(Path::new("/a"), Path::new("/d/b"), 3).expect("there");
            names.remove(Path::new("/a"), 4).expect("there");
            names.sweep(&BTreeSet::new());
            assert_eq!(names.paths(false), [("/d/b".to_owned(), inode)]);
            names.crash(&kept);
            assert_eq!(paths(&names), expected);
            assert_eq!(names.inodes.contains_key(&inode), !expected.is_empty());
        }
    }

    #[test]
    fn a_link_is_on_media_when_its_own_directory_is_synced() {
        let mut names = Namespace::default();
        names.create_directory(Path::new("/d"), 1).expect("new");
        names.create_file(Path::new("/a"), 2).expect("new");
        names.sync_directory(ROOT, 2);
        names.link(Path::new("/a"), Path::new("/d/b"), 3).expect("there");
        names.sync_directory(ROOT, 3);
        assert_eq!(names.uncommitted(), 1, "the root has none of its names");
        let directory = names.resolve(Path::new("/d")).expect("there");
        names.sync_directory(directory, 3);
        names.crash(&[]);
        assert_eq!(paths(&names), ["/a", "/d/b"]);
    }

    #[test]
    fn a_directory_is_renamed_with_what_is_in_it() {
        for kept in [false, true] {
            let mut names = Namespace::default();
            names.create_directory(Path::new("/old"), 1).expect("new");
            names.create_file(Path::new("/old/f"), 2).expect("new");
            let directory = names.resolve(Path::new("/old")).expect("there");
            names.sync_directory(directory, 2);
            names.sync_directory(ROOT, 2);
            assert_eq!(names.rename(Path::new("/old"), Path::new("/new"), 3).ok(), Some(false));
            names.crash(&[kept]);
            assert_eq!(paths(&names), [if kept { "/new/f" } else { "/old/f" }]);
        }
    }

    #[test]
    fn files_of_a_directory_without_durable_name_are_lost() {
        let mut names = Namespace::default();
        names.create_directory(Path::new("/d"), 1).expect("new");
        names.create_file(Path::new("/d/f"), 2).expect("new");
        let directory = names.resolve(Path::new("/d")).expect("there");
        names.sync_directory(directory, 2);
        names.crash(&[false]);
        assert!(paths(&names).is_empty());
        assert_eq!(names.inodes.len(), 1, "only the root is left");
    }

    #[test]
    fn a_crash_keeps_a_prefix() {
        for kept in 0..=3 {
            let mut names = Namespace::default();
            names.create_file(Path::new("/1"), 1).expect("new");
            names.rename(Path::new("/1"), Path::new("/2"), 2).expect("there");
            names.remove(Path::new("/2"), 3).expect("there");
            names.crash(&[0, 1, 2].map(|change| change < kept));
            let expected: &[&str] = [&[][..], &["/1"], &["/2"], &[]][kept];
            assert_eq!(paths(&names), expected);
        }
    }

    #[test]
    fn a_crash_keeps_a_rename_whole_or_not_at_all() {
        for kept in [false, true] {
            let mut names = Namespace::default();
            names.create_directory(Path::new("/d"), 1).expect("new");
            let old = names.create_file(Path::new("/d/name"), 2).expect("new");
            let new = names.create_file(Path::new("/next"), 3).expect("new");
            let directory = names.resolve(Path::new("/d")).expect("there");
            names.sync_directory(ROOT, 3);
            names.sync_directory(directory, 3);
            assert_eq!(names.rename(Path::new("/next"), Path::new("/d/name"), 4).ok(), Some(true));
            names.crash(&[kept]);
            let before = [("/d/name".to_owned(), old), ("/next".to_owned(), new)];
            let after = [("/d/name".to_owned(), new)];
            let expected = if kept { &after[..] } else { &before[..] };
            assert_eq!(names.paths(false), expected);
        }
    }

    #[test]
    fn without_order_a_crash_keeps_of_each_name_a_prefix() {
        for drawn in 0..16_u32 {
            let mut names = Namespace::default();
            names.create_file(Path::new("/1"), 1).expect("new");
            names.create_file(Path::new("/2"), 2).expect("new");
            names.rename(Path::new("/1"), Path::new("/3"), 3).expect("there");
            names.remove(Path::new("/3"), 4).expect("there");
            let mut kept = [0, 1, 2, 3].map(|change| drawn >> change & 1 == 1);
            names.respect_order(&mut kept);
            assert_eq!(kept[1], drawn & 2 != 0, "another name");
            assert_eq!(kept[2], drawn & 0b101 == 0b101, "the rename builds on the creation");
            assert_eq!(kept[3], drawn & 0b1101 == 0b1101, "the removal builds on the rename");
            names.crash(&kept);
        }
    }

    #[test]
    fn errors_are_those_of_a_kernel() {
        let mut names = Namespace::default();
        let path = Path::new;
        let kind = |result: io::Result<InodeNumber>| result.expect_err("fails").kind();
        names.create_directory(path("d/e"), 1).expect("new");
        names.create_directory(path("/d/./e"), 1).expect("no error if it is there");
        names.create_file(path("/d/f"), 1).expect("new");
        assert_eq!(kind(names.create_file(path("/d/f"), 1)), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(names.create_file(path("/no/f"), 1)), io::ErrorKind::NotFound);
        assert_eq!(kind(names.create_file(path("/d/f/g"), 1)), io::ErrorKind::NotADirectory);
        assert_eq!(kind(names.resolve(path("/d/g"))), io::ErrorKind::NotFound);
        let removed = names.remove(path("/d/e"), 1).expect_err("a directory").kind();
        assert_eq!(removed, io::ErrorKind::IsADirectory);
        let inside = names.rename(path("/d"), path("/d/e/d"), 1).expect_err("inside").kind();
        assert_eq!(inside, io::ErrorKind::InvalidInput);
    }
}
