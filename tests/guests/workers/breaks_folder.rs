//! Attacks the folder that it may write at /granted: links out of it, names of every kind, deep trees, many files, and whatever else
//! would make its operator's next command go wrong.
use std::fs;

use sandhog_guest::{Artifact, Failure, Task, permanent};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

sandhog_guest::worker!(run);

#[derive(serde::Deserialize)]
struct Params {
    /// Writes four megabytes at once, and asks nobody whether it may.
    #[serde(default)]
    writes_at_once: bool,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    if task.params.writes_at_once {
        let failed = |code| permanent(format!("{code:?}"));
        let (granted, _) = get_directories().into_iter().find(|(_, at)| at == "/granted").ok_or_else(|| permanent("nothing is granted"))?;
        let file = granted.open_at(PathFlags::empty(), "at-once", OpenFlags::CREATE, DescriptorFlags::WRITE).map_err(failed)?;
        let written = file.append_via_stream().map_err(failed)?.write(&vec![0; 4 << 20]);
        return Err(permanent(format!("it was taken: {}", written.is_ok())));
    }
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
    // By the handle that is granted itself, which what stands in front of other languages uses.
    let granted = get_directories().into_iter().find(|(_, at)| at == "/granted").ok_or_else(|| permanent("nothing is granted"))?.0;
    let listed = granted.read_directory().map(|entries| std::iter::from_fn(|| entries.read_directory_entry().ok().flatten()).count());
    say("it is listed by its own handle", listed.is_ok_and(|count| count >= 2_000));
    let mut listings: Vec<_> = (0..40).filter_map(|_| fs::read_dir("/granted").ok()).collect();
    let begun = listings.iter_mut().filter_map(Iterator::next).count();
    say("forty listings are open at once", begun == 40);
    let rest = listings.pop().map_or(0, |listing| listing.flatten().count());
    say("a listing has all of them", rest >= 2_000);
    let sparse = fs::File::create("/granted/sparse").and_then(|file| file.set_len(1 << 40));
    say("a sparse file is made", sparse.is_ok());
    Ok(vec![Artifact::text("done.txt", text)])
}
