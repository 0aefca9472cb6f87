//! Black-box tests of the command and of the server it runs: one module for each theme.

mod cli;
mod conformance;
mod crowd;
mod curl;
mod disk;
mod downloads;
mod fronts;
mod h1;
mod h2;
mod harness;
mod interim;
mod interruptions;
mod names;
mod node;
mod parts;
mod preemption;
mod process;
mod proxy;
mod put;
mod python;
mod races;
mod secure;
mod serve;
mod slowness;
mod stopping;
mod transcripts;
