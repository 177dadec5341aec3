//! Makes a configuration such as runc takes one that the typed reader takes.
//!
//! runc is written in Go: there a field that is `null` or missing has its type's zero value. Names that this runtime
//! does not know and runc skips are taken out here, with a warning.

use serde_json::{Map, Value, json};

use crate::plan::capabilities;

/// Takes out fields that are `null`, at any depth.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A whole configuration.
pub(super) fn spec(spec: &mut Value, warnings: &mut Vec<String>) {
    let Value::Object(fields) = spec else { return };
    // Other systems' sections.
    for section in ["windows", "solaris", "zos"] {
        fields.remove(section);
    }
    if let Some(process) = fields.get_mut("process") {
        self::process(process, "process", warnings);
    }
    let linux = fields.entry("linux").or_insert_with(|| json!({}));
    if let Some(Value::Object(fields)) = linux.get_mut("seccomp") {
        seccomp(fields);
        if !fields.contains_key("defaultAction") && !fields.contains_key("syscalls") {
            // A profile that says nothing is none.
            linux.as_object_mut().and_then(|linux| linux.remove("seccomp"));
        }
    }
}

/// A process, found at `at`.
pub(super) fn process(process: &mut Value, at: &str, warnings: &mut Vec<String>) {
    let Value::Object(fields) = process else { return };
    fields.entry("user").or_insert_with(|| json!({}));
    fields.entry("cwd").or_insert_with(|| json!(""));
    if let Some(Value::Object(sets)) = fields.get_mut("capabilities") {
        for (set, names) in sets {
            known_capabilities(names, &format!("{at}.capabilities.{set}"), warnings);
        }
    }
    // The reader's name for this flag is not the specification's.
    for flag in array(fields.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"))) {
        if flag == "SCHED_FLAG_DL_OVERRUN" {
            *flag = json!("SCHED_FLAG_D_L_OVERRUN");
        }
    }
}

fn known_capabilities(names: &mut Value, at: &str, warnings: &mut Vec<String>) {
    let Value::Array(names) = names else { return };
    names.retain(|name| match name.as_str() {
        Some(name) if !capabilities::is_known(name) => {
            warnings.push(format!("{at}: {name:?} is no capability of the guest's kernel; it is left out"));
            false
        }
        _ => true,
    });
}

/// Numbers of a comparison may be left out where they are 0.
fn seccomp(seccomp: &mut Map<String, Value>) {
    for rule in array(seccomp.get_mut("syscalls")) {
        for argument in array(rule.get_mut("args")) {
            if let Value::Object(argument) = argument {
                argument.entry("index").or_insert_with(|| json!(0));
                argument.entry("value").or_insert_with(|| json!(0));
            }
        }
    }
}

fn array(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxSchedulerFlag, Spec};

    use super::*;

    fn normalized(mut json: Value) -> (Spec, Vec<String>) {
        let mut warnings = Vec::new();
        drop_nulls(&mut json);
        spec(&mut json, &mut warnings);
        (serde_json::from_value(json).expect("a specification"), warnings)
    }

    #[test]
    fn what_go_takes_is_taken() {
        let (spec, warnings) = normalized(json!({
            "ociVersion": "1.0.2", "hostname": null, "windows": {"layerFolders": 7}, "unknown": {"x": 1},
            "process": {"args": ["sh"], "env": null, "scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_DL_OVERRUN"]}},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [{"op": "SCMP_CMP_EQ"}]}]}},
        }));
        assert_eq!(warnings, [""; 0]);
        let process = spec.process().as_ref().expect("a process");
        assert_eq!(process.user().uid(), 0);
        let flags = process.scheduler().as_ref().and_then(|scheduler| scheduler.flags().clone());
        assert_eq!(flags, Some(vec![LinuxSchedulerFlag::SchedFlagDLOverrun]));
        assert!(spec.windows().is_none() && spec.hostname().is_none());
    }

    #[test]
    fn a_section_for_linux_is_always_there_and_has_no_defaults() {
        let (spec, _) = normalized(json!({"ociVersion": "1.0.2"}));
        let linux = spec.linux().as_ref().expect("a section");
        assert!(linux.namespaces().is_none() && linux.masked_paths().is_none() && linux.resources().is_none());
    }

    #[test]
    fn unknown_capabilities_are_left_out() {
        let (spec, warnings) = normalized(json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "capabilities": {"bounding": ["CAP_TEST", "CAP_KILL", "KILL"]}},
        }));
        assert!(warnings.len() == 2 && warnings[0].contains("process.capabilities.bounding"), "{warnings:?}");
        let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().clone());
        assert_eq!(capabilities.and_then(|sets| sets.bounding().clone()).map(|set| set.len()), Some(1));
    }
}
