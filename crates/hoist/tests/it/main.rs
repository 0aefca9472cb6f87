//! Black-box tests of the command and of the server it runs: one module for each theme.

mod cli;
mod process;
mod serve;
