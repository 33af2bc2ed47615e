//! Behaves: returns everything that it was given and can find out, as text: what must not differ between equal runs.
use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Instant, SystemTime};

fn run(task: Task) -> Result<Vec<Artifact>, Failure> {
    let started = Instant::now();
    std::thread::sleep(std::time::Duration::from_secs(3600));
    let random = wasip2::random::random::get_random_bytes(16);
    let insecure = wasip2::random::insecure::get_insecure_random_u64();
    let hash = RandomState::new().hash_one(1);
    let variables: Vec<_> = std::env::vars().collect();
    let arguments: Vec<_> = std::env::args().collect();
    let root = std::fs::read_dir("/").map(|entries| entries.count()).map_err(|error| error.kind());
    let text = format!(
        "{task:?}\n{:?} {:?}\n{random:?} {insecure} {hash}\n{variables:?} {arguments:?} {root:?}\n{}",
        SystemTime::now(),
        started.elapsed(),
        f64::NAN.to_bits() ^ (0.0_f64 / std::hint::black_box(0.0)).to_bits(),
    );
    Ok(vec![Artifact::text("all.txt", text)])
}
