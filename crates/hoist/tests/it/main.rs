//! Black-box tests of the command and of the server it runs: one module for each theme.

mod cli;
mod conformance;
mod h1;
mod h2;
mod harness;
mod interim;
mod interruptions;
mod preemption;
mod process;
mod races;
mod serve;
mod transcripts;
