//! The archive's bytes, and what cpio reads in them.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::spec::HEADER_LEN;
use crate::{Archive, ArchiveError, initramfs};

#[test]
fn an_entry_has_the_documented_bytes() {
    let mut archive = Archive::new();
    archive.file("ab", 0o644, b"xyz").unwrap();
    let bytes = archive.finish().unwrap();
    let header = concat!(
        "070701", "00000001", "000081a4", "00000000", "00000000", "00000001", "00000000", "00000003", "00000000",
        "00000000", "00000000", "00000000", "00000003", "00000000"
    );
    assert_eq!(header.len(), HEADER_LEN);
    let text = String::from_utf8(bytes.clone()).unwrap();
    // 110 bytes of header and 3 of name are padded to 116, 3 of content to 4.
    assert!(text.starts_with(&format!("{header}ab\0\0\0\0xyz\0070701")), "{text}");
    assert!(text.contains("TRAILER!!!\0"));
    assert_eq!(bytes.len() % 4, 0);
}

#[test]
fn equal_input_gives_equal_bytes() {
    assert_eq!(initramfs(b"init", b"agent").unwrap(), initramfs(b"init", b"agent").unwrap());
}

#[test]
fn names_that_would_leave_the_archive_are_refused() {
    for name in ["", "/a", "a//b", "../a", "a/..", "./a", "a\0b", "TRAILER!!!"] {
        let refused = Archive::new().file(name, 0o644, b"");
        assert!(matches!(refused, Err(ArchiveError::Name { .. })), "{name:?}");
    }
}

#[test]
fn cpio_lists_what_was_packed() {
    let archive = initramfs(b"the init", b"the agent").unwrap();
    let started = Command::new("cpio")
        .args(["--list", "--verbose", "--numeric-uid-gid"])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut cpio) = started else {
        eprintln!("skipped: cpio is not installed (Debian package cpio)");
        return;
    };
    cpio.stdin.take().unwrap().write_all(&archive).unwrap();
    let listed = cpio.wait_with_output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let want = [
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 .",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 proc",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 run",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 sbin",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 sys",
        "drwxrwxrwt 2 0 0 0 Jan 1 1970 tmp",
        "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
        "-rwxr-xr-x 1 0 0 8 Jan 1 1970 init",
        "-rwxr-xr-x 1 0 0 9 Jan 1 1970 sbin/supermachine-agent",
    ];
    assert_eq!(lines, want);
}
