//! The container's files, served as a FUSE file system.

mod common;

use common::container::Builder;
use common::{Session, collect};
use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::{ErrorCode, FrameKind, Request};
use supermachine_share::spec::{
    self, Wire, errno, fuse_attr_out, fuse_entry_out, fuse_in_header, fuse_mkdir_in, fuse_open_in, fuse_open_out,
    fuse_out_header, fuse_read_in,
};

/// A host that asks for files.
struct Files {
    session: Session,
    unique: u64,
}

impl Files {
    fn of(builder: &Builder) -> Result<Self, ConnectionError> {
        let mut session = builder.agent.session();
        session.request_done(&Request::ServeRoot {})?;
        Ok(Self { session, unique: 0 })
    }

    /// The body of the reply, or its error.
    fn ask(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.unique += 2;
        let len = u32::try_from(fuse_in_header::SIZE + body.len()).unwrap();
        let mut message = Vec::new();
        fuse_in_header { len, opcode, unique: self.unique, nodeid, ..Default::default() }.put(&mut message);
        message.extend_from_slice(body);
        self.session.writer.send(FrameKind::Fuse, &message).unwrap();
        let reply = self.session.reader.frame().unwrap().expect(FrameKind::Fuse).unwrap().payload;
        let mut rest = reply.as_slice();
        let header = fuse_out_header::take(&mut rest).unwrap();
        assert_eq!((header.len as usize, header.unique), (reply.len(), self.unique));
        if header.error == 0 { Ok(rest.to_vec()) } else { Err(-header.error) }
    }

    fn ask_for<T: Wire>(&mut self, opcode: u32, nodeid: u64, body: &impl Wire) -> Result<T, i32> {
        let mut bytes = Vec::new();
        body.put(&mut bytes);
        self.ask(opcode, nodeid, &bytes).map(|reply| T::take(&mut reply.as_slice()).expect("a whole reply"))
    }

    fn look_up(&mut self, path: &str) -> Result<fuse_entry_out, i32> {
        let mut entry = fuse_entry_out { nodeid: spec::FUSE_ROOT_ID, ..Default::default() };
        for name in path.split('/') {
            let reply = self.ask(spec::FUSE_LOOKUP, entry.nodeid, format!("{name}\0").as_bytes())?;
            entry = fuse_entry_out::take(&mut reply.as_slice()).unwrap();
        }
        Ok(entry)
    }

    fn read(&mut self, path: &str) -> (fuse_open_out, String) {
        let node = self.look_up(path).unwrap().nodeid;
        let open: fuse_open_out = self.ask_for(spec::FUSE_OPEN, node, &fuse_open_in::default()).unwrap();
        let mut body = Vec::new();
        fuse_read_in { fh: open.fh, size: 4096, ..Default::default() }.put(&mut body);
        (open, String::from_utf8(self.ask(spec::FUSE_READ, node, &body).unwrap()).unwrap())
    }
}

#[test]
fn the_host_sees_what_the_container_does_and_the_other_way_round() {
    let Some(builder) = Builder::start() else { return };
    let script = "mkdir /in; echo inside >/in/file; chmod 4751 /in/file; while ! test -d /from-host; do :; done; ls -d /from-host";
    let mut container = builder.create(builder.spec(script));
    let mut files = Files::of(&builder).unwrap();
    assert_eq!(files.look_up("in").unwrap_err(), errno::ENOENT, "it has not started");
    Builder::start_created(&mut container).unwrap();
    while files.look_up("in/file").is_err() || files.read("in/file").1.is_empty() {}
    while files.look_up("in/file").unwrap().attr.mode & 0o7777 != 0o4751 {}
    assert_eq!(files.read("in/file").1, "inside\n");
    let entry = files.look_up("in/file").unwrap();
    assert_eq!((entry.entry_valid, entry.attr_valid, entry.attr_valid_nsec), (0, 0, 0), "nothing is believed for long");
    let root: fuse_attr_out = files.ask_for(spec::FUSE_GETATTR, spec::FUSE_ROOT_ID, &[0u64; 2]).unwrap();
    assert_eq!(root.attr.mode & spec::S_IFMT, spec::S_IFDIR);
    // Files of other file systems, and those that have no size.
    let (open, text) = files.read("proc/1/comm");
    assert_eq!((text.as_str(), open.open_flags & spec::FOPEN_DIRECT_IO), ("sh\n", spec::FOPEN_DIRECT_IO));
    let mut body = Vec::new();
    fuse_mkdir_in { mode: 0o755, umask: 0 }.put(&mut body);
    body.extend_from_slice(b"from-host\0");
    files.ask(spec::FUSE_MKDIR, spec::FUSE_ROOT_ID, &body).unwrap();
    assert_eq!(collect(&mut container).stdout, b"/from-host\n");
    drop((files, container));
    builder.agent.assert_reaps_all();
}

#[test]
fn there_must_be_a_container_and_the_session_ends_with_what_is_no_request() {
    let Some(builder) = Builder::start() else { return };
    let refused = |result| match result {
        Err(ConnectionError::Refused(error)) => error.code,
        other => panic!("not refused: {:?}", other.map(|files: Files| files.unique)),
    };
    assert_eq!(refused(Files::of(&builder)), ErrorCode::Unavailable);
    let mut spec = builder.spec("");
    spec.process.argv = ["sleep", "1000"].map(str::to_owned).to_vec();
    let container = builder.create(spec);
    let descriptors = builder.agent.descriptors();
    for kind in [FrameKind::Stdin, FrameKind::Request] {
        let mut files = Files::of(&builder).unwrap();
        files.session.writer.send(kind, b"{}").unwrap();
        assert!(files.session.reader.next_frame().unwrap().is_none(), "{kind}");
    }
    // Several at a time, each of its own.
    let mut all: Vec<_> = (0..3).map(|_| Files::of(&builder).unwrap()).collect();
    for files in &mut all {
        assert_eq!(files.read("etc/plain").1, "x");
    }
    drop(all);
    builder.agent.assert_descriptors(descriptors);
    drop(container);
    builder.agent.assert_reaps_all();
}
