//! The `rookery` binary. Everything is in the library; this is its door.

fn main() -> std::process::ExitCode {
    rookery::cli::main()
}
