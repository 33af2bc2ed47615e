//! Judges what others measured: reports of hyperfine, criterion, Go's benchmarks and pytest-benchmark. They are evidence, not proof: what
//! a report says is what its maker says.

use std::collections::BTreeMap;

use measures::{Judge, Kind, Measure, Params};
use sandhog_guest::{Decision, Failure, Finding, Severity, Subject, Verdict};
use serde_json::Value;

sandhog_guest::gate!(check);

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let judge = Judge::new(&subject.params, env!("CARGO_PKG_NAME"))?;
    let (mut findings, mut metrics) = (Vec::new(), Vec::new());
    for file in &subject.files {
        let text = subject.read_text(&file.path)?;
        let measured = match read(&file.path, &text) {
            Ok(measured) if measured.is_empty() => Err("there is no measurement in it".to_owned()),
            other => other,
        };
        match measured {
            Ok(measured) if measured.iter().any(|measure| !(measure.value >= 0.0 && measure.value.is_finite())) => {
                findings.push(Finding::new("unreadable-report", Severity::High, "a figure in it is no time").in_file(&file.path));
            }
            Ok(measured) => {
                for measure in measured {
                    let (found, metric) = judge.judge(&measure);
                    findings.extend(found.into_iter().map(|finding| finding.in_file(&file.path)));
                    metrics.push(metric);
                }
            }
            Err(reason) => findings.push(
                Finding::new("unreadable-report", Severity::High, format!("it does not read as a report: {reason}")).in_file(&file.path),
            ),
        }
    }
    let summary = format!("{} figures, as their reports say", metrics.len());
    let decision = Verdict::from_findings(findings.clone()).decision;
    Ok(Verdict { decision: if metrics.is_empty() { Decision::Fail } else { decision }, findings, metrics, summary })
}

/// The figures of a report, by what it looks like.
fn read(path: &str, text: &str) -> Result<Vec<Measure>, String> {
    if !text.trim_start().starts_with(['{', '[']) {
        if text.lines().any(|line| line == "FAIL" || line.starts_with("FAIL\t") || line.starts_with("--- FAIL")) {
            return Err("a benchmark in it failed".to_owned());
        }
        return Ok(go(text));
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return criterion_lines(text) };
    if let Some(results) = value.get("results").and_then(Value::as_array) {
        let codes = results.iter().filter_map(|result| result.get("exit_codes")?.as_array()).flatten();
        // A command that a signal ended has no code.
        if codes.into_iter().any(|code| code.as_i64() != Some(0)) {
            return Err("a command in it failed: its times mean nothing".to_owned());
        }
        let whole = || "a result without a command or its times".to_owned();
        return results.iter().map(|result| hyperfine(result).ok_or_else(whole)).collect();
    }
    if let Some(benchmarks) = value.get("benchmarks").and_then(Value::as_array) {
        let whole = || "a benchmark without a name or its times".to_owned();
        return benchmarks.iter().map(|benchmark| pytest(benchmark).ok_or_else(whole)).collect();
    }
    if value.get("median").is_some() && value.get("slope").is_some() {
        // target/criterion/GROUP/NAME/new/estimates.json
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.truncate(parts.len().saturating_sub(2));
        let name = parts.rsplit(|part| *part == "criterion").next().unwrap_or_default().join("/");
        let number = |of: &str| value.pointer(&format!("/{of}/point_estimate")).and_then(Value::as_f64);
        let measure =
            number("median").map(|value| Measure { name, kind: Kind::Time, value, deviation: number("median_abs_dev").unwrap_or(0.0) });
        return Ok(measure.into_iter().collect());
    }
    criterion_lines(text)
}

fn numbers(value: Option<&Value>, factor: f64) -> Vec<f64> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64).map(|number| number * factor).collect()
}

/// hyperfine --export-json: seconds.
fn hyperfine(result: &Value) -> Option<Measure> {
    let name = result.get("command")?.as_str()?;
    let samples = numbers(result.get("times"), 1e9);
    Measure::of_samples(name, Kind::Time, &samples).or_else(|| {
        let value = result.get("median").or_else(|| result.get("mean"))?.as_f64()? * 1e9;
        Some(Measure {
            name: name.to_owned(),
            kind: Kind::Time,
            value,
            deviation: result.get("stddev").and_then(Value::as_f64).unwrap_or(0.0) * 1e9,
        })
    })
}

/// pytest --benchmark-json: seconds.
fn pytest(benchmark: &Value) -> Option<Measure> {
    let name = benchmark.get("fullname").or_else(|| benchmark.get("name"))?.as_str()?;
    let stats = benchmark.get("stats")?;
    let samples = numbers(stats.get("data"), 1e9);
    Measure::of_samples(name, Kind::Time, &samples).or_else(|| {
        let number = |field: &str| stats.get(field).and_then(Value::as_f64);
        // Half of the middle half is what a median absolute deviation is, for what scatters evenly.
        Some(Measure {
            name: name.to_owned(),
            kind: Kind::Time,
            value: number("median")? * 1e9,
            deviation: number("iqr").unwrap_or(0.0) / 2.0 * 1e9,
        })
    })
}

/// cargo criterion --message-format=json: a message a line.
fn criterion_lines(text: &str) -> Result<Vec<Measure>, String> {
    let mut measures = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let message: Value = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        if message.get("reason").and_then(Value::as_str) != Some("benchmark-complete") {
            continue;
        }
        let unit = message.pointer("/median/unit").and_then(Value::as_str).unwrap_or("ns");
        let factor = match unit {
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            other => return Err(format!("line {}: the unit {other:?} is none of s, ms, us, ns", number + 1)),
        };
        let estimate = |of: &str| message.pointer(&format!("/{of}/estimate")).and_then(Value::as_f64);
        if let (Some(id), Some(value)) = (message.get("id").and_then(Value::as_str), estimate("median")) {
            let deviation = estimate("median_abs_dev").unwrap_or(0.0) * factor;
            measures.push(Measure { name: id.to_owned(), kind: Kind::Time, value: value * factor, deviation });
        }
    }
    Ok(measures)
}

/// go test -bench: `BenchmarkName-8  1000  1234 ns/op  56 B/op`, as often as it was run.
fn go(text: &str) -> Vec<Measure> {
    let mut samples: BTreeMap<(String, Kind), Vec<f64>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("Benchmark")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(full) = words.first() else { continue };
        let name =
            full.rsplit_once('-').filter(|(_, cores)| cores.chars().all(|digit| digit.is_ascii_digit())).map_or(*full, |(name, _)| name);
        for pair in words.windows(2) {
            let kind = match pair[1] {
                "ns/op" => Kind::Time,
                "B/op" => Kind::Memory,
                _ => continue,
            };
            if let Ok(value) = pair[0].parse::<f64>() {
                samples.entry((name.to_owned(), kind)).or_default().push(value);
            }
        }
    }
    samples.into_iter().filter_map(|((name, kind), samples)| Measure::of_samples(name, kind, &samples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, text: &str) -> Vec<String> {
        read(path, text)
            .expect("reads")
            .iter()
            .map(|measure| format!("{} {:?} {:.0}±{:.0}", measure.name, measure.kind, measure.value, measure.deviation))
            .collect()
    }

    #[test]
    fn each_tool_s_report_is_read() {
        assert_eq!(
            shown("h.json", r#"{"results": [{"command": "x", "mean": 9.0, "times": [0.1, 0.2, 0.3]}]}"#),
            ["x Time 200000000±100000000"]
        );
        assert_eq!(
            shown("p.json", r#"{"benchmarks": [{"fullname": "t.py::b", "stats": {"median": 0.5, "iqr": 0.2}}]}"#),
            ["t.py::b Time 500000000±100000000"]
        );
        let estimates = r#"{"mean": {"point_estimate": 1}, "median": {"point_estimate": 42.0}, "median_abs_dev": {"point_estimate": 2.0}, "slope": null}"#;
        assert_eq!(shown("target/criterion/sort/1000/new/estimates.json", estimates), ["sort/1000 Time 42±2"]);
        let lines = "{\"reason\":\"group-complete\"}\n{\"reason\":\"benchmark-complete\",\"id\":\"a/b\",\"median\":{\"estimate\":2.0,\"unit\":\"us\"},\"median_abs_dev\":{\"estimate\":0.5,\"unit\":\"us\"}}\n";
        assert_eq!(shown("c.json", lines), ["a/b Time 2000±500"]);
        let go = "goos: linux\nBenchmarkF-8   100  10 ns/op  5 B/op\nBenchmarkF-8   100  14 ns/op  5 B/op\nPASS\n";
        assert_eq!(shown("go.txt", go), ["BenchmarkF Memory 5±0", "BenchmarkF Time 12±2"]);
        for bad in [
            "{\"a\"",
            r#"{"results": [{"command": "x", "times": [0.1], "exit_codes": [0, null]}]}"#,
            r#"{"results": [{"command": "x", "times": [0.1], "exit_codes": [0, 1]}]}"#,
            r#"{"results": [{"times": [0.1]}]}"#,
            r#"{"benchmarks": [{"fullname": "t"}]}"#,
        ] {
            assert!(read("x.json", bad).is_err(), "{bad}");
        }
    }
}
