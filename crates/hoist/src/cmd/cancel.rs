//! `hoist cancel`: ends an upload.

use hoist_client::Handle;
use serde_json::json;

use super::ask;
use crate::cli::Ask;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: Ask, output: Output) -> Result<Exit, Failure> {
    let client = ask::client(&asked.connection)?.build().map_err(ask::failure)?;
    let handle = Handle::Token { url: asked.url, token: asked.token };
    ask::block_on(async { client.cancel(&handle).await.map_err(ask::failure) })?;
    output.result("cancelled", &json!({ "cancelled": true }))?;
    Ok(Exit::Success)
}
