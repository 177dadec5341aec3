//! Each case is a layout or an archive that is wrong in one place, and a word of the error that it must give.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use supermachine_layers::digest::Digest;

use super::build::{Change, Files, INDEX, NONE, Tar, gzip, wrong, zstd};
use super::{Place, text};

type Case = (&'static str, Change, &'static str);

/// An error with all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// All there is below a directory, with contents.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("reads").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.is_symlink() {
            all.extend(snapshot(&entry));
        }
        let content = entry.is_file().then(|| fs::read(&entry).expect("reads"));
        all.insert(entry, content);
    }
    all
}

/// Refuses the image `name` with a word, and leaves everything as it is.
fn refuse(place: &Place, case: &str, name: &str, word: &str) {
    let before = snapshot(place.dir.path());
    let hold = place.store.hold("test").expect("holds");
    let error = place.unpack(name, "linux/amd64", &hold).expect_err(case);
    drop(hold);
    let error = whole(&error);
    assert!(error.contains(word), "{case}: {error}");
    assert!(error.len() < 4000, "{case}: an error of {} bytes", error.len());
    assert_eq!(place.in_store(), 0, "{case}");
    let mut after = snapshot(place.dir.path());
    // The gate is made by the first that goes through it.
    after.remove(&place.store.dir().join("gate"));
    assert!(before == after, "{case}: something was touched");
}

fn first(index: &mut Value) -> &mut Value {
    &mut index["manifests"][0]
}

/// Replaces the bytes of the only file whose content begins so.
fn replace(files: &mut BTreeMap<String, Vec<u8>>, begin: &[u8], change: impl Fn(&mut Vec<u8>)) {
    let found: Vec<_> = files.values_mut().filter(|bytes| bytes.starts_with(begin)).collect();
    assert_eq!(found.len(), 1);
    found.into_iter().for_each(change);
}

fn layouts() -> Vec<Case> {
    vec![
        ("no mark", Change { files: |files| drop(files.remove("oci-layout")), ..NONE }, "oci-layout is not in it"),
        (
            "another version",
            Change {
                files: |files| drop(files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec())),
                ..NONE
            },
            "version \"2.0.0\"",
        ),
        ("no index", Change { files: |files| drop(files.remove("index.json")), ..NONE }, "index.json is not in it"),
        (
            "no JSON",
            Change { files: |files| drop(files.insert("index.json".into(), b"{".to_vec())), ..NONE },
            "index.json: EOF",
        ),
        (
            "an index too long",
            Change { files: |files| drop(files.insert("index.json".into(), vec![b' '; (4 << 20) + 1])), ..NONE },
            "more than 4194304 bytes",
        ),
        (
            "deep JSON",
            Change { files: |files| drop(files.insert("index.json".into(), vec![b'['; 1 << 20])), ..NONE },
            "index.json: ",
        ),
        ("no manifests", Change { index: |index, _| *index = json!({}), ..NONE }, "it has no manifests"),
        ("an empty index", Change { index: |index, _| index["manifests"] = json!([]), ..NONE }, "nothing is named"),
    ]
}

fn descriptors() -> Vec<Case> {
    vec![
        (
            "a digest that is a path",
            Change { index: |index, _| first(index)["digest"] = json!("sha256:../../../../etc/passwd"), ..NONE },
            "is no sha256 digest",
        ),
        (
            "a digest of 64 characters that is a path",
            Change {
                index: |index, _| first(index)["digest"] = json!(format!("sha256:../{}", "a/".repeat(30) + "x")),
                ..NONE
            },
            "is no sha256 digest",
        ),
        (
            "another algorithm",
            Change { index: |index, _| first(index)["digest"] = json!(format!("sha512:{}", "0".repeat(128))), ..NONE },
            "only sha256 is supported",
        ),
        (
            "a negative size",
            Change { index: |index, _| first(index)["size"] = json!(-1), ..NONE },
            "index.json: invalid",
        ),
        (
            "a large size",
            Change { index: |index, _| first(index)["size"] = json!(1_u64 << 60), ..NONE },
            "more than 4194304 bytes",
        ),
        ("a wrong size", Change { index: |index, _| first(index)["size"] = json!(7), ..NONE }, "and should have 7"),
        (
            "no such manifest",
            Change { index: |index, _| first(index)["digest"] = json!(Digest::of(b"x")), ..NONE },
            "is not in it",
        ),
        (
            "other bytes of the same length",
            Change { files: |files| replace(files, b"{\"config\":{\"digest\"", |bytes| bytes.reverse()), ..NONE },
            "has digest",
        ),
    ]
}

fn manifests() -> Vec<Case> {
    vec![
        (
            "a media type that is no image's",
            Change { index: |index, _| first(index)["mediaType"] = json!("text/html"), ..NONE },
            "is no image's",
        ),
        (
            "index and manifest at once",
            Change { manifest: |manifest| manifest["manifests"] = json!([]), ..NONE },
            "neither clearly",
        ),
        (
            "another media type inside",
            Change { manifest: |manifest| manifest["mediaType"] = json!(INDEX), ..NONE },
            "another media type",
        ),
        (
            "another schema",
            Change { manifest: |manifest| manifest["schemaVersion"] = json!(1), ..NONE },
            "schema version",
        ),
        (
            "no configuration",
            Change { manifest: |manifest| manifest["config"] = json!(null), ..NONE },
            "neither clearly",
        ),
        (
            "an artifact",
            Change { manifest: |manifest| manifest["config"]["mediaType"] = json!("application/vnd.x+json"), ..NONE },
            "is no container image's",
        ),
        (
            "no layers",
            Change { manifest: |manifest| manifest["layers"] = json!([]), ..NONE },
            "1 diff_ids for 0 layers",
        ),
        (
            "more layers than diff_ids",
            Change {
                manifest: |manifest| {
                    let layer = manifest["layers"][0].clone();
                    manifest["layers"] = json!([layer, layer]);
                },
                ..NONE
            },
            "1 diff_ids for 2 layers",
        ),
    ]
}

fn configurations() -> Vec<Case> {
    vec![
        (
            "too many layers",
            Change {
                manifest: |manifest| manifest["layers"] = json!(vec![manifest["layers"][0].clone(); 501]),
                config: |config| {
                    config["rootfs"]["diff_ids"] = json!(vec![config["rootfs"]["diff_ids"][0].clone(); 501]);
                },
                ..NONE
            },
            "more than 500",
        ),
        (
            "an encrypted layer",
            Change {
                manifest: |manifest| {
                    manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
                },
                ..NONE
            },
            "none that can be unpacked",
        ),
        (
            "another kind of root",
            Change { config: |config| config["rootfs"]["type"] = json!("x"), ..NONE },
            "is not \"layers\"",
        ),
        (
            "another platform",
            Change { config: |config| config["architecture"] = json!("mips"), ..NONE },
            "but for linux/mips",
        ),
        ("indexes without end", Change { index: nested, ..NONE }, "nested deeper than 8"),
        ("indexes that multiply", Change { index: multiplied, ..NONE }, "more than 128 documents"),
    ]
}

fn nested(index: &mut Value, files: &mut Files) {
    for _ in 0..20 {
        let inner = files.json(INDEX, &json!({"schemaVersion": 2, "manifests": [first(index).clone()]}));
        *first(index) = inner;
    }
}

fn multiplied(index: &mut Value, files: &mut Files) {
    let mut child = files.json(INDEX, &json!({"schemaVersion": 2, "manifests": []}));
    for _ in 0..7 {
        child = files.json(INDEX, &json!({"schemaVersion": 2, "manifests": vec![child; 50]}));
    }
    *first(index) = child;
}

fn layers() -> Vec<Case> {
    vec![
        (
            "a wrong diff_id",
            Change { config: |config| config["rootfs"]["diff_ids"][0] = json!(Digest::of(b"x")), ..NONE },
            "unpacked, has digest",
        ),
        (
            "other bytes at the end",
            Change {
                files: |files| replace(files, &[0x1f, 0x8b], |bytes| *bytes.last_mut().expect("bytes") ^= 1),
                ..NONE
            },
            "has digest",
        ),
        (
            "other bytes in the middle",
            Change { files: |files| replace(files, &[0x1f, 0x8b], |bytes| bytes[40] ^= 1), ..NONE },
            "has digest",
        ),
        (
            "a blob that was cut",
            Change { files: |files| replace(files, &[0x1f, 0x8b], |bytes| bytes.truncate(50)), ..NONE },
            "has 50 bytes, and should have",
        ),
        (
            "a compressed layer that ends early",
            Change { compress: |tar| gzip(tar)[..60].to_vec(), ..NONE },
            "layer sha256:",
        ),
        (
            "rubbish behind the compressed layer",
            Change { compress: |tar| [&gzip(tar)[..], b"rubbish"].concat(), ..NONE },
            "layer sha256:",
        ),
        (
            "a layer of an unknown compression",
            Change { compress: |_| b"BZh91AY&SY".repeat(100), ..NONE },
            "compressed with bzip2",
        ),
        ("a layer that is no tar", Change { tar: || b"no tar ".repeat(500), ..NONE }, "no good header"),
        (
            "a tar that ends early",
            Change { tar: || Tar::default().header(b'0', "f", "", 0o644, 9000).end(), ..NONE },
            "cut off",
        ),
        ("a bomb of gzip", Change { tar: bomb, ..NONE }, "more than 4194304 bytes unpacked"),
        ("a bomb of zstd", Change { tar: bomb, compress: zstd, ..NONE }, "more than 4194304 bytes unpacked"),
        (
            "a bomb behind the end of the tar",
            Change { tar: || [super::build::small(), vec![0; 8 << 20]].concat(), ..NONE },
            "more than 4194304 bytes unpacked",
        ),
        ("a path that leads out", Change { tar: || Tar::default().file("a/../../escape", "x").end(), ..NONE }, "`..`"),
        (
            "a hard link that leads out",
            Change { tar: || Tar::default().entry(b'1', "a", "../../etc/passwd", 0o644, &[]).end(), ..NONE },
            "entry \"a\"",
        ),
        (
            "a hard link to nothing",
            Change { tar: || Tar::default().entry(b'1', "a", "/etc/passwd", 0o644, &[]).end(), ..NONE },
            "no file of this layer",
        ),
        (
            "a file below a link that leads out",
            Change { tar: || Tar::default().link("a", "/tmp").file("a/escape", "x").end(), ..NONE },
            "which is no directory",
        ),
        ("a whiteout of the parent", Change { tar: || Tar::default().file("a/.wh...", "").end(), ..NONE }, "whiteout"),
    ]
}

fn bomb() -> Vec<u8> {
    Tar::default().entry(b'0', "zeros", "", 0o644, &vec![0; 8 << 20]).end()
}

#[test]
fn a_layout_that_is_wrong_is_refused_and_leaves_nothing() {
    let cases = [layouts(), descriptors(), manifests(), configurations(), layers()].concat();
    assert!(cases.len() >= 45);
    for (case, change, word) in cases {
        let place = Place::new();
        wrong(&change).write_dir(&place.path("layout"));
        refuse(&place, case, &format!("oci-layout:{}", text(&place.path("layout"))), word);
    }
}

#[test]
fn a_layout_with_links_and_pipes_is_refused() {
    type Break = fn(&Path, &Path);
    let cases: [(&str, Break, &str); 4] = [
        (
            "a blob that is a link",
            |_, blob| {
                let moved = blob.with_extension("moved");
                fs::rename(blob, &moved).expect("renames");
                symlink(moved, blob).expect("links");
            },
            "cannot open",
        ),
        (
            "blobs that are elsewhere",
            |layout, _| {
                let elsewhere = layout.with_extension("elsewhere");
                fs::rename(layout.join("blobs"), &elsewhere).expect("renames");
                symlink(elsewhere, layout.join("blobs")).expect("links");
            },
            "cannot open",
        ),
        (
            "a blob that is a pipe",
            |_, blob| {
                fs::remove_file(blob).expect("removes");
                mknodat(CWD, blob, FileType::Fifo, Mode::RUSR, 0).expect("makes");
            },
            "no regular file",
        ),
        (
            "a blob that is a directory",
            |_, blob| {
                fs::remove_file(blob).expect("removes");
                fs::create_dir(blob).expect("makes");
            },
            "no regular file",
        ),
    ];
    for (case, change, word) in cases {
        let place = Place::new();
        let layout = place.path("layout");
        let files = wrong(&NONE);
        files.write_dir(&layout);
        let (name, _) = files.0.iter().find(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b])).expect("a layer");
        change(&layout, &layout.join(name));
        refuse(&place, case, &format!("oci-layout:{}", text(&layout)), word);
    }
}

#[test]
fn an_archive_that_is_wrong_is_refused_and_leaves_nothing() {
    let good = || {
        let mut tar = Tar::default();
        for (name, bytes) in &wrong(&NONE).0 {
            tar.entry(b'0', name, "", 0o644, bytes);
        }
        tar
    };
    let pax = |text: &str| Tar::default().entry(b'x', "pax", "", 0o644, text.as_bytes()).file("a", "").end();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "oci-layout is not in it"),
        ("no tar", b"no tar at all ".repeat(100), "no header of a tar"),
        ("compressed", gzip(&good().end()), "decompress it first"),
        ("cut in a header", Tar::default().file("a", "").file("b", "").end()[..600].to_vec(), "cut off in a header"),
        ("cut in an entry", Tar::default().header(b'0', "index.json", "", 0o644, 9000).end(), "cut off in an entry"),
        ("a size beyond all", Tar::default().header(b'0', "f", "", 0o644, 0o77777777777).end(), "cut off in an entry"),
        ("an absolute name", good().file("/etc/passwd", "x").end(), "leads out of the archive"),
        ("a name that leads out", good().file("blobs/../../x", "x").end(), "leads out of the archive"),
        ("a link that leads out", good().link("x", "../etc/passwd").end(), "leads out of the archive"),
        ("an absolute link", good().link("x", "/etc/passwd").end(), "leads out of the archive"),
        ("an absolute hard link", good().entry(b'1', "x", "/etc/passwd", 0o644, &[]).end(), "leads out of the archive"),
        ("a name that is there twice", good().file("./index.json", "{}").end(), "is there twice"),
        ("a device", good().entry(b'3', "null", "", 0o644, &[]).end(), "neither file, directory nor link"),
        (
            "a checksum that is wrong",
            {
                let mut bytes = good().end();
                bytes[0] ^= 1;
                bytes
            },
            "no header of a tar",
        ),
        ("an endless extended header", pax("0 path=x\n"), "an extended header that is none"),
        ("an extended header that is none", pax("99 path=x\n"), "an extended header that is none"),
        ("a large extended header", pax(&"x".repeat(100_000)), "extended header of more than"),
        ("an extended name that leads out", pax("17 path=../x/../y\n"), "an extended header that is none"),
        ("an extended name that leads out", pax("16 path=../x/..\n"), "leads out of the archive"),
    ];
    for (case, bytes, word) in cases {
        let place = Place::new();
        fs::write(place.path("image.tar"), bytes).expect("a file");
        refuse(&place, case, &format!("oci-archive:{}", text(&place.path("image.tar"))), word);
    }
}

#[test]
fn a_docker_archive_that_is_wrong_is_refused_and_leaves_nothing() {
    let tar = super::build::small();
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]}}).to_string();
    let archive = |config_name: &str, config: &str, layer: &str, manifest: Option<Value>| {
        let mut archive = Tar::default();
        archive.file("c.json", config).file(&format!("{}.json", Digest::of(b"x").hex()), config);
        archive.entry(b'0', "l.tar", "", 0o644, &tar).link("a.tar", "b.tar").link("b.tar", "a.tar");
        let plain = json!([{"Config": config_name, "Layers": [layer]}]);
        archive.file("manifest.json", &manifest.unwrap_or(plain).to_string()).end()
    };
    let other = json!({"rootfs": {"type": "layers", "diff_ids": [Digest::of(b"x")]}}).to_string();
    let hash = format!("{}.json", Digest::of(b"x").hex());
    let cases = [
        ("a configuration outside", archive("../../etc/passwd", &config, "l.tar", None), "is not in it"),
        ("an absolute configuration", archive("/etc/passwd", &config, "l.tar", None), "is not in it"),
        ("a layer outside", archive("c.json", &config, "../l.tar", None), "is not in it"),
        ("links in a circle", archive("c.json", &config, "a.tar", None), "is not in it"),
        ("a configuration that is another", archive(&hash, &config, "l.tar", None), "has digest"),
        ("a layer that is another", archive("c.json", &other, "l.tar", None), "unpacked, has digest"),
        ("no images", archive("c.json", &config, "l.tar", Some(json!([]))), "nothing is named"),
        ("no list", archive("c.json", &config, "l.tar", Some(json!({}))), "manifest.json: "),
        ("no configuration", archive("c.json", "[]", "l.tar", None), "config: "),
    ];
    for (case, bytes, word) in cases {
        let place = Place::new();
        fs::write(place.path("image.tar"), bytes).expect("a file");
        refuse(&place, case, &format!("docker-archive:{}", text(&place.path("image.tar"))), word);
    }
}
