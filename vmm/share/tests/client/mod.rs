//! A guest without a kernel: makes requests byte by byte and takes replies apart.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use supermachine_share::spec::{
    self, Wire, fuse_attr_out, fuse_create_in, fuse_entry_out, fuse_getattr_in, fuse_in_header, fuse_init_in,
    fuse_init_in_ext, fuse_init_out, fuse_open_in, fuse_open_out, fuse_out_header, fuse_read_in, fuse_release_in,
    fuse_rename2_in, fuse_write_in, fuse_write_out,
};
use supermachine_share::{Limits, Server, ShareConfig, SymlinkPolicy};
use tempfile::TempDir;
use vm_memory::VolatileSlice;

/// A Linux error number, positive.
pub(crate) type Failure = i32;

/// A server and what it serves.
pub(crate) struct Client {
    pub(crate) server: Server,
    /// Who asks.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    unique: AtomicU64,
}

/// A shared directory beside one that is not shared.
pub(crate) struct Folders {
    pub(crate) shared: PathBuf,
    pub(crate) outside: PathBuf,
    _folder: TempDir,
}

impl Folders {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("folder");
        let (shared, outside) = (folder.path().join("shared"), folder.path().join("outside"));
        std::fs::create_dir(&shared).expect("mkdir");
        std::fs::create_dir(&outside).expect("mkdir");
        Self { shared, outside, _folder: folder }
    }
}

/// A share of `path`.
pub(crate) fn share(path: &Path, read_only: bool, symlinks: SymlinkPolicy) -> ShareConfig {
    ShareConfig { read_only, symlinks, ..ShareConfig::open(path).expect("share") }
}

/// A structure and then bytes.
pub(crate) fn body(structure: &impl Wire, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    structure.put(&mut bytes);
    bytes.extend_from_slice(rest);
    bytes
}

/// Names, each with a final zero.
pub(crate) fn names(names: &[&[u8]]) -> Vec<u8> {
    names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
}

pub(crate) fn parse<T: Wire>(bytes: &[u8]) -> T {
    T::take(&mut &*bytes).expect("whole structure")
}

impl Client {
    pub(crate) fn new(shares: Vec<ShareConfig>) -> Self {
        Self::with_limits(shares, Limits::default())
    }

    pub(crate) fn with_limits(shares: Vec<ShareConfig>, limits: Limits) -> Self {
        let server = Server::new(shares, limits).expect("server");
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { server, uid, gid, unique: AtomicU64::new(1) }
    }

    /// Sends a request as one piece of memory and takes a reply of at most `room` bytes.
    pub(crate) fn raw(&self, mut request: Vec<u8>, room: usize) -> Vec<u8> {
        let mut reply = vec![0xa5; room];
        let len = self.server.handle(&[VolatileSlice::from(&mut request[..])], &[VolatileSlice::from(&mut reply[..])]);
        assert!(len <= room, "a reply of {len} bytes in {room}");
        assert!(reply[len..].iter().all(|byte| *byte == 0xa5), "bytes behind the reply were written");
        reply.truncate(len);
        reply
    }

    pub(crate) fn header(&self, opcode: u32, nodeid: u64, body: usize) -> fuse_in_header {
        fuse_in_header {
            len: (fuse_in_header::SIZE + body) as u32,
            opcode,
            unique: self.unique.fetch_add(2, Ordering::Relaxed),
            nodeid,
            uid: self.uid,
            gid: self.gid,
            ..fuse_in_header::default()
        }
    }

    /// Sends a request; gives the body of the reply.
    pub(crate) fn call(&self, opcode: u32, nodeid: u64, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let header = self.header(opcode, nodeid, body.len());
        let reply = self.raw(self::body(&header, body), 8192);
        let out: fuse_out_header = parse(&reply);
        assert_eq!((out.len as usize, out.unique), (reply.len(), header.unique));
        match out.error {
            0 => Ok(reply[fuse_out_header::SIZE..].to_vec()),
            error => Err(-error),
        }
    }

    pub(crate) fn init(&self) -> fuse_init_out {
        let start = fuse_init_in { major: 7, minor: 41, max_readahead: 131_072, flags: u32::MAX };
        let mut bytes = body(&start, &[]);
        fuse_init_in_ext { flags2: u32::MAX, unused: [0; 11] }.put(&mut bytes);
        parse(&self.call(spec::FUSE_INIT, 0, &bytes).expect("init"))
    }

    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Result<fuse_entry_out, Failure> {
        self.call(spec::FUSE_LOOKUP, parent, &names(&[name])).map(|reply| parse(&reply))
    }

    /// The node of a path from the root, share number first.
    pub(crate) fn walk(&self, path: &str) -> Result<u64, Failure> {
        path.split('/').try_fold(1, |node, name| self.lookup(node, name.as_bytes()).map(|entry| entry.nodeid))
    }

    pub(crate) fn getattr(&self, node: u64) -> Result<fuse_attr_out, Failure> {
        let reply = self.call(spec::FUSE_GETATTR, node, &body(&fuse_getattr_in::default(), &[]))?;
        Ok(parse(&reply))
    }

    pub(crate) fn open(&self, node: u64, flags: u32) -> Result<u64, Failure> {
        let asked = fuse_open_in { flags, open_flags: 0 };
        self.call(spec::FUSE_OPEN, node, &body(&asked, &[])).map(|reply| parse::<fuse_open_out>(&reply).fh)
    }

    pub(crate) fn opendir(&self, node: u64) -> Result<u64, Failure> {
        let reply = self.call(spec::FUSE_OPENDIR, node, &body(&fuse_open_in::default(), &[]))?;
        Ok(parse::<fuse_open_out>(&reply).fh)
    }

    pub(crate) fn create(&self, parent: u64, name: &[u8], flags: u32, mode: u32) -> Result<(u64, u64), Failure> {
        let asked = fuse_create_in { flags, mode: spec::S_IFREG | mode, ..fuse_create_in::default() };
        let reply = self.call(spec::FUSE_CREATE, parent, &body(&asked, &names(&[name])))?;
        let (entry, open) = reply.split_at(fuse_entry_out::SIZE);
        Ok((parse::<fuse_entry_out>(entry).nodeid, parse::<fuse_open_out>(open).fh))
    }

    pub(crate) fn read(&self, node: u64, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Failure> {
        self.call(spec::FUSE_READ, node, &body(&fuse_read_in { fh, offset, size, ..fuse_read_in::default() }, &[]))
    }

    pub(crate) fn write(&self, node: u64, fh: u64, offset: u64, data: &[u8]) -> Result<u32, Failure> {
        let asked = fuse_write_in { fh, offset, size: data.len() as u32, ..fuse_write_in::default() };
        let reply = self.call(spec::FUSE_WRITE, node, &body(&asked, data))?;
        Ok(parse::<fuse_write_out>(&reply).size)
    }

    pub(crate) fn release(&self, opcode: u32, node: u64, fh: u64) -> Result<(), Failure> {
        self.call(opcode, node, &body(&fuse_release_in { fh, ..fuse_release_in::default() }, &[])).map(|_| ())
    }

    pub(crate) fn rename(&self, from: u64, name: &[u8], to: u64, new: &[u8], flags: u32) -> Result<(), Failure> {
        let asked = fuse_rename2_in { newdir: to, flags, padding: 0 };
        self.call(spec::FUSE_RENAME2, from, &body(&asked, &names(&[name, new]))).map(|_| ())
    }

    /// The content of a file, as far as it fits in one reply.
    pub(crate) fn content(&self, node: u64) -> Result<Vec<u8>, Failure> {
        let fh = self.open(node, spec::O_RDONLY)?;
        let content = self.read(node, fh, 0, 65536);
        self.release(spec::FUSE_RELEASE, node, fh)?;
        content
    }

    /// Names and types of a directory.
    pub(crate) fn list(&self, node: u64, opcode: u32) -> Result<Vec<(Vec<u8>, u32)>, Failure> {
        let fh = self.opendir(node)?;
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let asked = fuse_read_in { fh, offset, size: 4096, ..fuse_read_in::default() };
            let reply = self.call(opcode, node, &body(&asked, &[]))?;
            if reply.is_empty() {
                self.release(spec::FUSE_RELEASEDIR, node, fh)?;
                return Ok(all);
            }
            let mut rest = &reply[..];
            while !rest.is_empty() {
                if opcode == spec::FUSE_READDIRPLUS {
                    rest = &rest[fuse_entry_out::SIZE..];
                }
                let entry: spec::fuse_dirent = parse(rest);
                let len = spec::fuse_dirent::SIZE + entry.namelen as usize;
                all.push((rest[spec::fuse_dirent::SIZE..len].to_vec(), entry.kind));
                offset = entry.off;
                rest = &rest[spec::aligned(len)..];
            }
        }
    }
}
