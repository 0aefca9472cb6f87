//! The driver of tus-js-client in Node.

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Bench, Done, installed, with};
use crate::faulty_proxy::Proxy;

/// A release of the library, and the protocol it uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) release: u8,
    pub(super) protocol: &'static str,
    /// The interop version of the protocol.
    pub(super) interop: Option<&'static str>,
}

/// Runs a job with the library's defaults.
pub(super) async fn run(bench: &Bench, client: Client, proxy: &Proxy, job: Value) -> Done {
    let common = json!({
        "release": client.release,
        "protocol": client.protocol,
        "endpoint": proxy.url("/uploads"),
        "file": bench.file,
        "source": "buffer",
    });
    let place = installed::tus_js_client().expect("a bench is only made where there is a client");
    let mut node = Command::new("node");
    node.arg(place.join("upload.js"));
    bench.drive(node, &with(&common, job)).await
}
