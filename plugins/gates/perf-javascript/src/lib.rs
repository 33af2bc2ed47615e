//! Runs benchmarks in JavaScript and TypeScript: what `bench("name", () => { … })` registers in `*.bench.*` files. What is measured is the
//! fuel of one call, after one that is not counted: exact, and the same on every machine for the same engine.

use engine_javascript::{Ended, Engine, Problem};
use measures::{Judge, Kind, Measure, Params};
use sandhog_guest::{Decision, Failure, Subject, Verdict, invalid_input};

sandhog_guest::gate!(check, units = units);
sandhog_guest::initialize!(engine_javascript::initialize);

fn units(subject: Subject<Params>) -> Result<Vec<String>, Failure> {
    let mut units = Vec::new();
    for file in &subject.files {
        let engine = Engine::new(true)?;
        match engine.load(&file.path, &[]).and_then(|()| engine.names("benchmarks")) {
            Ok(names) => units.extend(names),
            Err(_) => units.push(file.path.clone()), // what is wrong is said when it is run
        }
    }
    Ok(units)
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let unit = subject.unit.as_deref().ok_or_else(|| invalid_input("this gate judges unit by unit, and no unit was named"))?;
    let [file] = subject.files.as_slice() else { return Err(invalid_input("a benchmark is of one file")) };
    let judge = Judge::new(&subject.params, env!("CARGO_PKG_NAME"))?;
    let engine = Engine::new(false)?;
    let failed = |problem: &Problem| {
        let finding = engine.finding("benchmark-failed", &file.path, format!("{unit}: {}", problem.message), problem);
        Verdict { decision: Decision::Fail, ..Verdict::from_findings(vec![finding]) }
    };
    if let Err(problem) = engine.load(&file.path, &[]) {
        return Ok(failed(&problem));
    }
    let fuel = match engine.run("bench", unit) {
        Ok(Some(Ended::Measured { fuel })) => fuel.parse::<u64>().map_err(sandhog_guest::permanent)?,
        Ok(Some(Ended::Failed { problem, .. })) | Err(problem) => return Ok(failed(&problem)),
        Ok(Some(Ended::Passed | Ended::Skipped { .. }) | None) => {
            return Ok(failed(&Problem { message: "it is not registered any more".to_owned(), ..Problem::default() }));
        }
    };
    let (findings, metric) = judge.judge(&Measure { name: unit.to_owned(), kind: Kind::Fuel, value: fuel as f64, deviation: 0.0 });
    let findings = findings.into_iter().map(|finding| finding.in_file(&file.path)).collect();
    Ok(Verdict { metrics: vec![metric], summary: format!("fuel {fuel}"), ..Verdict::from_findings(findings) })
}
