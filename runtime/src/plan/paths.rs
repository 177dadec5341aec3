//! Paths as text: made absolute and free of `.` and `..` without looking at any file system.

/// The absolute path that `path` names from `/`, without `.`, `..`, empty and trailing parts; never above `/`.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether the clean `path` is `dir` or below it.
pub(crate) fn is_within(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        let cases = [
            ("/", "/"),
            ("", "/"),
            ("a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../etc", "/etc"),
            ("../x", "/x"),
            ("/proc/../proc/1", "/proc/1"),
        ];
        for (path, cleaned) in cases {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn within_ends_at_a_slash() {
        assert!(is_within("/proc", "/proc") && is_within("/proc/1", "/proc"));
        assert!(!is_within("/process", "/proc") && !is_within("/", "/proc"));
    }
}
