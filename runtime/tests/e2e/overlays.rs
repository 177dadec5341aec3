//! Root file systems that an engine has mounted as overlays, as podman and Docker do: the image's directories are packed once, for all
//! containers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Place, text};
use crate::kinds::automatic;

/// An overlay, until its end.
struct Overlay(PathBuf);

impl Drop for Overlay {
    fn drop(&mut self) {
        let _whether = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl Overlay {
    /// Mounts one over directories, the topmost first, with an empty one on top; or says why this host cannot.
    fn mount(place: &Place, name: &str, lower: &[PathBuf], options: &str) -> Option<Self> {
        let [target, upper, work] = ["merged", "upper", "work"].map(|part| place.path(&format!("{name}-{part}")));
        [&target, &upper, &work].iter().for_each(|dir| fs::create_dir(dir).expect("a directory"));
        let lower: Vec<_> = lower.iter().map(|dir| text(dir)).collect();
        let (upper, work) = (text(&upper), text(&work));
        let options = format!("lowerdir={},upperdir={upper},workdir={work}{options}", lower.join(":"));
        let done = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&target).output();
        let done = done.expect("mount(8) runs");
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).into_owned();
            eprintln!(
                "skipped: no overlay can be mounted here: {}; run as root, with TMPDIR on ext4 or a tmpfs",
                why.trim()
            );
            return None;
        }
        Some(Self(target))
    }
}

/// Two layers of an image over busybox's root, the topmost first: the upper one was made through an overlay, with what leaves marks
/// in it.
fn image(place: &Place, options: &str, change: impl FnOnce(&Path)) -> Option<Vec<PathBuf>> {
    let layer = place.path("layer");
    fs::create_dir_all(layer.join("data/inner")).expect("directories");
    for (name, content) in [("data/a", "a"), ("data/inner/b", "b"), ("gone", "gone"), ("changed", "before")] {
        fs::write(layer.join(name), content).expect("a file");
    }
    let layers = vec![layer, busybox(place)];
    let overlay = Overlay::mount(place, "build", &layers, options)?;
    change(&overlay.0);
    drop(overlay);
    Some([vec![place.path("build-upper")], layers].concat())
}

/// The root of the other tests' containers.
fn busybox(place: &Place) -> PathBuf {
    let bundle = place.bundle(&["true"], |_| ());
    let config = fs::read(bundle.join("config.json")).expect("a file");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    PathBuf::from(config["root"]["path"].as_str().expect("a path"))
}

/// What is in the store, by digest.
fn stored(place: &Place) -> BTreeSet<String> {
    let listed: Vec<Value> = serde_json::from_str(&place.good(&["layers", "list", "--format", "json"])).expect("JSON");
    listed.iter().map(|layer| layer["image"].as_str().expect("a digest").to_owned()).collect()
}

const LIST: &str = "find . -xdev ! -path './dev/*' ! -path './bin/*' -exec stat -c '%n %f %u %g %Y' {} + | grep -v '^[.] ' | sort; cat changed";

/// Lists a container's root, and the same overlay here.
fn listed(place: &Place, overlay: &Overlay) -> (String, String) {
    let here = Command::new("/bin/busybox").args(["sh", "-c", LIST]).current_dir(&overlay.0).output().expect("runs");
    let done = place.run(&["sh", "-c", LIST], |config| config["root"]["path"] = json!(overlay.0));
    assert_eq!(done.status, 0, "{}", done.stderr);
    let places = |text: &str| {
        // What the container mounts there has times of its own.
        let mounted = ["./dev ", "./proc ", "./sys "];
        text.lines().filter(|line| !mounted.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>().join("\n")
    };
    (places(&done.stdout), places(&String::from_utf8_lossy(&here.stdout)))
}

#[test]
fn an_overlay_is_shown_as_it_is_and_its_directories_are_packed_once() {
    let place = Place::new();
    let layers = image(&place, "", |root| {
        fs::remove_file(root.join("gone")).expect("removed");
        fs::remove_dir_all(root.join("data")).expect("removed");
        fs::create_dir_all(root.join("data/other")).expect("directories");
        fs::write(root.join("changed"), "after").expect("a file");
    });
    let Some(layers) = layers else { return };
    let mut before = BTreeSet::new();
    for name in ["one", "two"] {
        let Some(overlay) = Overlay::mount(&place, name, &layers, "") else { return };
        // As podman does before it calls the runtime.
        fs::create_dir_all(overlay.0.join("run")).expect("a directory");
        fs::write(overlay.0.join("run/.containerenv"), name).expect("a file");
        let (seen, here) = listed(&place, &overlay);
        assert_eq!(seen, here);
        assert!(seen.contains("./data/other ") && !seen.contains("gone") && !seen.contains("inner"), "{seen}");
        assert!(seen.contains("./run/.containerenv ") && seen.ends_with("after"), "{seen}");
        let now = stored(&place);
        assert_eq!(now.difference(&before).count(), if name == "one" { 4 } else { 1 }, "{now:?}");
        before = now;
    }
    place.assert_clean();
}

#[test]
fn containers_of_an_image_to_which_nothing_was_added_are_of_one_kind() {
    let place = Place::alone();
    let Some(layers) = image(&place, "", |root| fs::write(root.join("changed"), "after").expect("a file")) else {
        return;
    };
    let run = |name: &str| {
        let overlay = Overlay::mount(&place, name, &layers, "")?;
        Some(automatic(&place, &["cat", "/changed"], &|config| config["root"]["path"] = json!(overlay.0)))
    };
    let origins = ["one", "two", "three"].map(|name| {
        let (origin, said) = run(name).expect("an overlay as before");
        assert_eq!(said, "after");
        origin
    });
    assert!(origins[0] == origins[1] && origins[2].is_some() && origins[2] != origins[0], "{origins:?}");
    assert_eq!(stored(&place).len(), 3);
    place.assert_clean();
}

#[test]
fn an_overlay_whose_directories_lead_elsewhere_is_packed_as_a_whole() {
    let place = Place::new();
    let options = ",metacopy=on,redirect_dir=on";
    let layers = image(&place, options, |root| {
        // Its content stays below.
        fs::set_permissions(root.join("changed"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("chmod");
        fs::rename(root.join("data"), root.join("moved")).expect("renamed");
    });
    let Some(layers) = layers else { return };
    // As a root of its own it was packed as it is.
    assert_ne!(
        place.run(&["true"], |config| config["root"]["path"] = json!(layers[0])).status,
        0,
        "it has no programs"
    );
    assert_eq!(stored(&place).len(), 1);
    let Some(overlay) = Overlay::mount(&place, "one", &layers, options) else { return };
    let (seen, here) = listed(&place, &overlay);
    assert_eq!(seen, here);
    assert!(seen.contains("./moved/inner/b ") && seen.ends_with("before"), "{seen}");
    place.assert_clean();
}

#[test]
fn what_is_mounted_in_a_directory_of_an_overlay_is_not_shown() {
    let place = Place::new();
    let layer = place.path("layer");
    for dir in ["full", "empty"] {
        fs::create_dir_all(layer.join(dir)).expect("directories");
    }
    fs::write(layer.join("full/file"), "").expect("a file");
    fs::write(layer.join("changed"), "").expect("a file");
    let bind = Command::new("mount").arg("--bind").args([layer.join("full"), layer.join("empty")]).status();
    if !bind.expect("mount(8) runs").success() {
        return eprintln!("skipped: nothing can be mounted here; run as root");
    }
    let _bound = Overlay(layer.join("empty"));
    let Some(overlay) = Overlay::mount(&place, "one", &[layer, busybox(&place)], "") else { return };
    let (seen, here) = listed(&place, &overlay);
    assert_eq!(seen, here);
    assert!(seen.contains("./full/file ") && !seen.contains("./empty/file "), "{seen}");
    place.assert_clean();
}
