//! The workflow file: reading one, and everything that can be wrong with one by itself. Whether its plugins exist is
//! asked of the registry, through [`Source::plugin_problems`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::DeTable;

use super::reader::{Collector, FILE_BYTES_MAX, Fields, Problems, to_json_map};
use crate::model::limits::{LIMIT_NAMES, LimitsPatch, parse_duration};
use crate::model::text::is_bidirectional_control;
use crate::model::workflow::{PRIORITY, STEPS_MAX};
use crate::model::{Expansion, FailureKind, GateUse, InputSource, OnExhausted, RetryPolicy, Severity, Step, Workflow};

const WORKFLOW_FIELDS: &[&str] = &["name", "priority", "concurrency", "step"];
const STEP_FIELDS: &[&str] = &[
    "id",
    "worker",
    "needs",
    "inputs",
    "foreach",
    "params",
    "retry",
    "limits",
    "gates",
    "maximum_revisions",
    "on_exhausted",
    "fallback",
    "optional",
    "approval",
    "expand",
];
/// The fields of a step that a plan may give; the others are said by the step that the plan is of.
const PLAN_STEP_FIELDS: &[&str] = &["id", "worker", "needs", "inputs", "foreach", "params", "gates", "expand"];
const GATE_FIELDS: &[&str] = &["gate", "fail_on", "params", "usage", "retry", "limits"];
const RETRY_FIELDS: &[&str] =
    &["maximum_attempts", "initial_interval", "backoff_coefficient", "maximum_interval", "jitter", "non_retryable", "maximum_lost"];
const PLAN_GATE_FIELDS: &[&str] = &["gate", "params"];
const EXPAND_FIELDS: &[&str] = &["workers", "gates", "steps_max", "depth_max"];
const INPUT_FIELDS: &[&str] = &["from", "name"];

/// How many gates a step may have.
const GATES_MAX: usize = 50;
/// How many globs and steps a step may name as its inputs.
const INPUTS_MAX: usize = 1_000;
/// How often a gate may send work back at most.
const REVISIONS_MAX: u32 = 100;
/// How many calls of a run may be under way at once at most.
const CONCURRENCY_MAX: u32 = 10_000;
/// How many steps a plan may have where the workflow does not say, and how deep plans may be nested.
const PLAN_STEPS: u32 = 100;
const PLAN_DEPTH: u32 = 2;
const PLAN_DEPTH_MAX: u32 = 10;
/// How many attempts a policy may allow at most.
const ATTEMPTS_MAX: u32 = 1_000;

/// A workflow that was read, with the places of the plugins that it names.
#[derive(Debug)]
pub struct Source {
    /// The workflow.
    pub workflow: Workflow,
    file: String,
    text: String,
    plugins: Vec<(Use, Range<usize>)>,
    limits: Vec<(Use, LimitsPatch, Range<usize>)>,
    params: Vec<(Use, serde_json::Map<String, serde_json::Value>, Range<usize>)>,
}

/// A plugin that a workflow names, and what for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Use {
    Worker(String),
    Gate(String),
}

impl Use {
    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Worker(name) | Self::Gate(name) => name,
        }
    }
}

/// Reads a workflow from its text. `file` is how problems name it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn read(file: &str, text: &str) -> Result<Source, Problems> {
    match read_all(file, text) {
        (source, None) => Ok(source),
        (_, Some(problems)) => Err(problems),
    }
}

/// Reads a workflow from its text as far as that goes, and everything that is wrong with it. What can be said of the plugins
/// that it names can then be said all the same.
#[must_use]
pub fn read_all(file: &str, text: &str) -> (Source, Option<Problems>) {
    if text.len() as u64 > FILE_BYTES_MAX {
        let mut out = Collector::new(file, "");
        out.push(0..0, format!("a workflow of {} bytes is longer than the {FILE_BYTES_MAX} that one may have", text.len()), None);
        let workflow = Workflow { name: String::new(), priority: PRIORITY, concurrency: None, steps: Vec::new() };
        let (text, plugins, limits, params) = (String::new(), Vec::new(), Vec::new(), Vec::new());
        return (Source { workflow, file: file.to_owned(), text, plugins, limits, params }, out.finish(()).err());
    }
    let mut out = Collector::new(file, text);
    let table = out.parse(text);
    let fields = out.fields(&table, WORKFLOW_FIELDS);
    let name = match fields.string(&mut out, "name") {
        Some((name, span))
            if name.is_empty() || name.len() > 200 || name.chars().any(|c| c.is_control() || is_bidirectional_control(c)) =>
        {
            out.push(span, "expected `name` to be 1 to 200 printable characters", None);
            String::new()
        }
        Some((name, _)) => name.to_owned(),
        None if fields.get("name").is_none() => {
            out.push(0..0, "the field `name` is missing", Some("add a line such as name = \"release-notes\"".to_owned()));
            String::new()
        }
        None => String::new(),
    };
    let priority = fields.whole(&mut out, "priority", 1..=9).map_or(PRIORITY, |priority| priority as u8);
    let concurrency = fields.whole(&mut out, "concurrency", 1..=CONCURRENCY_MAX);
    let mut reading = Reading::new(out, false);
    reading.all_steps(fields);
    reading.fill_expansions();
    let Reading { out, steps, plugins, limits, params, .. } = reading;
    let workflow = Workflow { name, priority, concurrency, steps };
    (Source { workflow, file: file.to_owned(), text: text.to_owned(), plugins, limits, params }, out.finish(()).err())
}

impl Source {
    /// The plugins that the workflow names.
    pub fn plugins(&self) -> impl Iterator<Item = &Use> {
        self.plugins.iter().map(|(plugin, _)| plugin)
    }

    /// Whether a step gives params to a gate of this name.
    #[must_use]
    pub fn has_gate_params(&self, gate: &str) -> bool {
        let uses = self.workflow.steps.iter().flat_map(|step| &step.gates);
        uses.into_iter().any(|uses| uses.gate == gate && !uses.params.is_empty())
    }

    /// Turns what somebody who knows the plugins has to say about each use into problems with their places.
    ///
    /// # Errors
    /// Where `judge` has something to say about any of them: a message and a help.
    pub fn plugin_problems(
        &self,
        judge: impl Fn(&Use) -> Option<(String, Option<String>)>,
        over_ceiling: impl Fn(&Use, &LimitsPatch) -> Vec<String>,
        unfit: impl Fn(&Use, &serde_json::Map<String, serde_json::Value>) -> Vec<String>,
    ) -> Result<(), Problems> {
        let mut out = Collector::new(&self.file, &self.text);
        // Judged once each: a workflow may name one plugin a million times.
        let mut judged: BTreeMap<&Use, Option<(String, Option<String>)>> = BTreeMap::new();
        for (plugin, span) in &self.plugins {
            if out.is_full() {
                break;
            }
            if let Some((message, help)) = judged.entry(plugin).or_insert_with(|| judge(plugin)) {
                out.push(span.clone(), message.clone(), help.clone());
            }
        }
        for (plugin, patch, span) in &self.limits {
            for message in over_ceiling(plugin, patch) {
                out.push(span.clone(), message, Some("lower it, or raise [ceiling] in sandhog.toml".to_owned()));
            }
        }
        let mut held: BTreeMap<(&Use, String), Vec<String>> = BTreeMap::new();
        for (plugin, params, span) in &self.params {
            if out.is_full() {
                break;
            }
            let of_these = (plugin, serde_json::to_string(params).unwrap_or_default());
            for message in held.entry(of_these).or_insert_with(|| unfit(plugin, params)) {
                let help = format!("`sandhog plugins inspect {}` shows the schema of its params", plugin.name());
                out.push(span.clone(), format!("`{}`: {message}", plugin.name()), Some(help));
            }
        }
        out.finish(())
    }

    /// A problem with a glob of a step, in its place.
    #[must_use]
    pub fn input_problem(&self, glob: &str, message: String, help: Option<String>) -> Problems {
        let mut out = Collector::new(&self.file, &self.text);
        let quoted = format!("\"{glob}\"");
        let start = self.text.find(&quoted).unwrap_or(0);
        out.push(start..start + quoted.len(), message, help);
        match out.finish(()) {
            Err(problems) => problems,
            Ok(()) => unreachable!("a problem was pushed"),
        }
    }
}

/// Steps as they are read, of a workflow or of a plan.
pub(super) struct Reading {
    pub(super) out: Collector,
    pub(super) steps: Vec<Step>,
    pub(super) places: Vec<Places>,
    pub(super) plugins: Vec<(Use, Range<usize>)>,
    limits: Vec<(Use, LimitsPatch, Range<usize>)>,
    params: Vec<(Use, serde_json::Map<String, serde_json::Value>, Range<usize>)>,
    of_plan: bool,
}

/// Where the names of a step stand.
pub(super) struct Places {
    pub(super) id: Range<usize>,
    needs: Vec<Range<usize>>,
    from: Vec<(String, Range<usize>)>,
    pub(super) globs: Vec<Range<usize>>,
    pub(super) expand: Option<Range<usize>>,
    /// Whether `expand` leaves open what plans may use: workers, and gates.
    open: (bool, bool),
}

impl Reading {
    pub(super) fn new(out: Collector, of_plan: bool) -> Self {
        Self { out, steps: Vec::new(), places: Vec::new(), plugins: Vec::new(), limits: Vec::new(), params: Vec::new(), of_plan }
    }

    /// Reads the field `step`, and checks how its steps hang together.
    pub(super) fn all_steps(&mut self, fields: Fields<'_, '_>) {
        let list = fields.get("step");
        let is_empty = list.and_then(|value| value.get_ref().as_array()).is_some_and(|list| list.is_empty());
        // A plan may say that there is nothing to do.
        if list.is_none() || (is_empty && !self.of_plan) {
            self.out.push(0..0, "there is no step", Some("add a table [[step]] with `id` and `worker`".to_owned()));
        }
        for value in fields.list(&mut self.out, "step") {
            match value.get_ref().as_table() {
                Some(table) => self.step(table, value.span()),
                None => self.out.wrong_type(value, "step", "a list of tables ([[step]])"),
            }
        }
        self.check_graph();
    }

    /// What a workflow says, and a plan may not.
    fn refuse(&mut self, table: &DeTable<'_>, known: &[&str], of_plan: &[&str]) {
        if !self.of_plan {
            return;
        }
        for (key, _) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) && !of_plan.contains(&name) {
                let help = format!("remove it; a plan may give {}", of_plan.join(", "));
                self.out.push(key.span(), format!("`{name}` is not for a plan to say"), Some(help));
            }
        }
    }

    /// Plans may use what the workflow itself names, where it does not say otherwise.
    fn fill_expansions(&mut self) {
        let (mut workers, mut gates) = (BTreeSet::new(), BTreeSet::new());
        for (plugin, _) in &self.plugins {
            match plugin {
                Use::Worker(name) => workers.insert(name.clone()),
                Use::Gate(name) => gates.insert(name.clone()),
            };
        }
        for (step, places) in self.steps.iter_mut().zip(&self.places) {
            let Some(expansion) = &mut step.expand else { continue };
            if places.open.0 {
                expansion.workers = workers.iter().cloned().collect();
            }
            if places.open.1 {
                expansion.gates = gates.iter().cloned().collect();
            }
        }
    }

    /// What plans of a step may use; and whether that is left open, of workers and of gates.
    fn expand(&mut self, fields: Fields<'_, '_>) -> Option<(Expansion, (bool, bool))> {
        let value = fields.get("expand")?;
        let mut expansion = Expansion { workers: Vec::new(), gates: Vec::new(), steps_max: PLAN_STEPS, depth_max: PLAN_DEPTH };
        let out = &mut self.out;
        if let Some(expands) = value.get_ref().as_bool() {
            return expands.then_some((expansion, (true, true)));
        }
        let Some(table) = value.get_ref().as_table().filter(|_| !self.of_plan) else {
            let expected = match self.of_plan {
                true => "true or false: a plan in a plan may use what this one may",
                false => "true, false, or a table such as { workers = [\"lint\"], steps_max = 20 }",
            };
            out.wrong_type(value, "expand", expected);
            return None;
        };
        let fields = out.fields(table, EXPAND_FIELDS);
        let open = (fields.get("workers").is_none(), fields.get("gates").is_none());
        for (name, span) in fields.strings(out, "workers") {
            expansion.workers.push(name.to_owned());
            self.plugins.push((Use::Worker(name.to_owned()), span));
        }
        for (name, span) in fields.strings(out, "gates") {
            expansion.gates.push(name.to_owned());
            self.plugins.push((Use::Gate(name.to_owned()), span));
        }
        for (name, most, place) in
            [("steps_max", STEPS_MAX as u32, &mut expansion.steps_max), ("depth_max", PLAN_DEPTH_MAX, &mut expansion.depth_max)]
        {
            *place = fields.whole(out, name, 1..=most).unwrap_or(*place);
        }
        Some((expansion, open))
    }

    fn step(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        self.refuse(table, STEP_FIELDS, PLAN_STEP_FIELDS);
        let out = &mut self.out;
        let fields = out.fields(table, STEP_FIELDS);
        let header = span.start..span.start + span.len().min("[[step]]".len());
        let id = match fields.string(out, "id") {
            Some((id, span)) => {
                check_id(out, id, span.clone());
                (id.to_owned(), span)
            }
            None => {
                if fields.get("id").is_none() {
                    out.push(header.clone(), "a step without `id`", Some("add a line such as id = \"summarise\"".to_owned()));
                }
                (String::new(), header.clone())
            }
        };
        let worker = match fields.string(out, "worker") {
            Some((worker, span)) => {
                self.plugins.push((Use::Worker(worker.to_owned()), span));
                worker.to_owned()
            }
            None => {
                if fields.get("worker").is_none() {
                    out.push(
                        header,
                        format!("the step `{}` has no `worker`", id.0),
                        Some("add a line such as worker = \"summarise\"".to_owned()),
                    );
                }
                String::new()
            }
        };
        let needs = fields.strings(out, "needs");
        let (inputs, from, globs) = inputs(out, fields);
        let params = fields.table(out, "params").map(|params| to_json_map(out, params)).unwrap_or_default();
        let span = fields.get("params").map(toml::Spanned::span).or_else(|| fields.get("worker").map(toml::Spanned::span));
        self.params.push((Use::Worker(worker.clone()), params.clone(), span.unwrap_or_default()));
        let retry = fields.table(out, "retry").map(|retry| read_retry(out, retry)).unwrap_or_default();
        let limits = fields.table(out, "limits").map(|table| limits(out, table)).unwrap_or_default();
        if !limits.0.is_empty()
            && let Some(value) = fields.get("limits")
        {
            self.limits.push((Use::Worker(worker.clone()), limits.1, value.span()));
        }
        let gates = self.gates(fields);
        let (expand, open) = self.expand(fields).unzip();
        let out = &mut self.out;
        let foreach = fields.boolean(out, "foreach").unwrap_or(false);
        let revisions = fields.whole(out, "maximum_revisions", 0..=REVISIONS_MAX);
        let approval = fields.boolean(out, "approval").unwrap_or(false);
        let optional = fields.boolean(out, "optional").unwrap_or(false);
        let on_exhausted = fields.string(out, "on_exhausted").and_then(|(word, span)| {
            let found = OnExhausted::ALL.into_iter().find(|choice| choice.as_str() == word);
            if found.is_none() {
                let words: Vec<&str> = OnExhausted::ALL.iter().map(|choice| choice.as_str()).collect();
                out.push(span, format!("unknown choice `{word}`"), Some(format!("one of {}", words.join(", "))));
            }
            found
        });
        let fallback = fields.string(out, "fallback").map(|(name, span)| {
            if name == worker {
                out.push(span.clone(), "the fallback is the worker itself", Some("name another plugin, or remove it".to_owned()));
            }
            self.plugins.push((Use::Worker(name.to_owned()), span));
            name.to_owned()
        });
        let can_be_sent_back = !gates.is_empty() || approval || expand.is_some();
        if revisions.is_some() && !can_be_sent_back {
            let span = fields.get("maximum_revisions").map_or(0..0, toml::Spanned::span);
            out.push(
                span,
                "`maximum_revisions` without `gates`, `approval` or `expand`: nothing can send the work back",
                Some("add gates = [...], or remove it".to_owned()),
            );
        }
        if foreach && inputs.is_empty() && needs.is_empty() {
            let span = fields.get("foreach").map_or(0..0, toml::Spanned::span);
            out.push(
                span,
                "`foreach` without inputs: there is nothing to make tasks from",
                Some("add inputs = [\"docs/**/*.md\"], or needs".to_owned()),
            );
        }
        self.places.push(Places {
            id: id.1,
            needs: needs.iter().map(|(_, span)| span.clone()).collect(),
            from,
            globs,
            expand: fields.get("expand").map(toml::Spanned::span),
            open: open.unwrap_or_default(),
        });
        self.steps.push(Step {
            id: id.0,
            worker,
            needs: needs.into_iter().map(|(need, _)| need.to_owned()).collect(),
            inputs,
            foreach,
            params,
            retry,
            limits: limits.0,
            maximum_revisions: revisions.unwrap_or(if can_be_sent_back { 2 } else { 0 }),
            gates,
            on_exhausted: on_exhausted.unwrap_or_default(),
            fallback,
            optional,
            approval,
            expand,
        });
    }

    fn gates(&mut self, fields: Fields<'_, '_>) -> Vec<GateUse> {
        let mut gates = Vec::new();
        for value in fields.short_list(&mut self.out, "gates", GATES_MAX) {
            let out = &mut self.out;
            if let Some(name) = value.get_ref().as_str() {
                self.plugins.push((Use::Gate(name.to_owned()), value.span()));
                self.params.push((Use::Gate(name.to_owned()), serde_json::Map::new(), value.span()));
                let uses = GateUse {
                    gate: name.to_owned(),
                    fail_on: None,
                    params: serde_json::Map::new(),
                    usage: false,
                    retry: RetryPolicy::default(),
                    limits: BTreeMap::new(),
                };
                push_gate(out, &mut gates, uses, value.span());
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                out.wrong_type(value, "gates", "a list of names, or of tables such as { gate = \"lint\", fail_on = \"high\" }");
                continue;
            };
            self.refuse(table, GATE_FIELDS, PLAN_GATE_FIELDS);
            let out = &mut self.out;
            let gate = out.fields(table, GATE_FIELDS);
            let name = match gate.string(out, "gate") {
                Some((name, span)) => {
                    self.plugins.push((Use::Gate(name.to_owned()), span));
                    name.to_owned()
                }
                None => {
                    if gate.get("gate").is_none() {
                        out.push(value.span(), "a gate without its name", Some("add gate = \"NAME\"".to_owned()));
                    }
                    String::new()
                }
            };
            let fail_on = gate.string(out, "fail_on").and_then(|(word, span)| read_severity(out, word, span));
            let limits = gate.table(out, "limits").map(|table| limits(out, table)).unwrap_or_default();
            if let Some(value) = gate.get("limits") {
                self.limits.push((Use::Gate(name.clone()), limits.1, value.span()));
            }
            let params = gate.table(out, "params").map(|params| to_json_map(out, params)).unwrap_or_default();
            let span = gate.get("params").map_or_else(|| value.span(), toml::Spanned::span);
            self.params.push((Use::Gate(name.clone()), params.clone(), span));
            let uses = GateUse {
                gate: name,
                fail_on,
                params,
                usage: gate.boolean(out, "usage").unwrap_or(false),
                retry: gate.table(out, "retry").map(|retry| read_retry(out, retry)).unwrap_or_default(),
                limits: limits.0,
            };
            push_gate(out, &mut gates, uses, value.span());
        }
        gates
    }

    /// Names that are doubled or not there, and cycles.
    fn check_graph(&mut self) {
        if self.steps.len() > STEPS_MAX {
            self.out.push(0..0, format!("{} steps are more than the {STEPS_MAX} that a workflow may have", self.steps.len()), None);
        }
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, step) in self.steps.iter().enumerate() {
            if !step.id.is_empty() && ids.insert(&step.id, place).is_some() {
                self.out.push(
                    self.places[place].id.clone(),
                    format!("two steps have the id `{}`", step.id),
                    Some("give each a name of its own".to_owned()),
                );
            }
        }
        let mut broken = false;
        for (step, places) in self.steps.iter().zip(&self.places) {
            for (need, span) in step.needs.iter().zip(&places.needs) {
                if !ids.contains_key(need.as_str()) {
                    broken = true;
                    let help = self.out.meant(need, ids.keys().copied()).map(|meant| format!("did you mean `{meant}`?"));
                    self.out.push(span.clone(), format!("the step `{}` needs `{need}`, and there is no such step", step.id), help);
                } else if *need == step.id {
                    broken = true;
                    self.out.push(span.clone(), format!("the step `{need}` needs itself"), None);
                }
            }
            let mut seen = BTreeSet::new();
            for (need, span) in step.needs.iter().zip(&places.needs) {
                if !seen.insert(need) {
                    broken = true;
                    self.out.push(span.clone(), format!("`{need}` is needed twice"), None);
                }
            }
            for (from, span) in &places.from {
                if !seen.contains(from) {
                    let help = format!("add \"{from}\" to `needs`");
                    self.out.push(span.clone(), format!("inputs from `{from}`, which `{}` does not need", step.id), Some(help));
                }
            }
        }
        if broken || ids.len() != self.steps.len() {
            return;
        }
        let workflow = Workflow { name: String::new(), priority: PRIORITY, concurrency: None, steps: std::mem::take(&mut self.steps) };
        let ordered: BTreeSet<usize> = workflow.levels().into_iter().flatten().collect();
        if let Some(first) = (0..workflow.steps.len()).find(|place| !ordered.contains(place)) {
            let cycle = cycle(&workflow, &ids_of(&workflow), first);
            let span = self.places[cycle[0]].id.clone();
            let names: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(|place| workflow.steps[*place].id.as_str()).collect();
            self.out.push(
                span,
                format!("these steps wait for each other: {}", names.join(" needs ")),
                Some("remove one of these needs".to_owned()),
            );
        }
        self.steps = workflow.steps;
    }
}

fn ids_of(workflow: &Workflow) -> BTreeMap<&str, usize> {
    workflow.steps.iter().enumerate().map(|(place, step)| (step.id.as_str(), place)).collect()
}

/// A cycle that can be reached along needs from a step that is in one or behind one.
fn cycle(workflow: &Workflow, ids: &BTreeMap<&str, usize>, from: usize) -> Vec<usize> {
    let ordered: BTreeSet<usize> = workflow.levels().into_iter().flatten().collect();
    let mut path = vec![from];
    loop {
        let last = path[path.len() - 1];
        let needs = workflow.steps[last].needs.iter().filter_map(|need| ids.get(need.as_str()).copied());
        let Some(next) = needs.into_iter().find(|need| !ordered.contains(need)) else { return path };
        if let Some(start) = path.iter().position(|place| *place == next) {
            return path.split_off(start);
        }
        path.push(next);
    }
}

fn check_id(out: &mut Collector, id: &str, span: Range<usize>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > 64 || !id.chars().all(fits) || id.starts_with('-') {
        out.push(
            span,
            format!("the id `{}` does not fit", crate::model::text::sanitize(id, 80)),
            Some("1 to 64 of a-z, A-Z, 0-9, - and _, not - in front".to_owned()),
        );
    }
}

/// Adds a gate that is not there yet: the same one with other params is another.
fn push_gate(out: &mut Collector, gates: &mut Vec<GateUse>, uses: GateUse, span: Range<usize>) {
    if gates.contains(&uses) {
        out.push(span, format!("the gate `{}` is named twice", crate::model::text::sanitize(&uses.gate, 80)), None);
    }
    gates.push(uses);
}

type From = Vec<(String, Range<usize>)>;

fn inputs(out: &mut Collector, fields: Fields<'_, '_>) -> (Vec<InputSource>, From, Vec<Range<usize>>) {
    let mut inputs = Vec::new();
    let mut globs = Vec::new();
    let mut from = Vec::new();
    for value in fields.short_list(out, "inputs", INPUTS_MAX) {
        if let Some(glob) = value.get_ref().as_str() {
            check_glob(out, glob, value.span(), true);
            let input = InputSource::Files(glob.to_owned());
            if inputs.contains(&input) {
                out.push(value.span(), format!("the files of `{}` are named twice", crate::model::text::sanitize(glob, 80)), None);
            }
            inputs.push(input);
            globs.push(value.span());
        } else if let Some(table) = value.get_ref().as_table() {
            let input = out.fields(table, INPUT_FIELDS);
            let name = input.string(out, "name").map(|(glob, span)| {
                check_glob(out, glob, span, false);
                glob.to_owned()
            });
            match input.string(out, "from") {
                Some((step, span)) => {
                    let input = InputSource::Step { from: step.to_owned(), name };
                    if inputs.contains(&input) {
                        out.push(span.clone(), format!("these inputs from `{step}` are named twice"), None);
                    }
                    from.push((step.to_owned(), span));
                    inputs.push(input);
                }
                None => {
                    out.push(value.span(), "an input without `from`", Some("write { from = \"STEP\" }, or a glob as a string".to_owned()))
                }
            }
        } else {
            out.wrong_type(value, "inputs", "a list of globs, or of tables such as { from = \"step\", name = \"*.md\" }");
        }
    }
    (inputs, from, globs)
}

fn check_glob(out: &mut Collector, glob: &str, span: Range<usize>, of_files: bool) {
    if of_files && (glob.starts_with('/') || glob.split('/').any(|part| part == "..")) {
        let help = "globs are relative to the workflow file, and stay below its folder".to_owned();
        out.push(span, format!("the glob `{glob}` leaves the workflow's folder"), Some(help));
    } else if let Err(error) = globset::GlobBuilder::new(glob).literal_separator(true).build() {
        out.push(span, format!("the glob `{glob}` does not parse: {}", error.kind()), None);
    }
}

fn limits(out: &mut Collector, table: &DeTable<'_>) -> (BTreeMap<String, String>, LimitsPatch) {
    let fields = out.fields(table, &LIMIT_NAMES);
    let mut limits = BTreeMap::new();
    let mut patch = LimitsPatch::default();
    for name in LIMIT_NAMES {
        if let Some((text, span)) = fields.quantity(out, name) {
            match patch.set(name, &text) {
                Ok(()) => {
                    limits.insert(name.to_owned(), text);
                }
                Err(error) => out.push(span, format!("`{name}`: {error}"), None),
            }
        }
    }
    (limits, patch)
}

pub(super) fn read_severity(out: &mut Collector, word: &str, span: Range<usize>) -> Option<Severity> {
    let severity = word.parse::<Severity>();
    if severity.is_err() {
        out.push(span, format!("unknown severity `{word}`"), Some("one of info, low, medium, high, critical".to_owned()));
    }
    severity.ok()
}

/// Limits from a table, for files other than workflows.
pub(super) fn read_limits(out: &mut Collector, table: &DeTable<'_>) -> LimitsPatch {
    limits(out, table).1
}

fn read_retry(out: &mut Collector, table: &DeTable<'_>) -> RetryPolicy {
    let fields = out.fields(table, RETRY_FIELDS);
    let default = RetryPolicy::default();
    let mut interval = |name: &str| {
        let (text, span) = fields.quantity(out, name)?;
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                out.push(span, format!("`{name}`: {error}"), None);
                None
            }
        }
    };
    let initial = interval("initial_interval");
    let maximum = interval("maximum_interval");
    let mut non_retryable = Vec::new();
    for (word, span) in fields.strings(out, "non_retryable") {
        match FailureKind::ALL.into_iter().find(|kind| kind.as_str() == word) {
            Some(kind) if kind.is_retryable() => non_retryable.push(kind),
            Some(kind) => out.push(span, format!("`{kind}` is never tried again"), Some("remove it".to_owned())),
            None => {
                let retryable = FailureKind::ALL.into_iter().filter(|kind| kind.is_retryable());
                let words: Vec<&str> = retryable.map(FailureKind::as_str).collect();
                out.push(span, format!("unknown kind of failure `{word}`"), Some(format!("one of {}", words.join(", "))));
            }
        }
    }
    let policy = RetryPolicy {
        maximum_attempts: fields.whole(out, "maximum_attempts", 1..=ATTEMPTS_MAX).unwrap_or(default.maximum_attempts),
        initial_interval: initial.unwrap_or(default.initial_interval),
        backoff_coefficient: fields.number(out, "backoff_coefficient", 1.0..=100.0).unwrap_or(default.backoff_coefficient),
        maximum_interval: maximum.unwrap_or_else(|| default.maximum_interval.max(initial.unwrap_or_default())),
        jitter: fields.number(out, "jitter", 0.0..=1.0).unwrap_or(default.jitter),
        non_retryable,
        maximum_lost: fields.whole(out, "maximum_lost", 1..=ATTEMPTS_MAX).unwrap_or(default.maximum_lost),
    };
    if policy.maximum_interval < policy.initial_interval {
        let span = fields.get("maximum_interval").map_or(0..0, toml::Spanned::span);
        out.push(span, "`maximum_interval` is shorter than `initial_interval`", None);
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let told = read("w.toml", text).expect_err("something is wrong");
        told.problems.iter().map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message)).collect()
    }

    fn step(fields: &str) -> String {
        format!("name = \"w\"\n[[step]]\nid = \"a\"\nworker = \"w\"\n{fields}\n")
    }

    #[test]
    fn lists_have_bounds_and_nothing_is_named_twice() {
        let gates: String = (0..=GATES_MAX).map(|n| format!("\"g{n:02}\", ")).collect();
        assert_eq!(told(&step(&format!("gates = [{gates}]"))), ["5:360: `gates` has 51 entries, and may have 50 at most"]);
        let inputs: String = (0..=INPUTS_MAX).map(|n| format!("\"{n}.md\",\n")).collect();
        assert_eq!(told(&step(&format!("inputs = [{inputs}]"))), ["1005:1: `inputs` has 1001 entries, and may have 1000 at most"]);
        let twice = step("[[step]]\nid = \"b\"\nworker = \"w\"\nneeds = [\"a\"]\ninputs = [{ from = \"a\" }, { from = \"a\" }]");
        assert_eq!(told(&twice), ["9:36: these inputs from `a` are named twice"]);
        assert_eq!(told(&step("gates = [\"g\", { gate = \"g\", fail_on = \"high\" }, \"g\"]")), ["5:49: the gate `g` is named twice"]);
        assert_eq!(told(&step("inputs = [\"a\", \"b\", \"a\"]")), ["5:21: the files of `a` are named twice"]);
        assert_eq!(told("name = \"w\"\nstep = []"), ["1:1: there is no step"]);
        let long = " ".repeat(FILE_BYTES_MAX as usize + 1);
        assert_eq!(told(&long), ["1:1: a workflow of 4194305 bytes is longer than the 4194304 that one may have"]);
    }

    /// What is deeper than what reads JSON goes could be written to a journal, and never be read again.
    #[test]
    fn params_that_are_accepted_can_be_read_back() {
        // As deep as a header and a key of TOML go together: each by itself has a bound.
        let nested = |depth: usize| {
            let (header, key) = (depth.min(70), depth.saturating_sub(70));
            step(&format!("[step.params.{}]\n{} = 1", vec!["a"; header].join("."), vec!["b"; key + 1].join(".")))
        };
        let accepted = read("w.toml", &nested(63)).expect("is accepted");
        let text = serde_json::to_string(&accepted.workflow.steps).expect("is written");
        assert_eq!(serde_json::from_str::<Vec<Step>>(&text).expect("is read back"), accepted.workflow.steps);
        for depth in [64, 65, 140] {
            let told = told(&nested(depth));
            assert!(told.len() == 1 && told[0].ends_with("params are nested 64 deep at the most"), "{depth}: {told:?}");
        }
        let list = step(&format!("[step.params.{}]\nb = {}{}", vec!["a"; 60].join("."), "[".repeat(70), "]".repeat(70)));
        assert!(told(&list)[0].ends_with("params are nested 64 deep at the most"));
    }

    /// By comparing all words with each other, each of these would take minutes.
    #[test]
    fn what_a_stranger_writes_at_length_is_told_soon() {
        let long = "x".repeat(1 << 20);
        let needs = format!("name = \"w\"\n[[step]]\nid = \"{long}\"\nworker = \"w\"\nneeds = [\"{long}y\"]\n");
        assert_eq!(told(&needs).len(), 2);
        let unknown: String = (0..200_000).map(|n| format!("field-{n} = 1\n")).collect();
        assert_eq!(told(&step(&unknown)).len(), 50);
        let names: String = (0..300_000).map(|n| format!("\"s{n}\",")).collect();
        assert_eq!(told(&step(&format!("needs = [{names}]"))).len(), 50);
    }
}
