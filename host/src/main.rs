//! The `sandhog` binary: see [`sandhog::cli`].

/// What is allocated on a guest's thread is freed on the manager's, and the other way round: glibc has both wait for each other's lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sandhog::cli::main()
}
