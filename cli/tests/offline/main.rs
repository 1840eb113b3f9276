//! `woodchuck inspect`, `verify` and `repair`, by what the binary prints, its exit code, and that it
//! leaves the directory it looks at as it was.

#![expect(clippy::disallowed_methods, reason = "directories are damaged by hand")]

mod data;
mod inspect;
mod repair;
mod stores;
mod verify;
