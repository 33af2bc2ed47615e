//! The limits of one attempt. Each is enforced by [`crate::runtime`] and attacked by a guest in `tests/guests`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

/// What one attempt may use. Every field is a hard bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Weighted wasm instructions: the same answer on every machine.
    pub fuel: u64,
    /// Wall clock from dispatch to outcome, instantiation and host calls included.
    #[serde(serialize_with = "as_ms", rename = "timeout_ms")]
    pub timeout: Duration,
    /// All linear memories and tables of the instance together, in bytes.
    #[serde(rename = "memory_bytes")]
    pub memory: u64,
    /// What is handed in by value, in bytes.
    #[serde(rename = "input_bytes")]
    pub input: u64,
    /// Artifacts, findings and strings returned, in bytes; also bounds what one host call may carry.
    #[serde(rename = "output_bytes")]
    pub output: u64,
    /// What is kept of stdout, stderr and log calls, in bytes; the rest is dropped and counted.
    #[serde(rename = "log_bytes")]
    pub log: u64,
    /// Open resources at once.
    pub handles: u32,
    /// Files that are written below `/tmp`, in bytes, names and what a file costs beside included. They are held in the
    /// host's memory and gone with the instance. Without any there is no such folder.
    #[serde(rename = "scratch_bytes")]
    pub scratch: u64,
}

fn as_ms<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 10_000_000_000,
            timeout: Duration::from_secs(30),
            memory: 64 << 20,
            input: 16 << 20,
            output: 16 << 20,
            log: 1 << 20,
            handles: 128,
            scratch: 0,
        }
    }
}

impl Limits {
    /// What a host allows where its configuration sets no ceiling of its own. `input`, `output`, `log` and `scratch`
    /// are held in the host's own memory, so they stay well below what a machine has.
    pub const CEILING: Self = Self {
        fuel: 1_000_000_000_000_000,
        timeout: Duration::from_secs(24 * 60 * 60),
        memory: 4 << 30,
        input: 256 << 20,
        output: 256 << 20,
        log: 64 << 20,
        handles: 4096,
        scratch: 1 << 30,
    };

    /// These limits, with what a patch sets.
    #[must_use]
    pub fn with(self, patch: &LimitsPatch) -> Self {
        Self {
            fuel: patch.fuel.unwrap_or(self.fuel),
            timeout: patch.timeout.unwrap_or(self.timeout),
            memory: patch.memory.unwrap_or(self.memory),
            input: patch.input.unwrap_or(self.input),
            output: patch.output.unwrap_or(self.output),
            log: patch.log.unwrap_or(self.log),
            handles: patch.handles.unwrap_or(self.handles),
            scratch: patch.scratch.unwrap_or(self.scratch),
        }
    }

    /// Which of these are above a ceiling: each named with its value and the ceiling's, ready to print.
    #[must_use]
    pub fn above(&self, ceiling: &Self) -> Vec<String> {
        // Each call is asked this: nothing is put into words that is not to be told.
        let mut above = Vec::new();
        let mut tell = |name: &str, value: String, max: String| {
            above.push(format!("`{name}` = {value} is above this host's ceiling of {max}"));
        };
        if self.fuel > ceiling.fuel {
            tell("fuel", show_fuel(self.fuel), show_fuel(ceiling.fuel));
        }
        if self.timeout > ceiling.timeout {
            tell("timeout", format!("{:?}", self.timeout), format!("{:?}", ceiling.timeout));
        }
        for (name, value, max) in [
            ("memory", self.memory, ceiling.memory),
            ("input", self.input, ceiling.input),
            ("output", self.output, ceiling.output),
            ("log", self.log, ceiling.log),
            ("scratch", self.scratch, ceiling.scratch),
        ] {
            if value > max {
                tell(name, show_bytes(value), show_bytes(max));
            }
        }
        if self.handles > ceiling.handles {
            tell("handles", self.handles.to_string(), ceiling.handles.to_string());
        }
        above
    }
}

/// Some limits set over others: plugin's default < configuration < workflow < command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Limits`")]
pub struct LimitsPatch {
    pub fuel: Option<u64>,
    pub timeout: Option<Duration>,
    pub memory: Option<u64>,
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub log: Option<u64>,
    pub handles: Option<u32>,
    pub scratch: Option<u64>,
}

/// The names that a table of limits may have, in the order of the documentation.
pub const LIMIT_NAMES: [&str; 8] = ["fuel", "timeout", "memory", "input", "output", "log", "handles", "scratch"];

impl LimitsPatch {
    /// Sets one limit by its name, from its text.
    ///
    /// # Errors
    /// When the name is unknown, or the text is no value of that limit.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), BadUnit> {
        match name {
            "fuel" => self.fuel = Some(parse_fuel(text)?),
            "timeout" => self.timeout = Some(parse_duration(text)?),
            "memory" => self.memory = Some(parse_bytes(text)?),
            "input" => self.input = Some(parse_bytes(text)?),
            "output" => self.output = Some(parse_bytes(text)?),
            "log" => self.log = Some(parse_bytes(text)?),
            "handles" => {
                self.handles = Some(text.parse().map_err(|_| BadUnit::new(text, "a whole number, such as 128"))?);
            }
            "scratch" if text.trim() == "0" => self.scratch = Some(0),
            "scratch" => self.scratch = Some(parse_bytes(text)?),
            _ => return Err(BadUnit::new(name, "one of fuel, timeout, memory, input, output, log, handles, scratch")),
        }
        Ok(())
    }

    /// This patch, with what a later one sets.
    #[must_use]
    pub fn then(self, later: &Self) -> Self {
        Self {
            fuel: later.fuel.or(self.fuel),
            timeout: later.timeout.or(self.timeout),
            memory: later.memory.or(self.memory),
            input: later.input.or(self.input),
            output: later.output.or(self.output),
            log: later.log.or(self.log),
            handles: later.handles.or(self.handles),
            scratch: later.scratch.or(self.scratch),
        }
    }
}

/// A text that is no quantity of the kind expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct BadUnit {
    /// What stood there.
    pub found: String,
    /// What should have.
    pub expected: &'static str,
}

impl BadUnit {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: super::text::sanitize(found, 80), expected }
    }
}

/// Reads an amount of fuel: a whole or decimal number with an optional `K`, `M`, `G` or `T` (powers of 1,000).
///
/// # Errors
/// When the text is no such number, is zero, or does not fit 64 bits.
pub fn parse_fuel(text: &str) -> Result<u64, BadUnit> {
    let bad = || BadUnit::new(text, "an amount of fuel above zero, such as 500M or 2G");
    let (number, scale) = match text.trim_end().chars().last() {
        Some('K' | 'k') => (&text[..text.trim_end().len() - 1], 1_000_u64),
        Some('M' | 'm') => (&text[..text.trim_end().len() - 1], 1_000_000),
        Some('G' | 'g') => (&text[..text.trim_end().len() - 1], 1_000_000_000),
        Some('T' | 't') => (&text[..text.trim_end().len() - 1], 1_000_000_000_000),
        _ => (text, 1),
    };
    let number = number.trim().replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') || fraction.len() > 12 {
        return Err(bad());
    }
    let whole = u64::from_str(whole).ok().and_then(|w| w.checked_mul(scale)).ok_or_else(bad)?;
    let places = 10_u64.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let fraction = if fraction.is_empty() { 0 } else { u64::from_str(fraction).map_err(|_| bad())? };
    let part = u128::from(fraction) * u128::from(scale) / u128::from(places);
    let sum = whole.checked_add(u64::try_from(part).map_err(|_| bad())?).ok_or_else(bad)?;
    if sum == 0 { Err(bad()) } else { Ok(sum) }
}

/// Reads a size: a number and a unit of bytes (`64MiB`, `10MB`; powers of 1,024 and of 1,000), or plain bytes.
///
/// # Errors
/// When the text is no such size, or is zero.
pub fn parse_bytes(text: &str) -> Result<u64, BadUnit> {
    let bad = || BadUnit::new(text, "a size in bytes above zero, such as 64MiB or 500KB");
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad());
    }
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(bytes),
        Ok(_) | Err(_) => Err(bad()),
    }
}

/// Reads a span of time: numbers with units (`10s`, `1m30s`, `250ms`). A number without a unit is refused.
///
/// # Errors
/// When the text is no such span, or is not above zero.
pub fn parse_duration(text: &str) -> Result<Duration, BadUnit> {
    let bad = || BadUnit::new(text, "a span of time above zero with its unit, such as 10s, 250ms or 1m30s");
    let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    match Duration::try_from(span) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err(bad()),
    }
}

/// What an operator says that compiling a component may take; the rest follows from its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetPatch {
    /// Processor time.
    pub cpu: Option<Duration>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
}

/// An amount of fuel as people write it: `2G`, `1.5M`, `300`.
#[must_use]
pub fn show_fuel(fuel: u64) -> String {
    for (scale, unit) in [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")] {
        if fuel >= scale {
            let text = format!("{:.1}", fuel as f64 / scale as f64);
            return format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text));
        }
    }
    fuel.to_string()
}

/// A size as people write it: `64MiB`, `300B`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let text = ByteSize(bytes).display().iec().to_string().replace(' ', "");
    text.replace(".0", "")
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fuel {}, timeout {:?}, memory {}, input {}, output {}, log {}, handles {}, scratch {}",
            show_fuel(self.fuel),
            self.timeout,
            show_bytes(self.memory),
            show_bytes(self.input),
            show_bytes(self.output),
            show_bytes(self.log),
            self.handles,
            show_bytes(self.scratch)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(parse_fuel("2G"), Ok(2_000_000_000));
        assert_eq!(parse_fuel("1.5M"), Ok(1_500_000));
        assert_eq!(parse_fuel("1_000"), Ok(1_000));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("10MB"), Ok(10_000_000));
        assert_eq!(parse_bytes("65536"), Ok(65_536));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_quantity_is_an_error_and_never_a_default() {
        for text in ["", "G", "-1", "1e9", "1.2.3", "2 G X", "0", "ten", "99999999999999T", ".5M", "1.", "é"] {
            assert!(parse_fuel(text).is_err(), "{text:?} passed as fuel");
        }
        for text in ["", "-1MiB", "MiB", "64 miles", "0", "0.0001B", "NaN", "inf", "+5"] {
            assert!(parse_bytes(text).is_err(), "{text:?} passed as bytes");
        }
        for text in ["", "10", "-1s", "0s", "soon", "10 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text:?} passed as a duration");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            for name in LIMIT_NAMES {
                let _ = LimitsPatch::default().set(name, &text);
            }
        }

        #[test]
        fn plain_numbers_are_themselves(n in 1..u64::MAX) {
            prop_assert_eq!(parse_fuel(&n.to_string()), Ok(n));
        }
    }

    #[test]
    fn a_later_patch_wins_and_a_ceiling_names_what_is_above_it() {
        let patch = LimitsPatch { fuel: Some(5), ..Default::default() };
        let later = LimitsPatch { fuel: Some(7), memory: Some(9), ..Default::default() };
        let limits = Limits::default().with(&patch.then(&later));
        assert_eq!((limits.fuel, limits.memory), (7, 9));
        let above = limits.above(&Limits { fuel: 6, ..Limits::CEILING });
        assert_eq!(above, ["`fuel` = 7 is above this host's ceiling of 6"]);
    }
}
