//! One target under libFuzzer: the one that `SANDHOG_FUZZ_TARGET` names. One binary for all, since linking an instrumented host takes longer
//! than finding out what it does.
#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static RUN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("SANDHOG_FUZZ_TARGET").unwrap_or_default();
        let target = targets::TARGETS.iter().find(|target| target.name == name);
        let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
        target.unwrap_or_else(|| panic!("SANDHOG_FUZZ_TARGET names one of {}", names.join(", "))).run
    });
    run(bytes);
});
