//! `hoist demo`: the whole of it on one machine. A server, an upload over a link that is cut again and again, a crash in the
//! middle, and a comparison of the bytes.

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
use crate::output::{Bytes, Console, Output};

/// The size of the file that is made up when none is given.
const RANDOM_FILE_BYTES: u64 = 256 << 20;
/// Slow enough to be watched: at most this many bytes in a second, or all of it in so many seconds.
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
                Err(Failure::message(signal.exit(), "interrupted; everything it made is removed"))
            }
        }
    })
}

/// The story, told while it happens. Everything it makes goes away with this future.
async fn run_demo(args: &Demo, console: &Console) -> Result<Exit, Failure> {
    let scratch = ScratchDir::new()?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => random_file(&scratch, console).await?,
    };
    let length = std::fs::metadata(&file).map_err(|error| unreadable(&file, &error))?.len();
    let server = ServerProcess::start(scratch.path("data")).await?;
    console.message(format_args!(
        "1. a server is at {}, its data in {}",
        server.url(),
        server.data().display()
    ));
    let link = UnreliableLink::start(server.addr(), length, args.cuts).await?;
    console.message(format_args!(
        "2. {} go to it over a link that is going to be cut {} times",
        Bytes(length),
        args.cuts
    ));
    let transferred = transfer(&file, length, link, server, console).await?;
    let Transferred { outcome, link, server } = transferred;
    console.message(format_args!(
        "3. it has arrived after {} retries; of {} bytes, {} went over the link twice",
        outcome.retries,
        length,
        Bytes(link.bytes_forwarded().saturating_sub(length)),
    ));
    console.message("4. comparing SHA-256 of the file and of what the server has");
    let (ours, theirs) = (digest(file.clone()).await?, digest(server.stored()?).await?);
    if ours != theirs {
        let what =
            format_args!("the bytes differ: {ours} was sent, {theirs} has arrived; please report this");
        return Err(Failure::message(Exit::Corrupt, what));
    }
    let text = format_args!("identical: {length} bytes, SHA-256 {ours}");
    console.result(text, &json!({ "bytes": length, "sha256": ours, "retries": outcome.retries }))?;
    Ok(Exit::Success)
}

/// The outcome of the upload.
struct Transferred {
    outcome: Outcome,
    link: UnreliableLink,
    server: ServerProcess,
}

/// The upload, and what is done to it.
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
    // A method that may be repeated: the answer may be what a cut loses.
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
            () = &mut drawing => unreachable!("drawn for ever"),
        };
        let at = Bytes(cut.at);
        if cut.number == cut.of.div_ceil(2) {
            console.message(format_args!(
                "   cut {} after {at}, and the server is killed and started again",
                cut.number
            ));
            server = server.crash().await?;
            link.set_server(server.addr());
        } else {
            console.message(format_args!("   cut {} after {at}", cut.number));
        }
    }
}

/// Draws how far it is, for ever.
async fn draw(progress: watch::Receiver<Progress>, console: &Console) {
    let Some(bars) = &console.bars else { return std::future::pending().await };
    let bar = bars.add("upload");
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        bar.show(&progress.borrow());
    }
}

/// A file of random bytes.
async fn random_file(scratch: &ScratchDir, console: &Console) -> Result<PathBuf, Failure> {
    console.message(format_args!("0. making up {}", Bytes(RANDOM_FILE_BYTES)));
    let path = scratch.path("made-up");
    let to = path.clone();
    blocking(move || scratch_dir::write_random(&to, RANDOM_FILE_BYTES)).await?;
    Ok(path)
}

async fn digest(path: PathBuf) -> Result<String, Failure> {
    blocking(move || {
        let mut hash = Sha256::new();
        let mut file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let mut piece = vec![0; 256 << 10];
        loop {
            match file.read(&mut piece).map_err(|error| unreadable(&path, &error))? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
        Ok(super::put::hex(&hash.finalize()))
    })
    .await
}

/// Does something that keeps a thread busy.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| Failure::new(Exit::Failed, error))?
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::message(Exit::File, format_args!("cannot read {}: {error}", path.display()))
}
