//! The start of a contender with a data directory in the place that a case names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::client::Address;
use crate::content::Content;
use crate::delay;
use crate::load::Client;
use crate::process::{self, Process};
use crate::program::install::Installed;
use crate::program::{Durability, Setup};
use crate::scenario::Contender;
use crate::target::{Target, Transport};
use crate::tls;

/// A contender of a case, ready to be started.
pub(crate) struct Launch {
    contender: Contender,
    installed: Installed,
    durability: Durability,
    delay: Option<Duration>,
    content: Content,
    is_thorough: bool,
    data: TempDir,
    scratch: TempDir,
}

impl Launch {
    /// Prepares a contender that stores its data below `place`.
    pub(crate) fn new(
        contender: &Contender,
        installed: Installed,
        case: &crate::scenario::Case,
        content: &Content,
        is_thorough: bool,
    ) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        if contender.transport == Transport::Tls {
            tls::create(scratch.path())?;
        }
        Ok(Self {
            contender: contender.clone(),
            installed,
            durability: case.durability,
            delay: case.delay,
            content: content.clone(),
            is_thorough,
            data: tempfile::tempdir_in(&case.place)?,
            scratch,
        })
    }

    /// Starts the server, with more flags if it is hoist.
    pub(crate) fn start(&self, flags: &[String]) -> Result<Arc<Target>> {
        let addr = process::free_address()?;
        let tls = (self.contender.transport == Transport::Tls).then_some(self.scratch.path());
        let setup = Setup {
            executable: &self.installed.executable,
            addr,
            data: self.data.path(),
            scratch: self.scratch.path(),
            durability: self.durability,
            tls,
            flags,
        };
        let program = self.contender.program;
        let process = Process::start(&mut program.command(&setup), addr, &self.log())?;
        let addr = self.delay.map_or(Ok(addr), |round_trip| delay::before(addr, round_trip))?;
        Ok(Arc::new(Target {
            process,
            address: Address { addr, tls: tls.map(tls::client_config).transpose()? },
            protocol: self.contender.protocol,
            endpoint: program.endpoint,
            transport: self.contender.transport,
            content_max: program.content_max,
            has_digest: self.contender.has_digest,
            content: self.content.clone(),
            is_thorough: self.is_thorough,
            readers: Mutex::default(),
        }))
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// Returns the end of what the server has printed, as the end of an error.
    pub(crate) fn log_end(&self) -> String {
        let lines = process::last_lines(&self.log());
        if lines.is_empty() { lines } else { format!("\n    the end of its log:\n{lines}") }
    }

    pub(crate) fn client(&self) -> Client {
        self.contender.client
    }

    pub(crate) fn executable(&self) -> &Path {
        &self.installed.executable
    }

    /// Returns the path of a file for a client to send, which is deleted with the data.
    pub(crate) fn file(&self) -> PathBuf {
        self.data.path().join("sent")
    }

    /// Returns whether the data directory has no content yet.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(fs::read_dir(self.data.path())?.next().is_none())
    }

    /// Starts the next run with an empty directory. Returns the directory of the last one, which is deleted when dropped.
    pub(crate) fn renew(&mut self) -> Result<TempDir> {
        let parent = self.data.path().parent().context("below the place of the case")?;
        let empty = tempfile::tempdir_in(parent)?;
        Ok(std::mem::replace(&mut self.data, empty))
    }
}
