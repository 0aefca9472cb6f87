//! `hoist status`: how much of an upload the server has.

use hoist_client::Status;
use serde_json::json;

use super::ask::{self, Found};
use crate::cli::Ask;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: Ask, output: Output) -> Result<Exit, Failure> {
    let client = ask::client(&asked.connection, &asked.route)?.build().map_err(ask::failure)?;
    let has_secrets = asked.connection.has_secrets();
    let found = Found::all(asked.what, asked.token, asked.to.as_ref())?;
    if has_secrets && Found::are_scattered(&found) {
        let next =
            "the file is under way to several servers; say with --to which one the credentials are for";
        return Err(Failure::say(Exit::Usage, next));
    }
    let mut exit = Exit::Success;
    for upload in found {
        let status = ask::block_on(async { client.status(&upload.handle).await.map_err(ask::failure) });
        match status {
            Ok(status) => say(status, &upload, output)?,
            // With several, one that is gone does not hide the others.
            Err(failure) if upload.is_one_of_many => {
                exit = failure.exit;
                output.failure(&Failure::say(failure.exit, format_args!("{}{failure}", upload.label())));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(exit)
}

fn say(status: Status, upload: &Found, output: Output) -> Result<(), Failure> {
    let of = status.length.map(|length| format!(" of {length}")).unwrap_or_default();
    let state = match status.complete {
        Some(true) => ", complete",
        Some(false) => ", not complete",
        None => "",
    };
    let mut json = json!({ "offset": status.offset, "length": status.length, "complete": status.complete });
    if let Some(entry) = &upload.entry {
        json["file"] = entry.file.display().to_string().into();
        json["to"] = entry.target.to_string().into();
    }
    Ok(output.result(format_args!("{}{}{of} bytes{state}", upload.label(), status.offset), &json)?)
}
