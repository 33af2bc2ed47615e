//! The `sandhog` binary: see [`sandhog::cli`].

fn main() -> std::process::ExitCode {
    sandhog::cli::main()
}
