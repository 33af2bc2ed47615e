//! sandhog: a manager that runs sandboxed workers, and lets no result through that has not passed its gates.
#![warn(missing_docs)]
pub mod clock;
pub mod machine;
pub mod model;
pub mod runtime;
