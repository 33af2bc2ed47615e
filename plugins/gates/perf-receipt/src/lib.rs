//! Judges the receipt of the attempt that made the work: fuel, which is exact and the same on every machine, the peak of its memory, and
//! its time. In a workflow, with `usage = true`.

use measures::{Judge, Kind, Measure, Params};
use sandhog_guest::{Failure, Subject, Verdict, invalid_input};

sandhog_guest::gate!(check);

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let usage = subject.usage.as_ref().ok_or_else(|| {
        invalid_input("it judges what the attempt used, and is not told: in a workflow, write { gate = \"perf-receipt\", usage = true, params = { … } }")
    })?;
    let judge = Judge::new(&subject.params, env!("CARGO_PKG_NAME"))?;
    if judge.names(Kind::Time) && usage.wall_time_ns == 0 {
        return Err(invalid_input("time is not told to a gate without a clock: grant it `clock`, or judge fuel, which is exact"));
    }
    let name = subject.task.as_ref().map_or_else(String::new, |task| match task.inputs.as_slice() {
        [one] => format!("{} {}", task.step, one.name),
        _ => task.step.clone(),
    });
    let mut verdict = Verdict::from_findings(Vec::new());
    let mut findings = Vec::new();
    for (kind, value) in [(Kind::Fuel, usage.fuel), (Kind::Memory, usage.peak_memory_bytes), (Kind::Time, usage.wall_time_ns)] {
        if kind == Kind::Time && value == 0 {
            continue;
        }
        let (found, metric) = judge.judge(&Measure { name: name.clone(), kind, value: value as f64, deviation: 0.0 });
        findings.extend(found);
        verdict.metrics.push(metric);
    }
    let summary = format!("fuel {}, {} bytes of memory at most", usage.fuel, usage.peak_memory_bytes);
    Ok(Verdict { metrics: verdict.metrics, summary, ..Verdict::from_findings(findings) })
}
