//! Says what it is given, byte for byte: as a worker its input, as a gate the file `said.txt`, and then it says no.
use std::io::{Read as _, Write as _};

fn main() {
    let mut said = Vec::new();
    let judges = std::fs::File::open("/subject/said.txt").and_then(|mut file| file.read_to_end(&mut said)).is_ok();
    if !judges {
        let _ = std::io::stdin().read_to_end(&mut said);
    }
    let _ = std::io::stdout().write_all(&said);
    std::process::exit(i32::from(judges));
}
