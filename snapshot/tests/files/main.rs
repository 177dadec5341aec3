//! Snapshots on disk: written, opened, laid out, damaged.

mod common;
mod golden;
mod hostile;
mod round_trip;
mod saving;
