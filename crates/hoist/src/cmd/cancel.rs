//! `hoist cancel`: cancels an upload and removes it from the journal.

use serde_json::json;

use super::client;
use super::lookup::FoundUpload;
use crate::cli::UploadArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Console, Output, start_request_log};

pub(crate) fn run(args: UploadArgs, output: Output) -> Result<Exit, Failure> {
    start_request_log(&Console::new(output), args.verbosity.verbose, false);
    let client = client::builder(&args.connection, &args.route)?.build().map_err(client::failure)?;
    let found = FoundUpload::find_all(args.upload, args.token, args.to.as_ref())?;
    let [upload] = &found[..] else {
        let places = found.iter().filter_map(|upload| Some(upload.entry.as_ref()?.target.to_string()));
        let places = places.collect::<Vec<_>>().join(" or ");
        return Err(Failure::message(
            Exit::Usage,
            format_args!("the file is being uploaded to several servers; choose one with --to {places}"),
        ));
    };
    // Held until the end, so that no `hoist put` creates the upload again or sends it meanwhile.
    let locked = upload.lock()?;
    if locked.is_none() && upload.entry.is_some() {
        let ended = "the upload has ended meanwhile, so it was not cancelled";
        return Err(Failure::message(Exit::NotFound, ended));
    }
    let cancelled = client::block_on(async { client.cancel(&upload.handle).await.map_err(client::failure) });
    if let Err(failure) = &cancelled
        && failure.exit != Exit::NotFound
    {
        return cancelled.map(|()| Exit::Success);
    }
    // An upload that the server does not have is removed from the journal too.
    if let Some(locked) = locked {
        locked.remove().map_err(client::failure)?;
    }
    cancelled?;
    output.report("cancelled", &upload.json("cancelled", json!({ "cancelled": true })));
    Ok(Exit::Success)
}
