//! The `rookery` binary. Everything is in the library; this is its door.

/// Batches of small frames are made on one thread and freed on another, and buffers of a batch come and go many times a
/// second. This allocator keeps freed pages for ten seconds; one that gave them back at once spent 32 % of all samples
/// of a full load in the kernel clearing them again (docs/benchmarks.md, "What was tried").
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    rookery::cli::main()
}
