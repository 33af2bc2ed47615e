//! Files that people write: `sandhog.toml`, workflows, and the manifest of a plugin. Everything wrong with one is
//! reported at once, each with its place and how to mend it; nothing is read half.

pub mod case;
pub mod check;
pub mod manifest;
pub mod plan;
pub mod reader;
pub mod settings;
pub mod workflow;

pub use manifest::Manifest;
pub use reader::{Problem, Problems};
pub use settings::Settings;
