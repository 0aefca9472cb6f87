//! Conformance of any server: the corpus of `conformance/`, run against a URL.
//!
//! Owns the public face. A case is data (`case.rs`), is spelled for each version it holds in (`version.rs`, `spelling.rs`), spoken over
//! HTTP/1.1 and HTTP/2 by a client of our own (`wire.rs`), and judged (`judge.rs`, `rules.rs`). Nothing here uses the
//! codecs of `hoist-proto` or the transports of `hoist-http`, so that they never judge themselves.

mod case;
mod corpus;
mod judge;
mod report;
mod rules;
mod runner;
mod spelling;
mod transcript;
mod uploads;
mod version;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use corpus::{BadCorpus, Corpus};
pub use report::{Outcome, Report, Verdict};
pub use wire::BadUrl;

use runner::Run;
use wire::Transport;

/// Limits of a server, by their keys in `Upload-Limit`, in bytes and seconds.
pub type ServerLimits = BTreeMap<String, u64>;

/// What a server is set to, as far as cases depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its limits.
    pub limits: ServerLimits,
    /// The extensions of tus 1 it lacks, by their names there.
    pub lacks: BTreeSet<String>,
    /// What it does and not every server does: `downloads` of complete uploads, `proxies` on this machine being trusted.
    pub offers: BTreeSet<String>,
}

/// How to run a corpus.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the server is set to. Cases that need another are skipped.
    pub server: Server,
    /// How many cases run at once.
    pub parallel: usize,
    /// How long one exchange may take.
    pub patience: Duration,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { server: Server::default(), parallel: 8, patience: Duration::from_secs(20), only: None }
    }
}

/// Runs every case in every version and over every transport it holds for, against the upload URL `url`.
///
/// # Errors
/// When the URL is not one of the scheme `http` with an authority.
///
/// # Cancellation
/// Safe to drop. Uploads of cases that were running stay on the server until they expire.
pub async fn run(url: &str, corpus: &Corpus, options: &Options) -> Result<Report, BadUrl> {
    let place = Arc::new(wire::Place::of(url)?);
    let turns = Arc::new(Semaphore::new(options.parallel.max(1)));
    let mut running = JoinSet::new();
    let mut report = Report::default();
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only));
    for (dialect, case) in corpus.cases().filter(|(_, case)| wanted(&case.name)) {
        for version in case.versions(dialect) {
            for transport in Transport::ALL.into_iter().filter(|transport| case.holds_over(*transport)) {
                if case.server() != options.server {
                    let why = "needs a server with other settings";
                    report.enter(case, version, transport, Verdict::Skipped(why.into()));
                    continue;
                }
                let rules = corpus.rules(version);
                let run = Run::new(Arc::clone(case), version, transport, Arc::clone(&place), rules);
                let (turns, patience) = (Arc::clone(&turns), options.patience);
                running.spawn(async move {
                    let _turn = turns.acquire_owned().await.expect("never closed");
                    run.judge(patience).await
                });
            }
        }
    }
    while let Some(ended) = running.join_next().await {
        let (case, version, transport, verdict) = ended.expect("a run does not panic");
        report.enter(&case, version, transport, verdict);
    }
    report.sort();
    Ok(report)
}
