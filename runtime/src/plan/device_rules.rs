//! Which devices a container may use.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use supermachine_agent_protocol::container::{
    DENY_ALL_DEVICES as DENY_ALL, DeviceKind, DeviceRule, ORDINARY_DEVICES as ORDINARY,
};

use super::PlanError;

/// Linux's number for "any" in a rule.
const ANY: i64 = -1;

/// The rules of a new container: nothing is allowed but what `given` allows and what every container needs.
///
/// What callers list by habit is what every container has, and is left out: the rules of most containers are the ordinary
/// ones then, which the guest has ready.
pub(super) fn complete(given: Vec<DeviceRule>) -> Vec<DeviceRule> {
    let more = |rule: &DeviceRule| !rule.allow || !ORDINARY.iter().any(|ordinary| covers(ordinary, rule));
    let mut given: Vec<_> = given.into_iter().filter(more).collect();
    // Where nothing is allowed, nothing is left to be denied.
    let allowed = given.iter().position(|rule| rule.allow).unwrap_or(given.len());
    given.drain(..allowed);
    [DENY_ALL].into_iter().chain(given).chain(ORDINARY).collect()
}

/// Whether one rule allows all that another does.
fn covers(rule: &DeviceRule, other: &DeviceRule) -> bool {
    let number = |all: Option<u32>, one: Option<u32>| all.is_none() || all == one;
    let access = [(rule.read, other.read), (rule.write, other.write), (rule.mknod, other.mknod)];
    rule.allow
        && rule.kind == other.kind
        && number(rule.major, other.major)
        && number(rule.minor, other.minor)
        && access.iter().all(|(all, one)| *all || !one)
}

/// The rules as the bundle gives them.
pub(super) fn given(rules: &[LinuxDeviceCgroup], at: &str) -> Result<Vec<DeviceRule>, PlanError> {
    let mut planned = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let rule = self::rule(rule, &format!("{at}[{index}]"))?;
        if rule.kind.is_none() {
            // A rule for all kinds is for all numbers and all uses, and undoes those before it.
            planned.clear();
        }
        planned.push(rule);
    }
    Ok(planned)
}

fn rule(rule: &LinuxDeviceCgroup, at: &str) -> Result<DeviceRule, PlanError> {
    let access = rule.access().as_deref().unwrap_or_default();
    if access.is_empty() {
        return Err(PlanError::missing(format!("{at}.access")));
    }
    if !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(PlanError::invalid(format!("{at}.access"), format!("{access:?} has more than r, w and m")));
    }
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => return Ok(DeviceRule { allow: rule.allow(), ..DENY_ALL }),
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C => DeviceKind::Character,
        LinuxDeviceType::U | LinuxDeviceType::P => {
            return Err(PlanError::invalid(format!("{at}.type"), "must be a, b or c"));
        }
    };
    let number = |field: &str, number: Option<i64>| match number.filter(|number| *number != ANY) {
        None => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| PlanError::invalid(format!("{at}.{field}"), format!("{number} is no device number"))),
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        kind: Some(kind),
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<Vec<DeviceRule>, PlanError> {
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).expect("rules");
        given(&rules, "d")
    }

    #[test]
    fn a_rule_for_all_kinds_undoes_those_before_it() {
        let planned = rules(
            r#"[{"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"access":"rwm"},
                {"allow":true,"type":"b","major":8,"minor":-1,"access":"r"}]"#,
        );
        let last = DeviceRule {
            allow: true,
            kind: Some(DeviceKind::Block),
            major: Some(8),
            minor: None,
            read: true,
            write: false,
            mknod: false,
        };
        assert_eq!(planned, Ok(vec![DENY_ALL, last]));
    }

    #[test]
    fn wrong_rules_are_named() {
        let cases = [
            (r#"[{"allow":true,"type":"c"}]"#, "d[0].access"),
            (r#"[{"allow":true,"type":"c","access":"rx"}]"#, "d[0].access"),
            (r#"[{"allow":true,"type":"p","access":"r"}]"#, "d[0].type"),
            (r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#, "d[0].major"),
            (r#"[{"allow":true,"type":"c","minor":4294967296,"access":"r"}]"#, "d[0].minor"),
        ];
        for (json, path) in cases {
            assert_eq!(rules(json).expect_err(json).path(), path, "{json}");
        }
    }

    #[test]
    fn rules_that_say_nothing_new_are_left_out() {
        let plain = complete(Vec::new());
        assert_eq!(plain.len(), 1 + ORDINARY.len());
        for json in [
            r#"[{"allow":false,"access":"rwm"}]"#,
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},
                {"allow":true,"type":"c","major":136,"access":"rw"},{"allow":true,"type":"b","access":"m"},
                {"allow":false,"type":"c","major":10,"minor":229,"access":"rwm"}]"#,
        ] {
            assert_eq!(complete(rules(json).expect("rules")), plain, "{json}");
        }
        let json = r#"[{"allow":false,"type":"c","major":9,"access":"r"},{"allow":true,"type":"c","major":1,"access":"rw"},
                {"allow":false,"type":"c","major":1,"minor":1,"access":"rwm"}]"#;
        let all = rules(json).expect("rules");
        assert_eq!(complete(all.clone()).get(1..3), all.get(1..));
    }

    #[test]
    fn every_container_may_use_null_and_make_nodes() {
        let rules = complete(vec![DENY_ALL]);
        let null = |rule: &&DeviceRule| (rule.major, rule.minor, rule.write) == (Some(1), Some(3), true);
        assert!(rules.iter().rfind(null).is_some_and(|rule| rule.allow));
        assert!(rules.iter().any(|rule| rule.allow && rule.major.is_none() && rule.mknod && !rule.read));
    }
}
