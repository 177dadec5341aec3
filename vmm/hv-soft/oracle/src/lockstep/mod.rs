//! Compares the way two emulators took through the same code, block by block, and says where they part.

pub mod calls;
pub mod streams;
pub mod symbols;
#[cfg(test)]
mod tests;
pub mod walk;
