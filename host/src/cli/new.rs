//! `sandhog new`: a plugin to begin with, in the language that its author knows. Everything is in this binary; nothing is fetched.

use std::path::{Path, PathBuf};

use super::exit::{Error, Exit};
use crate::config::manifest::check_name;
use crate::registry::pack::WIT;

/// Arguments of `new`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The folder has a README with the commands to build, test and run it, and cases for `sandhog test`. Nothing that is there is\n\
                  written over.\n\nExamples:\n  sandhog new worker shout\n  sandhog new gate left-over --lang python --dir plugins-src/left-over"
)]
pub struct NewArguments {
    /// What it is to be
    kind: NewKind,
    /// Its name: a-z, 0-9 and -, a letter in front
    name: String,
    /// The language
    #[arg(long, short, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// The folder to make [default: its name]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Worker or gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NewKind {
    /// Does a task
    Worker,
    /// Judges a result
    Gate,
}

/// The languages that there is a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Rust,
    #[value(alias = "js")]
    Javascript,
    #[value(alias = "ts")]
    Typescript,
    #[value(alias = "py")]
    Python,
    Go,
    C,
    Zig,
    #[value(alias = "as")]
    Assemblyscript,
    Wat,
}

/// A file of a template: where it goes, and what is in it.
type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}
macro_rules! sdk {
    ($path:literal) => {
        include_str!(concat!("../../../guest-sdk/", $path))
    };
}

/// What a template is made of.
struct Template {
    /// What has to be there in order to build it.
    needs: &'static str,
    /// The memory that it runs in.
    memory: &'static str,
    /// More lines of `.gitignore`.
    ignore: &'static str,
    build: &'static str,
    files: Vec<File>,
    /// Whether the contract goes into `wit/`.
    with_wit: bool,
    /// What its example does.
    example: &'static Example,
}

/// An example that templates share: what it says of itself, its params, its cases.
struct Example {
    description: &'static str,
    schema: &'static str,
    cases: &'static [File],
}

const SHOUTS: Example = Example {
    description: "Shouts: its input in capitals",
    schema: template!("common/worker.schema.json"),
    cases: &[
        ("cases/shouts/case.toml", template!("cases/worker/shouts/case.toml")),
        ("cases/shouts/inputs/in.txt", template!("cases/worker/shouts/inputs/in.txt")),
        ("cases/shouts/expected.txt", template!("cases/worker/shouts/expected.txt")),
        ("cases/shouts/expected/shouted.txt", template!("cases/worker/shouts/expected/shouted.txt")),
        ("cases/refuses/case.toml", template!("cases/worker/refuses/case.toml")),
        ("cases/refuses/inputs/in.txt", template!("cases/worker/refuses/inputs/in.txt")),
        ("cases/refuses/expected.txt", template!("cases/worker/refuses/expected.txt")),
    ],
};
const SHOUTS_PLAINLY: Example = Example {
    description: "Shouts: its inputs in capitals",
    schema: template!("common/none.schema.json"),
    cases: &[
        ("cases/shouts/inputs/in.txt", template!("cases/wat-worker/shouts/inputs/in.txt")),
        ("cases/shouts/expected.txt", template!("cases/wat-worker/shouts/expected.txt")),
        ("cases/shouts/expected/in.txt", template!("cases/wat-worker/shouts/expected/in.txt")),
    ],
};
const LEFT_OVER: Example = Example {
    description: "Rejects files with a mark that somebody meant to come back to",
    schema: template!("common/gate.schema.json"),
    cases: &[
        ("cases/left-over/case.toml", template!("cases/gate/left-over/case.toml")),
        ("cases/left-over/subject/notes.txt", template!("cases/gate/left-over/subject/notes.txt")),
        ("cases/left-over/expected.txt", template!("cases/gate/left-over/expected.txt")),
        ("cases/clean/case.toml", template!("cases/gate/clean/case.toml")),
        ("cases/clean/subject/notes.txt", template!("cases/gate/clean/subject/notes.txt")),
        ("cases/clean/expected.txt", template!("cases/gate/clean/expected.txt")),
    ],
};
const SIZES: Example = Example {
    description: "Rejects files that are too large, or empty",
    schema: template!("common/sizes.schema.json"),
    cases: &[
        ("cases/empty/case.toml", template!("cases/sizes/empty/case.toml")),
        ("cases/empty/subject/empty.txt", template!("cases/sizes/empty/subject/empty.txt")),
        ("cases/empty/expected.txt", template!("cases/sizes/empty/expected.txt")),
        ("cases/fine/case.toml", template!("cases/sizes/fine/case.toml")),
        ("cases/fine/subject/small.txt", template!("cases/sizes/fine/subject/small.txt")),
        ("cases/fine/expected.txt", template!("cases/sizes/fine/expected.txt")),
    ],
};
const EMPTY: Example = Example {
    description: "Rejects files without content",
    schema: template!("common/none.schema.json"),
    cases: &[
        ("cases/empty/subject/empty.txt", template!("cases/wat-gate/empty/subject/empty.txt")),
        ("cases/empty/expected.txt", template!("cases/wat-gate/empty/expected.txt")),
        ("cases/fine/subject/small.txt", template!("cases/wat-gate/fine/subject/small.txt")),
        ("cases/fine/expected.txt", template!("cases/wat-gate/fine/expected.txt")),
    ],
};

impl Language {
    fn template(self, kind: NewKind) -> Template {
        let is_worker = kind == NewKind::Worker;
        let pick = |worker: File, gate: File| if is_worker { worker } else { gate };
        let usual = if is_worker { &SHOUTS } else { &LEFT_OVER };
        let without_files = if is_worker { &SHOUTS } else { &SIZES };
        let small = Template { needs: "", memory: "16MiB", ignore: "", build: "", files: Vec::new(), with_wit: false, example: usual };
        let javascript = [
            ("sandhog.js", sdk!("javascript/sandhog.js")),
            ("subject.js", sdk!("javascript/subject.js")),
            ("wit/javascript.wit", sdk!("javascript/javascript.wit")),
            ("wit/deps/filesystem.wit", sdk!("javascript/filesystem.wit")),
        ];
        match self {
            Self::Rust => Template {
                needs: "it needs Rust, by rustup",
                ignore: "/target/\n",
                build: template!("rust/build"),
                files: vec![
                    ("Cargo.toml", template!("rust/Cargo.toml.in")),
                    pick(("src/lib.rs", template!("rust/worker.rs")), ("src/lib.rs", template!("rust/gate.rs"))),
                    ("sandhog-guest/Cargo.toml", sdk!("rust/Cargo.toml")),
                    ("sandhog-guest/src/lib.rs", sdk!("rust/src/lib.rs")),
                    ("sandhog-guest/src/http.rs", sdk!("rust/src/http.rs")),
                    ("sandhog-guest/wit/types.wit", WIT[0].1),
                    ("sandhog-guest/wit/plugin.wit", WIT[1].1),
                ],
                ..small
            },
            Self::Javascript => Template {
                needs: "it needs Node.js with npm",
                ignore: "/node_modules/\n",
                build: template!("javascript/build"),
                files: [
                    &[
                        ("package.json", template!("javascript/package.json.in")),
                        pick(("worker.js", template!("javascript/worker.js")), ("gate.js", template!("javascript/gate.js"))),
                    ],
                    &javascript[..],
                ]
                .concat(),
                with_wit: true,
                ..small
            },
            Self::Typescript => Template {
                needs: "it needs Node.js with npm",
                ignore: "/node_modules/\n",
                build: template!("typescript/build"),
                files: [
                    &[
                        ("package.json", template!("typescript/package.json.in")),
                        ("tsconfig.json", template!("typescript/tsconfig.json")),
                        pick(("worker.ts", template!("typescript/worker.ts")), ("gate.ts", template!("typescript/gate.ts"))),
                        ("sandhog.d.ts", sdk!("javascript/sandhog.d.ts")),
                        ("subject.d.ts", sdk!("javascript/subject.d.ts")),
                    ],
                    &javascript[..],
                ]
                .concat(),
                with_wit: true,
                ..small
            },
            Self::Python => Template {
                needs: "it needs Python 3.10 or newer with pip",
                memory: "64MiB",
                ignore: "__pycache__/\n",
                build: template!("python/build"),
                files: vec![
                    ("requirements.txt", template!("python/requirements.txt")),
                    pick(("worker.py", template!("python/worker.py")), ("gate.py", template!("python/gate.py"))),
                    ("sandhog.py", sdk!("python/sandhog.py")),
                ],
                with_wit: true,
                ..small
            },
            Self::Go => Template {
                needs: "it needs Go 1.24 or newer",
                memory: "64MiB",
                build: template!("go/build"),
                files: vec![
                    ("go.mod", template!("go/go.mod.in")),
                    pick(("main.go", template!("go/worker.go")), ("main.go", template!("go/gate.go"))),
                    ("sandhog/go.mod", sdk!("go/go.mod")),
                    ("sandhog/sandhog.go", sdk!("go/sandhog.go")),
                    ("sandhog/host.go", sdk!("go/host.go")),
                    ("sandhog/internal/abi/abi.go", sdk!("go/internal/abi/abi.go")),
                    ("sandhog/internal/room/room.go", sdk!("go/internal/room/room.go")),
                    ("sandhog/command/command.go", sdk!("go/command/command.go")),
                    ("sandhog/worker/worker.go", sdk!("go/worker/worker.go")),
                    ("sandhog/gate/gate.go", sdk!("go/gate/gate.go")),
                ],
                ..small
            },
            Self::C => Template {
                needs: "it needs clang with the target wasm32 and wasi-libc: on Debian, clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc",
                build: template!("c/build"),
                files: vec![
                    pick(("worker.c", template!("c/worker.c")), ("gate.c", template!("c/gate.c"))),
                    ("sandhog.h", sdk!("c/sandhog.h")),
                ],
                ..small
            },
            Self::Zig => Template {
                needs: "it needs Zig: its own, or `pip install ziglang`",
                build: template!("zig/build"),
                files: vec![
                    pick(("worker.zig", template!("zig/worker.zig")), ("gate.zig", template!("zig/gate.zig"))),
                    ("sandhog.zig", sdk!("zig/sandhog.zig")),
                ],
                example: without_files,
                ..small
            },
            Self::Assemblyscript => Template {
                needs: "it needs Node.js with npm",
                ignore: "/node_modules/\n",
                build: template!("assemblyscript/build"),
                files: vec![
                    ("package.json", template!("assemblyscript/package.json.in")),
                    pick(("worker.ts", template!("assemblyscript/worker.ts")), ("gate.ts", template!("assemblyscript/gate.ts"))),
                    ("sandhog.ts", sdk!("assemblyscript/sandhog.ts")),
                ],
                example: without_files,
                ..small
            },
            Self::Wat => Template {
                needs: "it needs nothing but sandhog",
                build: template!("wat/build"),
                files: vec![pick(("worker.wat", template!("wat/worker.wat")), ("gate.wat", template!("wat/gate.wat")))],
                example: if is_worker { &SHOUTS_PLAINLY } else { &EMPTY },
                ..small
            },
        }
    }
}

/// Makes a plugin's folder.
pub fn new(arguments: &NewArguments) -> Result<Exit, Error> {
    let name = arguments.name.as_str();
    let fits = |sign: char| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-';
    if check_name(name).is_err() || !name.starts_with(|sign: char| sign.is_ascii_lowercase()) || !name.chars().all(fits) {
        return Err(Error::usage(format!(
            "the name {name:?} does not fit: expected a-z, 0-9 and -, a letter in front, at most 64 of them"
        )));
    }
    let folder = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    if folder.exists() && std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_some()) {
        return Err(Error::usage(format!("{} is there already, and not an empty folder; nothing was written", folder.display()))
            .help("name another with --dir FOLDER"));
    }
    let Template { needs, memory, ignore, build, files, with_wit, example } = arguments.lang.template(arguments.kind);
    let is_worker = arguments.kind == NewKind::Worker;
    let is_javascript = matches!(arguments.lang, Language::Javascript | Language::Typescript);
    let world = match (is_worker, is_javascript) {
        (true, _) => "worker-plugin",
        (false, true) => "javascript-gate",
        (false, false) => "gate-plugin",
    };
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{snake}}", &name.replace('-', "_"))
            .replace("{{main}}", if is_worker { "worker" } else { "gate" })
            .replace("{{folder}}", if is_worker { "`inputs/`" } else { "`subject/`" })
            .replace("{{world}}", world)
            .replace("{{needs}}", needs)
            .replace("{{memory}}", memory)
            .replace("{{ignore}}", ignore)
            .replace("{{description}}", example.description)
    };
    let common = [
        ("plugin.toml", template!("common/plugin.toml")),
        ("README.md", template!("common/README.md")),
        (".gitignore", template!("common/gitignore")),
        ("params.schema.json", example.schema),
        ("build", build),
    ];
    let wit = if with_wit { [("wit/types.wit", WIT[0].1), ("wit/plugin.wit", WIT[1].1)].to_vec() } else { Vec::new() };
    for (path, text) in common.into_iter().chain(files).chain(wit).chain(example.cases.iter().copied()) {
        write(&folder, path, &fill(text))?;
    }
    outln!("{}: a {} in {}", folder.display(), if is_worker { "worker" } else { "gate" }, arguments.lang.word());
    outln!("next: cd {} && ./build && sandhog test", folder.display());
    Ok(Exit::Passed)
}

impl Language {
    fn word(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Javascript => "JavaScript",
            Self::Typescript => "TypeScript",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::C => "C",
            Self::Zig => "Zig",
            Self::Assemblyscript => "AssemblyScript",
            Self::Wat => "WebAssembly text",
        }
    }
}

fn write(folder: &Path, path: &str, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let place = folder.join(path);
    let failed = |error: std::io::Error| Error::usage(format!("{} cannot be written: {error}", place.display()));
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mode = if path == "build" { 0o755 } else { 0o644 };
    let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(&place).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
