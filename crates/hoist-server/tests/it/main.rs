//! The service as a function from requests to responses, over stores that fail and crash, and over real sockets in an
//! axum application.

#![expect(clippy::disallowed_methods, reason = "a test owns its tasks by their handles")]

mod admin_api;
mod browsers;
mod catching_up;
mod checksums;
mod clocks;
mod digests;
mod embedding;
mod events;
mod failing;
mod giving_way;
mod harness;
mod housekeeping;
mod issuers;
mod metrics;
mod operator;
mod operator_modes;
mod parts;
mod pausing;
mod procedures;
mod quotas;
mod races;
mod receiver;
mod reconfiguration;
mod schedules;
mod sweeping;
mod targets;
mod undisturbed;
