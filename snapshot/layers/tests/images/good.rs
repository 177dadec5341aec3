use std::fs;

use serde_json::json;
use supermachine_layers::digest::Digest;
use supermachine_layers::image::accounts;
use supermachine_layers::reader::Stack;

use super::build::{Files, INDEX, NONE, Tar, gzip, small, zstd};
use super::{Place, text};

fn base() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.dir("etc").file("etc/passwd", "root:x:0:0::/root:\nold:x:5:5::/old:\n").file("etc/group", "w:x:10:app\n");
    tar.dir("opt").file("opt/below", "below").dir("gone").file("gone/file", "x").file("data", "one");
    tar.end()
}

/// Users are in a directory that a link leads to, and what was below is whited out or hidden.
fn upper() -> Vec<u8> {
    let mut tar = Tar::default();
    tar.dir("nix").dir("nix/store").file("nix/store/passwd", "root:x:0:0::/:\napp:x:1000:1000::/app:\n");
    tar.dir("etc").link("etc/passwd", "/../nix/./store/passwd");
    tar.dir("opt").file("opt/.wh..wh..opq", "").file("opt/above", "above").file(".wh.gone", "").file("data", "two");
    tar.link("loop", "loop2").link("loop2", "loop").link("out", "../../../../../../../../etc/hostname");
    tar.end()
}

#[test]
fn layers_are_converted_once_and_show_what_the_topmost_has() {
    let place = Place::new();
    let hold = place.store.hold("test").expect("holds");
    let mut files = Files::default();
    let one = files.image(&[base()], &NONE);
    let mut two = files.image(&[base(), upper()], &NONE);
    two["annotations"] = json!({"org.opencontainers.image.ref.name": "two:2"});
    let mut named = one.clone();
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "one"});
    files.layout(&[named, two], &NONE).write_dir(&place.path("layout"));
    let layout = format!("oci-layout:{}", text(&place.path("layout")));
    let (_, first) = place.unpack(&format!("{layout}:one"), "linux/amd64", &hold).expect("unpacks");
    let (_, layers) = place.unpack(&format!("{layout}:two:2"), "linux/amd64", &hold).expect("unpacks");
    assert!(!first[0].image.found && layers[0].image.found && !layers[1].image.found);
    assert_eq!(
        layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
        [base(), upper()].map(|tar| Some(Digest::of(&tar)))
    );
    let files: Vec<_> = layers.iter().map(|layer| layer.image.path.clone()).collect();
    let stack = Stack::open(&files).expect("opens");
    let read = |path: &str| stack.read(path, 1000).expect(path).map(|bytes| String::from_utf8(bytes).expect("text"));
    assert_eq!(read("/data").as_deref(), Some("two"));
    assert_eq!(read("/opt/above").as_deref(), Some("above"));
    for missing in ["/opt/below", "/gone/file", "/gone", "/etc", "/out", "/nothing", "/data/x", "/"] {
        assert_eq!(read(missing), None, "{missing}");
    }
    assert!(stack.read("/loop", 1000).is_err(), "a loop of links");
    assert!(stack.read("/data", 2).is_err(), "larger than the cap");
    let app = accounts::user(&stack, "app").expect("is there");
    assert_eq!((app.uid, app.additional_gids, app.home.as_str()), (1000, vec![10], "/app"));
    assert!(accounts::user(&stack, "old").is_err(), "only below");
    let error = place.unpack(&layout, "linux/amd64", &hold).expect_err("which?");
    assert!(error.to_string().contains("name one of one, two:2"), "{error}");
    let error = place.unpack(&format!("{layout}:three"), "linux/amd64", &hold).expect_err("none");
    assert!(error.to_string().contains("nothing is named \"three\""), "{error}");
}

#[test]
fn archives_and_compressions_give_the_same_layers() {
    let place = Place::new();
    let hold = place.store.hold("test").expect("holds");
    let mut images = Vec::new();
    for (number, compress) in [gzip, zstd, <[u8]>::to_vec].into_iter().enumerate() {
        let change = super::build::Change { compress, ..NONE };
        let mut files = Files::default();
        let manifest = files.image(&[base(), upper()], &change);
        let archive = place.path(&format!("{number}.tar"));
        fs::write(&archive, files.layout(&[manifest], &NONE).tar()).expect("a file");
        let name = format!("oci-archive:{}", text(&archive));
        images.push(place.unpack(&name, "linux/amd64", &hold).expect("unpacks").1);
    }
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&base()), Digest::of(&upper())]},
    });
    let mut tar = Tar::default();
    let config = config.to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    tar.file(&config_name, &config).dir("a").entry(b'0', "a/layer.tar", "", 0o644, &base());
    tar.dir("b").link("b/layer.tar", "../c/./layer.tar").dir("c").entry(b'0', "c/layer.tar", "", 0o644, &upper());
    let manifest = json!([{"Config": config_name, "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    fs::write(place.path("docker.tar"), tar.file("manifest.json", &manifest.to_string()).end()).expect("a file");
    for reference in ["", ":app:1", ":docker.io/library/app:1"] {
        let name = format!("docker-archive:{}{reference}", text(&place.path("docker.tar")));
        images.push(place.unpack(&name, "linux/amd64", &hold).expect(&name).1);
    }
    let digests = |layers: &[supermachine_layers::image::Layer]| {
        layers.iter().map(|layer| layer.image.digest).collect::<Vec<_>>()
    };
    assert!(images.iter().all(|layers| digests(layers) == digests(&images[0])));
    assert_eq!(place.in_store(), 4, "two images and two records");
}

#[test]
fn the_platform_is_found_in_nested_indexes() {
    let place = Place::new();
    let hold = place.store.hold("test").expect("holds");
    let mut files = Files::default();
    let image = |files: &mut Files, architecture: &str, tar: Vec<u8>| {
        let change: fn(&mut serde_json::Value) = match architecture {
            "arm64" => |config| config["architecture"] = json!("arm64"),
            _ => |_| (),
        };
        files.image(&[tar], &super::build::Change { config: change, ..NONE })
    };
    let mut amd = image(&mut files, "amd64", small());
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut arm = image(&mut files, "arm64", base());
    arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let mut attestation = image(&mut files, "amd64", upper());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let inner = files.json(INDEX, &json!({"schemaVersion": 2, "manifests": [attestation, arm, amd]}));
    let outer = files.json(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}));
    files.layout(&[outer], &NONE).write_dir(&place.path("layout"));
    let name = format!("oci-layout:{}", text(&place.path("layout")));
    for (platform, tar) in
        [("linux/amd64", small()), ("linux/x86_64", small()), ("linux/arm64", base()), ("linux/arm64/v8", base())]
    {
        let (_, layers) = place.unpack(&name, platform, &hold).expect(platform);
        assert_eq!(layers[0].diff_id, Some(Digest::of(&tar)), "{platform}");
    }
    let error = place.unpack(&name, "linux/riscv64", &hold).expect_err("none").to_string();
    assert!(
        error.contains("linux/riscv64") && error.contains("linux/amd64") && error.contains("linux/arm64"),
        "{error}"
    );
    assert!(place.unpack(&name, "linux", &hold).is_err());
}
