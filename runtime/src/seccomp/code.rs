//! Decisions to instructions: a check of the architecture, then a binary search for the call's number.

use oci_spec::runtime::LinuxSeccompOperator;

use super::GuestArch;
use super::profile::{Condition, Decision, Decisions, Rule};
use super::spec::*;

/// An instruction: code, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

/// A range of numbers that ends where the next begins.
#[derive(Debug)]
struct Range {
    first: u32,
    decision: Decision,
}

/// The program for all decisions.
pub(super) fn program(decisions: &Decisions, arch: GuestArch) -> Vec<Instruction> {
    let native = match arch {
        GuestArch::X86_64 => AUDIT_ARCH_X86_64,
        GuestArch::Aarch64 => AUDIT_ARCH_AARCH64,
    };
    let mut program = vec![load(DATA_ARCH), (JEQ, 1, 0, native), ret(RET_KILL_THREAD), load(DATA_NR)];
    program.extend(search(&ranges(decisions, arch), decisions.default));
    program
}

fn load(offset: u32) -> Instruction {
    (LD_ABS, 0, 0, offset)
}

fn ret(value: u32) -> Instruction {
    (RET, 0, 0, value)
}

/// All numbers in ranges with the same decision, in order, the first from 0.
fn ranges(decisions: &Decisions, arch: GuestArch) -> Vec<Range> {
    let default = || Decision::Always(decisions.default);
    let unknown = match decisions.newest {
        Some(_) => Decision::Always(RET_ERRNO | ENOSYS),
        None => default(),
    };
    let mut ranges = vec![Range { first: 0, decision: default() }];
    let mut add = |first: u32, decision: Decision| match ranges.last_mut() {
        Some(last) if last.decision == decision => {}
        Some(last) if last.first == first => last.decision = decision,
        _ => ranges.push(Range { first, decision }),
    };
    let mut next = 0;
    for (number, decision) in &decisions.calls {
        if *number > next {
            add(next, default());
        }
        add(*number, decision.clone());
        next = number.saturating_add(1);
    }
    add(next, default());
    if let Some(newest) = decisions.newest {
        add(newest.saturating_add(1), unknown);
    }
    if arch == GuestArch::X86_64 {
        add(X32_BIT, Decision::Always(RET_KILL_THREAD));
    }
    add(NR_SKIPPED, default());
    ranges
}

/// Code that finds the range of the number in the accumulator and ends with what is decided there.
fn search(ranges: &[Range], default: u32) -> Vec<Instruction> {
    match ranges {
        [] => vec![ret(default)],
        [range] => match &range.decision {
            Decision::Always(action) => vec![ret(*action)],
            Decision::Rules(rules) => rules.iter().flat_map(rule).chain([ret(default)]).collect(),
        },
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let first = above.first().map_or(0, |range| range.first);
            let below = search(below, default);
            let mut code = match u8::try_from(below.len()) {
                Ok(length) => vec![(JGE, length, 0, first)],
                // A conditional jump reaches 255 instructions, the other kind all of them.
                Err(_) => vec![(JGE, 0, 1, first), (JA, 0, 0, below.len() as u32)],
            };
            code.extend(below);
            code.extend(search(above, default));
            code
        }
    }
}

/// Where a comparison goes on: to the instruction after its code, or behind the rule.
const MATCH: u8 = 0xfe;
const FAIL: u8 = 0xff;

/// Code that ends with the rule's action, or goes on behind itself.
fn rule(rule: &Rule) -> Vec<Instruction> {
    let mut code = Vec::new();
    for condition in &rule.conditions {
        let start = code.len();
        code.extend(compare(condition));
        resolve(&mut code, start, MATCH);
    }
    code.push(ret(rule.action));
    resolve(&mut code, 0, FAIL);
    code
}

/// Turns the jumps to `mark` from `start` on into jumps to the end of the code. A rule has at most six comparisons of at
/// most six instructions, so that every jump is short and none is a mark by chance.
fn resolve(code: &mut [Instruction], start: usize, mark: u8) {
    let end = code.len();
    for (index, (_, if_true, if_false, _)) in code.iter_mut().enumerate().skip(start) {
        let distance = (end - index - 1) as u8;
        for jump in [if_true, if_false] {
            if *jump == mark {
                *jump = distance;
            }
        }
    }
}

/// Compares an argument, a word at a time, the high one first; ends by going on, to [`MATCH`] or to [`FAIL`].
fn compare(condition: &Condition) -> Vec<Instruction> {
    use LinuxSeccompOperator::*;
    let Condition { argument, operator, value, masked } = *condition;
    let low = load(DATA_ARGS + 8 * u32::from(argument));
    let high = load(DATA_ARGS + 8 * u32::from(argument) + 4);
    let [value_low, masked_low] = [value, masked].map(|value| value as u32);
    let [value_high, masked_high] = [value, masked].map(|value| (value >> 32) as u32);
    // Decides by the high word, or compares the low one if it is equal.
    let ordered = |above, below, code, if_true, if_false| {
        vec![high, (JGT, above, 0, value_high), (JEQ, 0, below, value_high), low, (code, if_true, if_false, value_low)]
    };
    match operator {
        ScmpCmpEq => vec![high, (JEQ, 0, FAIL, value_high), low, (JEQ, 0, FAIL, value_low)],
        ScmpCmpNe => vec![high, (JEQ, 0, MATCH, value_high), low, (JEQ, FAIL, 0, value_low)],
        ScmpCmpMaskedEq => vec![
            high,
            (AND, 0, 0, value_high),
            (JEQ, 0, FAIL, masked_high),
            low,
            (AND, 0, 0, value_low),
            (JEQ, 0, FAIL, masked_low),
        ],
        ScmpCmpGt => ordered(MATCH, FAIL, JGT, 0, FAIL),
        ScmpCmpGe => ordered(MATCH, FAIL, JGE, 0, FAIL),
        ScmpCmpLt => ordered(FAIL, MATCH, JGE, FAIL, 0),
        ScmpCmpLe => ordered(FAIL, MATCH, JGT, FAIL, 0),
    }
}
