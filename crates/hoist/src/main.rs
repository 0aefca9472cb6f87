//! The entry point of the `hoist` command; see `lib.rs`.

fn main() -> std::process::ExitCode {
    hoist::run(std::env::args_os())
}
