//! `sandhog schema`: the JSON schema of `sandhog.toml`, for editors that know TOML; and the description of the API.

use serde_json::{Value, json};

use super::exit::{Error, Exit};
use crate::model::capability::REUSE_MAX;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaArguments {
    /// Print the description of the server's API (OpenAPI), and not the schema of sandhog.toml
    #[arg(long)]
    api: bool,
}

/// Prints the schema.
pub fn schema(arguments: &SchemaArguments) -> Result<Exit, Error> {
    if arguments.api {
        outln!("{}", crate::api::document());
        return Ok(Exit::Passed);
    }
    outln!("{}", serde_json::to_string_pretty(&of_settings()).unwrap_or_default());
    Ok(Exit::Passed)
}

fn text(what: &str) -> Value {
    json!({ "type": "string", "description": what })
}

fn choice(what: &str, words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words, "description": what })
}

fn flag(what: &str) -> Value {
    json!({ "type": "boolean", "description": what })
}

fn whole(what: &str, from: u32, to: u32) -> Value {
    json!({ "type": "integer", "minimum": from, "maximum": to, "description": what })
}

fn list(what: &str, items: &Value) -> Value {
    json!({ "type": "array", "items": items, "description": what })
}

fn quantity(what: &str) -> Value {
    json!({ "type": ["string", "integer"], "description": what })
}

fn table(what: &str, required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties, "description": what })
}

fn by_name(what: &str, of: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": of, "description": what })
}

fn limits(what: &str) -> Value {
    table(
        what,
        &[],
        json!({
            "fuel": quantity("weighted wasm instructions, such as \"2G\""),
            "timeout": quantity("wall clock, from dispatch to outcome, such as \"10s\""),
            "memory": quantity("all memories and tables together, such as \"64MiB\""),
            "input": quantity("bytes handed in by value"),
            "output": quantity("bytes of what is returned"),
            "log": quantity("bytes of what is written that are kept"),
            "handles": quantity("open resources"),
            "scratch": quantity("files written below /tmp; \"0\" for none"),
        }),
    )
}

/// The schema (JSON Schema 2020-12).
fn of_settings() -> Value {
    let globs = |what: &str| list(what, &json!({ "type": "string" }));
    let severity = || choice("from which severity on a finding rejects", &["info", "low", "medium", "high", "critical"]);
    let mut ceiling = limits("what no limit and no grant exceeds");
    if let Some(properties) = ceiling["properties"].as_object_mut() {
        properties.insert("files".to_owned(), choice("the most that a directory is granted for", &["none", "read", "read-write"]));
        for (name, what) in [
            ("environment", "whether variables may be granted"),
            ("clock", "whether the real clocks may be granted"),
            ("randomness", "whether real randomness may be granted"),
            ("reuse", "whether instances may do more than one task"),
            ("outbound", "whether requests over HTTP may be granted"),
        ] {
            properties.insert(name.to_owned(), flag(what));
        }
    }
    let file = table(
        "a directory",
        &["path", "at"],
        json!({ "path": text("here"), "at": text("for the guest, such as /docs"), "access": choice("what may be done there", &["read", "read-write"]) }),
    );
    let origin = json!({
        "oneOf": [
            text("such as https://api.example.com or https://*.example.com"),
            table("an origin whose name may mean a private address", &["origin"], json!({ "origin": text("the origin"), "private": flag("whether it may") })),
        ],
    });
    let grant = table(
        "what a plugin may touch",
        &["digest"],
        json!({
            "digest": text("of the component that this is granted to: `sandhog plugins inspect` prints it"),
            "files": list("directories", &file),
            "environment": list("variables by their names", &json!({ "type": "string" })),
            "clock": flag("the real clocks"),
            "randomness": flag("real randomness"),
            "reuse": { "description": "how many tasks one instance of a worker may do, one after another", "type": "integer", "minimum": 1, "maximum": REUSE_MAX },
            "outbound": list("where requests over HTTP may go", &origin),
        }),
    );
    let secret = table(
        "a secret that the host sets as a header; the plugin never sees it",
        &["host", "header", "plugins"],
        json!({
            "env": text("the variable that has it"),
            "file": text("or the file"),
            "host": text("the one host that it is sent to"),
            "header": text("in which header"),
            "prefix": text("what stands before it, such as \"Bearer \""),
            "plugins": list("with whose requests", &json!({ "type": "string" })),
        }),
    );
    let gate = table(
        "a gate, or a set of gates",
        &["gate"],
        json!({
            "gate": text("a plugin, or a set such as lint, test, audit, perf"),
            "name": text("what it is called in reports"),
            "files": globs("the files that it judges, in place of those that its manifest names"),
            "exclude": globs("files that it does not judge"),
            "params": json!({ "type": "object", "description": "handed to the gate" }),
            "fail_on": severity(),
            "on_error": choice("what a gate that cannot answer means", &["fail", "allow"]),
            "limits": limits("over the plugin's own"),
        }),
    );
    let ignore = table(
        "findings that were looked at, and accepted for a while",
        &["rule", "reason"],
        json!({
            "rule": text("the rule as reports show it"),
            "gate": text("only of this gate"),
            "path": text("only in files of this glob"),
            "reason": text("why"),
            "expires": json!({ "type": "string", "description": "the last day on which it counts, such as 2030-01-31" }),
        }),
    );
    let mut schema = table(
        "the configuration of sandhog",
        &[],
        json!({
            "plugins": list("plugin folders, in order of precedence", &json!({ "type": "string" })),
            "concurrency": whole("attempts at once", 1, 10_000),
            "in_flight": whole("instances alive at once", 1, 10_000),
            "memory_total": quantity("the sum of the memory limits of all live instances"),
            "isolate": choice("where guests run: in sandhog's own process, or each attempt in one of its own", &["none", "process"]),
            "balance": choice("which of several providers gets the next call", &["least_busy", "round_robin"]),
            "compile": table("what compiling one component may take; else it follows from the component's size", &[], json!({
                "cpu": quantity("processor time, such as \"5m\""),
                "memory": quantity("such as \"2GiB\""),
            })),
            "breaker": table("circuit breakers", &[], json!({
                "consecutive_failures": whole("after how many it opens", 1, 1_000_000),
                "timeout": quantity("how long it stays open"),
                "max_requests": whole("how many calls probe it at once", 1, 1_000_000),
            })),
            "plugin": by_name("of one plugin", &table("a plugin", &[], json!({
                "concurrency": whole("calls of it at once", 1, 10_000),
                "enabled": flag("whether it may be used"),
            }))),
            "limits": limits("over the plugins' own"),
            "ceiling": ceiling,
            "grants": by_name("what plugins are granted, by name", &grant),
            "secrets": by_name("secrets, by name", &secret),
            "signatures": table("whose plugins count", &["keys"], json!({
                "keys": list("public keys of minisign", &json!({ "type": "string" })),
            })),
            "serve": table("what `sandhog serve` does", &[], json!({
                "listen": text("the address to listen on, such as \"127.0.0.1:8080\""),
                "token_file": text("the file that holds the token"),
                "hosts": list("names by which the server may be called", &json!({ "type": "string" })),
                "origins": list("other sites whose pages may ask, such as \"https://ci.example.com\"", &json!({ "type": "string" })),
                "workflows": list("folders whose workflows can be submitted by name", &json!({ "type": "string" })),
                "upload": text("the plugin folder that uploads go into; none are taken without"),
                "rate": whole("how many requests a peer may make in a second; 0 for any number", 0, crate::config::settings::RATE_MAX),
                "grace": quantity("how long what executes may take to end, such as \"10s\""),
            })),
            "data": by_name("files and folders that gates are given, by the name under which they ask for it", &text("a path")),
            "check": table("what `sandhog check` does", &[], json!({
                "exclude": globs("files that nobody judges"),
                "fail_on": severity(),
                "baseline": text("where the baseline is"),
                "file_size": quantity("larger files are not judged file by file"),
            })),
            "gate": list("the gates; none: those that fit", &gate),
            "ignore": list("findings that do not count", &ignore),
        }),
    );
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "sandhog.toml".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;
    use std::path::Path;

    /// Every field of the schema is one that is read, and every field that is read is in the schema.
    #[test]
    fn the_schema_has_exactly_the_fields_that_are_read() {
        let schema = of_settings();
        let places = [
            ("", "", ""),
            ("breaker", "/breaker", "[breaker]"),
            ("signatures", "/signatures", "[signatures]"),
            ("compile", "/compile", "[compile]"),
            ("ceiling", "/ceiling", "[ceiling]"),
            ("limits", "/limits", "[limits]"),
            ("check", "/check", "[check]"),
            ("gate", "/gate/items", "[[gate]]\ngate = \"x\""),
            ("ignore", "/ignore/items", "[[ignore]]\nrule = \"x\"\nreason = \"y\""),
            ("plugin", "/plugin/additionalProperties", "[plugin.x]"),
            ("grants", "/grants/additionalProperties", "[grants.x]"),
            ("secrets", "/secrets/additionalProperties", "[secrets.x]"),
        ];
        for (what, pointer, header) in places {
            let properties = if pointer.is_empty() {
                schema["properties"].clone()
            } else {
                schema.pointer(&format!("/properties{pointer}/properties")).expect(what).clone()
            };
            let mut listed: Vec<String> = properties.as_object().expect(what).keys().cloned().collect();
            let text = format!("{header}\nno_such_field_at_all = 1\n");
            let problems = settings::read(Path::new("sandhog.toml"), &text, Path::new("/"), |_| None).expect_err(what);
            let said = problems
                .problems
                .iter()
                .map(|problem| format!("{problem:?}"))
                .find(|text| text.contains("no_such_field_at_all"))
                .expect(what);
            let known = said.split("known here: ").nth(1).and_then(|rest| rest.split([')', '"']).next()).expect(&said);
            let mut known: Vec<String> = known.split(", ").map(str::to_owned).collect();
            listed.sort();
            known.sort();
            assert_eq!(listed, known, "[{what}]");
        }
    }
}
