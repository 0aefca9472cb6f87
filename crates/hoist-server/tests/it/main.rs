//! The service, driven without a socket: requests go in, responses come out, and the store may forget.

mod harness;
mod housekeeping;
mod procedures;
mod races;
mod schedules;
