//! The `rookery` binary. Everything is in the library; this is its door.

/// Batches of small frames are made on one thread and freed on another, which this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rookery::cli::main()
}
