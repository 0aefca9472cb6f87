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
    _driver: JoinSet<Result<(), h2::Error>>,
}

impl H2 {
    pub(crate) async fn connect(address: &Address, number: u32) -> Result<Self> {
        let io = address.connect(number).await?;
        let (streams, connection) =
            h2::client::Builder::new().max_send_buffer_size(4 << 20).handshake(io).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { streams, _driver: driver })
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
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream has ended")??;
                let part = piece.split_to(room.min(piece.len()));
                left -= part.len() as u64;
                stream.send_data(part, left == 0)?;
            }
        }
        ensure!(left == 0, "the content is {left} bytes too short");
        Ok(Answer::of(&response.await?))
    }
}
