//! The process of an `exec`: read from a file, or the container's own with what the command line changes.

use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder, Process, User};

use crate::bundle;

use super::super::VerbError;
use super::Args;

/// The process that is asked for.
pub(super) fn from_args(args: &Args, base: Process) -> Result<Process, VerbError> {
    refuse_host_things(args)?;
    let process = match &args.process {
        Some(file) => {
            let (process, warnings) = bundle::parse_process(&bundle::read_capped(file)?)?;
            warnings.iter().for_each(|warning| log::warn!("{warning}"));
            process
        }
        None => changed(args, base)?,
    };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(VerbError::Argument("process args cannot be empty".to_owned()));
    }
    Ok(process)
}

/// What would have to come from the host, where the process is not.
fn refuse_host_things(args: &Args) -> Result<(), VerbError> {
    let refuse = |message: &str| Err(VerbError::Argument(message.to_owned()));
    if args.preserve_fds > 0 {
        return refuse("--preserve-fds: descriptors of the host cannot be passed into a virtual machine");
    }
    if args.process_label.as_ref().is_some_and(|label| !label.is_empty()) {
        return refuse("selinux label is specified in config, but selinux is disabled or not supported");
    }
    if args.cgroup.iter().any(|path| !matches!(path.as_str(), "" | "/")) {
        return refuse("--cgroup: a process of a container is always in the container's own control group");
    }
    Ok(())
}

fn changed(args: &Args, mut process: Process) -> Result<Process, VerbError> {
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let env = process.env().clone().unwrap_or_default().into_iter().chain(args.env.iter().cloned());
    process.set_env(Some(env.collect()));
    if let Some(user) = &args.user {
        process.set_user(parse_user(user, process.user().clone())?);
    }
    if !args.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let gids = user.additional_gids().clone().unwrap_or_default().into_iter().chain(args.additional_gids.clone());
        user.set_additional_gids(Some(gids.collect()));
        process.set_user(user);
    }
    add_capabilities(&mut process, &args.cap)?;
    Ok(process)
}

/// Ids as `UID` or `UID:GID`.
fn parse_user(text: &str, mut user: User) -> Result<User, VerbError> {
    let number = |what: &str, text: &str| {
        let wrong = |_| VerbError::Argument(format!("parsing {text} as int for {what} failed: it is no number"));
        text.parse::<u32>().map_err(wrong)
    };
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    user.set_uid(number("uid", uid)?);
    if let Some(gid) = gid {
        user.set_gid(number("gid", gid)?);
    }
    Ok(user)
}

/// Gives capabilities in the three sets that count for a program without any of its own.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), VerbError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Vec::new();
    for name in names {
        match serde_json::from_value::<Capability>(serde_json::Value::String(name.to_ascii_uppercase())) {
            Ok(capability) => added.push(capability),
            Err(_) => log::warn!("ignoring unknown or unavailable capabilities: [{name}]"),
        }
    }
    let mut capabilities = match process.capabilities().clone() {
        Some(capabilities) => capabilities,
        None => LinuxCapabilitiesBuilder::default()
            .build()
            .map_err(|error| VerbError::Argument(format!("--cap: {error}")))?,
    };
    let with = |set: &Option<std::collections::HashSet<Capability>>| {
        Some(set.clone().unwrap_or_default().into_iter().chain(added.iter().copied()).collect())
    };
    capabilities.set_bounding(with(capabilities.bounding()));
    capabilities.set_effective(with(capabilities.effective()));
    capabilities.set_permitted(with(capabilities.permitted()));
    process.set_capabilities(Some(capabilities));
    Ok(())
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

    fn args(line: &[&str]) -> Args {
        Line::try_parse_from(std::iter::once(&"exec").chain(line)).expect("parses").args
    }

    fn base() -> Process {
        let json = br#"{"cwd":"/","args":["sh"],"env":["A=1"],"user":{"uid":0,"gid":0},"terminal":true}"#;
        bundle::parse_process(json).expect("a process").0
    }

    #[test]
    fn the_command_line_changes_the_container_s_process() {
        let line =
            ["--cwd", "/tmp", "-e", "B=2", "-u", "7:8", "-g", "9", "--cap", "CAP_KILL", "c", "ls", "-l", "--tty"];
        let process = from_args(&args(&line), base()).expect("a process");
        assert_eq!(process.args().as_deref(), Some(["ls", "-l", "--tty"].map(str::to_owned).as_slice()));
        assert_eq!(process.env().as_deref(), Some(["A=1", "B=2"].map(str::to_owned).as_slice()));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
        assert_eq!(process.user().additional_gids().as_deref(), Some([9].as_slice()));
        assert_eq!(process.terminal(), Some(false));
        let capabilities = process.capabilities().as_ref().expect("capabilities");
        assert!(capabilities.effective().as_ref().is_some_and(|set| set.contains(&Capability::Kill)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, word) in [
            (["--preserve-fds=1", "c", "x"].as_slice(), "--preserve-fds"),
            (&["--process-label=a", "c", "x"], "selinux"),
            (&["--cgroup=sub", "c", "x"], "--cgroup"),
            (&["-u", "me", "c", "x"], "parsing me as int for uid"),
            (&["-u", "1:me", "c", "x"], "parsing me as int for gid"),
            (&["c"], "process args cannot be empty"),
        ] {
            let error = from_args(&args(line), base()).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
