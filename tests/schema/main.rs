//! `validate SCHEMA FILE`: says what is wrong, a line each; exit 1 where anything is.

use std::process::ExitCode;

fn main() -> ExitCode {
    let read = |path: String| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let mut paths = std::env::args().skip(1);
    let (Some(schema), Some(file)) = (paths.next(), paths.next()) else { panic!("usage: validate SCHEMA FILE") };
    let validator = jsonschema::validator_for(&read(schema)).expect("a schema");
    let file = read(file);
    let wrong: Vec<String> = validator.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect();
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
