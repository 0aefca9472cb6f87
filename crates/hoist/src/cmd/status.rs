//! `hoist status`: shows how much of an upload the server has.

use hoist_client::Status;
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
        let status = client::block_on(async { client.status(&upload.handle).await.map_err(client::failure) });
        match status {
            Ok(status) => print_status(status, &upload, output)?,
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

fn print_status(status: Status, upload: &FoundUpload, output: Output) -> Result<(), Failure> {
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
