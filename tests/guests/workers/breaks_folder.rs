//! Attacks the folder that it may write at /granted: links out of it, names of every kind, deep trees, many files, and whatever else
//! would make its operator's next command go wrong.
use std::fs;

use sandhog_guest::{Artifact, Failure, Task};

sandhog_guest::worker!(run);

fn run(_task: Task) -> Result<Vec<Artifact>, Failure> {
    let mut text = String::new();
    let mut say = |what: &str, done: bool| text += &format!("{what}: {done}\n");
    say("written", fs::write("/granted/written.txt", "w").is_ok());
    for (what, target) in [("absolute", "/etc/passwd"), ("upwards", "../secret.txt"), ("to a folder", ".."), ("to itself", "to-itself")] {
        let link = format!("/granted/{}", what.replace(' ', "-"));
        #[expect(deprecated, reason = "the one that WASI has")]
        let linked = fs::soft_link(target, &link).is_ok();
        say(&format!("a link {what} is made"), linked);
        say(&format!("a link {what} is read"), fs::read(&link).is_ok());
        say(&format!("a link {what} is written"), fs::write(&link, "broken").is_ok());
        say(&format!("a link {what} is gone through"), fs::read(format!("{link}/secret.txt")).is_ok());
    }
    say("a file is put outside", fs::write("/granted/../outside.txt", "o").is_ok());
    say("a file is moved outside", fs::rename("/granted/written.txt", "/granted/../moved.txt").is_ok());
    say("a file is moved in", fs::rename("/granted/../secret.txt", "/granted/secret.txt").is_ok());
    say("a folder is made outside", fs::create_dir("/granted/../folder").is_ok());
    say("a folder is removed outside", fs::remove_dir_all("/granted/../other").is_ok());
    let mut deep = String::from("/granted/deep");
    let mut levels = 0;
    while levels < 100 && fs::create_dir(&deep).is_ok() {
        deep += "/d";
        levels += 1;
    }
    say("a deep tree is made", levels == 100);
    let odd = ["-rf", "new\nline", "\u{1b}[2J", "\u{202e}gpj.exe", " ", "name with spaces", "$(reboot)", "a'b\"c"];
    say("odd names are taken", odd.iter().all(|name| fs::write(format!("/granted/{name}"), "x").is_ok()));
    say("many files are made", (0..2_000).all(|n| fs::write(format!("/granted/many-{n}"), "x").is_ok()));
    let sparse = fs::File::create("/granted/sparse").and_then(|file| file.set_len(1 << 40));
    say("a sparse file is made", sparse.is_ok());
    Ok(vec![Artifact::text("done.txt", text)])
}
