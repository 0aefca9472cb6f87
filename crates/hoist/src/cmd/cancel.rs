//! `hoist cancel`: ends an upload.

use serde_json::json;

use super::ask;
use crate::cli::Ask;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: Ask, output: Output) -> Result<Exit, Failure> {
    let client = ask::client(&asked.connection)?.build().map_err(ask::failure)?;
    ask::block_on(async { client.cancel(asked.url, &asked.token).await.map_err(ask::failure) })?;
    output.result("cancelled", &json!({ "cancelled": true }))?;
    Ok(Exit::Success)
}
