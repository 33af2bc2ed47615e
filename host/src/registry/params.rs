//! Params, held against the JSON schema that a plugin's author embedded (JSON Schema, 2020-12 where it does not say which).
//!
//! A schema is a stranger's, and can be made so that it takes for ever: it is read in a child process, and refers to nothing
//! outside of itself.

use std::path::Path;
use std::time::Duration;

use boon::{CompileError, Compiler, ErrorKind, Schemas, UrlLoader, ValidationError};
use serde_json::{Map, Value, json};

use super::child::{self, Budget, Failed, Work};

/// What holding params against a schema may take.
const BUDGET: Budget = Budget { cpu: Duration::from_secs(3), memory: 256 << 20 };
/// How many problems are told.
const PROBLEMS_MAX: usize = 20;
/// By which name the schema is known to itself.
const SELF: &str = "sandhog:params";

/// What is wrong with params; nothing where they fit.
///
/// # Errors
/// When the schema is none, or takes too long.
pub(super) fn problems(program: Option<&Path>, schema: &str, params: &Map<String, Value>) -> Result<Vec<String>, String> {
    let input = json!({ "schema": schema, "params": params }).to_string();
    let answer = match program {
        None => answer(input.as_bytes())?,
        Some(program) => {
            let arguments = ["validate".to_owned()];
            let work = Work { program, arguments: &arguments, verb: "check", wanted: &|| true };
            child::ask(&work, input.as_bytes(), BUDGET).map_err(|failed| match failed {
                Failed::Problem(problem) => problem,
                Failed::Host(error) => error.to_string(),
            })?
        }
    };
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

/// The child's side.
///
/// # Errors
/// As for [`child::answer`].
pub fn serve(budget: Budget) -> std::io::Result<()> {
    child::answer(budget, answer)
}

fn answer(input: &[u8]) -> Result<Vec<u8>, String> {
    #[derive(serde::Deserialize)]
    struct Input {
        schema: String,
        params: Value,
    }
    let Input { schema, params } = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    serde_json::to_vec(&check(&schema, &params)?).map_err(|error| error.to_string())
}

/// Whether a text is a schema, of which it can be told in time whether params fit: for who packs it. `program` is as for a
/// [`Compiler`](super::compiler::Compiler).
///
/// # Errors
/// What is wrong with it.
pub fn check_schema(program: Option<&Path>, schema: &str) -> Result<(), String> {
    problems(program, schema, &Map::new()).map(drop)
}

fn compile(schema: &str) -> Result<(Schemas, boon::SchemaIndex), String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| format!("its schema is no JSON: {error}"))?;
    if !(schema.is_object() || schema.is_boolean()) {
        return Err("a JSON schema is an object, or true or false".to_owned());
    }
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.use_loader(Box::new(Nothing));
    compiler.add_resource(SELF, schema).map_err(|error| format!("its schema is no valid JSON schema: {error}"))?;
    let index = compiler.compile(SELF, &mut schemas).map_err(|error| match error {
        CompileError::Bug(reason) => format!("its schema is no valid JSON schema: {reason}"), // a pattern that is too large, say
        error => format!("its schema is no valid JSON schema: {error:#}"),
    })?;
    Ok((schemas, index))
}

fn check(schema: &str, params: &Value) -> Result<Vec<String>, String> {
    let (schemas, index) = compile(schema)?;
    let mut problems = Vec::new();
    if let Err(error) = schemas.validate(params, index) {
        if let Some(circle) = circle(&error) {
            return Err(format!("its schema is no valid JSON schema: {circle}"));
        }
        leaves(&error, &mut problems);
    }
    problems.truncate(PROBLEMS_MAX);
    Ok(problems)
}

/// A schema that refers to itself before it says anything: the fault of no params.
fn circle(error: &ValidationError<'_, '_>) -> Option<String> {
    match &error.kind {
        ErrorKind::RefCycle { .. } => Some(error.kind.to_string()),
        _ => error.causes.iter().find_map(circle),
    }
}

/// The innermost reasons, each with its place in the params.
fn leaves(error: &ValidationError<'_, '_>, problems: &mut Vec<String>) {
    if error.causes.is_empty() {
        let place = error.instance_location.to_string();
        let place = if place.is_empty() { "params".to_owned() } else { format!("params{}", place.replace('/', ".")) };
        problems.push(format!("{place}: {}", error.kind));
    }
    error.causes.iter().for_each(|cause| leaves(cause, problems));
}

/// Loads nothing.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("a schema may not refer to another file, and it refers to {url}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{
        "type": "object",
        "required": ["style"],
        "additionalProperties": false,
        "properties": {
            "style": { "enum": ["short", "long"] },
            "words": { "type": "object", "properties": { "most": { "type": "integer", "minimum": 1 } } }
        }
    }"#;

    #[test]
    fn what_does_not_fit_is_told_with_its_place_and_all_at_once() {
        let check = |params: Value| check(SCHEMA, &params).expect("a schema").join("\n");
        assert_eq!(check(json!({ "style": "short", "words": { "most": 3 } })), "");
        let problems = check(json!({ "stile": "short", "words": { "most": 0 } }));
        for said in ["params: missing properties 'style'", "'stile' not allowed", "params.words.most: must be >=1"] {
            assert!(problems.contains(said), "{said}: {problems}");
        }
    }

    #[test]
    fn a_schema_refers_to_nothing_outside_of_it() {
        for (schema, said) in [
            ("{\"$ref\": \"file:///etc/hostname\"}", "may not refer to another file"),
            ("{\"$ref\": \"https://example.com/x\"}", "may not refer to another file"),
            ("{\"type\": 7}", "its schema is no valid JSON schema"),
            ("[", "its schema is no JSON"),
            ("[1]", "a JSON schema is an object"),
            ("{\"$ref\": \"#\"}", "reference cycle"),
        ] {
            let error = check_schema(None, schema).expect_err("refused");
            assert!(error.contains(said), "{schema}: {error}");
        }
        assert_eq!(check_schema(None, "{\"$defs\": {\"a\": {}}, \"$ref\": \"#/$defs/a\"}"), Ok(()));
    }
}
