//! Archives that are damaged or mean harm: each is an error that names what is wrong, and nothing comes of it.

mod common;

use std::error::Error;
use std::io::{self, Cursor, Read};
use std::process::{Command, Stdio};

use common::archive::{Archive, Header, record};
use supermachine_layers::{Caps, Options, PackError, Summary, pack_tar};

fn pack(input: impl Read, caps: &Caps) -> Result<Summary, PackError> {
    pack_tar(input, tempfile::tempfile().expect("a file"), &Options { threads: 1, ..Options::default() }, caps)
}

/// An error with all its causes.
fn words(error: &PackError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[track_caller]
fn refused(archive: &[u8], wanted: &str) {
    refused_with(archive, &Caps::default(), wanted);
}

#[track_caller]
fn refused_with(archive: &[u8], caps: &Caps, wanted: &str) {
    match pack(archive, caps) {
        Err(error) => assert_eq!(words(&error), wanted),
        Ok(summary) => panic!("wanted {wanted:?}, got {summary:?}"),
    }
}

fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).args(["-c", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("its input");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || io::copy(&mut Cursor::new(bytes), &mut input));
    let output = child.wait_with_output().expect("ends").stdout;
    writer.join().expect("a thread").expect("written");
    output
}

#[test]
fn paths_out_of_the_layer() {
    for (name, archive) in [
        ("../x", Archive::new().file("../x", "")),
        ("a/../../x", Archive::new().file("a/../../x", "")),
        ("/..", Archive::new().dir("/..")),
        ("a/..", Archive::new().symlink("a/..", "b")),
        ("x/../.wh.y", Archive::new().file("x/../.wh.y", "")),
        ("l", Archive::new().hard_link("l", "../../etc/passwd")),
        ("../long", Archive::new().entry(b'L', "././@LongLink", b"../long\0").file("short", "")),
        ("../pax", Archive::new().pax(b'x', &[("path", b"../pax")]).file("short", "")),
        ("../sparse", Archive::new().pax(b'x', &[("GNU.sparse.name", b"../sparse")]).file("short", "")),
    ] {
        refused(&archive.end(), &format!("the archive's entry {name:?}: has a path with `..` in it"));
    }
}

#[test]
fn paths_through_what_is_no_directory() {
    let below =
        |name: &str, parent: &str| format!("the archive's entry {name:?}: is below {parent:?}, which is no directory");
    refused(&Archive::new().symlink("l", "/etc").file("l/passwd", "x").end(), &below("l/passwd", "l"));
    refused(&Archive::new().symlink("a/l", "..").dir("a/l/b").end(), &below("a/l/b", "a/l"));
    refused(&Archive::new().file("f", "").file("f/x", "").end(), &below("f/x", "f"));
    refused(&Archive::new().symlink("l", "d").file("l/.wh.x", "").end(), &below("l/.wh.x", "l"));
    refused(&Archive::new().symlink("l", "d").file("l/.wh..wh..opq", "").end(), &below("l/.wh..wh..opq", "l"));
    refused(&Archive::new().symlink("l", "d").hard_link("l/x", "l").end(), &below("l/x", "l"));
}

#[test]
fn hard_links_to_nothing() {
    let link = |name: &str, target: &str| {
        format!("the archive's entry {name:?}: is a hard link to {target:?}, which is no file of this layer")
    };
    refused(&Archive::new().hard_link("l", "/etc/passwd").end(), &link("l", "/etc/passwd"));
    refused(&Archive::new().hard_link("l", "l").end(), &link("l", "l"));
    refused(&Archive::new().hard_link("l", "later").file("later", "").end(), &link("l", "later"));
    refused(&Archive::new().dir("d").hard_link("l", "d").end(), &link("l", "d"));
    refused(&Archive::new().hard_link("l", ".").end(), &link("l", "."));
    refused(&Archive::new().symlink("s", "/etc").hard_link("l", "s/passwd").end(), &link("l", "s/passwd"));
    refused(&Archive::new().file(".wh.w", "").hard_link("l", "w").end(), &link("l", "w"));
    refused(&Archive::new().hard_link("l", "").end(), "the archive's entry \"l\": has a path that no file can have");
}

#[test]
fn names_that_no_file_can_have() {
    let bad = |name: &str| format!("the archive's entry {name:?}: has a path that no file can have");
    refused(&Archive::new().file("", "").end(), &bad(""));
    refused(&Archive::new().pax(b'x', &[("path", b"a\0b")]).file("s", "").end(), &bad("a\0b"));
    refused(&Archive::new().symlink("l", "").end(), &bad("l"));
    refused(&Archive::new().pax(b'x', &[("linkpath", b"a\0b")]).symlink("l", "x").end(), &bad("l"));
    let long = "n".repeat(256);
    let archive = Archive::new().pax(b'x', &[("path", long.as_bytes())]).file("s", "").end();
    refused(&archive, &format!("the archive's entry {long:?}: has a name of more than 255 bytes"));
    let target = "t".repeat(4096);
    let archive = Archive::new().pax(b'x', &[("linkpath", target.as_bytes())]).symlink("l", "x").end();
    refused(&archive, "the archive's entry \"l\": has a symbolic link of more than 4095 bytes");
    for kind in [b'0', b'2', b'6'] {
        let archive = Archive::new().header(&Header::new(kind, ".", 0).link("x")).end();
        refused(&archive, "the archive's entry \".\": would replace the root by something else than a directory");
    }
}

#[test]
fn whiteouts_of_nothing() {
    for name in [".wh.", "a/.wh..", ".wh...", ".wh.a/b"] {
        refused(&Archive::new().file(name, "").end(), &format!("the archive's entry {name:?}: is no proper whiteout"));
    }
}

#[test]
fn headers_that_are_none() {
    let header = |after: &str, what: &str| format!("the archive has no good header after {after:?}: {what}");
    refused(&[7; 2048], &header("", "has a header whose checksum is wrong"));
    refused(b"not an archive", &header("", "is cut off: the archive ends early"));
    let mut flipped = Archive::new().file("good", "").file("bad", "").end();
    flipped[512 + 3] ^= 1;
    refused(&flipped, &header("good", "has a header whose checksum is wrong"));
    let lone = [Archive::new().file("good", "").0, vec![0; 512], Archive::new().file("more", "").end()].concat();
    refused(&lone, &header("good", "is followed by a lone block of zeros"));
    for (at, field, value) in [
        (100, "mode", &b"88888888"[..]),
        (108, "uid", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        (108, "uid", b"\x80\0\0\0\xff\xff\xff\xff"),
        (116, "gid", b"\x80\0\0\x01\0\0\0\0"),
        (124, "size", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        (124, "size", b"12345678901x"),
        (136, "mtime", b"\x8f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        let mut bad = Header::new(b'0', "f", 0);
        bad.put(at, value);
        refused(&Archive::new().header(&bad).end(), &format!("the archive's entry \"f\": has a bad {field}"));
    }
    refused(&Archive::new().entry(b'M', "f", b"").end(), "the archive's entry \"f\": is of the unknown type 'M'");
    refused(&Archive::new().entry(b'?', "f", b"").end(), "the archive's entry \"f\": is of the unknown type '?'");
}

#[test]
fn devices_that_are_too_far() {
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let archive = Archive::new().header(&Header::new(b'3', "dev", 0).device(major, minor)).end();
        refused(
            &archive,
            &format!("the archive's entry \"dev\": squashfs cannot hold the device number {major}:{minor}"),
        );
    }
    let archive = Archive::new().pax(b'x', &[("SCHILY.devmajor", b"99999999999")]);
    let archive = archive.header(&Header::new(b'4', "dev", 0).device(1, 1)).end();
    refused(&archive, "the archive's entry \"dev\": has a bad device number");
}

#[test]
fn extended_headers_that_are_malformed() {
    let malformed = "the archive has no good header after \"\": has a malformed extended header";
    for records in [&b"99 a=b\n"[..], b"6 a=b\0", b"a=b\n", b"4 =\n", b"0 a=b\n", b"6 a=b\n\0\0\0", b"-6 a=b\n"] {
        refused(&Archive::new().entry(b'x', "pax", records).file("f", "").end(), malformed);
    }
    for (key, value, what) in [
        ("size", &b"-1"[..], "has a bad size"),
        ("uid", b"4294967295", "has a bad uid"),
        ("gid", b"99999999999999999999999", "has a bad gid"),
        ("mtime", b"now", "has a bad mtime"),
        ("SCHILY.xattr.", b"x", "has an extended attribute that is too long or malformed"),
        ("LIBARCHIVE.xattr.user.a", b"!!", "has an extended attribute that is too long or malformed"),
        ("LIBARCHIVE.xattr.user.%zz", b"AA", "has an extended attribute that is too long or malformed"),
        ("SCHILY.xattr.user.long", &[0; 65537], "has an extended attribute that is too long or malformed"),
    ] {
        let archive = Archive::new().pax(b'x', &[(key, value)]).file("f", "").end();
        let error = words(&pack(&archive[..], &Caps::default()).expect_err(key));
        assert!(error.ends_with(what) && error.starts_with("the archive"), "{key}: {error}");
    }
    // One that belongs to nothing.
    let alone = Archive::new().pax(b'x', &[("path", b"a")]).end();
    refused(&alone, "the archive has no good header after \"\": is cut off: the archive ends early");
}

#[test]
fn maps_that_contradict_themselves() {
    let wrong = "the archive's entry \"f\": has a wrong map of a sparse file";
    for (size, map) in [
        ("10", "0,3,2,1"),
        ("10", "8,4"),
        ("10", "0,3"),
        ("10", "0,5"),
        ("10", "0"),
        ("10", "0,18446744073709551615,1,5"),
        ("10", "18446744073709551615,4"),
    ] {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        refused(&Archive::new().pax(b'x', &records).file("f", "data").end(), wrong);
    }
    let one: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
    for map in ["2\n0\n", "18446744073709551615\n", "1\n0\n5\n", "x\n", "1\n0\n99\n"] {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, if map == "2\n0\n" { b'\n' } else { 0 });
        refused(&Archive::new().pax(b'x', &one).entry(b'0', "f", &[&content[..], b"data"].concat()).end(), wrong);
    }
    let other: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")];
    refused(&Archive::new().pax(b'x', &other).file("f", "data").end(), wrong);
    let mut old = Header::new(b'S', "f", 4);
    old.put(386, b"00000000000\x0000000000010\0").put(483, b"00000000100\0");
    refused(&Archive::new().header(&old).content(b"data").end(), wrong);
}

#[test]
fn bombs_stop_at_their_caps() {
    let caps = Caps { bytes: 10_000_000, entries: 1000, path_bytes: 1000, xattr_bytes: 10_000, header_bytes: 10_000 };
    let bytes = "more bytes than the cap of 10000000";
    let zeros = Archive::new().entry(b'0', "zeros", &vec![0; 20_000_000]).end();
    for program in ["gzip", "zstd"] {
        refused_with(&compressed(program, &zeros), &caps, &format!("the archive's entry \"zeros\": {bytes}"));
    }
    // Nothing but a size.
    let told = Archive::new().header(&Header::new(b'0', "big", 1 << 32)).end();
    refused_with(&told, &caps, &format!("the archive's entry \"big\": {bytes}"));
    let hole: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")];
    let hole = Archive::new().pax(b'x', &hole).file("hole", "x").end();
    refused_with(&hole, &Caps::default(), "the archive's entry \"hole\": more bytes than the cap of 274877906944");
    // What nobody wants counts as well: in whiteouts, and after the end.
    let whiteout = Archive::new().entry(b'0', ".wh.x", &vec![0; 20_000_000]).end();
    refused_with(&whiteout, &caps, &format!("the archive's entry \".wh.x\": {bytes}"));
    let after = [Archive::new().file("f", "").end(), vec![0; 20_000_000]].concat();
    refused_with(&after, &caps, &format!("the archive has no good header after \"f\": {bytes}"));

    let entries = (0..1001).fold(Archive::new(), |archive, number| archive.file(&number.to_string(), "")).end();
    refused_with(&entries, &caps, "the archive's entry \"1000\": more entries than the cap of 1000");
    let parents = |number: usize| format!("{number}/{}", "p/".repeat(40));
    let deep = (0..30).fold(Archive::new(), |archive, number| archive.dir(&parents(number))).end();
    let error = words(&pack(&deep[..], &caps).expect_err("too many parents"));
    assert!(error.ends_with("more entries than the cap of 1000"), "{error}");
    let again = (0..1001).fold(Archive::new(), |archive, _| archive.file("f", "")).end();
    refused_with(&again, &caps, "the archive's entry \"f\": more entries than the cap of 1000");

    let path = "p/".repeat(501);
    let archive = Archive::new().pax(b'x', &[("path", path.as_bytes())]).file("s", "").end();
    refused_with(&archive, &caps, &format!("the archive's entry {path:?}: has a path of more than 1000 bytes"));
    let header = |what: &str| format!("the archive has no good header after \"\": has a {what}");
    let name = Archive::new().entry(b'L', "long", &[b'n'; 2000]).file("s", "").end();
    refused_with(&name, &caps, &header("path of more than 1000 bytes"));
    let huge = Archive::new().header(&Header::new(b'x', "pax", (8 << 30) - 1)).end();
    refused_with(&huge, &Caps::default(), &header("extended header of more than 1048576 bytes"));
    let global: [(&str, &[u8]); 1] = [("comment", &[b'c'; 9000])];
    let globals = (0..8).fold(Archive::new(), |archive, _| archive.pax(b'g', &global)).end();
    refused_with(&globals, &caps, &header("sum of global extended headers of more than 65536 bytes"));
    let value = |number: u8| vec![number; 3000];
    let xattrs = (0..4).fold(Archive::new(), |archive, number| {
        archive.pax(b'x', &[("SCHILY.xattr.user.v", &value(number))]).file(&number.to_string(), "")
    });
    let wanted = "the archive's entry \"3\": more bytes of extended attributes than the cap of 10000";
    refused_with(&xattrs.end(), &caps, wanted);
    let one: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")];
    let map = Archive::new().pax(b'x', &one).entry(b'0', "f", &b"1000000\n".repeat(4000)).end();
    let error = words(&pack(&map[..], &caps).expect_err("a long map"));
    assert!(error.ends_with("has a map of a sparse file of more than 10000 bytes"), "{error}");
}

#[test]
fn more_users_than_fit() {
    let archive = (0..66_000u32).fold(Archive::new(), |archive, number| {
        archive.header(&Header::new(b'0', &number.to_string(), 0).owner(number, 0))
    });
    refused(&archive.end(), "more different users and groups than the 65535 that squashfs can hold");
}

#[test]
fn archives_that_are_cut_anywhere() {
    let records: [(&str, &[u8]); 1] = [("SCHILY.xattr.user.v", b"value")];
    let archive = Archive::new().file("first", "some content").pax(b'x', &records).file("second", &"x".repeat(1000));
    let archive = archive.entry(b'L', "long", &[b'n'; 200]).file("third", "").end();
    let entries = [512 * 2, 512 * 7, 512 * 10];
    for length in 1..archive.len() - 1024 {
        // Between two entries there is nothing to see: only the mark at the end is missing.
        let whole = entries.contains(&length);
        match pack(&archive[..length], &Caps::default()) {
            Ok(summary) => assert!(whole && summary.unmarked_end, "{length}"),
            Err(error) => {
                assert!(!whole && words(&error).ends_with("is cut off: the archive ends early"), "{length}: {error}");
            }
        }
    }
    let cut = &archive[..512 * 5 + 100];
    refused(cut, "the archive's entry \"second\": is cut off: the archive ends early");
    for program in ["gzip", "zstd"] {
        let packed = compressed(program, &archive);
        for length in 1..packed.len() {
            let cut = pack(&packed[..length], &Caps::default());
            assert!(cut.is_err(), "{program} {length} of {}: {cut:?}", packed.len());
        }
    }
}

#[test]
fn compressed_archives_that_are_damaged() {
    let archive = Archive::new().file("first", &"some content ".repeat(1000)).end();
    let mut gzip = compressed("gzip", &archive);
    // The checksum at the end, which comes after the archive's own end.
    let last = gzip.len() - 6;
    gzip[last] ^= 1;
    let error = words(&pack(&gzip[..], &Caps::default()).expect_err("a wrong checksum"));
    assert!(error.starts_with("the archive has no good header after \"first\": cannot be read"), "{error}");
    for (magic, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"\xfd7zXZ\0\0\x04", "xz"), (b"\x04\x22\x4d\x18", "lz4")] {
        let mut bytes = magic.to_vec();
        bytes.resize(600, 9);
        refused(&bytes, &format!("the archive is compressed with {name}: only gzip and zstd are known"));
    }
    // A window of 2 GiB would be memory of 2 GiB.
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[1, 0, 0][..]].concat();
    assert!(pack(&window[..], &Caps::default()).is_err());
}

#[test]
fn input_that_cannot_be_read() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "the line is dead"))
        }
    }
    let good = Archive::new().file("a", "b").header(&Header::new(b'0', "half", 5000)).0;
    let error = words(&pack(Cursor::new(good).chain(Broken), &Caps::default()).expect_err("breaks"));
    assert_eq!(error, "the archive's entry \"half\": cannot be read: the line is dead");
    assert_eq!(record("a", b"b"), b"6 a=b\n");
}

/// Any damage is an error or a good image, and never a panic.
#[test]
fn archives_with_random_damage() {
    let records: [(&str, &[u8]); 3] =
        [("SCHILY.xattr.user.v", b"value"), ("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,3,50,1")];
    let archive = Archive::new().dir("d").file("d/f", "some content").pax(b'x', &records).file("sparse", "abcd");
    let archive = archive.symlink("l", "d/f").hard_link("h", "d/f").file("d/.wh.w", "").entry(b'L', "long", b"name\0");
    let archive = archive.header(&Header::new(b'3', "dev", 0).device(1, 3)).end();
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..1500 {
        let mut damaged = archive.clone();
        for _ in 0..1 + next() % 3 {
            let at = next() as usize % damaged.len();
            damaged[at] = next() as u8;
            // Else the checksum would catch nearly all of it.
            let block = at / 512 * 512;
            let header = Header(damaged[block..block + 512].try_into().expect("a block"));
            if &header.0[257..262] == b"ustar" {
                damaged[block..block + 512].copy_from_slice(&Archive::new().header(&header).0);
            }
        }
        let _ = pack(&damaged[..], &Caps { bytes: 1 << 30, ..Caps::default() });
    }
}
