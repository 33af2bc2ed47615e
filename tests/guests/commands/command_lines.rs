//! A plain WASI program that reads a task or a subject in a line of JSON, and answers in one.
use serde_json::{Value, json};

fn main() {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    let given: Value = serde_json::from_str(&line).expect("a line of JSON");
    let params = given.pointer("/task/params").or_else(|| given.pointer("/subject/params"));
    let mode = params.and_then(|params| params["mode"].as_str()).unwrap_or_default();
    let artifact = |text: &str| json!({ "artifacts": [{ "name": "out.txt", "media_type": "text/plain", "text": text }] });
    match mode {
        "answer" => {
            println!("{}", json!({ "log": { "level": "info", "message": "thinking" } }));
            let arguments: Vec<String> = std::env::args().skip(1).collect();
            let input = &given["task"]["inputs"][0];
            let text = input["text"].as_str().unwrap_or_default().to_uppercase();
            println!("{}", artifact(&format!("{arguments:?} {} {text}", input["name"].as_str().unwrap_or_default())));
        }
        "judge" => {
            let files = given["subject"]["files"].as_array().cloned().unwrap_or_default();
            let mut findings = Vec::new();
            for path in files.iter().filter_map(|file| file["path"].as_str()) {
                let text = std::fs::read_to_string(format!("/subject/{path}")).unwrap_or_default();
                if text.contains("TODO") {
                    findings.push(json!({ "rule": "todo", "severity": "high", "message": "unfinished", "location": { "path": path } }));
                }
            }
            let verdict = if findings.is_empty() { "pass" } else { "fail" };
            println!("{}", json!({ "verdict": verdict, "findings": findings, "summary": format!("{} files", files.len()) }));
        }
        "later" => println!("{}", json!({ "failure": { "kind": "transient", "message": "later" } })),
        "twice" => println!("{0}\n{0}", artifact("x")),
        "babble" => println!("hello"),
        "stumble" => {
            println!("{}", artifact("x"));
            std::process::exit(1);
        }
        "trap" => std::process::abort(),
        "flood" => loop {
            println!("{}", json!({ "log": { "level": "info", "message": "x".repeat(1000) } }));
        },
        _ => {}
    }
}
