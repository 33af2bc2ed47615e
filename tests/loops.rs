//! Work that is sent back until it is right, through the real binary: the examples of the loop, with lint, test, perf and review.
//! Needs `scripts/plugins` and `scripts/gates`.

mod common;

use common::{World, root};
use serde_json::Value;

/// The folder of an example, copied to where a run may keep its state.
fn world() -> World {
    let world = World::new();
    for name in ["workflow.toml", "reviewed.toml", "primes.md", "rubric.md"] {
        world.write(name, std::fs::read(root().join("examples/coder").join(name)).expect("reads"));
    }
    world
}

fn plugins() -> String {
    let plugins = root().join("dist/plugins");
    assert!(plugins.join("coder.wasm").is_file(), "run scripts/plugins first");
    plugins.to_str().expect("UTF-8").to_owned()
}

fn rounds(report: &Value) -> Vec<(u64, u64, u64)> {
    let rounds = report["tasks"][0]["rounds"].as_array().unwrap_or_else(|| panic!("no rounds: {report}"));
    rounds
        .iter()
        .map(|round| {
            (round["solved"].as_u64().expect("solved"), round["still"].as_u64().expect("still"), round["new"].as_u64().expect("new"))
        })
        .collect()
}

#[test]
fn code_that_is_unclean_wrong_and_dear_comes_back_until_it_is_none_of_it() {
    let (world, plugins) = (world(), plugins());
    let ran = world.run(&["run", "workflow.toml", "--plugins", &plugins, "--out", "out", "--json"], 0);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["status"], "completed", "{report}");
    let rounds = rounds(&report);
    // Unclean, wrong (in one test) and dear; then only dear; then none of it.
    assert_eq!(rounds, [(0, 0, 3), (2, 1, 0), (1, 0, 0)]);
    let code = world.read("out/write/0/primes.py");
    assert!(code.contains("sieve") && !code.contains("import math"), "{code}");
    let told = world.run(&["runs", "show", "latest"], 0).out;
    for part in ["rounds of write[0]", "revision 0:", "+ primes.py", "- primes.py", "F401"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_nobody_looked_at_does_not_pass_and_sets_take_no_params() {
    let (world, plugins) = (world(), plugins());
    let workflow = |gates: &str| {
        format!(
            "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"echo\"\ninputs = [\"primes.md\"]\ngates = [{gates}]\nmaximum_revisions = 0\n"
        )
    };
    world.write("w.toml", workflow("\"test\""));
    let ran = world.run(&["run", "w.toml", "--plugins", &plugins, "--json"], 1);
    assert!(ran.out.contains("`test` judges none of the artifacts by their names: there are primes.md"), "{}", ran.out);
    world.write("w.toml", workflow("\"lint\""));
    world.run(&["run", "w.toml", "--plugins", &plugins], 0);
    world.write("w.toml", workflow("{ gate = \"lint\", params = { select = [\"E\"] } }"));
    let err = world.run(&["run", "w.toml", "--plugins", &plugins], 2).err;
    assert!(err.contains("`lint` is a set of gates"), "{err}");
    world.write("w.toml", workflow("\"audit\""));
    let err = world.run(&["run", "w.toml", "--plugins", &plugins], 2).err;
    assert!(err.contains("--data advisories=PATH"), "{err}");
}

#[test]
fn the_receipt_is_judged_by_a_maximum_and_by_the_baseline_of_an_earlier_run() {
    let (world, plugins) = (world(), plugins());
    let workflow = |params: &str| {
        format!(
            "name = \"w\"\n[[step]]\nid = \"s\"\nworker = \"shout\"\nparams = {{ marks = 3 }}\ninputs = [\"primes.md\"]\n\
             gates = [{{ gate = \"perf-receipt\", usage = true, params = {{ {params} }} }}]\n"
        )
    };
    world.write("w.toml", workflow("max_regression = \"2%\""));
    let run = |code| world.run(&["run", "w.toml", "--plugins", &plugins, "--json", "--data", "baseline=b.json"], code);
    world.write("b.json", "{\"sandhog_baseline\": 1, \"findings\": [], \"metrics\": []}");
    assert!(run(0).out.contains("no-baseline"));
    let updated = world.run(&["baseline", "update", "--run", "latest", "--plugins", &plugins, "--output", "b.json"], 0).out;
    assert_eq!(updated, "b.json: 2 figures taken in\n");
    let baseline: Value = serde_json::from_str(&world.read("b.json")).expect("JSON");
    let fuel =
        baseline["metrics"].as_array().expect("metrics").iter().find(|metric| metric["name"] == "s primes.md fuel").expect("fuel")["value"]
            .as_f64()
            .expect("a number");
    assert!(!run(0).out.contains("regression"), "the same code, the same fuel");
    // It was three percent cheaper, once.
    world.write("b.json", world.read("b.json").replace(&format!("\"value\":{fuel:?}"), &format!("\"value\":{}", (fuel / 1.03).floor())));
    assert!(run(1).out.contains("fuel-regression"));
    assert!(world.run(&["baseline", "show", "b.json"], 0).out.contains("s primes.md fuel"));
    world.write("w.toml", workflow("maximum = { memory = \"1KiB\" }"));
    assert!(run(1).out.contains("memory-maximum"));
    world.write("w.toml", workflow("maximum = { time = \"1s\" }"));
    assert!(run(1).out.contains("grant it `clock`"), "time is not told without a clock");
}
