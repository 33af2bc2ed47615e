//! Rejects files with a mark that somebody meant to come back to.

use sandhog_guest::{Failure, Finding, LineIndex, Severity, Subject, Verdict};

sandhog_guest::gate!(check);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    word: String,
}

impl Default for Params {
    fn default() -> Self {
        Self { word: "TODO".to_owned() }
    }
}

fn check(subject: Subject<Params>) -> Result<Verdict, Failure> {
    let word = &subject.params.word;
    let verdict = subject.judge_texts(|path, text| {
        let lines = LineIndex::new(text);
        let finding = |(at, _): (usize, &str)| {
            Finding::new("left-over", Severity::Medium, format!("`{word}` is left")).over(path, &lines, at..at + word.len())
        };
        Ok(text.match_indices(word.as_str()).map(finding).collect())
    })?;
    Ok(Verdict { summary: format!("{} findings", verdict.findings.len()), ..verdict })
}
