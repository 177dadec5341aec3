//! The control group on the host: `linux.cgroupsPath`, in either of its forms.

use super::PlanError;
use super::process::no_nul;

const AT: &str = "linux.cgroupsPath";

/// Checks a path of directories: absolute from the hierarchies' roots, or relative to the caller's own group.
pub(super) fn plain(path: &str) -> Result<String, PlanError> {
    no_nul(AT, path)?;
    if path.split('/').any(|part| part == "..") {
        return Err(PlanError::invalid(AT, format!("{path:?} leads upwards")));
    }
    if path.split('/').all(|part| matches!(part, "" | ".")) {
        return Err(PlanError::invalid(AT, format!("{path:?} is no group of its own")));
    }
    Ok(path.to_owned())
}

/// The directories that systemd makes for `slice:prefix:name`: the slice and its parents, then `prefix-name.scope`.
pub(super) fn systemd(path: &str, id: &str, rootless: bool) -> Result<String, PlanError> {
    no_nul(AT, path)?;
    let default_slice = if rootless { "user.slice" } else { "system.slice" };
    let parts: Vec<&str> = if path.is_empty() { vec!["", "supermachine", id] } else { path.split(':').collect() };
    let [slice, prefix, name] = parts[..] else {
        return Err(PlanError::invalid(AT, format!("{path:?} is not of the form slice:prefix:name")));
    };
    if name.is_empty() || [slice, prefix, name].iter().any(|part| part.contains('/')) {
        return Err(PlanError::invalid(AT, format!("{path:?} names no unit of systemd")));
    }
    let slice = expand(if slice.is_empty() { default_slice } else { slice })?;
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Ok(format!("{slice}/{unit}"))
}

/// Path of a slice: `a-b.slice` lies in `a.slice` (`systemd.slice(5)`).
fn expand(slice: &str) -> Result<String, PlanError> {
    let wrong = || PlanError::invalid(AT, format!("{slice:?} is no slice"));
    let name = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if name == "-" {
        return Ok(String::new());
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(wrong());
        }
        prefix.push_str(part);
        path.push_str(&format!("/{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_do_not_lead_upwards() {
        for path in ["/libpod_parent/libpod-1", "a/b", "/user.slice/x:y:z", "a..b/..."] {
            assert_eq!(plain(path), Ok(path.to_owned()));
        }
        for path in ["..", "/../x", "a/../../b", "/", "", "a\0", "././"] {
            assert!(plain(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn systemd_paths_become_directories() {
        let cases = [
            ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
            ("machine-a-b.slice:p:n", "/machine.slice/machine-a.slice/machine-a-b.slice/p-n.scope"),
            (":runc:n", "/system.slice/runc-n.scope"),
            ("-.slice::n", "/n.scope"),
            ("kubepods.slice:x:pod.slice", "/kubepods.slice/pod.slice"),
            ("", "/system.slice/supermachine-id.scope"),
        ];
        for (path, directories) in cases {
            assert_eq!(systemd(path, "id", false).as_deref(), Ok(directories), "{path}");
        }
        assert_eq!(systemd(":p:n", "id", true).as_deref(), Ok("/user.slice/p-n.scope"));
        for path in ["/a/b", "a:b", "a.slice:b:c:d", "a:b:c", "a--b.slice:c:d", "a.slice:../x:d", "a.slice:b:"] {
            assert!(systemd(path, "id", false).is_err(), "{path}");
        }
    }
}
