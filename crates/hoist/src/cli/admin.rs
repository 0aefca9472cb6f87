//! The flags of `hoist admin`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use hoist_server::operator::{AdmissionMode, StateFilter};

use super::examples;
use crate::config::TimeSpan;

pub(super) const AFTER: &str = "The server must run with `--admin`, which has the same values and the same variables. On a \
    unix socket the permissions of the file decide who may use it; over TCP a token of `--admin-token-file` is needed.";

/// The place of a server's admin listener.
#[derive(Args, Clone, Debug)]
pub(crate) struct AdminPlace {
    /// Admin listener of the server: unix:PATH, HOST:PORT or http://HOST:PORT [variable: `HOIST_ADMIN`]
    #[arg(long = "admin", value_name = "URL|unix:PATH", global = true)]
    pub(crate) place: Option<String>,
    /// File whose first token authenticates the operator [variable: `HOIST_ADMIN_TOKEN_FILE`]
    #[arg(long = "admin-token-file", value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, short = 'j', global = true)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Admin {
    #[command(flatten)]
    pub(crate) place: AdminPlace,
    #[command(subcommand)]
    pub(crate) verb: AdminVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// List the uploads of the server, without disturbing them.
    #[command(after_help = examples::help("admin ls"))]
    Ls(AdminLs),
    /// Show uploads in detail, with the transfers that are running on them.
    #[command(after_help = examples::help("admin show"))]
    Show(UploadIds),
    /// End the transfers that are running on uploads, and keep their bytes. Their clients can resume.
    #[command(after_help = examples::help("admin end"))]
    End(UploadIds),
    /// Delete uploads with their content.
    #[command(after_help = examples::help("admin delete"))]
    Delete(UploadIds),
    /// Remove uploads as if their lifetime were over.
    #[command(after_help = examples::help("admin expire"))]
    Expire(UploadIds),
    /// Deliver received uploads to the target now, after earlier attempts have failed.
    #[command(after_help = examples::help("admin redeliver"))]
    Redeliver(UploadIds),
    /// Show or change which requests with content the server lets in.
    ///
    /// `resume-only` refuses new uploads with 503, and lets those that exist be continued: for the time before an update.
    /// `closed` refuses all content. Running transfers continue in every mode. A restarted server is open.
    #[command(after_help = examples::help("admin admission"))]
    Admission {
        /// New mode [default: show the present one]
        #[arg(value_parser = PossibleValuesParser::new(AdmissionMode::ALL.map(AdmissionMode::name)))]
        mode: Option<String>,
    },
    /// Remove expired uploads now, and deliver those that are due.
    #[command(after_help = examples::help("admin sweep"))]
    Sweep {
        /// Print what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the server read its configuration again, like SIGHUP, and print what was taken over and what needs a restart.
    #[command(after_help = examples::help("admin reload"))]
    Reload,
    /// Print the configuration that the server runs with, with the source of each value and without secrets.
    #[command(after_help = examples::help("admin config"))]
    Config,
    /// Print what happens on the server until interrupted.
    #[command(after_help = examples::help("admin live"))]
    Live,
}

#[derive(Args, Debug)]
pub(crate) struct AdminLs {
    /// Only uploads in this state; `open` includes those to which content is being transferred.
    #[arg(long, value_parser = PossibleValuesParser::new(StateFilter::ALL.map(StateFilter::name)))]
    pub(crate) state: Option<String>,
    /// Only uploads of this user.
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Only uploads that were created at least so long ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) age: Option<TimeSpan>,
    /// Number of uploads to list at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct UploadIds {
    /// Ids of uploads, as `hoist admin ls` prints them.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}
