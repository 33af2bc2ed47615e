//! Stands in for an agent that writes code: it makes a Python module by a specification, with tests and a benchmark, and gets
//! some of it wrong. What its gates find comes back as feedback; it reads the rules and mends what they say, round by
//! round, as an agent would: by their findings alone, since nothing else is remembered.

use sandhog_guest::{Artifact, Failure, Task};
use serde::Deserialize;

sandhog_guest::worker!(run);

#[derive(Deserialize)]
struct Params {
    /// Up to which number the benchmark counts.
    #[serde(default = "limit")]
    limit: u32,
}

fn limit() -> u32 {
    2_000
}

/// What can be wrong with the module.
struct Draft {
    unused_import: bool,
    off_by_one: bool,
    slow: bool,
    documented: bool,
}

fn run(task: Task<Params>) -> Result<Vec<Artifact>, Failure> {
    let specification = task.input()?.as_text()?;
    log::info!("{} bytes of specification, revision {}", specification.len(), task.revision);
    let code = task.previous.iter().find(|artifact| artifact.name == "primes.py");
    let mut draft = match code {
        // A fresh instance remembers nothing: what was wrong is read from what was sent back.
        Some(code) => Draft::read(code.as_text()?),
        None => Draft { unused_import: true, off_by_one: true, slow: true, documented: false },
    };
    // First right, then fast.
    let is_cost = |rule: &str| rule.starts_with("fuel-");
    let only_cost = task.feedback.iter().all(|finding| is_cost(&finding.rule));
    for finding in task.feedback.iter().filter(|finding| only_cost || !is_cost(&finding.rule)) {
        log::info!("{}: {}", finding.rule, finding.message);
        match finding.rule.as_str() {
            "F401" => draft.unused_import = false,
            "test-failed" => draft.off_by_one = false,
            "fuel-maximum" | "fuel-regression" => draft.slow = false,
            "no-docs" => draft.documented = true,
            _ => {}
        }
    }
    Ok(vec![
        Artifact::new("primes.py", "text/x-python", draft.module()),
        Artifact::new("test_primes.py", "text/x-python", TESTS),
        Artifact::new(
            "bench_primes.py",
            "text/x-python",
            format!("from primes import primes\n\n\ndef bench_primes():\n    primes({})\n", task.params.limit),
        ),
    ])
}

const TESTS: &str = "from primes import primes


def test_small_ones():
    assert primes(10) == [2, 3, 5, 7]


def test_the_limit_itself_belongs_to_them():
    assert primes(13)[-1] == 13


def test_there_are_none_below_two():
    assert primes(1) == []
";

impl Draft {
    fn read(code: &str) -> Self {
        Self {
            unused_import: code.contains("import math"),
            off_by_one: code.contains("range(2, limit)"),
            slow: !code.contains("sieve"),
            documented: code.contains("\"\"\""),
        }
    }

    fn module(&self) -> String {
        let import = if self.unused_import { "import math\n\n\n" } else { "" };
        let docs = if self.documented { "    \"\"\"All prime numbers up to a limit, the limit included.\"\"\"\n" } else { "" };
        let end = if self.off_by_one { "limit" } else { "limit + 1" };
        let body = if self.slow {
            format!("    return [n for n in range(2, {end}) if all(n % d for d in range(2, n))]\n")
        } else {
            format!(
                "    sieve = [True] * (limit + 1)\n    for n in range(2, {end}):\n        if sieve[n]:\n            for multiple in range(n * n, limit + 1, n):\n                sieve[multiple] = False\n    return [n for n in range(2, {end}) if sieve[n]]\n"
            )
        };
        format!("{import}def primes(limit):\n{docs}{body}")
    }
}
