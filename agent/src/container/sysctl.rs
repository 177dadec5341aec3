//! Kernel parameters.

use std::collections::BTreeMap;
use std::fs;

use crate::reply::{Step, bad_request, failed};

/// Checks names before there is a child.
pub(super) fn check(parameters: &BTreeMap<String, String>) -> Step {
    match parameters.keys().find(|name| path(name).is_none()) {
        Some(odd) => Err(bad_request(format!("sysctl: {odd:?} is not a parameter's name"))),
        None => Ok(()),
    }
}

/// Sets parameters, in this process's namespaces.
pub(super) fn set_all(parameters: &BTreeMap<String, String>) -> Step {
    for (name, value) in parameters {
        let path = path(name).ok_or_else(|| bad_request(format!("sysctl: {name:?} is not a parameter's name")))?;
        fs::write(path, value).map_err(failed(|| format!("sysctl {name:?}: write {value:?}")))?;
    }
    Ok(())
}

/// The file of a parameter. The separator that comes first in a name separates; the other is part of a name.
fn path(name: &str) -> Option<String> {
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'.'));
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dotted { name.chars().map(swapped).collect() } else { name.to_owned() };
    let good = path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
    good.then(|| format!("/proc/sys/{path}"))
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn the_first_separator_separates() {
        assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(path("net/ipv4/conf/eth0.1/arp").as_deref(), Some("/proc/sys/net/ipv4/conf/eth0.1/arp"));
        assert_eq!(path("net.ipv4.conf.eth0/1.arp").as_deref(), Some("/proc/sys/net/ipv4/conf/eth0.1/arp"));
        for odd in ["", "/etc/passwd", "a/../b", "..", "net..ipv4"] {
            assert_eq!(path(odd), None, "{odd}");
        }
    }
}
