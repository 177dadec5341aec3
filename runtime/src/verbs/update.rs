//! `update`: changes the limits of a container that runs, in its guest and on the host.

use std::io::{self, Read};
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use supermachine_vmm_api::Request;

use crate::bundle::{self, BundleError};
use crate::control;
use crate::host::cgroup::{Cgroup, Limits};
use crate::plan;
use crate::state::{Record, Root, Status};

use super::{VerbError, look};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    id: String,
    /// Limits as JSON, `-` for standard input; other options are not looked at then.
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of its block I/O, 10 to 1000.
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<String>,
    /// CPU period in microseconds.
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_period: Option<String>,
    /// CPU time in a period in microseconds; -1 for no limit.
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// Weight of its CPU time.
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<String>,
    /// Period for real-time processes in microseconds.
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<String>,
    /// Time of real-time processes in a period in microseconds.
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,
    /// CPUs to use.
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Accepted and not used: cgroup v2 has no limit of its own for it.
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<String>,
    /// Accepted and not used: cgroup v2 has no limit of its own for it.
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Memory in bytes, or with a unit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that it may count on.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Number of processes; -1 for no limit.
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Not possible: the guest's processor has no resource director.
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// Not possible: the guest's processor has no resource director.
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
}

/// Changes limits.
pub fn run(root: &Root, args: &Args) -> Result<u8, VerbError> {
    let dir = root.find(&args.id)?;
    let changes = changes(args)?;
    let _lock = dir.lock()?;
    let found = look(dir)?;
    let record = match (found.status, found.record) {
        (Status::Created | Status::Running | Status::Paused, Some(record)) => record,
        _ => return Err(VerbError::WrongState("container not running".to_owned())),
    };
    let updated = merged(record, changes)?;
    let planned = plan::plan_resources(&updated.resources)?;
    planned.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let mut guest = planned.value;
    // Rules for devices are none of the limits that can be changed; those that are set stay.
    guest.devices.clear();
    control::ask(&found.dir, &Request::Update(guest.clone()))?;
    if let Ok(cgroup) = serde_json::from_value::<Cgroup>(updated.cgroup.clone()) {
        let guest_ram = updated.memory_mib << 20;
        let unified = plan::host_files(&updated.resources)?;
        cgroup.set(&Limits { resources: &updated.resources, unified: &unified, guest_ram })?;
    }
    found.dir.write_record(&updated)?;
    Ok(0)
}

/// What is to change, in the form of `linux.resources`.
fn changes(args: &Args) -> Result<Value, VerbError> {
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        let message = "--l3-cache-schema, --mem-bw-schema: the guest's processor has no resource director";
        return Err(VerbError::Argument(message.to_owned()));
    }
    let Some(file) = &args.resources else { return from_options(args) };
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin().take(bundle::CONFIG_MAX).read_to_end(&mut bytes);
        read.map_err(|source| VerbError::Io { what: "read standard input", source })?;
        bytes
    } else {
        bundle::read_capped(file)?
    };
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|source| BundleError::Json { name: "resources".to_owned(), source })?;
    leave_out_unchanged(&mut value);
    Ok(value)
}

/// In a file, zero and nothing both mean no change.
fn leave_out_unchanged(value: &mut Value) {
    let Value::Object(parts) = value else { return };
    for part in parts.values_mut() {
        if let Value::Object(fields) = part {
            fields.retain(|_, value| !(value.is_null() || *value == json!(0) || *value == json!("")));
        }
    }
}

fn from_options(args: &Args) -> Result<Value, VerbError> {
    let mut value = Map::new();
    let mut set = |part: &str, field: &str, number: Option<Value>| {
        if let (Some(number), Value::Object(fields)) =
            (number, value.entry(part).or_insert_with(|| Value::Object(Map::new())))
        {
            fields.insert(field.to_owned(), number);
        }
    };
    set("blockIO", "weight", unsigned("blkio-weight", args.blkio_weight.as_deref())?);
    set("cpu", "period", unsigned("cpu-period", args.cpu_period.as_deref())?);
    set("cpu", "quota", signed("cpu-quota", args.cpu_quota.as_deref())?);
    set("cpu", "shares", unsigned("cpu-share", args.cpu_share.as_deref())?);
    set("cpu", "realtimePeriod", unsigned("cpu-rt-period", args.cpu_rt_period.as_deref())?);
    set("cpu", "realtimeRuntime", signed("cpu-rt-runtime", args.cpu_rt_runtime.as_deref())?);
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Value::String));
    set("cpu", "mems", args.cpuset_mems.clone().map(Value::String));
    set("memory", "limit", bytes("memory", args.memory.as_deref())?);
    set("memory", "reservation", bytes("memory-reservation", args.memory_reservation.as_deref())?);
    set("memory", "swap", bytes("memory-swap", args.memory_swap.as_deref())?);
    set("pids", "limit", signed("pids-limit", args.pids_limit.as_deref())?.filter(|limit| *limit != json!(0)));
    value.retain(|_, part| part.as_object().is_some_and(|fields| !fields.is_empty()));
    Ok(Value::Object(value))
}

fn invalid(option: &str, text: &str) -> VerbError {
    VerbError::Argument(format!("invalid value for {option}: {text:?} is no number that can be"))
}

fn signed(option: &str, text: Option<&str>) -> Result<Option<Value>, VerbError> {
    text.map(|text| text.parse::<i64>().map(Value::from).map_err(|_| invalid(option, text))).transpose()
}

fn unsigned(option: &str, text: Option<&str>) -> Result<Option<Value>, VerbError> {
    text.map(|text| text.parse::<u64>().map(Value::from).map_err(|_| invalid(option, text))).transpose()
}

/// Bytes, with a unit of 1024 to some power, as docker writes them; -1 for no limit.
fn bytes(option: &str, text: Option<&str>) -> Result<Option<Value>, VerbError> {
    let Some(text) = text else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(json!(-1)));
    }
    let wrong = || VerbError::Argument(format!("invalid value for {option}: invalid size: '{text}'"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = lower.get(digits.len()..).unwrap_or_default().trim();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let bytes = 1024_i64.checked_pow(power).and_then(|unit| number.checked_mul(unit)).filter(|bytes| *bytes >= 0);
    bytes.map(|bytes| Some(json!(bytes))).ok_or_else(wrong)
}

/// The record with what changes of its limits.
fn merged(mut record: Record, changes: Value) -> Result<Record, VerbError> {
    let failed = |error: serde_json::Error| VerbError::Io { what: "change the limits", source: error.into() };
    let mut resources = serde_json::to_value(&record.resources).map_err(failed)?;
    overlay(&mut resources, changes);
    let text = serde_json::to_vec(&resources).map_err(failed)?;
    let (resources, warnings) = bundle::parse_resources(&text)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    record.resources = resources;
    Ok(record)
}

fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                overlay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from(["update", "c"].iter().chain(line)).map_err(|error| error.to_string())?;
        changes(&line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn options_become_resources() {
        assert_eq!(
            parse(&[
                "--memory",
                "64m",
                "--memory-swap=-1",
                "--cpu-quota",
                "-1",
                "--cpu-share=512",
                "--pids-limit",
                "5"
            ]),
            Ok(
                json!({"memory": {"limit": 67_108_864, "swap": -1}, "cpu": {"quota": -1, "shares": 512}, "pids": {"limit": 5}})
            )
        );
        assert_eq!(parse(&["--cpuset-cpus", "0"]), Ok(json!({"cpu": {"cpus": "0"}})));
        for (line, word) in [
            (["--memory", "foo"], "invalid value for memory: invalid size: 'foo'"),
            (["--memory", "-5"], "invalid size"),
            (["--memory", "99999999999g"], "invalid size"),
            (["--cpu-share", "x"], "invalid value for cpu-share"),
            (["--l3-cache-schema", "x"], "resource director"),
        ] {
            assert!(parse(&line).is_err_and(|error| error.contains(word)), "{line:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, want) in [("4096", 4096), ("1k", 1024), ("2KB", 2048), ("3MiB", 3 << 20), ("1g", 1 << 30)] {
            assert_eq!(bytes("memory", Some(text)).ok().flatten(), Some(json!(want)), "{text}");
        }
    }

    #[test]
    fn a_file_s_zeros_change_nothing() {
        let mut value = json!({"memory": {"limit": 0, "swap": 5}, "cpu": {"cpus": "", "shares": 7}});
        leave_out_unchanged(&mut value);
        assert_eq!(value, json!({"memory": {"swap": 5}, "cpu": {"shares": 7}}));
        let mut below = json!({"memory": {"limit": 1, "swap": 2}});
        overlay(&mut below, value);
        assert_eq!(below, json!({"memory": {"limit": 1, "swap": 5}, "cpu": {"shares": 7}}));
    }
}
