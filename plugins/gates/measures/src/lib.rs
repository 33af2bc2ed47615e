//! Figures against what they may be: a maximum, and what they were (the baseline).
//!
//! Fuel and memory are exact: a change of one unit is a change of the code. Time is not: it is judged by the median of its
//! samples, and a change counts only where it is larger than what the samples scatter by, three times their scaled median
//! absolute deviation (Rousseeuw and Croux, 1993). Where params do not say what figures may grow by, fuel may by 2%, memory by
//! 10%, and time by 10% where it is known what its samples scatter by.

use std::collections::{BTreeMap, BTreeSet};

use sandhog_guest::{Failure, Finding, Metric, Severity, invalid_input, permanent};

/// Where the baseline lies.
const BASELINE: &str = "/data/baseline";
/// By what the median absolute deviation is multiplied to estimate a standard deviation.
const SCALE: f64 = 1.4826;
/// How many of these a change must be larger than to be more than scatter.
const DEVIATIONS: f64 = 3.0;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Fuel,
    Memory,
    Time,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Time => "time",
        }
    }

    /// What it may grow by where nobody says.
    fn regression(self) -> f64 {
        match self {
            Self::Fuel => 0.02,
            Self::Memory | Self::Time => 0.1,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Fuel => "",
            Self::Memory => "bytes",
            Self::Time => "ns",
        }
    }
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Of what.
    pub name: String,
    pub kind: Kind,
    /// In fuel, bytes or nanoseconds.
    pub value: f64,
    /// What its samples scatter by: their median absolute deviation; 0 where it is exact or nobody knows.
    pub deviation: f64,
}

impl Measure {
    /// The median of samples, and what they scatter by. None where there are none.
    pub fn of_samples(name: impl Into<String>, kind: Kind, samples: &[f64]) -> Option<Self> {
        let value = median(samples)?;
        let deviation = median(&samples.iter().map(|sample| (sample - value).abs()).collect::<Vec<_>>())?;
        Some(Self { name: name.into(), kind, value, deviation })
    }

    fn metric(&self) -> Metric {
        Metric { name: format!("{} {}", self.name, self.kind.word()), value: self.value, unit: self.kind.unit().to_owned() }
    }
}

/// The middle of some numbers; none of none.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[odd / 2]),
        even => Some(f64::midpoint(sorted[even / 2 - 1], sorted[even / 2])),
    }
}

/// What figures may be, as params say it: `max_regression = "2%"` for all, or a table of it by `fuel`, `memory` and `time`;
/// `maximum`, a table of it. Of a table, what it does not name is not compared.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    max_regression: Option<PerKind>,
    maximum: BTreeMap<String, Quantity>,
    /// Whether what is not in the baseline rejects.
    require_baseline: bool,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum PerKind {
    All(Quantity),
    Each(BTreeMap<String, Quantity>),
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(f64),
    Text(String),
}

/// Judges figures.
#[derive(Debug)]
pub struct Judge {
    regression: BTreeMap<Kind, f64>,
    /// Whether nobody said what figures may grow by.
    is_default: bool,
    maximum: BTreeMap<Kind, f64>,
    require_baseline: bool,
    /// What was asked for by its own name.
    named: BTreeSet<Kind>,
    baseline: Option<BTreeMap<String, f64>>,
}

impl Judge {
    /// Reads the params and the baseline, of a plugin by its name.
    ///
    /// # Errors
    /// What does not read.
    pub fn new(params: &Params, plugin: &str) -> Result<Self, Failure> {
        let kinds = [Kind::Fuel, Kind::Memory, Kind::Time];
        let known = |word: &str| {
            kinds
                .into_iter()
                .find(|kind| kind.word() == word)
                .ok_or_else(|| invalid_input(format!("`{word}` is none of fuel, memory, time")))
        };
        let mut regression = BTreeMap::new();
        match &params.max_regression {
            None => regression.extend(kinds.map(|kind| (kind, kind.regression()))),
            Some(PerKind::All(part)) => {
                let part = percent(part)?;
                regression.extend(kinds.map(|kind| (kind, part)));
            }
            Some(PerKind::Each(parts)) => {
                for (word, part) in parts {
                    regression.insert(known(word)?, percent(part)?);
                }
            }
        }
        let mut maximum = BTreeMap::new();
        for (word, quantity) in &params.maximum {
            let kind = known(word)?;
            maximum.insert(kind, amount(kind, quantity)?);
        }
        let mut named: BTreeSet<Kind> = maximum.keys().copied().collect();
        if let Some(PerKind::Each(_)) = &params.max_regression {
            named.extend(regression.keys());
        }
        let is_default = params.max_regression.is_none();
        Ok(Self { regression, is_default, maximum, require_baseline: params.require_baseline, named, baseline: read_baseline(plugin)? })
    }

    /// Whether a kind of figures was named.
    #[must_use]
    pub fn names(&self, kind: Kind) -> bool {
        self.named.contains(&kind)
    }

    /// What there is to say about a figure, and the figure for the report.
    #[must_use]
    pub fn judge(&self, measure: &Measure) -> (Vec<Finding>, Metric) {
        let metric = measure.metric();
        let mut findings = Vec::new();
        let (name, word, value) = (&measure.name, measure.kind.word(), measure.value);
        let show = |value| show(measure.kind, value);
        // Rounds and baselines compare messages: what changes with each measurement stands in the suggestion.
        if let Some(maximum) = self.maximum.get(&measure.kind).filter(|maximum| value > **maximum) {
            let text = format!("{name}: {word} is above the maximum of {}", show(*maximum));
            let found = format!("it is {}", show(value));
            findings.push(Finding::new(format!("{word}-maximum"), Severity::High, text).suggest(found));
        }
        // How far one sample of a time is off, nobody knows.
        let is_vague = self.is_default && measure.kind == Kind::Time && measure.deviation == 0.0;
        let Some(allowed) = self.regression.get(&measure.kind).filter(|_| !is_vague) else { return (findings, metric) };
        match self.baseline.as_ref().and_then(|baseline| baseline.get(&metric.name)) {
            Some(before) => {
                let change = if *before > 0.0 {
                    (value - before) / before
                } else if value > 0.0 {
                    f64::INFINITY
                } else {
                    0.0
                };
                let is_scatter = (value - before).abs() <= DEVIATIONS * SCALE * measure.deviation;
                if change > *allowed && !is_scatter {
                    let text = format!("{name}: {word} grew by more than {:.2}% over {}", allowed * 100.0, show(*before));
                    let found = format!(
                        "it is {}, {:.2}% more: make it cheaper, or accept it: sandhog baseline update",
                        show(value),
                        change * 100.0
                    );
                    findings.push(Finding::new(format!("{word}-regression"), Severity::High, text).suggest(found));
                } else if -change > *allowed && !is_scatter {
                    let text = format!("{name}: {word} fell by more than {:.2}% below {}", allowed * 100.0, show(*before));
                    let found = format!("it is {}: keep it: sandhog baseline update", show(value));
                    findings.push(Finding::new(format!("{word}-improved"), Severity::Info, text).suggest(found));
                }
            }
            None if self.is_default && self.baseline.is_none() && !self.require_baseline => {}
            None => {
                let severity = if self.require_baseline { Severity::High } else { Severity::Info };
                let text = format!("{name}: {word} has no baseline");
                let found = format!("it is {}: record it: sandhog baseline update", show(value));
                findings.push(Finding::new("no-baseline", severity, text).suggest(found));
            }
        }
        (findings, metric)
    }
}

fn show(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Fuel => format!("{value}"),
        Kind::Memory => format!("{value} bytes"),
        Kind::Time if value >= 1e9 => format!("{:.3} s", value / 1e9),
        Kind::Time if value >= 1e6 => format!("{:.3} ms", value / 1e6),
        Kind::Time if value >= 1e3 => format!("{:.3} us", value / 1e3),
        Kind::Time => format!("{value:.1} ns"),
    }
}

fn percent(quantity: &Quantity) -> Result<f64, Failure> {
    let text = match quantity {
        Quantity::Text(text) => text.trim(),
        Quantity::Number(_) => "",
    };
    let part = text.strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok()).filter(|part| *part >= 0.0 && part.is_finite());
    part.map(|part| part / 100.0).ok_or_else(|| invalid_input("`max_regression` must be a part such as \"2%\""))
}

fn amount(kind: Kind, quantity: &Quantity) -> Result<f64, Failure> {
    let units: &[(&str, f64)] = match kind {
        Kind::Fuel => &[("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("", 1.0)],
        Kind::Memory => &[("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0), ("B", 1.0), ("", 1.0)],
        Kind::Time => &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10)],
    };
    let bad = || {
        let shown: Vec<&str> = units.iter().map(|(unit, _)| *unit).filter(|unit| !unit.is_empty()).collect();
        invalid_input(format!("`maximum.{}` must be a number with one of the units {}", kind.word(), shown.join(", ")))
    };
    match quantity {
        Quantity::Number(number) if *number >= 0.0 && kind != Kind::Time => Ok(*number),
        Quantity::Number(_) => Err(bad()),
        Quantity::Text(text) => {
            let text = text.trim();
            let cut = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(text.len());
            let (number, unit) = text.split_at(cut);
            let factor = units.iter().find(|(own, _)| *own == unit.trim()).map(|(_, factor)| *factor).ok_or_else(bad)?;
            number.parse::<f64>().map(|number| number * factor).map_err(|_| bad())
        }
    }
}

/// The figures of a plugin in the baseline; none where there is no baseline.
fn read_baseline(plugin: &str) -> Result<Option<BTreeMap<String, f64>>, Failure> {
    let Some(entry) = std::fs::read_dir(BASELINE).ok().and_then(|mut entries| entries.next()) else { return Ok(None) };
    let entry = entry.map_err(|error| permanent(format!("the baseline cannot be read: {error}")))?;
    let text = std::fs::read_to_string(entry.path()).map_err(|error| permanent(format!("the baseline cannot be read: {error}")))?;
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        metrics: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        plugin: String,
        name: String,
        value: f64,
    }
    let file: File = serde_json::from_str(&text).map_err(|error| permanent(format!("the baseline does not read: {error}")))?;
    Ok(Some(file.metrics.into_iter().filter(|entry| entry.plugin == plugin).map(|entry| (entry.name, entry.value)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(params: &str, baseline: &[(&str, f64)]) -> Judge {
        let params: Params = serde_json::from_str(params).expect("params");
        let mut judge = Judge::new(&params, "perf").expect("a judge");
        judge.baseline = Some(baseline.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect());
        judge
    }

    fn rules(judge: &Judge, kind: Kind, value: f64, deviation: f64) -> Vec<String> {
        let measure = Measure { name: "f".into(), kind, value, deviation };
        judge.judge(&measure).0.into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn two_percent_mean_two_percent() {
        let judge = judge(r#"{"max_regression": "2%", "maximum": {"fuel": "2k"}}"#, &[("f fuel", 1000.0), ("f time", 1000.0)]);
        assert_eq!(rules(&judge, Kind::Fuel, 1020.0, 0.0), Vec::<String>::new());
        assert_eq!(rules(&judge, Kind::Fuel, 1021.0, 0.0), ["fuel-regression"]);
        assert_eq!(rules(&judge, Kind::Fuel, 979.0, 0.0), ["fuel-improved"]);
        assert_eq!(rules(&judge, Kind::Fuel, 2001.0, 0.0), ["fuel-maximum", "fuel-regression"]);
        assert_eq!(rules(&judge, Kind::Time, 1100.0, 30.0), Vec::<String>::new(), "within what it scatters by");
        assert_eq!(rules(&judge, Kind::Time, 1100.0, 5.0), ["time-regression"]);
        assert_eq!(rules(&judge, Kind::Memory, 5.0, 0.0), ["no-baseline"]);
    }

    #[test]
    fn without_a_word_fuel_may_grow_by_two_percent_and_a_table_names_all_that_is_compared() {
        let before = [("f fuel", 1000.0), ("f memory", 1000.0), ("f time", 1000.0)];
        let default = judge("{}", &before);
        assert_eq!(rules(&default, Kind::Fuel, 1020.0, 0.0), Vec::<String>::new());
        assert_eq!(rules(&default, Kind::Fuel, 1021.0, 0.0), ["fuel-regression"]);
        assert_eq!(rules(&default, Kind::Memory, 1101.0, 0.0), ["memory-regression"]);
        assert_eq!(rules(&default, Kind::Time, 1101.0, 1.0), ["time-regression"]);
        assert_eq!(rules(&default, Kind::Time, 9000.0, 0.0), Vec::<String>::new(), "one sample says nothing of scatter");
        assert_eq!(rules(&judge("{}", &[]), Kind::Fuel, 1.0, 0.0), ["no-baseline"]);
        let none = |params: &str| Judge { baseline: None, ..judge(params, &[]) };
        assert_eq!(rules(&none("{}"), Kind::Fuel, 1.0, 0.0), Vec::<String>::new());
        assert_eq!(rules(&none(r#"{"max_regression": "2%"}"#), Kind::Fuel, 1.0, 0.0), ["no-baseline"]);
        assert_eq!(rules(&none(r#"{"require_baseline": true}"#), Kind::Fuel, 1.0, 0.0), ["no-baseline"]);
        let some = judge(r#"{"max_regression": {"memory": "5%"}}"#, &before);
        assert_eq!(rules(&some, Kind::Fuel, 9000.0, 0.0), Vec::<String>::new());
        assert_eq!(rules(&some, Kind::Memory, 1051.0, 0.0), ["memory-regression"]);
    }

    #[test]
    fn medians_and_their_scatter_are_robust() {
        let measure = Measure::of_samples("f", Kind::Time, &[10.0, 11.0, 9.0, 10.0, 500.0]).expect("samples");
        assert_eq!((measure.value, measure.deviation), (10.0, 1.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert!(Measure::of_samples("f", Kind::Time, &[]).is_none());
    }

    #[test]
    fn what_does_not_read_is_refused() {
        for bad in [
            r#"{"max_regression": "2"}"#,
            r#"{"max_regression": 2}"#,
            r#"{"max_regression": {"speed": "2%"}}"#,
            r#"{"maximum": {"time": 5}}"#,
            r#"{"maximum": {"fuel": "2X"}}"#,
        ] {
            let params: Params = serde_json::from_str(bad).expect("params");
            assert!(Judge::new(&params, "perf").is_err(), "{bad}");
        }
    }
}
