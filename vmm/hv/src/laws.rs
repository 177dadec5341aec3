//! The law tests.
