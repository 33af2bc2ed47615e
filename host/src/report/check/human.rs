//! For people: findings by file, each with its line and a caret; then the gates, and a summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use console::Style;

use super::{Lines, counts, message, notes, path, place, reason, word};
use crate::check::tree::Tree;
use crate::check::{Excused, Found, GateOutcome, GateReport, Outcome, Report, by_severity};
use crate::model::limits::show_fuel;
use crate::model::text::{counted, sanitize};
use crate::model::{Severity, Span};

/// How much of a source line is shown, in characters.
const LINE_CHARS_MAX: usize = 140;
/// How many characters before a finding are shown of a longer line.
const LINE_CHARS_BEFORE: usize = 60;

/// How many lines of a message are shown after its first.
const MESSAGE_LINES_MAX: usize = 40;
/// How much is shown of why a gate judges.
const WHY_CHARS_MAX: usize = 100;
/// How many of the last lines that a unit wrote are shown with its finding.
const OUTPUT_LINES_MAX: usize = 30;

struct Styles {
    colour: bool,
}

impl Styles {
    fn paint(&self, style: Style, text: &str) -> String {
        style.force_styling(self.colour).apply_to(text).to_string()
    }

    fn severity(&self, severity: Severity) -> String {
        let style = match severity {
            Severity::Critical | Severity::High => Style::new().red().bold(),
            Severity::Medium => Style::new().red(),
            Severity::Low => Style::new().yellow(),
            Severity::Info => Style::new().cyan(),
        };
        self.paint(style, severity.as_str())
    }

    fn dim(&self, text: &str) -> String {
        self.paint(Style::new().dim(), text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }
}

/// The whole report. `verbose` shows what is excused, and gates that had nothing to judge, too.
#[must_use]
pub fn human(report: &Report, tree: &Tree, colour: bool, verbose: bool) -> String {
    let styles = Styles { colour };
    let mut out = String::new();
    findings(&mut out, report, tree, &styles, verbose);
    for gate in &report.gates {
        gate_line(&mut out, gate, &styles);
    }
    for (gate, why) in report.skipped.iter().filter(|_| verbose || (report.gates.is_empty() && report.files > 0)) {
        let _ = writeln!(out, "{} {gate}  {}", styles.dim("-"), styles.dim(&format!("skipped: {why}")));
    }
    for note in notes(report) {
        let _ = writeln!(out, "{} {note}", styles.bold("note:"));
    }
    summary(&mut out, report, &styles);
    out
}

fn findings(out: &mut String, report: &Report, tree: &Tree, styles: &Styles, verbose: bool) {
    let mut by_file: BTreeMap<&str, Vec<(&GateReport, &Found)>> = BTreeMap::new();
    for (gate, found) in report.findings().filter(|(_, found)| verbose || found.excused.is_none()) {
        let file = found.finding.location.as_ref().map_or("", |location| location.path.as_str());
        by_file.entry(file).or_default().push((gate, found));
    }
    for (file, mut found) in by_file {
        found.sort_by_key(|(_, found)| span(found).map_or((0, 0), |span| (span.start_line, span.start_column)));
        let mut lines = Lines::new(tree, report);
        for (gate, found) in found {
            finding(out, gate, found, file, &mut lines, styles);
        }
    }
}

fn span(found: &Found) -> Option<Span> {
    found.finding.location.as_ref().and_then(|location| location.span)
}

fn finding<'a>(out: &mut String, gate: &GateReport, found: &Found, file: &'a str, lines: &mut Lines<'a>, styles: &Styles) {
    let finding = &found.finding;
    let at = if file.is_empty() { format!("({})", gate.name) } else { place(file, span(found)) };
    let excused = match &found.excused {
        None => String::new(),
        Some(Excused::Baseline) => styles.dim(" (in the baseline)"),
        Some(Excused::Ignored(why)) => styles.dim(&format!(" (ignored: {})", message(why))),
    };
    let rule = styles.dim(&format!("[{}/{}]", gate.name, sanitize(&finding.rule, 200)));
    let (first, rest) = finding.message.split_once('\n').unwrap_or((&finding.message, ""));
    let _ = writeln!(out, "{}: {} {} {rule}{excused}", styles.bold(&at), styles.severity(finding.severity), message(first));
    if let Some(span) = span(found)
        && let Some(line) = lines.line(file, span.start_line)
    {
        excerpt(out, &line, span, styles);
    }
    for line in rest.lines().take(MESSAGE_LINES_MAX) {
        let _ = writeln!(out, "    {} {}", styles.dim("|"), message(line));
    }
    if let Some(more) = rest.lines().count().checked_sub(MESSAGE_LINES_MAX).filter(|more| *more > 0) {
        let _ = writeln!(out, "    {}", styles.dim(&format!("… {}", counted(more, "more line"))));
    }
    if let Some(suggestion) = &finding.suggestion {
        let fixable = match &finding.fix {
            Some(fix) if fix.safe => styles.dim(" (--fix)"),
            Some(_) => styles.dim(" (--fix --unsafe-fixes)"),
            None => String::new(),
        };
        let _ = writeln!(out, "    {} {}{fixable}", styles.dim("help:"), message(suggestion));
    }
    if let Some(url) = &finding.help_url {
        let _ = writeln!(out, "    {} {}", styles.dim("see:"), path(url));
    }
    if let Some(unit) = found.unit.and_then(|unit| gate.units.get(unit)) {
        let skip = unit.log.lines.len().saturating_sub(OUTPUT_LINES_MAX);
        if skip > 0 {
            let _ = writeln!(out, "    {}", styles.dim(&format!("… {skip} lines of output before")));
        }
        for line in &unit.log.lines[skip..] {
            let _ = writeln!(out, "    {} {}", styles.dim("|"), message(&line.text));
        }
    }
}

/// The line that a finding is about, cut to what fits, and carets below the place.
fn excerpt(out: &mut String, line: &str, span: Span, styles: &Styles) {
    let start = (span.start_column.max(1) - 1) as usize;
    let skip = if start > LINE_CHARS_MAX - 20 { start - LINE_CHARS_BEFORE } else { 0 };
    // One character shows as one: tabs as blanks, and whatever is not printable as a dot.
    let show = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() || crate::model::text::is_bidirectional_control(c) => '\u{b7}',
        c => c,
    };
    let shown: String = line.chars().skip(skip).take(LINE_CHARS_MAX).map(show).collect();
    let length = shown.chars().count();
    let before = start - skip;
    if before > length {
        return;
    }
    let end = if span.end_line > span.start_line { length + skip } else { (span.end_column.max(1) - 1) as usize };
    let carets = end.saturating_sub(start).clamp(1, (length - before).max(1));
    let number = span.start_line.to_string();
    let _ = writeln!(out, "{} {}", styles.dim(&format!("{number:>5} |")), shown.trim_end());
    let blank = console::measure_text_width(&shown.chars().take(before).collect::<String>());
    let _ =
        writeln!(out, "      {} {}{}", styles.dim("|"), " ".repeat(blank), styles.paint(Style::new().red().bold(), &"^".repeat(carets)));
}

fn gate_line(out: &mut String, gate: &GateReport, styles: &Styles) {
    let (mark, style) = match gate.outcome {
        GateOutcome::Passed => ("\u{2713}", Style::new().green()),
        GateOutcome::Rejected => ("\u{2717}", Style::new().red()),
        GateOutcome::Failed { .. } => ("!", Style::new().red().bold()),
    };
    let (counting, excused) = counts(gate);
    let mut parts = vec![counted(counting, "finding")];
    if excused > 0 {
        parts.push(format!("{excused} excused"));
    }
    if !gate.units.is_empty() {
        let skipped = gate.units.iter().filter(|unit| unit.skipped().is_some()).count();
        let skipped = if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() };
        parts.push(format!("{}{skipped}", counted(gate.units.len(), "unit")));
    }
    if gate.kept > 0 {
        parts.push(format!("{} of {} known from before", gate.kept, gate.parts));
    }
    parts.push(format!("fuel {}", show_fuel(gate.receipt.fuel)));
    let _ = writeln!(
        out,
        "{} {} {}  {}  {}",
        styles.paint(style.clone(), mark),
        styles.bold(&gate.name),
        styles.paint(style, word(gate)),
        parts.join(", "),
        styles.dim(&format!("({})", console::truncate_str(&gate.why, WHY_CHARS_MAX, "\u{2026}")))
    );
    if let Some(reason) = reason(gate) {
        let _ = writeln!(out, "    {reason}");
    }
}

fn summary(out: &mut String, report: &Report, styles: &Styles) {
    let severities: Vec<String> = by_severity(report).iter().rev().map(|(severity, count)| format!("{count} {severity}")).collect();
    let found = if severities.is_empty() { "no findings".to_owned() } else { severities.join(", ") };
    let fuel = report.gates.iter().map(|gate| gate.receipt.fuel).fold(0_u64, u64::saturating_add);
    let (parts, kept) = report.gates.iter().fold((0, 0), |(parts, kept), gate| (parts + gate.parts, kept + gate.kept));
    let fixable =
        report.findings().filter(|(_, found)| found.excused.is_none() && found.finding.fix.as_ref().is_some_and(|fix| fix.safe)).count();
    let (text, style) = match report.outcome() {
        Outcome::Passed => ("passed", Style::new().green().bold()),
        Outcome::Failed => ("failed", Style::new().red().bold()),
        Outcome::Misconfigured => ("failed: the configuration does not fit", Style::new().red().bold()),
        Outcome::HostFailed => ("failed: sandhog could not judge", Style::new().red().bold()),
        Outcome::NothingChecked if report.files == 0 => ("nothing was checked: there is no file to judge", Style::new().yellow().bold()),
        Outcome::NothingChecked => ("nothing was checked: no gate fits any file", Style::new().yellow().bold()),
    };
    let _ = writeln!(
        out,
        "{}: {found}; {}, {} of {} known from before, fuel {}, {:.2} s",
        styles.paint(style, text),
        counted(report.gates.len(), "gate"),
        kept,
        counted(parts, "part"),
        show_fuel(fuel),
        report.wall_time.as_secs_f64()
    );
    if fixable > 0 {
        let _ = writeln!(out, "{} with a safe fix: --fix makes them", counted(fixable, "finding"));
    }
}
