//! The soft CPU does what the host's does, for a few seconds of random cases from a printed seed.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::time::{Duration, Instant};

use supermachine_soft_oracle::forms::{CpuModel, catalogue};
use supermachine_soft_oracle::report;
use supermachine_soft_oracle::session::{Plan, Session};
use supermachine_soft_oracle::soft::Soft;

/// How long each way of running is tried.
const TIME: Duration = Duration::from_secs(4);

fn compare(blocks: bool) {
    // The same cases each time, so that a change is judged by what it does; `make fuzz-soft` takes new ones.
    let seed = std::env::var("SOFT_ORACLE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let command = format!("soft-oracle --seed {seed}{}", if blocks { " --blocks" } else { "" });
    println!("{command}");
    let model = CpuModel::V2;
    let (forms, _) = catalogue(model, "");
    let plan = Plan { seed, give_up_after: 1, follow: blocks };
    let mut session = Session::new(Soft::new(model, blocks).unwrap(), forms, model, plan).unwrap();
    let mut found = Vec::new();
    let start = Instant::now();
    for batch in 0.. {
        found.extend(session.batch(batch).unwrap());
        if start.elapsed() >= TIME {
            break;
        }
    }
    for one in &found {
        let (form, _) = session.counts().nth(one.case.form).unwrap();
        print!("{}", report::mismatch(one, form, &command));
    }
    let cases: u64 = session.counts().map(|(_, count)| count.cases).sum();
    assert!(found.is_empty(), "{} of {cases} cases differ", found.len());
    // A host under load does little in this time, but something.
    assert!(cases > 10_000, "only {cases} cases");
}

#[test]
fn single_instructions() {
    compare(false);
}

#[test]
fn decoded_blocks() {
    compare(true);
}
