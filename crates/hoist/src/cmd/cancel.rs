//! `hoist cancel`: ends an upload, and forgets it where the journal knew it.

use serde_json::json;

use super::ask::{self, Found};
use crate::cli::Ask;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: Ask, output: Output) -> Result<Exit, Failure> {
    let client = ask::client(&asked.connection, &asked.route)?.build().map_err(ask::failure)?;
    let found = Found::all(asked.what, asked.token, asked.to.as_ref())?;
    let [upload] = &found[..] else {
        let places = found.iter().filter_map(|upload| Some(upload.entry.as_ref()?.target.to_string()));
        let places = places.collect::<Vec<_>>().join(" or ");
        return Err(Failure::say(
            Exit::Usage,
            format_args!("the file is under way to several places; say which with --to {places}"),
        ));
    };
    let cancelled = ask::block_on(async { client.cancel(&upload.handle).await.map_err(ask::failure) });
    if let Err(failure) = &cancelled
        && failure.exit != Exit::NotFound
    {
        return cancelled.map(|()| Exit::Success);
    }
    // What the server does not have the journal need not keep.
    upload.forget()?;
    cancelled?;
    output.report("cancelled", &json!({ "cancelled": true }));
    Ok(Exit::Success)
}
