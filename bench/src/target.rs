//! A server under test: its process, and how the loads address it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

use crate::answer::Answer;
use crate::client::Address;
use crate::client::h1::H1;
use crate::client::h2::H2;
use crate::content::Content;
use crate::process::Process;
use crate::protocol::{self, Part, Protocol, Request};
use crate::sample::{Cost, Metric, Sample, mib};

/// The version of HTTP that carries uploads, and the encryption under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    H1,
    /// Cleartext, in frames as large as the server takes.
    H2,
    /// Cleartext, in frames of 16 KiB, as curl and browsers send.
    H2SmallFrames,
    /// HTTP/1.1.
    Tls,
}

/// A running server.
pub(crate) struct Target {
    pub(crate) process: Process,
    pub(crate) address: Address,
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: &'static str,
    pub(crate) transport: Transport,
    pub(crate) content_max: Option<u64>,
    /// True to send the digest of each upload, for the server to verify.
    pub(crate) has_digest: bool,
    pub(crate) content: Content,
    /// True to compare every byte of every upload instead of samples.
    pub(crate) is_thorough: bool,
    /// The connections of verified reads. They outlive the server: @tus/server ends if a client leaves right after the
    /// last byte of an answer.
    pub(crate) readers: Mutex<Vec<H1>>,
}

/// A connection for uploads.
pub(crate) enum Connection {
    H1(H1),
    H2(H2),
}

impl Target {
    /// Returns a connection for uploads.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Ok(match self.transport {
            Transport::H1 | Transport::Tls => Connection::H1(self.connect_h1(0).await?),
            Transport::H2 => Connection::H2(H2::connect(&self.address, 0, usize::MAX).await?),
            Transport::H2SmallFrames => Connection::H2(H2::connect(&self.address, 0, 16 << 10).await?),
        })
    }

    pub(crate) async fn connect_h1(&self, number: u32) -> Result<H1> {
        H1::connect(&self.address, number).await
    }

    /// Runs work and returns its cost.
    pub(crate) async fn cost<T>(&self, work: impl Future<Output = Result<T>>) -> Result<(Cost, T)> {
        let before = self.process.cpu()?;
        let began = Instant::now();
        let result = work.await?;
        let wall = began.elapsed();
        Ok((Cost { wall, cpu: self.process.cpu()?.saturating_sub(before) }, result))
    }

    /// Returns the largest memory so far, as a number of a sample.
    pub(crate) fn peak_rss(&self) -> Result<(Metric, f64)> {
        Ok((Metric::PeakRss, mib(self.process.peak_rss()?)))
    }

    /// Waits until the resident memory no longer changes, and returns it.
    pub(crate) async fn settled_rss(&self) -> Result<u64> {
        let mut last = self.process.rss()?;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.process.rss()?;
            if now.abs_diff(last) <= last / 500 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// Uploads a representation of this length, in one request if the server allows it. Returns its path.
    pub(crate) async fn upload(
        &self,
        connection: &mut Connection,
        name: &str,
        length: u64,
    ) -> Result<String> {
        let content_max = self.content_max.unwrap_or(u64::MAX);
        let first = Part { from: 0, until: length.min(content_max), length };
        let mut create = self.protocol.create(self.endpoint, name, first);
        if self.has_digest {
            create = create.digest(&self.content.sha256(length));
        }
        let answer = self.send(connection, &create, first).await?;
        let path = self.protocol.location(&create, &answer)?;
        let mut from = first.until;
        while from < length {
            let part = Part { from, until: length.min(from + content_max), length };
            self.send(connection, &self.protocol.append(&path, part), part).await?;
            from = part.until;
        }
        Ok(path)
    }

    async fn send(&self, connection: &mut Connection, request: &Request, part: Part) -> Result<Answer> {
        let answer = match connection {
            Connection::H1(h1) => {
                h1.send(request).await?;
                h1.send_content(self.pieces(part)).await?;
                h1.answer_with_content().await?
            }
            Connection::H2(h2) => h2.upload(request, self.pieces(part)).await?,
        };
        self.protocol.check(&answer, part.until)?;
        Ok(answer)
    }

    pub(crate) fn pieces(&self, part: Part) -> impl Iterator<Item = Bytes> {
        self.content.pieces(part.from, part.until, Content::PIECE_MAX)
    }

    /// Creates an upload without content that has this length. Returns its path.
    pub(crate) async fn create_empty(&self, h1: &mut H1, name: &str, length: u64) -> Result<String> {
        let create = self.protocol.create(self.endpoint, name, Part { from: 0, until: 0, length });
        h1.send(&create).await?;
        let answer = h1.answer_with_content().await?;
        self.protocol.check(&answer, 0)?;
        self.protocol.location(&create, &answer)
    }

    /// Compares a complete upload with the content: all of it, or its beginning, middle and end.
    pub(crate) async fn verify(&self, path: &str, length: u64) -> Result<()> {
        let sample = if self.is_thorough { length } else { length.min(64 << 10) };
        let mut starts = vec![0, (length - sample) / 2, length - sample];
        starts.dedup();
        for from in starts {
            // HTTP/1.1 works on every port, and a new connection after an answer that was not read to its end.
            let mut h1 = self.connect_h1(0).await?;
            h1.send(&protocol::read(path, from, from + sample)).await?;
            let answer = h1.answer().await?;
            match answer.status {
                206 => {
                    ensure!(answer.content_length()? == sample, "a range of another length");
                    h1.compare(&self.content, from, sample).await
                }
                200 => {
                    let found = answer.content_length()?;
                    ensure!(found == length, "an upload of {length} bytes has {found}");
                    h1.compare(&self.content, 0, sample).await
                }
                status => anyhow::bail!("an upload that cannot be read: {status}"),
            }
            .with_context(|| format!("{path} was stored wrongly"))?;
            self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(h1);
        }
        Ok(())
    }

    /// Verifies all uploads, or some of many.
    pub(crate) async fn verify_some(&self, paths: &[String], length: u64) -> Result<()> {
        let step = if self.is_thorough { 1 } else { paths.len().div_ceil(20).max(1) };
        for path in paths.iter().step_by(step) {
            self.verify(path, length).await?;
        }
        Ok(())
    }

    /// Returns numbers with the largest memory added.
    pub(crate) fn with_peak(&self, mut sample: Sample) -> Result<Sample> {
        sample.push(self.peak_rss()?);
        Ok(sample)
    }
}
