//! The host CPU as the soft back end's oracle: one instruction from a chosen state, run natively in a child process
//! and by the model, and everything it changed compared.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

pub mod compare;
pub mod forms;
pub mod generate;
pub mod intel;
pub mod layout;
pub mod lockstep;
pub mod mask;
pub mod model;
pub mod native;
pub mod report;
pub mod rng;
pub mod session;
#[cfg(test)]
mod session_tests;
pub mod soft;
pub mod state;
