//! The `hoist` command. Everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    hoist::run(std::env::args_os())
}
