//! Images, made as tests want them: good ones, and such that are wrong in one place.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use supermachine_layers::digest::Digest;

/// A tar that is being made.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    /// Adds an entry; what `content` is not used for stays zero.
    pub(crate) fn entry(&mut self, kind: u8, name: &str, link: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.header(kind, name, link, mode, content.len() as u64);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Only a header, of something that says to have `size` bytes.
    pub(crate) fn header(&mut self, kind: u8, name: &str, link: &str, mode: u32, size: u64) -> &mut Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self
    }

    pub(crate) fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(b'5', name, "", 0o755, &[])
    }

    pub(crate) fn file(&mut self, name: &str, content: &str) -> &mut Self {
        self.entry(b'0', name, "", 0o644, content.as_bytes())
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(b'2', name, target, 0o777, &[])
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compresses");
    encoder.finish().expect("compresses")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("compresses")
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The files of an image.
#[derive(Default, Clone)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl Files {
    /// Adds a blob; gives what leads to it.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.0.insert(format!("blobs/sha256/{}", digest.hex()), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn json(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    /// Adds layers, configuration and manifest of an image.
    pub(crate) fn image(&mut self, tars: &[Vec<u8>], change: &Change) -> Value {
        let mut config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": tars.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>()},
        });
        (change.config)(&mut config);
        let config = self.json(CONFIG, &config);
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(LAYER, &(change.compress)(tar))).collect();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        (change.manifest)(&mut manifest);
        self.json(MANIFEST, &manifest)
    }

    /// Makes it a layout.
    pub(crate) fn layout(mut self, manifests: &[Value], change: &Change) -> Self {
        let mut index = json!({"schemaVersion": 2, "manifests": manifests});
        (change.index)(&mut index, &mut self);
        self.0.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        self.0.insert("index.json".to_owned(), index.to_string().into_bytes());
        (change.files)(&mut self.0);
        self
    }

    pub(crate) fn write_dir(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, bytes).expect("a file");
        }
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = Tar::default();
        for (name, bytes) in &self.0 {
            tar.entry(b'0', name, "", 0o644, bytes);
        }
        tar.end()
    }
}

/// What is other than it should be.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) tar: fn() -> Vec<u8>,
    pub(crate) compress: fn(&[u8]) -> Vec<u8>,
    pub(crate) config: fn(&mut Value),
    pub(crate) manifest: fn(&mut Value),
    pub(crate) index: fn(&mut Value, &mut Files),
    pub(crate) files: fn(&mut BTreeMap<String, Vec<u8>>),
}

pub(crate) const NONE: Change =
    Change { tar: small, compress: gzip, config: |_| (), manifest: |_| (), index: |_, _| (), files: |_| () };

/// A small layer.
pub(crate) fn small() -> Vec<u8> {
    Tar::default().dir("etc/").file("etc/passwd", "root:x:0:0::/root:/bin/sh\n").file("hello", "hello\n").end()
}

/// A layout with one image of one layer, wrong in one place.
pub(crate) fn wrong(change: &Change) -> Files {
    let mut files = Files::default();
    let manifest = files.image(&[(change.tar)()], change);
    files.layout(&[manifest], change)
}
