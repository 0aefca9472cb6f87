//! `hoist put --dry-run`: lists the files that would be uploaded, without contacting the server.

use std::fs;

use serde_json::json;

use super::sources::{Input, Item};
use super::tally::Tally;
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Console};

/// Lists the items and returns the exit code that unreadable files lead to.
pub(super) fn list(console: &Console, items: &[Item], tally: &mut Tally) -> Exit {
    let (mut files, mut bytes) = (0_usize, 0_u64);
    for Item { input, label, name, .. } in items {
        let length = match input {
            Input::File(path) => fs::metadata(path).map(|metadata| Some(metadata.len())),
            Input::Stdin | Input::Pipe(_) => Ok(None),
            Input::Unreadable(_, error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        let length = match length {
            Ok(length) => length,
            Err(error) => {
                tally.failed.push(Exit::File);
                let failure = Failure::message(Exit::File, format_args!("cannot read {label}: {error}"));
                console.output.event(&json!({
                    "event": "failed", "file": label.raw, "error": failure.to_string(),
                    "exit": Exit::File.code(), "kind": Exit::File.name(),
                }));
                console.failure(&failure);
                continue;
            }
        };
        files += 1;
        bytes += length.unwrap_or_default();
        let size = length.map_or_else(|| "unknown".to_owned(), |length| Bytes(length).to_string());
        let json = json!({ "event": "would-upload", "file": label.raw, "name": name, "length": length });
        console.report(format_args!("{size:>12}  {label}"), &json);
    }
    let exit = match (tally.failed.len(), files + tally.skipped) {
        (0, _) => Exit::Success,
        (_, 0) => Exit::File,
        _ => Exit::Partial,
    };
    let noun = if files == 1 { "file" } else { "files" };
    console.message(format_args!("would upload {files} {noun}, {}", Bytes(bytes)));
    exit
}
