//! `hoist status`: how much of an upload the server has.

use hoist_client::Handle;
use serde_json::json;

use super::ask;
use crate::cli::Ask;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: Ask, output: Output) -> Result<Exit, Failure> {
    let client = ask::client(&asked.connection)?.build().map_err(ask::failure)?;
    let handle = Handle::Token { url: asked.url, token: asked.token };
    let status = ask::block_on(async { client.status(&handle).await.map_err(ask::failure) })?;
    let of = status.length.map(|length| format!(" of {length}")).unwrap_or_default();
    let state = match status.complete {
        Some(true) => ", complete",
        Some(false) => ", not complete",
        None => "",
    };
    let json = json!({ "offset": status.offset, "length": status.length, "complete": status.complete });
    output.result(format_args!("{}{of} bytes{state}", status.offset), &json)?;
    Ok(Exit::Success)
}
