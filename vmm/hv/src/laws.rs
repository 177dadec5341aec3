//! The law tests: what every back end must do alike, as functions that its own tests call.
//!
//! The same guest bytes run on each back end, and registers, memory and exits are compared with what the
//! architecture says. A back end has a `tests/laws.rs` with one line:
//!
//! ```ignore
//! supermachine_hv::hv_laws!(|| my_back_end().map(|hypervisor| std::sync::Arc::new(hypervisor) as _));
//! ```
//!
//! A law that does not come to an end is kicked after a minute and fails.

use std::sync::Arc;

use crate::{HvError, Hypervisor};

mod compute;
mod fault;
mod freeze;
mod interrupt;
mod io;
mod kick;
pub mod machine;
mod pending;
mod programs;
mod refuse;
mod smp;
mod vector;
mod watch;

pub use compute::{arithmetic_and_flags, enters_64_bit_mode, stores_reach_memory};
pub use fault::{faults_reach_their_handlers, page_faults_report_address_and_code, triple_fault_ends_the_vcpu};
pub use freeze::{
    devices_and_clock_survive_a_freeze, frozen_halt_is_woken, halted_vcpu_saves_as_halted,
    pending_interrupt_survives_a_freeze, registers_survive_a_freeze, states_survive_json, tsc_goes_on_after_a_freeze,
};
pub use interrupt::{
    edge_wakes_a_halt, edge_wakes_a_halt_in_x2apic_mode, level_fires_until_lowered, line_before_halt_is_not_lost,
    tsc_deadline_wakes_a_halt,
};
pub use io::{
    mmio_read_modify_writes, mmio_reads_of_every_width, mmio_strings, mmio_writes_of_every_width, port_strings,
    ports_of_every_width,
};
pub use kick::{
    kick_before_run_counts_once, kick_ends_a_busy_loop, kick_never_gets_lost, kick_wakes_a_halt,
    kick_while_an_exit_waits,
};
pub use pending::{
    answered_read_is_in_a_save, modify_is_not_torn_by_a_save, string_input_is_not_torn_by_a_freeze,
    unanswered_exit_refuses, wrong_reply_is_refused,
};
pub use refuse::{bad_machine_states_are_refused, bad_vcpu_states_are_refused, too_many_vcpus_are_refused};
pub use smp::{second_vcpu_starts_by_ipi, unstarted_vcpu_can_be_kicked};
pub use vector::{avx_state_survives_a_freeze, sse_state_survives_a_freeze};

/// One law.
pub type Law = fn(&dyn Hypervisor);

/// Runs one law on what `make` gives, or says why it is skipped.
pub fn check(name: &str, law: Law, make: impl FnOnce() -> Result<Arc<dyn Hypervisor>, HvError>) {
    match make() {
        Ok(hypervisor) => law(hypervisor.as_ref()),
        Err(reason) => skip(name, &reason.to_string()),
    }
}

fn skip(name: &str, reason: &str) {
    eprintln!("law {name} skipped: {reason}");
}

/// Makes one `#[test]` per law. The argument is called in each: `Fn() -> Result<Arc<dyn Hypervisor>, HvError>`.
#[macro_export]
macro_rules! hv_laws {
    ($make:expr) => {
        $crate::hv_laws! { @tests $make;
            enters_64_bit_mode arithmetic_and_flags stores_reach_memory
            mmio_reads_of_every_width mmio_writes_of_every_width mmio_strings mmio_read_modify_writes
            ports_of_every_width port_strings
            kick_before_run_counts_once kick_ends_a_busy_loop kick_never_gets_lost kick_wakes_a_halt
            kick_while_an_exit_waits
            edge_wakes_a_halt edge_wakes_a_halt_in_x2apic_mode line_before_halt_is_not_lost
            level_fires_until_lowered tsc_deadline_wakes_a_halt
            unanswered_exit_refuses wrong_reply_is_refused answered_read_is_in_a_save
            modify_is_not_torn_by_a_save string_input_is_not_torn_by_a_freeze
            registers_survive_a_freeze sse_state_survives_a_freeze avx_state_survives_a_freeze
            pending_interrupt_survives_a_freeze halted_vcpu_saves_as_halted frozen_halt_is_woken
            devices_and_clock_survive_a_freeze tsc_goes_on_after_a_freeze states_survive_json
            bad_vcpu_states_are_refused bad_machine_states_are_refused too_many_vcpus_are_refused
            faults_reach_their_handlers page_faults_report_address_and_code triple_fault_ends_the_vcpu
            second_vcpu_starts_by_ipi unstarted_vcpu_can_be_kicked
        }
    };
    (@tests $make:expr; $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::laws::check(stringify!($law), $crate::laws::$law, $make);
            }
        )*
    };
}
