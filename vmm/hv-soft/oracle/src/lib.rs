//! The host CPU as the soft back end's oracle: one instruction from a chosen state, run natively in a child process
//! and by the model, and everything it changed compared.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

pub mod layout;
pub mod native;
pub mod state;
