//! sandhog: a manager that runs sandboxed *workers* it does not trust, and lets no result through that has not passed
//! its *gates*, which are sandboxed components too.
//!
//! The modules are floors; each uses only those below it (a test reads the `use` lines).
//!
//! | floor | modules | what they own |
//! |---|---|---|
//! | 1 | [`clock`], [`threads`], [`model`] | time; threads for work that blocks; plain data |
//! | 2 | [`machine`] | the pure rules: events, state, decisions |
//! | 3 | [`journal`], [`runtime`] | the event log; all of wasmtime |
//! | 4 | [`config`] | files that people write |
//! | 5 | [`registry`] | the plugin folder |
//! | 6 | [`judge`] | a gate over a subject, in parts, and what is known of it |
//! | 7 | [`check`], [`manager`], [`prepare`] | a directory judged; the one loop; workflows, before they run |
//! | 8 | [`report`] | runs and checks as text and JSON |
//! | 9 | [`api`] | HTTP, live events, MCP, the dashboard; and the client of it all |
//! | 10 | [`cli`] | arguments, rendering, exit codes |
//!
//! A program that wants only the sandbox uses [`runtime::Runtime`]: compile, load, and run tasks under limits. One that
//! wants workflows adds a [`registry::Registry`], a [`journal::Store`] and [`manager::start`].

pub mod clock;
pub mod model;
pub mod threads;

pub mod machine;

pub mod journal;
pub mod runtime;

pub mod config;
pub mod registry;

pub mod judge;

pub mod check;
pub mod manager;
pub mod prepare;
pub mod report;

pub mod api;
pub use api::client;

pub mod cli;
