//! `hoist demo`: a demonstration on one machine. Uploads a file to a local server over a link that is cut repeatedly, kills
//! the server halfway, and compares the bytes.

mod link;
mod scratch_dir;
mod server;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_client::{Client, Outcome, Progress, Source};
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::link::UnreliableLink;
use self::scratch_dir::ScratchDir;
use self::server::ServerProcess;
use super::client;
use super::stop_signal::StopSignals;
use crate::cli::Demo;
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Console, FileLabel, Output};

/// The size of the random file that is uploaded if none is given.
const RANDOM_FILE_BYTES: u64 = 256 << 20;
/// The rate of the upload, slow enough to be watched. Files too large for it take `SECONDS_MAX`.
const BYTES_PER_SECOND: u64 = 64 << 20;
const SECONDS_MAX: u64 = 10;

pub(crate) fn run(args: &Demo, output: Output) -> Result<Exit, Failure> {
    let console = Console::new(output);
    client::block_on(async {
        let mut signals = StopSignals::listen()?;
        tokio::select! {
            biased;
            shown = run_demo(args, &console) => shown,
            signal = signals.next() => {
                Err(Failure::message(signal.exit(), "interrupted; the demo's files were removed"))
            }
        }
    })
}

/// Runs the demonstration and prints each step. Dropping the future removes everything it created.
async fn run_demo(args: &Demo, console: &Console) -> Result<Exit, Failure> {
    let scratch = ScratchDir::new()?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => random_file(&scratch, console).await?,
    };
    let length = std::fs::metadata(&file).map_err(|error| client::unreadable(&file, &error))?.len();
    let server = ServerProcess::start(scratch.path("data")).await?;
    console.message(format_args!(
        "1. a server runs at {}, its data is in {}",
        server.url,
        server.data.display()
    ));
    let link = UnreliableLink::start(server.addr, length, args.cuts).await?;
    console.message(format_args!(
        "2. uploading {} over a link that will be cut {} times",
        Bytes(length),
        args.cuts
    ));
    let transferred = transfer(&file, length, link, server, console).await?;
    let Transferred { outcome, link, server } = transferred;
    console.message(format_args!(
        "3. the upload is complete after {} retries; of {} bytes, {} were sent twice",
        outcome.retries,
        length,
        Bytes(link.bytes_forwarded().saturating_sub(length)),
    ));
    console.message("4. comparing the SHA-256 of the file and of the server's content");
    let (ours, theirs) = (digest(file.clone()).await?, digest(server.stored()?).await?);
    if ours != theirs {
        let what = format_args!("the content differs: sent {ours}, stored {theirs}; please report this bug");
        return Err(Failure::message(Exit::Corrupt, what));
    }
    let text = format_args!("identical: {length} bytes, SHA-256 {ours}");
    console.result(text, &json!({ "bytes": length, "sha256": ours, "retries": outcome.retries }))?;
    Ok(Exit::Success)
}

/// A finished upload, with the link and the server it used.
struct Transferred {
    outcome: Outcome,
    link: UnreliableLink,
    server: ServerProcess,
}

/// Uploads the file while the link is cut, and restarts the server at the middle cut.
async fn transfer(
    file: &Path,
    length: u64,
    mut link: UnreliableLink,
    mut server: ServerProcess,
    console: &Console,
) -> Result<Transferred, Failure> {
    let rate = BYTES_PER_SECOND.max(length / SECONDS_MAX);
    let client = Client::builder()
        .retry_pauses(Duration::from_millis(50), Duration::from_millis(500))
        .retry_budget(Duration::from_mins(1))
        .rate_max(rate)
        .build()
        .map_err(client::failure)?;
    let url = link.url(server.endpoint());
    // PUT may be repeated when a cut loses the response.
    let put = client.put(url, Source::file(file)).method(Method::PUT).name("demo");
    let progress = put.progress();
    let mut sending = std::pin::pin!(put.send());
    let mut drawing = std::pin::pin!(draw(progress.clone(), console));
    loop {
        let cut = tokio::select! {
            biased;
            sent = &mut sending => {
                let outcome = sent.map_err(client::failure)?;
                return Ok(Transferred { outcome, link, server });
            }
            cut = link.cut() => cut,
            () = &mut drawing => unreachable!("draws forever"),
        };
        let at = Bytes(cut.at);
        if cut.number == cut.of.div_ceil(2) {
            console.message(format_args!(
                "   cut {} after {at}; the server is killed and restarted",
                cut.number
            ));
            server = server.crash().await?;
            link.set_server(server.addr);
        } else {
            console.message(format_args!("   cut {} after {at}", cut.number));
        }
    }
}

/// Draws the progress bar. Never returns.
async fn draw(progress: watch::Receiver<Progress>, console: &Console) {
    let Some(bars) = &console.bars else { return std::future::pending().await };
    let mut bar = bars.add(&FileLabel::new(Path::new("upload")), None);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        bar.show(&progress.borrow());
    }
}

/// Creates a file of random bytes.
async fn random_file(scratch: &ScratchDir, console: &Console) -> Result<PathBuf, Failure> {
    console.message(format_args!("0. creating {} of random bytes", Bytes(RANDOM_FILE_BYTES)));
    let path = scratch.path("made-up");
    let to = path.clone();
    blocking(move || scratch_dir::write_random(&to, RANDOM_FILE_BYTES)).await?;
    Ok(path)
}

async fn digest(path: PathBuf) -> Result<String, Failure> {
    blocking(move || {
        let mut hash = Sha256::new();
        let mut file = std::fs::File::open(&path).map_err(|error| client::unreadable(&path, &error))?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match file.read(&mut piece).map_err(|error| client::unreadable(&path, &error))? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
        Ok(hoist_proto::hex::encode(&hash.finalize()))
    })
    .await
}

/// Runs blocking work on a thread of its own.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| Failure::new(Exit::Failed, error))?
}
