//! The client against scripted servers, over real sockets on the loopback interface.

mod dialects;
mod discovery;
mod failures;
mod journal;
mod origins;
mod redirects;
mod resume;
mod retries;
mod script;
mod streams;
mod tls;
mod transfer;
