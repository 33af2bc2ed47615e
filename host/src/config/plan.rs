//! The plan that a worker returns: steps as in a workflow file, of which it may say less, since nobody trusts it.

use std::ops::Range;

use globset::GlobBuilder;

use super::reader::{Collector, Problems};
use super::workflow::{Reading, Use};
use crate::model::text::did_you_mean;
use crate::model::workflow::PLAN_NAME;
use crate::model::{Expansion, InputSource, Step};

/// The largest plan that is read, in bytes: it is kept in one event.
pub const PLAN_BYTES_MAX: u64 = 64 << 10;

/// Reads a plan from its text. Each step comes under the name that it has in the run, `prefix/id`, with the places of the
/// artifacts beside the plan that its globs match; `beside` has their names. What a plan may not say, its steps have from
/// `parent`, the step that the plan is of: `retry`, `on_exhausted`, `optional` and `maximum_revisions`.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn read(text: &str, parent: &Step, prefix: &str, beside: &[&str]) -> Result<Vec<(Step, Vec<usize>)>, Problems> {
    let Some(expansion) = &parent.expand else { return Ok(Vec::new()) };
    let mut out = Collector::new(PLAN_NAME, text);
    let table = out.parse(text);
    let fields = out.fields(&table, &["step"]);
    let mut reading = Reading::new(out, true);
    reading.all_steps(fields);
    let Reading { mut out, steps, places, plugins, .. } = reading;
    if steps.len() > expansion.steps_max as usize {
        out.push(0..0, format!("{} steps are more than the {} that this plan may have", steps.len(), expansion.steps_max), None);
    }
    for (plugin, span) in plugins {
        check_allowed(&mut out, expansion, &plugin, span);
    }
    let mut plan = Vec::with_capacity(steps.len());
    for (step, places) in steps.into_iter().zip(places) {
        if !step.id.is_empty() && step.id.bytes().all(|byte| byte.is_ascii_digit()) {
            let help = "begin it with a letter: a number after a slash is the place of a task".to_owned();
            out.push(places.id.clone(), format!("the id `{}` is a number", step.id), Some(help));
        }
        if step.expand.is_some() && expansion.depth_max <= 1 {
            let span = places.expand.clone().unwrap_or(places.id.clone());
            out.push(span, "no plan may be nested deeper than this one", Some("remove `expand`".to_owned()));
        }
        let matched = matches(&mut out, &step, &places.globs, beside);
        plan.push((in_run(step, parent, expansion, prefix), matched));
    }
    out.finish(plan)
}

fn check_allowed(out: &mut Collector, expansion: &Expansion, plugin: &Use, span: Range<usize>) {
    let (allowed, what) = match plugin {
        Use::Worker(_) => (&expansion.workers, "worker"),
        Use::Gate(_) => (&expansion.gates, "gate"),
    };
    let name = plugin.name();
    if allowed.iter().any(|allowed| allowed == name) {
        return;
    }
    let help = match did_you_mean(name, allowed.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if allowed.is_empty() => format!("this plan may use no {what}"),
        None => format!("one of {}", allowed.join(", ")),
    };
    out.push(span, format!("the {what} `{name}` is not one that this plan may use"), Some(help));
}

/// The artifacts beside the plan that a step's globs match, each once, in the order of the globs.
fn matches(out: &mut Collector, step: &Step, spans: &[Range<usize>], beside: &[&str]) -> Vec<usize> {
    let mut matched = Vec::new();
    let globs = step.inputs.iter().filter_map(|input| match input {
        InputSource::Files(glob) => Some(glob),
        InputSource::Step { .. } => None,
    });
    for (glob, span) in globs.zip(spans) {
        // One that does not parse has been reported.
        let Ok(matcher) = GlobBuilder::new(glob).literal_separator(true).build() else { continue };
        let matcher = matcher.compile_matcher();
        let fits: Vec<usize> = (0..beside.len()).filter(|place| matcher.is_match(beside[*place])).collect();
        if fits.is_empty() {
            let help = "globs of a plan match the names of the artifacts that came with it".to_owned();
            out.push(span.clone(), format!("the glob `{glob}` matches no artifact beside the plan"), Some(help));
        }
        matched.extend(fits.into_iter().filter(|place| !matched.contains(place)).collect::<Vec<_>>());
    }
    matched
}

/// A step as the run has it.
fn in_run(step: Step, parent: &Step, expansion: &Expansion, prefix: &str) -> Step {
    let named = |id: &str| format!("{prefix}/{id}");
    let inputs = step.inputs.into_iter().map(|input| match input {
        InputSource::Step { from, name } => InputSource::Step { from: named(&from), name },
        InputSource::Files(glob) => InputSource::Files(glob),
    });
    let nested = Expansion { depth_max: expansion.depth_max.saturating_sub(1), ..expansion.clone() };
    Step {
        id: named(&step.id),
        needs: step.needs.iter().map(|need| named(need)).collect(),
        inputs: inputs.collect(),
        retry: parent.retry.clone(),
        on_exhausted: parent.on_exhausted,
        optional: parent.optional,
        maximum_revisions: if step.gates.is_empty() && step.expand.is_none() { 0 } else { parent.maximum_revisions },
        expand: step.expand.map(|_| nested),
        ..step
    }
}
