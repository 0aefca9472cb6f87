//! A connection of HTTP/1.1.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Address, Io};
use crate::answer::Answer;
use crate::content::Content;
use crate::protocol::Request;

/// The capacity of the buffer for answers; content is read into it in pieces of up to this size.
const BUFFER_BYTES: usize = 256 << 10;

/// A connection that carries one request after the other.
pub(crate) struct H1 {
    io: Box<dyn Io>,
    received: BytesMut,
}

impl H1 {
    pub(crate) async fn connect(address: &Address, number: u32) -> Result<Self> {
        Ok(Self { io: address.connect(number).await?, received: BytesMut::new() })
    }

    /// Sends a head without content.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<()> {
        Ok(self.io.write_all(&request.h1()).await?)
    }

    /// Sends a head and the content that follows it in one write.
    pub(crate) async fn send_with(&mut self, request: &Request, content: &[u8]) -> Result<()> {
        let mut bytes = request.h1();
        bytes.extend_from_slice(content);
        Ok(self.io.write_all(&bytes).await?)
    }

    /// Sends pieces of content. If the server ends the connection, the error is its answer.
    pub(crate) async fn send_content(&mut self, pieces: impl Iterator<Item = Bytes>) -> Result<()> {
        for piece in pieces {
            if let Err(error) = self.io.write_all(&piece).await {
                let answer = self.answer().await.map_err(|_| error)?;
                bail!("answered early with {}: {:?}", answer.status, answer.fields);
            }
        }
        self.io.flush().await?;
        Ok(())
    }

    /// Returns the next final answer to a request for which it has no content.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        loop {
            if let Some((answer, count)) = Answer::parse(&self.received)? {
                self.received.advance(count);
                if answer.status >= 200 {
                    return Ok(answer);
                }
                continue;
            }
            self.fill().await?;
        }
    }

    /// Returns the next final answer, and reads its content to the end.
    pub(crate) async fn answer_with_content(&mut self) -> Result<Answer> {
        let answer = self.answer().await?;
        if answer.status == 204 {
            return Ok(answer);
        }
        if answer.is_chunked() {
            // Servers send only short texts with this coding.
            while !self.received.ends_with(b"0\r\n\r\n") {
                self.fill().await?;
            }
            self.received.clear();
            return Ok(answer);
        }
        self.skip(answer.content_length()?).await?;
        Ok(answer)
    }

    async fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            if self.received.is_empty() {
                self.fill().await?;
            }
            let taken = count.min(self.received.len() as u64);
            self.received.advance(usize::try_from(taken)?);
            count -= taken;
        }
        Ok(())
    }

    /// Reads `count` bytes of content and compares them with the content from `at` on.
    pub(crate) async fn compare(&mut self, content: &Content, at: u64, count: u64) -> Result<()> {
        let mut position = at;
        while position < at + count {
            if self.received.is_empty() {
                self.fill().await?;
            }
            let taken = (at + count - position).min(self.received.len() as u64);
            let bytes = self.received.split_to(usize::try_from(taken)?);
            ensure!(
                content.is_at(position, &bytes),
                "the content differs between {position} and its next {taken} bytes"
            );
            position += taken;
        }
        Ok(())
    }

    /// Reads `count` bytes of content and compares the first of each read with the content.
    pub(crate) async fn receive(&mut self, content: &Content, count: u64) -> Result<()> {
        let mut position = 0;
        while position < count {
            if self.received.is_empty() {
                self.fill().await?;
            }
            let taken = (count - position).min(self.received.len() as u64);
            let sample = usize::try_from(taken.min(64))?;
            ensure!(content.is_at(position, &self.received[..sample]), "the content differs at {position}");
            self.received.advance(usize::try_from(taken)?);
            position += taken;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        if self.received.is_empty() {
            self.received.reserve(if self.received.capacity() == 0 { 1024 } else { BUFFER_BYTES });
        } else {
            self.received.reserve(1024);
        }
        let count = self.io.read_buf(&mut self.received).await.context("no answer")?;
        ensure!(count > 0, "the server ended the connection without an answer");
        Ok(())
    }
}
