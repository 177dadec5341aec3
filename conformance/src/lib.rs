//! Checks of the whole product from outside: it uses built binaries and source files, never the product's crates.

pub mod figure;
pub mod size;
