//! A connection of HTTP/2.

use std::future::poll_fn;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;

use super::Address;
use crate::answer::Answer;
use crate::protocol::Request;

/// A connection, and the task that drives it.
pub(crate) struct H2 {
    streams: SendRequest<Bytes>,
    frame_bytes_max: usize,
    _driver: JoinSet<Result<(), h2::Error>>,
}

impl H2 {
    /// Opens a connection that sends frames of `frame_bytes_max` bytes at most, and no more than the server takes.
    pub(crate) async fn connect(address: &Address, number: u32, frame_bytes_max: usize) -> Result<Self> {
        let io = address.connect(number).await?;
        let (streams, connection) =
            h2::client::Builder::new().max_send_buffer_size(4 << 20).handshake(io).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { streams, frame_bytes_max, _driver: driver })
    }

    /// Sends a request with pieces of content, and returns its answer.
    pub(crate) async fn upload(
        &mut self,
        request: &Request,
        pieces: impl Iterator<Item = Bytes>,
    ) -> Result<Answer> {
        let mut streams = self.streams.clone().ready().await?;
        let mut left = request.content.unwrap_or(0);
        let (response, mut stream) = streams.send_request(request.h2()?, left == 0)?;
        for mut piece in pieces {
            while !piece.is_empty() {
                stream.reserve_capacity(piece.len());
                let room = match stream.capacity() {
                    // Returns only what is new.
                    0 => poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream has ended")??,
                    room => room,
                };
                let part = piece.split_to(room.min(piece.len()).min(self.frame_bytes_max));
                left -= part.len() as u64;
                stream.send_data(part, left == 0)?;
            }
        }
        ensure!(left == 0, "the content is {left} bytes too short");
        Ok(Answer::of(&response.await?))
    }
}
