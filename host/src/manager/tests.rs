//! The loop, with scripted workers and a clock that tests set.
