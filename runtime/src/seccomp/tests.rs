//! Tests of the compiler: an interpreter runs its programs, and a plain reading of the profile says what must come out.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxSeccompOperator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::spec::*;
use super::*;

const ALLOW: u32 = RET_ALLOW;
const KILL: u32 = RET_KILL_THREAD;
const UNKNOWN: u32 = RET_ERRNO | ENOSYS;

/// A call as the filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; ARGS],
}

fn call(name: &str, args: &[u64]) -> Call {
    let number = profile::number(name, GuestArch::X86_64).expect(name);
    let mut all = [0; ARGS];
    all[..args.len()].copy_from_slice(args);
    Call { arch: AUDIT_ARCH_X86_64, number, args: all }
}

/// Runs a program as the kernel would, with its checks: no jump leaves it, and it ends with a return.
fn run(program: &[(u16, u8, u8, u32)], call: &Call) -> u32 {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&call.number.to_le_bytes());
    data[4..8].copy_from_slice(&call.arch.to_le_bytes());
    for (index, arg) in call.args.iter().enumerate() {
        data[16 + 8 * index..][..8].copy_from_slice(&arg.to_le_bytes());
    }
    let mut accumulator = 0_u32;
    let mut at = 0;
    loop {
        let (code, if_true, if_false, operand) = program[at];
        at += 1;
        let branch = |taken: bool| usize::from(if taken { if_true } else { if_false });
        match code {
            LD_ABS => {
                assert!(operand % 4 == 0 && operand < 64);
                let word = &data[operand as usize..][..4];
                accumulator = u32::from_le_bytes(word.try_into().expect("four bytes"));
            }
            AND => accumulator &= operand,
            JA => at += operand as usize,
            JEQ => at += branch(accumulator == operand),
            JGT => at += branch(accumulator > operand),
            JGE => at += branch(accumulator >= operand),
            RET => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// Every path of a program stays inside it, as the kernel's check demands.
fn check(program: &[(u16, u8, u8, u32)]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS);
    for (at, (code, if_true, if_false, operand)) in program.iter().enumerate() {
        let next = at + 1;
        let targets = match *code {
            JA => vec![next + *operand as usize],
            JEQ | JGT | JGE => vec![next + usize::from(*if_true), next + usize::from(*if_false)],
            RET => vec![],
            _ => vec![next],
        };
        assert!(targets.iter().all(|target| *target < program.len()), "instruction {at} leaves the program");
    }
}

fn compiled(profile: &Value) -> Result<Seccomp, PlanError> {
    let profile = serde_json::from_value(profile.clone()).expect("a profile");
    compile(&profile, "s", GuestArch::X86_64)
}

fn program(profile: &Value) -> Vec<(u16, u8, u8, u32)> {
    let program = compiled(profile).expect("a program").program;
    check(&program);
    program
}

#[test]
fn actions_give_their_values() {
    let cases = [
        (json!({"action": "SCMP_ACT_ALLOW"}), RET_ALLOW),
        (json!({"action": "SCMP_ACT_ERRNO"}), RET_ERRNO | 1),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}), RET_ERRNO),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 4095}), RET_ERRNO | 4095),
        (json!({"action": "SCMP_ACT_KILL"}), RET_KILL_THREAD),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), RET_KILL_THREAD),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), RET_KILL_PROCESS),
        (json!({"action": "SCMP_ACT_TRAP"}), RET_TRAP),
        (json!({"action": "SCMP_ACT_TRACE"}), RET_TRACE | 1),
        (json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65535}), RET_TRACE | 65535),
        (json!({"action": "SCMP_ACT_LOG"}), RET_LOG),
    ];
    for (mut rule, value) in cases {
        rule["names"] = json!(["mkdir"]);
        let code = program(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7, "syscalls": [rule]}));
        assert_eq!(run(&code, &call("mkdir", &[])), value, "{rule}");
        assert_eq!(run(&code, &call("close", &[])), RET_ERRNO | 7);
        let code = program(&json!({"defaultAction": rule["action"], "syscalls": []}));
        assert_eq!(run(&code, &call("close", &[])) & 0xffff_0000, value & 0xffff_0000, "{rule}");
    }
}

#[test]
fn operators_compare_all_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    // Operator, its two values, arguments that match, arguments that do not.
    type Case = (&'static str, u64, u64, &'static [u64], &'static [u64]);
    let cases: [Case; 8] = [
        ("SCMP_CMP_EQ", BIG, 0, &[BIG], &[5, 0x2_0000_0005, BIG + 1, 0]),
        ("SCMP_CMP_NE", BIG, 0, &[5, 0x2_0000_0005, BIG + 1, 0, u64::MAX], &[BIG]),
        ("SCMP_CMP_LT", BIG, 0, &[0, 6, BIG - 1], &[BIG, BIG + 1, 0x2_0000_0000, u64::MAX]),
        ("SCMP_CMP_LE", BIG, 0, &[0, 6, BIG - 1, BIG], &[BIG + 1, 0x2_0000_0000, u64::MAX]),
        ("SCMP_CMP_GE", BIG, 0, &[BIG, BIG + 1, 0x2_0000_0000, u64::MAX], &[0, 6, BIG - 1]),
        ("SCMP_CMP_GT", BIG, 0, &[BIG + 1, 0x2_0000_0000, u64::MAX], &[0, 6, BIG - 1, BIG]),
        ("SCMP_CMP_MASKED_EQ", 0xf_0000_000f, BIG, &[BIG, BIG | 0xf0, BIG | 1 << 40], &[5, BIG + 1, 0x3_0000_0005]),
        ("SCMP_CMP_MASKED_EQ", 0x7e02_0000, 0, &[0, 1, 0xffff << 32, 0x8000_0000], &[0x0200_0000, 0x2_0000, u64::MAX]),
    ];
    for (operator, value, masked, matching, others) in cases {
        let arg = json!({"index": 5, "value": value, "valueTwo": masked, "op": operator});
        let rule = json!({"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [arg]});
        let code = program(&json!({"defaultAction": "SCMP_ACT_TRAP", "syscalls": [rule]}));
        for arg in matching {
            assert_eq!(run(&code, &call("mmap", &[7, 7, 7, 7, 7, *arg])), ALLOW, "{arg:#x} {operator} {value:#x}");
        }
        for arg in others {
            assert_eq!(run(&code, &call("mmap", &[7, 7, 7, 7, 7, *arg])), RET_TRAP, "{arg:#x} {operator} {value:#x}");
        }
    }
}

#[test]
fn arguments_must_all_match_unless_one_is_repeated() {
    let equals = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let with = |args: Value| {
        let rule = json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args});
        program(&json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]}))
    };
    let all = with(json!([equals(0, 2), equals(1, 3)]));
    assert_eq!(run(&all, &call("socket", &[2, 3])), ALLOW);
    assert_eq!(run(&all, &call("socket", &[2, 4])), RET_KILL_PROCESS);
    assert_eq!(run(&all, &call("socket", &[1, 3])), RET_KILL_PROCESS);
    let any = with(json!([equals(0, 2), equals(0, 9), equals(1, 3)]));
    for (args, allowed) in [([2, 0], true), ([9, 0], true), ([0, 3], true), ([1, 1], false)] {
        assert_eq!(run(&any, &call("socket", &args)) == ALLOW, allowed, "{args:?}");
    }
}

#[test]
fn a_rule_without_arguments_wins_and_then_the_first() {
    let arg = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let code = program(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": arg},
        {"names": ["kill", "tkill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
        {"names": ["kill"], "action": "SCMP_ACT_KILL"},
        {"names": ["dup"], "action": "SCMP_ACT_TRAP", "args": arg},
        {"names": ["dup"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]},
    ]}));
    assert_eq!(run(&code, &call("kill", &[1])), RET_ERRNO | 5);
    assert_eq!(run(&code, &call("tkill", &[1])), RET_ERRNO | 5);
    let dup = [([1, 2], RET_TRAP), ([1, 0], RET_TRAP), ([0, 2], RET_LOG), ([0, 0], ALLOW)];
    for (args, value) in dup {
        assert_eq!(run(&code, &call("dup", &args)), value, "{args:?}");
    }
}

#[test]
fn other_architectures_and_x32_do_not_pass() {
    let names = json!(["read", "write", "dup"]);
    for archs in [json!([]), json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"])] {
        let code = program(&json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs,
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}));
        let native = call("read", &[]);
        assert_eq!(run(&code, &native), ALLOW);
        assert_eq!(run(&code, &Call { arch: 0x4000_0003, ..native }), KILL);
        assert_eq!(run(&code, &Call { arch: AUDIT_ARCH_AARCH64, ..native }), KILL);
        assert_eq!(run(&code, &Call { number: X32_BIT, ..native }), KILL);
        assert_eq!(run(&code, &Call { number: X32_BIT | 520, ..native }), KILL);
        assert_eq!(run(&code, &Call { number: NR_SKIPPED, ..native }), RET_ERRNO | 1);
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let with = |default: &str| {
        program(&json!({"defaultAction": default, "syscalls": [
            {"names": ["read", "clone3", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}))
    };
    for (default, newer) in
        [("SCMP_ACT_ERRNO", UNKNOWN), ("SCMP_ACT_KILL", UNKNOWN), ("SCMP_ACT_ALLOW", ALLOW), ("SCMP_ACT_LOG", RET_LOG)]
    {
        let code = with(default);
        assert_eq!(run(&code, &call("openat2", &[])), newer, "{default}");
        assert_eq!(run(&code, &call("clone3", &[])), RET_ERRNO | 1, "{default}");
    }
}

#[test]
fn arm_guests_have_numbers_of_their_own() {
    let profile = json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["newfstatat", "openat", "open"], "action": "SCMP_ACT_ALLOW"}]});
    let profile = serde_json::from_value(profile).expect("a profile");
    let code = compile(&profile, "s", GuestArch::Aarch64).expect("a program").program;
    check(&code);
    let native = Call { arch: AUDIT_ARCH_AARCH64, number: 79, args: [0; ARGS] };
    for (number, value) in [(79, ALLOW), (56, ALLOW), (2, KILL), (80, UNKNOWN), (X32_BIT, UNKNOWN)] {
        assert_eq!(run(&code, &Call { number, ..native }), value, "{number}");
    }
    assert_eq!(run(&code, &Call { arch: AUDIT_ARCH_X86_64, ..native }), KILL);
}

#[test]
fn flags_are_linuxs() {
    let with = |flags: Value| compiled(&json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}));
    let all = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    assert_eq!(with(all).map(|seccomp| seccomp.flags), Ok(0b110));
    let error = with(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])).expect_err("refused");
    assert_eq!(error.path(), "s.flags[0]");
}

#[test]
fn what_cannot_be_is_named() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let argument = json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"});
    let cases = [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "s.defaultAction"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "s.defaultErrnoRet"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}), "s.listenerPath"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})), "s.syscalls[0].action"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})), "s.syscalls[0].errnoRet"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_TRAP", "errnoRet": 1})), "s.syscalls[0].errnoRet"),
        (rule(json!({"names": [], "action": "SCMP_ACT_KILL"})), "s.syscalls[0].names"),
        (rule(json!({"names": ["read", ""], "action": "SCMP_ACT_KILL"})), "s.syscalls[0].names[1]"),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_KILL", "args": [argument]})),
            "s.syscalls[0].args[0].index",
        ),
    ];
    for (profile, path) in cases {
        assert_eq!(compiled(&profile).expect_err(path).path(), path, "{profile}");
    }
}

#[test]
fn a_program_that_is_too_long_is_refused() {
    let args: Vec<Value> =
        (0..6).map(|index| json!({"index": index, "value": index, "op": "SCMP_CMP_MASKED_EQ"})).collect();
    let rules: Vec<Value> =
        (0..200).map(|_| json!({"names": ["read"], "action": "SCMP_ACT_KILL", "args": args})).collect();
    let error = compiled(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).expect_err("too long");
    assert_eq!(error.path(), "s.syscalls");
    // Half as long, it needs the long kind of jump.
    let rules = &rules[..100];
    let code = program(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    assert_eq!(run(&code, &call("read", &[])), KILL);
    assert_eq!(run(&code, &call("write", &[])), ALLOW);
}

/// What the profile says, read rule by rule.
fn expected(profile: &profile::Decisions, call: &Call) -> u32 {
    if call.arch != AUDIT_ARCH_X86_64 || (X32_BIT..NR_SKIPPED).contains(&call.number) {
        return KILL;
    }
    if profile.newest.is_some_and(|newest| call.number > newest && call.number != NR_SKIPPED) {
        return UNKNOWN;
    }
    match profile.calls.get(&call.number) {
        None => profile.default,
        Some(profile::Decision::Always(action)) => *action,
        Some(profile::Decision::Rules(rules)) => {
            let holds = |condition: &profile::Condition| {
                let arg = call.args[usize::from(condition.argument)];
                match condition.operator {
                    LinuxSeccompOperator::ScmpCmpEq => arg == condition.value,
                    LinuxSeccompOperator::ScmpCmpNe => arg != condition.value,
                    LinuxSeccompOperator::ScmpCmpLt => arg < condition.value,
                    LinuxSeccompOperator::ScmpCmpLe => arg <= condition.value,
                    LinuxSeccompOperator::ScmpCmpGt => arg > condition.value,
                    LinuxSeccompOperator::ScmpCmpGe => arg >= condition.value,
                    LinuxSeccompOperator::ScmpCmpMaskedEq => arg & condition.value == condition.masked,
                }
            };
            let rule = rules.iter().find(|rule| rule.conditions.iter().all(holds));
            rule.map_or(profile.default, |rule| rule.action)
        }
    }
}

/// Values that meet at their edges, in both halves.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            u64::from(u32::MAX),
            1 << 32,
            (1 << 32) + 1,
            (2 << 32) + 1,
            u64::MAX - 1,
            u64::MAX
        ]),
        any::<u64>(),
    ]
}

fn condition() -> impl Strategy<Value = profile::Condition> {
    use LinuxSeccompOperator::*;
    let operators = vec![ScmpCmpEq, ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpGt, ScmpCmpGe, ScmpCmpMaskedEq];
    (0..6_u8, prop::sample::select(operators), word(), word())
        .prop_map(|(argument, operator, value, masked)| profile::Condition { argument, operator, value, masked })
}

fn action() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![RET_ALLOW, RET_ERRNO | 1, RET_ERRNO | 38, KILL, RET_KILL_PROCESS, RET_TRAP, RET_LOG])
}

fn decision() -> impl Strategy<Value = profile::Decision> {
    let rule = (prop::collection::vec(condition(), 1..4), action());
    let rule = rule.prop_map(|(conditions, action)| profile::Rule { conditions, action });
    prop_oneof![
        3 => action().prop_map(profile::Decision::Always),
        1 => prop::collection::vec(rule, 1..4).prop_map(profile::Decision::Rules),
    ]
}

fn decisions() -> impl Strategy<Value = profile::Decisions> {
    let calls = prop::collection::btree_map(0..480_u32, decision(), 0..120);
    (action(), calls, any::<bool>()).prop_map(|(default, calls, stub)| {
        let newest = calls.keys().last().copied().filter(|_| stub);
        profile::Decisions { default, calls, newest }
    })
}

proptest! {
    #[test]
    fn programs_do_what_the_rules_say(
        decisions in decisions(),
        args in prop::array::uniform6(word()),
        odd in any::<u32>(),
    ) {
        let code = code::program(&decisions, GuestArch::X86_64);
        check(&code);
        let numbers = (0..490).chain([odd, X32_BIT - 1, X32_BIT, NR_SKIPPED - 1, NR_SKIPPED]);
        for number in numbers {
            let call = Call { arch: AUDIT_ARCH_X86_64, number, args };
            prop_assert_eq!(run(&code, &call), expected(&decisions, &call), "{:?}", call);
        }
        let foreign = Call { arch: odd, number: 0, args };
        prop_assert_eq!(run(&code, &foreign), expected(&decisions, &foreign));
    }

    #[test]
    fn rules_with_the_profiles_own_values_match(condition in condition(), delta in 0..3_u64) {
        let near = condition.value.wrapping_add(delta).wrapping_sub(1);
        let rule = profile::Rule { conditions: vec![condition], action: RET_TRAP };
        let calls = BTreeMap::from([(7, profile::Decision::Rules(vec![rule]))]);
        let decisions = profile::Decisions { default: ALLOW, calls, newest: None };
        let code = code::program(&decisions, GuestArch::X86_64);
        for arg in [near, condition.value, condition.masked, near ^ (1 << 32)] {
            let call = Call { arch: AUDIT_ARCH_X86_64, number: 7, args: [arg; ARGS] };
            prop_assert_eq!(run(&code, &call), expected(&decisions, &call), "{:?}", call);
        }
    }
}
