//! Reports a metric that is not a number.
use sandhog_guest::{Failure, Metric, Subject, Verdict};

sandhog_guest::gate!(check);

fn check(_subject: Subject) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::from_findings(vec![]);
    verdict.metrics.push(Metric { name: "speed".into(), value: f64::NAN, unit: "m/s".into() });
    Ok(verdict)
}
