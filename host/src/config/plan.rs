//! The plan that a worker returns: steps as in a workflow file, of which it may say less, since nobody trusts it.

use std::ops::Range;

use globset::GlobBuilder;

use super::reader::{Collector, Problems};
use super::workflow::{Reading, Use};
use crate::model::workflow::PLAN_NAME;
use crate::model::{Expansion, InputSource, Step};

/// The largest plan that is read, in bytes: it is kept in one event.
pub const PLAN_BYTES_MAX: u64 = 64 << 10;

/// How many globs a plan may have, how many artifacts may come with it, and how many of those its steps may be given in all:
/// who wrote it must not keep the host busy, or fill its disk.
const GLOBS_MAX: usize = 1_000;
const BESIDE_MAX: usize = 10_000;
const GIVEN_MAX: usize = 100_000;
/// How many names of plugins the steps of one plan may keep in all: of those that plans of theirs may use.
const ALLOWED_MAX: usize = 50_000;

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
    let globs: usize = places.iter().map(|places| places.globs.len()).sum();
    for (found, most, what) in [(globs, GLOBS_MAX, "globs"), (beside.len(), BESIDE_MAX, "artifacts beside the plan")] {
        if found > most {
            out.push(0..0, format!("{found} {what} are more than the {most} that there may be"), None);
            return out.finish(Vec::new());
        }
    }
    // Each of these keeps the names of what its own plans may use.
    let nested = steps.iter().filter(|step| step.expand.is_some()).count();
    if nested * (expansion.workers.len() + expansion.gates.len()) > ALLOWED_MAX {
        let message = format!("{nested} steps with `expand` are too many, where plans may use so many workers and gates");
        out.push(0..0, message, Some(format!("the product of both is at most {ALLOWED_MAX}")));
        return out.finish(Vec::new());
    }
    let mut given = 0;
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
        given += matched.len();
        if given > GIVEN_MAX {
            let message = format!("the globs of this step and those before match more than {GIVEN_MAX} artifacts together");
            out.push(places.id.clone(), message, None);
            break;
        }
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
    let help = match out.meant(name, allowed.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if allowed.is_empty() => format!("this plan may use no {what}"),
        None => format!("one of {}", allowed.join(", ")),
    };
    out.push(span, format!("the {what} `{name}` is not one that this plan may use"), Some(help));
}

/// The artifacts beside the plan that a step's globs match, each once, in the order of the globs.
fn matches(out: &mut Collector, step: &Step, spans: &[Range<usize>], beside: &[&str]) -> Vec<usize> {
    let (mut matched, mut seen) = (Vec::new(), vec![false; beside.len()]);
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
        matched.extend(fits.into_iter().filter(|place| !std::mem::replace(&mut seen[*place], true)));
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
    let nested = || Expansion { depth_max: expansion.depth_max.saturating_sub(1), ..expansion.clone() };
    Step {
        id: named(&step.id),
        needs: step.needs.iter().map(|need| named(need)).collect(),
        inputs: inputs.collect(),
        retry: parent.retry.clone(),
        on_exhausted: parent.on_exhausted,
        optional: parent.optional,
        maximum_revisions: if step.gates.is_empty() && step.expand.is_none() { 0 } else { parent.maximum_revisions },
        expand: step.expand.map(|_| nested()),
        ..step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(depth_max: u32) -> Step {
        let workers = ["lint", "summarise"].map(str::to_owned).to_vec();
        let expansion = Expansion { workers, gates: vec!["review".to_owned()], steps_max: 3, depth_max };
        Step { expand: Some(expansion), optional: true, maximum_revisions: 4, ..Step::new("plan", "planner") }
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = read(text, &planner(1), "plan", &["a.md", "sub/b.md"]).expect_err("something is wrong").problems;
        problems.iter().map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message)).collect()
    }

    #[test]
    fn a_plan_is_read_as_steps_of_the_run() {
        let text = r#"
            [[step]]
            id = "one"
            worker = "lint"
            inputs = ["**/*.md"]
            foreach = true
            gates = ["review"]
            [[step]]
            id = "two"
            worker = "summarise"
            needs = ["one"]
            inputs = [{ from = "one", name = "*.txt" }]
            expand = true
        "#;
        let plan = read(text, &planner(2), "plan.7", &["a.md", "c.txt", "sub/b.md"]).expect("fits");
        let [(one, of_one), (two, of_two)] = &plan[..] else { panic!("two steps") };
        assert_eq!(
            (one.id.as_str(), &of_one[..], one.foreach, one.optional, one.maximum_revisions),
            ("plan.7/one", &[0, 2][..], true, true, 4)
        );
        assert_eq!((two.id.as_str(), &of_two[..], &two.needs[..]), ("plan.7/two", &[][..], &["plan.7/one".to_owned()][..]));
        assert_eq!(two.inputs, [InputSource::Step { from: "plan.7/one".to_owned(), name: Some("*.txt".to_owned()) }]);
        assert_eq!(two.expand.as_ref().map(|expansion| expansion.depth_max), Some(1));
        assert!(read("step = []", &planner(1), "plan", &[]).expect("a plan to do nothing").is_empty());
    }

    #[test]
    fn whatever_a_plan_may_not_say_is_refused_in_its_place() {
        let said = [
            ("limits", r#"{ fuel = "100G" }"#),
            ("retry", "{ maximum_attempts = 9 }"),
            ("maximum_revisions", "9"),
            ("on_exhausted", r#""pause""#),
            ("fallback", r#""lint""#),
            ("optional", "true"),
            ("approval", "false"),
        ];
        for (field, value) in said {
            let found = problems(&format!("[[step]]\nid = \"a\"\nworker = \"lint\"\n{field} = {value}\n"));
            assert_eq!(found[0], format!("4:1: `{field}` is not for a plan to say"));
        }
        let step = |rest: &str| problems(&format!("[[step]]\nid = \"a\"\nworker = \"lint\"\n{rest}\n"));
        assert_eq!(step(r#"gates = [{ gate = "review", fail_on = "critical" }]"#), ["4:29: `fail_on` is not for a plan to say"]);
        assert_eq!(step(r#"gates = ["lint"]"#), ["4:10: the gate `lint` is not one that this plan may use"]);
        assert_eq!(step(r#"inputs = ["../*.md"]"#).len(), 2);
        assert_eq!(step(r#"inputs = ["*.rs"]"#), ["4:11: the glob `*.rs` matches no artifact beside the plan"]);
        assert_eq!(step("expand = true"), ["4:10: no plan may be nested deeper than this one"]);
        assert_eq!(step("expand = { steps_max = 9 }").len(), 1);
        assert_eq!(problems("[[step]]\nid = \"0\"\nworker = \"lint\""), ["2:6: the id `0` is a number"]);
        assert_eq!(problems("[[step]]\nid = \"a\"\nworker = \"rm\""), ["3:10: the worker `rm` is not one that this plan may use"]);
        assert_eq!(problems("name = \"x\"\nstep = []"), ["1:1: unknown field `name`"]);
        assert_eq!(problems(""), ["1:1: there is no step"]);
        let globs: String = (0..501).map(|n| format!("\"{{*,{n}}}\", ")).collect();
        let of_globs = |id: &str| format!("[[step]]\nid = \"{id}\"\nworker = \"lint\"\ninputs = [{globs}]\n");
        assert_eq!(problems(&(of_globs("a") + &of_globs("b"))), ["1:1: 1002 globs are more than the 1000 that there may be"]);
        let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let beside: Vec<&str> = names.iter().map(String::as_str).collect();
        let all: String = (0..11).map(|n| format!("[[step]]\nid = \"a{n}\"\nworker = \"lint\"\ninputs = [\"*\"]\n")).collect();
        let parent = Step { expand: planner(1).expand.map(|expand| Expansion { steps_max: 100, ..expand }), ..planner(1) };
        let told = read(&all, &parent, "plan", &beside).expect_err("too much").problems;
        assert_eq!((told.len(), told[0].line), (1, 42), "{told:?}");
        let many: String = (0..4).map(|n| format!("[[step]]\nid = \"a{n}\"\nworker = \"lint\"\n")).collect();
        assert_eq!(problems(&many), ["1:1: 4 steps are more than the 3 that this plan may have"]);
    }

    proptest::proptest! {
        /// Plans come from code that nobody trusts.
        #[test]
        fn no_text_panics(text in r#"([\[\]={}",.\na-z0-9*]|step|id|worker|inputs|\[\[step\]\]\n){0,60}"#) {
            let _ = read(&text, &planner(1), "plan", &["a.md"]);
        }
    }
}
