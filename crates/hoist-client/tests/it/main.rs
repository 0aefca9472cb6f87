//! The client against servers that play scripts, over real sockets on the loopback interface.

mod discovery;
mod failures;
mod resume;
mod script;
mod tls;
mod transfer;
