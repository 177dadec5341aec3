//! One microVM in one process: builds the machine, runs its vCPUs, serves its control socket.
//!
//! `docs/architecture.md` shows the whole; here, from the bottom up: [`layout`] and [`memory`], [`boot`], [`bus`] and
//! [`attach`], [`backend`], [`machine`], [`vcpu`] behind its [`gate`], [`events`], and around the running machine
//! [`life`], [`agent`], [`leash`], [`process`], [`container`], [`bind`], [`checkpoint`], [`control`], [`view`] and [`relay`]. [`ending`] says how it all ends.

pub mod agent;
pub mod allocator;
pub mod attach;
pub mod backend;
pub mod bind;
pub mod boot;
pub mod bus;
pub mod checkpoint;
pub mod choose;
pub mod cli;
pub mod container;
pub mod control;
pub mod ending;
pub mod events;
pub mod freeze;
pub mod gate;
pub mod identity;
pub mod kept;
pub mod layout;
pub mod leash;
pub mod leashes;
pub mod life;
pub mod logging;
pub mod machine;
pub mod memory;
pub mod process;
pub mod relay;
pub mod root;
pub mod run;
pub mod settings;
pub mod signals;
pub mod socket;
pub mod vcpu;
pub mod view;
pub mod vsock_socket;
