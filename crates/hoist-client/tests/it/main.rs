//! The client against servers that play scripts, over real sockets on the loopback interface.

mod dialects;
mod discovery;
mod failures;
mod journal;
mod origins;
mod redirects;
mod resume;
mod script;
mod streams;
mod tls;
mod transfer;
