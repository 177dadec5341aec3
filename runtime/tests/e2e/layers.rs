//! The layer store below containers: images of trees are shared and found again, bundles are made of images, nothing in use goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use supermachine_layers::digest::Digest;

use crate::harness::{Place, text};

impl Place {
    /// What is in the store.
    fn layers(&self) -> Vec<Value> {
        serde_json::from_str(&self.good(&["layers", "list", "--format", "json"])).expect("JSON")
    }
}

#[test]
fn containers_of_one_tree_share_an_image_that_no_prune_takes_from_them() {
    let place = Place::new();
    let [one, two] = ["one", "two"].map(|id| place.start(id, &["sleep", "1000"]));
    let listed = place.layers();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["users"], json!(["container one", "container two"]));
    assert_eq!(place.good(&["layers", "prune", "--all"]), "0 bytes freed\n");
    // It may be killed in any way: what it used is free then.
    Command::new("kill").args(["-9", &one.pid.to_string()]).status().expect("kills");
    one.wait();
    assert_eq!(place.layers()[0]["users"], json!(["container two"]));
    assert_eq!(two.exec(&["cat", "/etc/data"]).stdout, "data\n");
    place.good(&["delete", "--force", "two"]);
    place.good(&["delete", "one"]);
    place.assert_clean();
    assert_eq!(place.good(&["layers", "prune"]), "0 bytes freed\n", "the tree is still there");
    place.good(&["layers", "verify"]);
    place.good(&["layers", "prune", "--all"]);
    assert_eq!(place.layers(), [Value::Null; 0]);
}

#[test]
fn a_tree_that_changed_between_two_creates_is_seen_as_it_is() {
    let place = Place::new();
    let tree = place.path("tree");
    fs::create_dir_all(tree.join("bin")).expect("directories");
    for name in ["dev", "proc", "sys"] {
        fs::create_dir(tree.join(name)).expect("a directory");
    }
    fs::copy("/bin/busybox", tree.join("bin/cat")).expect("busybox-static is installed (make setup)");
    for content in ["one\n", "two\n", "six\n"] {
        fs::write(tree.join("file"), content).expect("a file");
        let done = place.run(&["/bin/cat", "/file"], |config| config["root"]["path"] = json!(tree));
        assert_eq!(done.stdout, content, "{}", done.stderr);
    }
    place.assert_clean();
}

#[test]
fn the_root_directory_has_the_attributes_of_its_tree() {
    let place = Place::new();
    let tree = place.path("tree");
    let done = place.run(&["stat", "-c", "%a %u %g %Y", "/"], |config| {
        let shared = config["root"]["path"].as_str().expect("a path");
        assert!(Command::new("cp").args(["-a", shared, text(&tree)]).status().expect("cp runs").success());
        chown(&tree, Some(12), Some(34)).expect("an owner");
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o1751)).expect("a mode");
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::open(&tree).expect("a directory").set_modified(long_ago).expect("a time");
        config["root"]["path"] = json!(tree);
    });
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("1751 12 34 1000000000\n", ""));
    place.assert_clean();
}

/// A tar of a tree, made by the system's program.
fn tar(tree: &Path, file: &Path) -> Vec<u8> {
    let status = Command::new("tar").args(["--numeric-owner", "-cf", text(file), "-C", text(tree), "."]).status();
    assert!(status.expect("tar runs").success());
    fs::read(file).expect("an archive")
}

/// The layers of an image: busybox below and a layer above it.
fn layer_tars(place: &Place) -> Vec<Vec<u8>> {
    let upper = place.path("upper");
    fs::create_dir_all(upper.join("bin")).expect("directories");
    fs::write(upper.join("above"), "above\n").expect("a file");
    fs::write(upper.join("bin/.wh.wget"), "").expect("a file");
    let lower = place.bundle(&["sh"], |_| ());
    let config: Value = serde_json::from_slice(&fs::read(lower.join("config.json")).expect("reads")).expect("JSON");
    let lower = PathBuf::from(config["root"]["path"].as_str().expect("a path"));
    vec![tar(&lower, &place.path("lower.tar")), tar(&upper, &place.path("upper.tar"))]
}

/// An OCI layout of an image with these layers, whose command is `args`.
fn layout_of(place: &Place, name: &str, args: &[&str], tars: &[Vec<u8>]) -> PathBuf {
    let layout = place.path(name);
    fs::create_dir_all(layout.join("blobs/sha256")).expect("directories");
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("a file");
        json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": bytes.len()})
    };
    let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "config": {"Cmd": args, "User": "me", "WorkingDir": "/tmp", "Labels": {"dev.supermachine.vcpus": "9", "org.x": "y"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob("config.v1+json", config.to_string().as_bytes());
    let layers: Vec<_> = tars.iter().map(|tar| blob("layer.v1.tar", tar)).collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let manifest = blob("manifest.v1+json", manifest.as_bytes());
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    fs::write(layout.join("index.json"), index).expect("a file");
    layout
}

fn layout(place: &Place, args: &[&str]) -> PathBuf {
    layout_of(place, "layout", args, &layer_tars(place))
}

#[test]
fn a_bundle_of_an_image_runs_and_keeps_its_layers() {
    let place = Place::new();
    let layout = layout(&place, &["sh", "-c", "cat /above; id -u; id -g; pwd; ls /bin/wget || echo gone"]);
    let image = format!("oci-layout:{}", text(&layout));
    let bundle = place.path("bundle");
    place.good(&["bundle", "create", "--image", &image, text(&bundle)]);
    let again = place.bad(&["bundle", "create", "--image", &image, text(&bundle)]);
    assert!(again.contains("not empty"), "{again}");
    assert_eq!(place.good(&["layers", "prune"]), "0 bytes freed\n", "the bundle has them");
    let done = place.call(&["run", "--bundle", text(&bundle), "c"]);
    assert_eq!((done.status, done.stdout.as_str()), (0, "above\n7\n8\n/tmp\ngone\n"), "{}", done.stderr);
    let other = place.path("other");
    place.good(&["bundle", "create", "--image", &image, text(&other), "--", "cat", "/above"]);
    assert_eq!(place.layers().len(), 2, "nothing is converted again");
    assert_eq!(place.call(&["run", "--bundle", text(&other), "c"]).stdout, "above\n");
    fs::write(other.join("rootfs/file"), "x").expect("a file");
    let both = place.bad(&["run", "--bundle", text(&other), "c"]);
    assert!(both.contains("is not empty, and the bundle has a layers.json"), "{both}");
    for bundle in [&bundle, &other] {
        fs::remove_dir_all(bundle).expect("removes");
    }
    place.good(&["layers", "prune"]);
    assert_eq!(place.layers(), [Value::Null; 0]);
    place.assert_clean();
}

#[test]
fn an_image_that_shares_layers_converts_only_the_new_one() {
    let place = Place::new();
    let create = |place: &Place, layout: &Path, bundle: &str| {
        let image = format!("oci-layout:{}", text(layout));
        place.call(&["bundle", "create", "--image", &image, text(&place.path(bundle))])
    };
    // An image that is written again is another file.
    let images = || {
        let entries = fs::read_dir(place.path("data/layers/images")).expect("a store");
        let entries = entries.map(|entry| entry.expect("an entry"));
        entries.map(|entry| (entry.file_name(), entry.metadata().expect("there").ino())).collect::<BTreeMap<_, _>>()
    };
    let mut tars = layer_tars(&place);
    assert_eq!(create(&place, &layout_of(&place, "first", &["true"], &tars), "one").status, 0);
    let before = images();
    let top = place.path("top");
    fs::create_dir(&top).expect("a directory");
    fs::write(top.join("top"), "top\n").expect("a file");
    let shared: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    tars.push(tar(&top, &place.path("top.tar")));
    let second = layout_of(&place, "second", &["cat", "/above", "/top"], &tars);
    for digest in shared {
        fs::remove_file(second.join("blobs/sha256").join(digest.hex())).expect("removes");
    }
    // What is not even there cannot be converted again.
    let done = create(&place, &second, "two");
    assert_eq!(done.status, 0, "{}", done.stderr);
    let after = images();
    assert!(before.len() == 2 && after.len() == 3, "{before:?} {after:?}");
    assert!(before.iter().all(|(name, ino)| after.get(name) == Some(ino)), "{before:?} {after:?}");
    let done = place.call(&["run", "--bundle", text(&place.path("two")), "c"]);
    assert_eq!((done.status, done.stdout.as_str()), (0, "above\ntop\n"), "{}", done.stderr);
    let empty = Place::alone();
    let done = create(&empty, &second, "none");
    assert!(done.status != 0 && done.stderr.contains("is not in it"), "{}", done.stderr);
    place.assert_clean();
}

#[test]
fn a_bundle_that_cannot_be_made_is_not_there() {
    let place = Place::new();
    let layout = layout(&place, &["sh"]);
    let bundle = place.path("bundle");
    let made = |image: &str, extra: &[&str]| {
        place.bad(&[&["bundle", "create", "--image", image], extra, &[text(&bundle)]].concat())
    };
    let image = format!("oci-layout:{}", text(&layout));
    assert!(made(&format!("{image}:none"), &[]).contains("nothing is named"));
    assert!(
        made(&image, &["--platform", "linux/arm64"]).contains("there is none for linux/arm64, but for linux/amd64")
    );
    assert!(made(&image, &["--platform", "windows/amd64"]).contains("is not Linux"));
    assert!(made("docker://busybox", &[]).contains("neither oci-layout:PATH"));
    assert!(!bundle.exists());
    fs::create_dir(&bundle).expect("a directory");
    made(&format!("{image}:none"), &[]);
    assert_eq!(fs::read_dir(&bundle).expect("reads").count(), 0);
}
