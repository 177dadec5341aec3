use std::fs;

use serde_json::{Value, json};

use super::*;

fn manifest(data: &str) -> Value {
    json!({
        "version": VERSION, "data": data, "id": "c", "memory_mib": 256, "terminal": false,
        "snapshot": "0".repeat(64), "layers": [], "upper": null, "volumes": [],
    })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_draft_that_is_given_up_leaves_what_was_there() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let image = folder.path().join("a/b");
    drop(Draft::begin(&image).expect("begins"));
    assert!(!image.exists());
    fs::create_dir_all(&image).expect("a directory");
    let draft = Draft::begin(&image).expect("begins");
    assert!(matches!(Draft::begin(&image), Err(CheckpointError::Busy { .. })));
    drop(draft);
    assert_eq!(names(&image), Vec::<String>::new());
}

#[test]
fn an_image_replaces_the_one_before_as_a_whole() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let image = folder.path();
    fs::write(image.join("notes.d"), "somebody's").expect("a file");
    let commit = |draft: Draft| {
        let manifest = serde_json::from_value(manifest(draft.name())).expect("a manifest");
        draft.commit(&manifest).expect("commits");
    };
    let first = Draft::begin(image).expect("begins");
    let name = first.name().to_owned();
    commit(first);
    // What a writer left that died.
    fs::create_dir_all(image.join("0123456789abcdef.d/snapshot")).expect("directories");
    let second = Draft::begin(image).expect("begins");
    assert_eq!(names(image).len(), 4, "{:?}", names(image));
    assert!(image.join(&name).exists(), "the first image is there until the second is whole");
    let (other, mut expected) =
        (second.name().to_owned(), [second.name().to_owned(), MANIFEST.into(), "notes.d".into()]);
    expected.sort();
    commit(second);
    assert_ne!(name, other);
    assert_eq!(names(image), expected);
}

#[test]
fn whatever_is_wrong_with_a_manifest_is_told() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let message = |content: &[u8]| {
        fs::write(folder.path().join(MANIFEST), content).expect("a file");
        let error = Image::open(folder.path()).expect_err("must be refused");
        crate::verbs::chain(&error)
    };
    assert!(Image::open(folder.path()).expect_err("nothing there").to_string().contains("no checkpoint"));
    let good = manifest("0123456789abcdef.d");
    for (change, word) in [
        (json!({"version": 2}), "another version"),
        (json!({"version": "1"}), "not what a checkpoint has"),
        (json!({"data": "../../../etc"}), "names no directory"),
        (json!({"data": "0123456789ABCDEF.d"}), "names no directory"),
        (json!({"snapshot": "12"}), "not what a checkpoint has"),
        (json!({"extra": 1}), "not what a checkpoint has"),
        (json!({"layers": vec!["x"; 256]}), "too many layers"),
        (json!({"volumes": [{"path": "v", "read_only": true, "bytes": 1, "written_ns": 1}]}), "not absolute"),
        (json!({}), "snapshot"),
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let told = message(bad.to_string().as_bytes());
        assert!(told.contains(word) && !told.contains('\n'), "{told:?} without {word:?}");
    }
    for content in [&b""[..], b"[]", b"{\"version\":1", &[b' '; 3 << 20]] {
        assert!(message(content).contains("not what a checkpoint has"));
    }
}
