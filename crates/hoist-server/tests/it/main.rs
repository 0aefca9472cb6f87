//! The service, driven without a socket: requests go in, responses come out, and the store may forget.

#![expect(clippy::disallowed_methods, reason = "a test owns its tasks by their handles")]

mod browsers;
mod catching_up;
mod checksums;
mod clocks;
mod digests;
mod embedding;
mod failing;
mod giving_way;
mod harness;
mod housekeeping;
mod issuers;
mod parts;
mod procedures;
mod quotas;
mod races;
mod schedules;
mod targets;
mod undisturbed;
