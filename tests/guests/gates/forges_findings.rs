//! Attacks whoever reads its verdict: text that would steer a terminal, a page, an annotation or a workflow command.
use sandhog_guest::{Decision, Failure, Finding, Metric, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

const TEXTS: &[&str] = &[
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{202e}desrever",
    "line\n::error file=a::forged\r\n::set-output name=x::y",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "]]><failure/>&amp;\u{0}",
    "%0A::stop-commands::x",
    "javascript:alert(1)",
];

fn check(_subject: Subject) -> Result<Verdict, Failure> {
    let mut findings = Vec::new();
    for text in TEXTS {
        let mut finding = Finding::new(*text, Severity::Critical, *text).in_file(*text);
        finding.suggestion = Some((*text).to_owned());
        finding.help_url = Some((*text).to_owned());
        findings.push(finding);
    }
    let metrics = TEXTS.iter().map(|text| Metric { name: (*text).to_owned(), value: 1.0, unit: (*text).to_owned() }).collect();
    Ok(Verdict { decision: Decision::Fail, findings, metrics, summary: TEXTS.join(" ") })
}
