//! Attacks: goes through its subject by every call there is, in every spelling, and tries to leave it and to change it.
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

use sandhog_guest::{Decision, Failure, Finding, Severity, Subject, Verdict, permanent};

sandhog_guest::gate!(check);

fn check(_subject: Subject) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    let mut say = |rule: &str, text: String| findings.push(Finding::new(rule, Severity::Info, text));
    let names = |path: &str| match fs::read_dir(path) {
        Ok(entries) => entries
            .map(|e| e.map_or_else(|e| e.to_string(), |e| e.file_name().to_string_lossy().into_owned()))
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => format!("{:?}", error.kind()),
    };
    say("root", names("/subject"));
    say("folder", names("/subject/src"));
    say("not-a-folder", names("/subject/a.txt"));
    match fs::metadata("/subject/src/deep/c.txt") {
        Ok(metadata) => {
            let modified = metadata.modified().map_err(permanent)?.duration_since(std::time::UNIX_EPOCH).map_err(permanent)?.as_secs();
            say("metadata", format!("{} bytes, file {}, at {modified}", metadata.len(), metadata.is_file()));
        }
        Err(error) => say("metadata", format!("{:?}", error.kind())),
    }
    for path in [
        "src/../a.txt",
        "./src//deep/./c.txt",
        "src/deep/../../a.txt",
        "a.txt/",
        "a.txt/b",
        "none/../a.txt",
        "../subject/a.txt",
        "src/../../etc/passwd",
        "",
        "/a.txt",
        "none",
    ] {
        let read = fs::read_to_string(format!("/subject/{path}")).unwrap_or_else(|error| format!("{:?}", error.kind()));
        say(&format!("read {path}"), read);
    }
    let mut file = fs::File::open("/subject/src/b.txt").ok(); // a subject that has none is attacked all the same
    if let Some(file) = &mut file {
        let mut tail = String::new();
        file.seek(SeekFrom::End(-3)).map_err(permanent)?;
        file.read_to_string(&mut tail).map_err(permanent)?;
        file.seek(SeekFrom::Start(1 << 40)).map_err(permanent)?;
        let beyond = file.read(&mut [0; 8]).map_err(permanent)?;
        say("seek", format!("{tail}, {beyond} bytes beyond the end"));
    }
    let changed: Vec<&str> = [
        ("write", fs::write("/subject/a.txt", "x").is_ok()),
        ("create", fs::File::create("/subject/new").is_ok()),
        ("folder", fs::create_dir("/subject/new").is_ok()),
        ("remove", fs::remove_file("/subject/a.txt").is_ok()),
        ("remove folder", fs::remove_dir_all("/subject/src").is_ok()),
        ("rename", fs::rename("/subject/a.txt", "/subject/b.txt").is_ok()),
        ("link", fs::hard_link("/subject/a.txt", "/subject/b.txt").is_ok()),
        ("append", fs::OpenOptions::new().append(true).open("/subject/a.txt").is_ok()),
        ("length", file.is_some_and(|file| file.set_len(0).is_ok())),
        ("outside", fs::read_dir("/").is_ok() || fs::read_dir("/subject/..").is_ok()),
    ]
    .iter()
    .filter(|(_, done)| *done)
    .map(|(what, _)| *what)
    .collect();
    say("changed", changed.join(" "));
    Ok(Verdict { decision: Decision::Pass, findings, metrics: vec![], summary: String::new() })
}
