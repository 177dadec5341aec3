//! What a process is given besides its user: what the agent does to it, and what it does itself.

mod capabilities;
mod outside;
mod own;
mod seccomp;

pub(crate) use outside::Outside;
pub(crate) use own::Own;
