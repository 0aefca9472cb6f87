//! `hoist status`: shows how much of an upload the server has. A transfer by another process of this user is not disturbed.

use hoist_client::{LocalState, Status};
use serde_json::json;

use super::client;
use super::lookup::FoundUpload;
use crate::cli::UploadArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Console, Output, start_request_log};

pub(crate) fn run(args: UploadArgs, output: Output) -> Result<Exit, Failure> {
    start_request_log(&Console::new(output), args.verbosity.verbose, false);
    let client = client::builder(&args.connection, &args.route)?.build().map_err(client::failure)?;
    let has_secrets = args.connection.has_secrets();
    let found = FoundUpload::find_all(args.upload, args.token, args.to.as_ref())?;
    if has_secrets && FoundUpload::have_several_origins(&found) {
        let next =
            "the file is being uploaded to several servers; choose the one the credentials are for with --to";
        return Err(Failure::message(Exit::Usage, next));
    }
    let mut exit = Exit::Success;
    for upload in found {
        // A query would end the transfer.
        if let Some(local) = upload.local.filter(|local| local.is_running) {
            print_running(local, &upload, output)?;
            continue;
        }
        let status = client::block_on(async { client.status(&upload.handle).await.map_err(client::failure) });
        match status {
            Ok(status) => {
                upload.note_offset(status.offset);
                print_status(status, &upload, output)?;
            }
            // An upload that is gone does not hide the others.
            Err(failure) if upload.is_one_of_many => {
                exit = failure.exit;
                output.failure(&Failure::message(failure.exit, format_args!("{}{failure}", upload.label())));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(exit)
}

/// Prints the state of an upload that another process is sending.
fn print_running(local: LocalState, upload: &FoundUpload, output: Output) -> Result<(), Failure> {
    let offset = local.acknowledged.unwrap_or_default();
    let length = upload.entry.as_ref().map(|entry| entry.length);
    let of = length.map(|length| format!(" of {length}")).unwrap_or_default();
    let json = upload.json("status", json!({ "offset": offset, "length": length, "complete": false }));
    let text = format_args!("{}{offset}{of} bytes, running: another process is sending it", upload.label());
    Ok(output.result(text, &json)?)
}

fn print_status(status: Status, upload: &FoundUpload, output: Output) -> Result<(), Failure> {
    let of = status.length.map(|length| format!(" of {length}")).unwrap_or_default();
    let state = match status.complete {
        Some(true) => ", complete",
        Some(false) => ", not complete",
        None => "",
    };
    let json = json!({ "offset": status.offset, "length": status.length, "complete": status.complete });
    let json = upload.json("status", json);
    Ok(output.result(format_args!("{}{}{of} bytes{state}", upload.label(), status.offset), &json)?)
}
