//! The flags of `hoist check`.

use std::path::PathBuf;

use clap::Args;
use hoist_client::Interop;
use http::Uri;

use super::client::{ConnectionArgs, count, url};
use crate::check::{CorpusDialect, InteropSelection, Level, Transport};
use crate::config::TimeSpan;

pub(super) const AFTER: &str = "First, the server is probed for HTTP/1.1 and HTTP/2, dialects, interop versions, limits \
    and extensions. The cases that apply are then run in the newest version of each dialect, and in the unnumbered form \
    of the IETF draft. Each upload that a case creates is deleted afterwards, if the server lets clients delete uploads. \
    The exit code is 13 if a case fails.";

/// The server to check, the cases to run, and the format of the report.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Upload URL of the server.
    #[arg(value_parser = url)]
    pub(crate) url: Uri,
    /// Check only this dialect; repeatable [default: all dialects the server supports]
    #[arg(long = "dialect", value_enum, value_name = "DIALECT")]
    pub(crate) dialects: Vec<CorpusDialect>,
    #[arg(long = "interop", value_name = "VERSION", help = interop_help())]
    interop: Vec<String>,
    /// Use only this version of HTTP [default: all versions the server supports]
    #[arg(long = "http", value_enum, value_name = "VERSION")]
    pub(crate) transports: Vec<Transport>,
    /// Run the cases for requirements of at least this level; `own` includes choices of hoist where the specification
    /// leaves one.
    #[arg(long, value_enum, default_value = "should")]
    pub(crate) level: Level,
    /// Run only cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Feature of the server that cannot be probed: `downloads` (GET on a complete upload) or `proxies` (the server trusts
    /// forwarding fields from this machine); repeatable
    #[arg(long = "offers", value_name = "NAME", value_parser = ["downloads", "proxies"])]
    pub(crate) offers: Vec<String>,
    /// List the cases and the requirements they prove, without running them.
    #[arg(long)]
    pub(crate) list: bool,
    #[arg(long, value_name = "FILE", help = "Also write the report to this file as JUnit XML")]
    pub(crate) junit: Option<PathBuf>,
    /// Maximum number of cases to run in parallel.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count)]
    pub(crate) parallel: usize,
    /// Time limit for one request.
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub(crate) timeout: TimeSpan,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// The help text of `--interop`, with the interop versions of this release.
fn interop_help() -> String {
    let (oldest, newest) = (Interop::OLDEST, Interop::NEWEST);
    format!(
        "Check this version of the IETF draft: {oldest} to {newest}, `rfc` for the unnumbered form, or `all` for every \
         version the server accepts, of the other dialects too; repeatable [default: the newest and `rfc`]"
    )
}

impl Check {
    /// Returns the versions of the IETF draft to check.
    pub(crate) fn interop(&self) -> InteropSelection {
        match self.interop.as_slice() {
            [] => InteropSelection::Newest,
            labels if labels.iter().any(|label| label == "all") => InteropSelection::All,
            labels => InteropSelection::These(labels.to_vec()),
        }
    }

    pub(super) fn conflict(&self) -> Option<String> {
        let known = || CorpusDialect::Ietf.versions().iter().map(|version| version.label());
        let unknown =
            self.interop.iter().find(|label| *label != "all" && !known().any(|known| known == **label))?;
        let known: Vec<String> = known().collect();
        Some(format!("--interop {unknown}: unknown version; use one of {}, or all", known.join(", ")))
    }
}
