//! Hooks: those that run on the host, and those that run in the guest.

use oci_spec::runtime::{Hook, Hooks};
use supermachine_agent_protocol::container;

use super::process::no_nul;
use super::{HostHook, HostHooks, PlanError};

/// Hooks by where they run.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) host: HostHooks,
    pub(super) create: Vec<container::Hook>,
    pub(super) start: Vec<container::Hook>,
}

/// Plans all hooks.
pub(super) fn plan(hooks: &Hooks) -> Result<Planned, PlanError> {
    let prestart = hooks.prestart();
    Ok(Planned {
        host: HostHooks {
            prestart: all(prestart, "prestart", host)?,
            create_runtime: all(hooks.create_runtime(), "createRuntime", host)?,
            poststart: all(hooks.poststart(), "poststart", host)?,
            poststop: all(hooks.poststop(), "poststop", host)?,
        },
        create: all(hooks.create_container(), "createContainer", guest)?,
        start: all(hooks.start_container(), "startContainer", guest)?,
    })
}

fn all<T>(hooks: &Option<Vec<Hook>>, field: &str, make: fn(HostHook) -> T) -> Result<Vec<T>, PlanError> {
    let hooks = hooks.iter().flatten().enumerate();
    hooks.map(|(index, hook)| check(hook, &format!("hooks.{field}[{index}]")).map(make)).collect()
}

fn host(hook: HostHook) -> HostHook {
    hook
}

fn guest(hook: HostHook) -> container::Hook {
    let HostHook { path, args, env, timeout_secs } = hook;
    container::Hook { path: path.to_string_lossy().into_owned(), args, env, timeout_secs }
}

fn check(hook: &Hook, at: &str) -> Result<HostHook, PlanError> {
    let path = hook.path();
    if !path.has_root() {
        return Err(PlanError::invalid(format!("{at}.path"), format!("{:?} is not an absolute path", path.display())));
    }
    no_nul(&format!("{at}.path"), &path.to_string_lossy())?;
    let args = hook.args().clone().unwrap_or_default();
    let env = hook.env().clone().unwrap_or_default();
    for (field, list) in [("args", &args), ("env", &env)] {
        for (index, text) in list.iter().enumerate() {
            no_nul(&format!("{at}.{field}[{index}]"), text)?;
        }
    }
    let timeout_secs = match hook.timeout() {
        None => None,
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds @ 1..) => Some(seconds),
            _ => return Err(PlanError::invalid(format!("{at}.timeout"), format!("{seconds} is not above 0 seconds"))),
        },
    };
    let args = if args.is_empty() { vec![path.to_string_lossy().into_owned()] } else { args };
    Ok(HostHook { path: path.clone(), args, env, timeout_secs })
}
