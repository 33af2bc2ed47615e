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
//! | 4 | [`config`], [`registry`] | files that people write; the plugin folder |
//! | 5 | [`judge`] | a gate over a subject, in parts, and what is known of it |
//! | 6 | [`check`], [`manager`], [`prepare`] | a directory judged; the one loop; workflows, before they run |
//! | 7 | [`report`] | runs and checks as text and JSON |
//! | 8 | [`api`] | HTTP, live events, MCP, the dashboard; and the client of it all |
//! | 9 | [`cli`] | arguments, rendering, exit codes |
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
