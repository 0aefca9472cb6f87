//! Uploads a file, and resumes the upload when run again: `cargo run --example put FILE URL`.

#![expect(clippy::print_stdout, reason = "it is a command-line program")]

use std::path::PathBuf;

use hoist_client::{Client, Journal, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(url)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: put FILE URL".into());
    };
    let url = url.to_str().ok_or("the url is not UTF-8")?.parse()?;
    let journal = Journal::at(std::env::temp_dir().join("hoist-example"));

    let put = Client::builder().build()?.put(url, Source::file(file)).journal(journal);
    let outcome = put.send().await?;
    println!(
        "{} bytes in {}, {}, {} retries",
        outcome.bytes, outcome.dialect, outcome.start, outcome.retries
    );
    Ok(())
}
