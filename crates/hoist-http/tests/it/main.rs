//! hoist-http over real sockets.

#![allow(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
#![allow(clippy::unwrap_used, reason = "test helpers fail like tests")]
#![allow(
    clippy::unnecessary_wraps,
    clippy::similar_names,
    reason = "services return results; tests compare similar values"
)]
#![allow(clippy::too_many_lines, reason = "tables are long")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod support;

mod differential;
mod direct;
mod drain;
mod end_content;
mod example;
mod h1;
mod h1_bodies;
mod h2;
mod h2_abuse;
mod splice;
mod split;
#[cfg(feature = "tls")]
mod tls;
mod unix;
