//! Attacks: writes below /tmp in every way there is, tries to leave it, and fills it with bytes, with names and with
//! files that it removed and holds open.
use sandhog_guest::{Artifact, Failure, Task, permanent};

sandhog_guest::worker!(run);

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    if fs::metadata("/tmp").is_err() {
        return Ok(vec![Artifact::text("found.txt", "no folder\n")]);
    }
    let mut said = Vec::new();
    said.push(format!("at first: {}", names("/tmp")));
    fs::create_dir_all("/tmp/a/b").map_err(permanent)?;
    fs::write("/tmp/a/b/one.txt", "hello").map_err(permanent)?;
    OpenOptions::new().append(true).open("/tmp/a/b/one.txt").and_then(|mut file| file.write_all(b", world")).map_err(permanent)?;
    let mut file = OpenOptions::new().read(true).write(true).open("/tmp/a/b/one.txt").map_err(permanent)?;
    file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(b"J")).map_err(permanent)?;
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).map_err(permanent)?;
    said.push(format!("written: {text}"));
    file.set_len(4).map_err(permanent)?;
    said.push(format!("cut: {} bytes", fs::metadata("/tmp/a/b/one.txt").map_err(permanent)?.len()));
    fs::rename("/tmp/a/b", "/tmp/c").map_err(permanent)?;
    said.push(format!("moved: {} | {} | {}", names("/tmp"), names("/tmp/a"), names("/tmp/c")));
    let read_only = File::open("/tmp/c/one.txt").and_then(|mut file| file.write(b"x"));
    let outside = ["/tmp/../etc/passwd", "/tmp/c/../../subject", "/subject", "/etc/passwd"].iter().any(|path| File::open(path).is_ok());
    let linked = fs::hard_link("/tmp/c/one.txt", "/tmp/hard").is_ok();
    said.push(format!("by a reader: {}, outside: {outside}, linked: {linked}", read_only.is_ok()));
    said.push(format!("over a full folder: {}", kind(fs::remove_dir("/tmp/c"))));
    fs::remove_dir_all("/tmp/c").map_err(permanent)?;

    // Bytes, until there is no more room.
    let full = |path: &str| -> Result<(u64, String), Failure> {
        let mut file = File::create(path).map_err(permanent)?;
        let mut bytes = 0;
        loop {
            match file.write(&[7; 10_000]) {
                Ok(written) => bytes += written as u64,
                Err(error) => return Ok((bytes, error.to_string())),
            }
        }
    };
    let (bytes, error) = full("/tmp/full")?;
    said.push(format!("bytes: {} KiB, then: {error}", bytes / 1024));
    // What was removed and is still open takes its room.
    let held = File::open("/tmp/full").map_err(permanent)?;
    fs::remove_file("/tmp/full").map_err(permanent)?;
    said.push(format!("while the removed one is open: {}", kind(fs::write("/tmp/next", vec![0; 100_000]))));
    drop(held);
    let again = full("/tmp/full")?.0;
    said.push(format!("when it is closed: {}", if again + 20_000 > bytes { "the room is back" } else { "the room is lost" }));
    fs::remove_file("/tmp/full").map_err(permanent)?;
    // A file of holes costs what is written of it.
    let mut holes = File::create("/tmp/holes").map_err(permanent)?;
    holes.seek(SeekFrom::Start(1 << 35)).and_then(|_| holes.write_all(b"end")).map_err(permanent)?;
    said.push(format!("with a hole: {} bytes", holes.metadata().map_err(permanent)?.len()));
    said.push(format!("too long: {}", kind(holes.set_len(u64::MAX >> 1))));
    // Names.
    let mut count = 0;
    let error = loop {
        match File::create(format!("/tmp/{count}")) {
            Ok(_) => count += 1,
            Err(error) => break error.to_string(),
        }
    };
    said.push(format!("names: {}, then: {error}", if (500..2500).contains(&count) { "some" } else { "not as many as they should be" }));
    let newest = format!("/tmp/{}", count - 1);
    let modified = |path: &str| fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(permanent);
    said.push(format!("later is newer: {}", modified("/tmp/0")? < modified(&newest)?));
    Ok(vec![Artifact::text("found.txt", said.join("\n"))])
}

fn names(path: &str) -> String {
    let mut names: Vec<String> =
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    format!("[{}]", names.join(" "))
}

fn kind<T>(result: std::io::Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}
