//! `sandhog init`: a configuration for the repository at hand, with what fits it and what could be said.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::context::Common;
use super::exit::{Error, Exit};
use crate::check::{self, tree};
use crate::config::check::CheckSettings;
use crate::config::manifest::DATA_BASELINE;
use crate::config::settings::FILE_NAME;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing that is there is written over. What was written counts after `sandhog trust`.\n\nExample: sandhog init && sandhog trust && sandhog check"
)]
pub struct InitArguments {
    /// The directory
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print it, and write nothing
    #[arg(long)]
    print: bool,
}

/// Writes the configuration.
pub fn init(common: &Common, arguments: &InitArguments) -> Result<Exit, Error> {
    let target = arguments.path.join(FILE_NAME);
    if !arguments.print && target.symlink_metadata().is_ok() {
        let help = "--print shows what would be written";
        return Err(Error::usage(format!("{} is there already, and is not written over", target.display())).help(help));
    }
    let text = text(common, &arguments.path)?;
    if arguments.print {
        out!("{text}");
        return Ok(Exit::Passed);
    }
    use std::io::Write as _;
    let write = || std::fs::File::options().write(true).create_new(true).open(&target)?.write_all(text.as_bytes());
    write().map_err(|error| Error::engine(format!("{} cannot be written: {error}", target.display())))?;
    outln!("{}: written; read it, then say `sandhog trust` and `sandhog check`", target.display());
    Ok(Exit::Passed)
}

fn text(common: &Common, folder: &Path) -> Result<String, Error> {
    let settings = crate::config::Settings::default();
    if common.standard_gates().is_none() {
        return Err(Error::usage("there are no standard gates beside the sandhog binary")
            .help("build them with scripts/gates, or name their folder with --gates"));
    }
    let context = common.open_with(Some(1), settings)?;
    let tree = super::check::read_tree(folder, None, &[], &mut Vec::new())?;
    let plan = check::plan(&context.registry, &CheckSettings::default(), &tree, &[]).map_err(Error::usage)?;
    let mut out = String::from(
        "# How this repository is judged by `sandhog check`. It counts after `sandhog trust`, or by --policy or --policy-from: who\n\
         # wrote a directory does not say how it is judged. `sandhog schema` prints its JSON schema, for editors.\n\n\
         [check]\n",
    );
    let excluded = excluded(&tree);
    let list = excluded.iter().map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "exclude = [{list}]    # globs of files that nobody judges; what .gitignore names is left out already");
    out.push_str("# fail_on = \"medium\"               # from which severity on a finding rejects; without it, each gate decides\n");
    out.push_str("# baseline = \"sandhog-baseline.json\" # `sandhog baseline update` writes it; --new-only lets pass what is in it\n");
    let mut sets: Vec<(String, Vec<&check::Chosen>)> = Vec::new();
    for chosen in &plan.chosen {
        let set = chosen.entry.manifest.set.clone().unwrap_or_else(|| chosen.name.clone());
        match sets.iter_mut().find(|(name, _)| *name == set) {
            Some((_, members)) => members.push(chosen),
            None => sets.push((set, vec![chosen])),
        }
    }
    for (set, members) in &sets {
        out.push('\n');
        for chosen in members {
            let _ = writeln!(out, "# {}: {}", chosen.name, chosen.why);
        }
        let _ = writeln!(out, "[[gate]]\ngate = \"{set}\"");
        for chosen in members.iter().filter(|chosen| chosen.entry.manifest.data.contains_key(DATA_BASELINE)) {
            let _ = write!(
                out,
                "# Its figures are compared with those that `sandhog baseline update` records. What they may grow by, in a table of its own:\n\
                 # [[gate]]\n# gate = \"{}\"\n# params = {{ max_regression = \"2%\" }}\n",
                chosen.name
            );
        }
    }
    if plan.chosen.iter().any(|chosen| chosen.name == "lint-python") {
        out.push_str("\n# One gate of a set, by itself, with params of its own:\n# [[gate]]\n# gate = \"lint-python\"\n# params = { select = [\"E\", \"F\", \"I\"] }\n");
    }
    for (gate, why) in &plan.ungiven {
        let _ = writeln!(out, "\n# {gate} would judge here, and has not what it needs: {}", crate::model::text::sanitize(why, 400));
        let data = context.registry.find(gate).map(|entry| entry.manifest.data.clone()).unwrap_or_default();
        for (name, _) in data.iter().filter(|(_, request)| request.required) {
            let _ = writeln!(out, "# [data]\n# {name} = \"PATH\"");
        }
    }
    out.push_str(
        "\n# A finding that was looked at, and is accepted for a while:\n# [[ignore]]\n# rule = \"RULE\"\n# path = \"src/generated/**\"\n# reason = \"why\"\n# expires = 2030-01-31\n",
    );
    Ok(out)
}

/// Folders that hold what others wrote, by the names that people give them.
fn excluded(tree: &tree::Tree) -> Vec<&'static str> {
    const NAMES: &[&str] = &["vendor/", "third_party/", "node_modules/", "dist/", "build/", "testdata/", "__snapshots__/"];
    NAMES
        .iter()
        .copied()
        .filter(|name| tree.files.iter().any(|(path, _)| path.starts_with(name) || path.contains(&format!("/{name}"))))
        .collect()
}
