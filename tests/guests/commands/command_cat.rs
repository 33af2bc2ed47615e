//! A plain WASI program: copies standard input to standard output behind its arguments, and fails when it is told to.
use std::io::{Read as _, Write as _};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "fail") {
        eprintln!("told to fail");
        std::process::exit(3);
    }
    if arguments.first().is_some_and(|a| a == "find") {
        for entry in std::fs::read_dir("/subject").into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for (line, content) in (1..).zip(text.lines()).filter(|(_, content)| content.contains("TODO")) {
                println!("{}:{line}:1: {content}", entry.path().display());
            }
        }
        std::process::exit(1);
    }
    if arguments.first().is_some_and(|a| a == "flood") {
        loop {
            let _ = std::io::stdout().write_all(&[b'x'; 4096]);
        }
    }
    let mut input = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut input);
    let _ = write!(std::io::stdout(), "{arguments:?} ");
    let _ = std::io::stdout().write_all(&input);
}
