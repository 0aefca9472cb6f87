//! `hoist put`: uploads a file, and says by which token it can be asked about.

use std::time::Duration;

use anyhow::Context as _;
use hoist_client::{Outcome, Progress, Source, Token};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::ask;
use crate::cli::Put;
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Output};

/// How often the progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn run(asked: Put, output: Output) -> Result<Exit, Failure> {
    if asked.file.as_os_str() == "-" {
        let next = "standard input cannot be read again after an interruption; put it into a file first";
        return Err(Failure::say(Exit::Usage, next));
    }
    let builder = ask::client(&asked.connection)?.retry_budget(asked.retry_for.0);
    let client = builder.build().map_err(ask::failure)?;
    let mut put = client.put(asked.url.clone(), Source::file(&asked.file));
    let own_name = asked.file.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
    if let Some(name) = asked.name.or(own_name) {
        put = put.name(name);
    }
    if let Some(media_type) = asked.media_type {
        put = put.content_type(media_type);
    }
    let (put, token) = if let Some(token) = asked.token {
        (put.token(token.clone()), token)
    } else {
        let token = hoist_client::fresh_token().map_err(ask::failure)?;
        (put.new_token(token.clone()), token)
    };
    let token = written(&token);
    output.talk(format_args!("token {token}"));
    let progress = put.progress();
    ask::block_on(async {
        let interrupted = tokio::signal::ctrl_c();
        let sending = async {
            tokio::select! {
                biased;
                sent = put.send() => sent.map_err(ask::failure),
                () = draw(progress, output) => unreachable!("drawn for ever"),
            }
        };
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            pressed = interrupted => {
                pressed.context("cannot listen to Ctrl-C")?;
                let ask = format_args!("what was sent stays; `hoist status {} --token {token}` says how much, and \
                    `hoist put` with the same --token goes on", asked.url);
                Err(Failure::say(Exit::Interrupted, ask))
            }
        };
        output.wipe();
        say(&sent?, &token, output)
    })
}

fn say(outcome: &Outcome, token: &str, output: Output) -> Result<Exit, Failure> {
    let location = outcome.fields.get("location").and_then(|value| value.to_str().ok());
    let json = json!({
        "token": token,
        "bytes": outcome.bytes,
        "resumed_bytes": outcome.resumed_bytes,
        "retries": outcome.retries,
        "status": outcome.status.as_u16(),
        "location": location,
    });
    output.result(format_args!("uploaded {} bytes, token {token}", outcome.bytes), &json)?;
    Ok(Exit::Success)
}

/// A token in the form that is sent, which is also one that `--token` takes.
fn written(token: &Token) -> String {
    let value = hoist_proto::field::token_value(token);
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Draws how far it is, until nobody polls it any more.
async fn draw(progress: watch::Receiver<Progress>, output: Output) {
    if !output.is_drawing() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rate, mut last) = (Rate::default(), ticks.tick().await);
    loop {
        let now = ticks.tick().await;
        let at = *progress.borrow();
        rate.add(at.sent, now - last);
        last = now;
        output.draw(line(&at, rate));
    }
}

fn line(at: &Progress, rate: Rate) -> String {
    let length = at.length.unwrap_or_default();
    let percent = if length == 0 { 100 } else { u128::from(at.sent) * 100 / u128::from(length) };
    let again = if at.retries == 0 { String::new() } else { format!(", {} retries", at.retries) };
    format!(
        "{percent:3} %  {} of {}  {}/s{again}",
        Bytes(at.sent),
        Bytes(length),
        Bytes(rate.bytes_per_second)
    )
}

/// Bytes in a second, smoothed over the last few.
#[derive(Clone, Copy, Default)]
struct Rate {
    sent: u64,
    bytes_per_second: u64,
}

impl Rate {
    fn add(&mut self, sent: u64, since: Duration) {
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
        // An interruption takes `sent` back; that is no negative speed.
        let now = sent.saturating_sub(self.sent).saturating_mul(1000) / millis;
        self.bytes_per_second = (self.bytes_per_second * 7 / 8).saturating_add(now / 8);
        self.sent = sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_printed_can_be_given() {
        let token = Token::new(*b"\x00\xffany octets").expect("in range");
        let asked =
            crate::cli::parse(["hoist", "status", "http://h/u", "--token", &written(&token)].map(Into::into));
        let crate::cli::Verb::Status(ask) = asked.expect("sound").verb else { panic!("another verb") };
        assert_eq!(ask.token, token);
    }

    #[test]
    fn the_rate_is_smooth_and_never_negative() {
        let mut rate = Rate::default();
        for tick in 1..=100 {
            rate.add(tick * 1000, Duration::from_millis(100));
        }
        assert!((9_900..=10_000).contains(&rate.bytes_per_second), "{}", rate.bytes_per_second);
        rate.add(0, Duration::from_millis(100));
        rate.add(1, Duration::ZERO);
        assert!(rate.bytes_per_second < 9_000);
    }
}
