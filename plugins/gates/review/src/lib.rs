//! A second mind judges the work: a language model reviews files by a rubric, over the Anthropic Messages API or the one that
//! OpenAI made and local servers speak. The host says which service may be reached, and adds the key, which is never seen here.
//!
//! What is judged is data. It stands in fences that it cannot close, the model is told that nothing in it is an instruction, and
//! its answer has to fit a closed schema, name files that are there and lines that they have. All the same a model can be
//! talked into things: this gate is one opinion beside others.

mod api;
mod prompt;

use api::{Answer, Service};
use prompt::{Files, Reviewed};
use sandhog_guest::{Decision, Failure, Finding, Metric, Severity, Subject, Verdict, invalid_input, permanent};

sandhog_guest::gate!(check);

/// How often an answer that does not fit the schema is asked for again.
const ANSWERS_MAX: u32 = 2;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Which API the service speaks.
    #[serde(default)]
    pub api: Api,
    /// Where it is; unset: at the API's own maker.
    #[serde(default)]
    pub url: Option<String>,
    /// The model.
    pub model: String,
    /// What to judge by: a file of the data `rubric`, or a text of more than one word; unset: all of the data.
    #[serde(default)]
    pub rubric: Option<String>,
    /// How long the answer may be, in tokens.
    #[serde(default = "max_tokens")]
    pub max_tokens: u32,
    /// Whether the answer is sent as it is made.
    #[serde(default = "yes")]
    pub stream: bool,
    /// How much of the files is shown to the model, in bytes.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
    /// What a million tokens cost, to tell what the review cost.
    #[serde(default)]
    pub price: Option<Price>,
}

fn max_tokens() -> u32 {
    8_192
}

fn yes() -> bool {
    true
}

fn max_bytes() -> usize {
    200_000
}

#[derive(serde::Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    #[default]
    Anthropic,
    Openai,
}

#[derive(serde::Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Price {
    input: f64,
    output: f64,
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let params = &subject.params;
    if params.model.is_empty() {
        return Err(invalid_input("`model` is empty: name a model of the service"));
    }
    let rubric = prompt::rubric(params.rubric.as_deref())?;
    let files = Files::read(&subject, params.max_bytes)?;
    if files.shown.is_empty() {
        return Err(permanent("there is nothing to review: no file is text, or all are too large"));
    }
    let mut service = Service::new(params);
    let system = prompt::system(&rubric);
    let mut question = prompt::question(&subject, &files);
    let mut rejected = 0;
    let review = loop {
        let Answer { json } = service.ask(&system, &question)?;
        match Reviewed::read(&json, &files) {
            Ok(review) => break review,
            Err(reason) => {
                rejected += 1;
                if rejected >= ANSWERS_MAX {
                    return Err(permanent(format!("the model's answer does not fit: {reason}")));
                }
                question.push_str(&format!("\n\nYour last answer was not accepted: {reason}. Answer again, by the schema."));
            }
        }
    };
    Ok(verdict(review, &files, &service, params))
}

fn verdict(review: Reviewed, files: &Files, service: &Service, params: &Params) -> Verdict {
    let mut findings: Vec<Finding> = review.findings;
    if review.rejects && !findings.iter().any(|finding| finding.severity >= Severity::Medium) {
        findings.push(Finding::new("review-rejected", Severity::Medium, review.summary.clone()));
    }
    for (path, why) in &files.left_out {
        findings.push(Finding::new("not-reviewed", Severity::Medium, format!("the reviewer has not seen this file: {why}")).in_file(path));
    }
    // A reviewer that judged nothing has not let anything through.
    let nothing = files.shown.keys().all(|shown| review.not_judged.iter().any(|(path, _)| path == shown));
    let severity = if nothing { Severity::Medium } else { Severity::Low };
    for (path, why) in review.not_judged {
        findings.push(Finding::new("not-judged", severity, format!("the reviewer could not judge this: {why}")).in_file(path));
    }
    let metric = |name: &str, value: f64, unit: &str| Metric { name: name.to_owned(), value, unit: unit.to_owned() };
    let usage = &service.usage;
    let mut metrics = vec![
        metric("requests", f64::from(usage.requests), ""),
        metric("input_tokens", usage.input as f64, ""),
        metric("output_tokens", usage.output as f64, ""),
    ];
    if let Some(price) = params.price {
        let cost = (usage.input as f64 * price.input + usage.output as f64 * price.output) / 1e6;
        metrics.push(metric("cost", cost, "$"));
    }
    let fails = findings.iter().any(|finding| finding.severity >= Severity::Medium);
    let decision = if fails { Decision::Fail } else { Decision::Pass };
    Verdict { decision, findings, metrics, summary: format!("{} says: {}", params.model, review.summary) }
}
