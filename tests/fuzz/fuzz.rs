//! One target under libFuzzer: the one that `SANDHOG_FUZZ_TARGET` names. One binary for all, since linking an instrumented host takes longer
//! than finding out what it does.
#![no_main]

#[expect(dead_code, reason = "libFuzzer is given a time, and not how dear a target is")]
mod targets;

static RUN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();

/// Finds the target, and has it make what it makes once: that takes longer than an input may.
fn begin() {
    let name = std::env::var("SANDHOG_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
    let target = targets::TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("SANDHOG_FUZZ_TARGET names one of {}", names.join(", ")));
    (target.run)(&[]);
    let _ = RUN.set(target.run);
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| if let Some(run) = RUN.get() {
    run(bytes);
});
