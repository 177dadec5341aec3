//! One connection of the host's: hello, one request, and if that is an exec, the process's frames.

mod held;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use supermachine_agent_protocol::container::Container;
use supermachine_agent_protocol::spec::{MAX_HELLO, MAX_OUTPUT, MAX_PAYLOAD, MAX_STDIN, VERSION};
use supermachine_agent_protocol::{
    Close, Control, Decoder, ErrorCode, ErrorReply, Exec, Frame, FrameError, FrameKind, Hello, Identity, Names,
    Request, Signal, Window, WindowSize, encode_json,
};

use crate::container::{Group, Listening, Prepared, Running};
use crate::mount::mount;
use crate::outbox::Outbox;
use crate::poller::{Poller, Source, Watch};
use crate::process::{Child, Process, Progress};
use crate::reply::{Step, bad_request, failed, unavailable};
use crate::spawn::{Spawned, spawn};
use crate::sys;

/// Output that may wait for the host before the process has to.
const HIGH_WATER: usize = 256 << 10;
/// Bytes of one read.
pub(crate) const SCRATCH: usize = MAX_OUTPUT as usize;

/// What a connection needs of the server while it handles an event.
#[derive(Debug)]
pub(crate) struct Context {
    /// For new descriptors.
    pub(crate) poller: Poller,
    /// Buffer of [`SCRATCH`] bytes for one read.
    pub(crate) scratch: Vec<u8>,
    /// Our hello.
    pub(crate) hello: Hello,
    /// The guest's container, until its end is told.
    pub(crate) container: Option<Running>,
    /// What is left of it then. To take that apart is much work, which the host need not wait for: mostly the machine ends.
    pub(crate) remains: Option<Running>,
    /// For the first container.
    pub(crate) prepared: Prepared,
    /// Set when the host asked for the end: the connection that waits for it to be answered.
    pub(crate) shutdown: Option<u64>,
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It waits for events.
    Keep,
    /// It is over: drop it.
    Gone,
    /// Its host wants to take the container over.
    Attach,
}

#[derive(Debug)]
enum State {
    /// The host's hello is due.
    Hello,
    /// The host's request is due.
    Request,
    /// The host wants to take the container over, whose own connection does the rest; with names as one of its own.
    Attaching(Option<Names>),
    /// A process and its frames.
    Exec(Box<Process>),
    /// A process that serves the container's files; it has the socket, and is `orphan`.
    Serving,
    /// Everything is queued: send it, say that this was all, and wait for the host to close.
    Closing { half_closed: bool },
    /// Our own call that tells the host that we listen; the host closes it.
    Announcing { connected: bool },
}

/// A container's control group, and where its listening is seen.
type Ward = (Rc<Group>, Option<Listening>);

/// A connection and where it stands.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    socket: Watch,
    decoder: Decoder,
    /// Bytes received that have to wait because the process is congested.
    pending: Vec<u8>,
    out: Outbox,
    state: State,
    /// A child that outlives its session and must be reaped by the server.
    orphan: Option<Child>,
    /// Whether the host of a held container went with the machine that was saved.
    is_lost: bool,
}

impl Connection {
    /// A connection that the host has just made.
    pub(crate) fn accepted(id: u64, socket: Watch, hello: &Hello) -> Self {
        Self::new(id, socket, hello, State::Hello)
    }

    /// A call to the host that is being connected.
    pub(crate) fn announcing(id: u64, socket: Watch, hello: &Hello) -> Self {
        Self::new(id, socket, hello, State::Announcing { connected: false })
    }

    fn new(id: u64, socket: Watch, hello: &Hello, state: State) -> Self {
        let (decoder, pending, out) = (Decoder::new(MAX_HELLO), Vec::new(), Outbox::default());
        let mut connection = Self { id, socket, decoder, pending, out, state, orphan: None, is_lost: false };
        connection.put_json(FrameKind::Control, &Control::Hello(hello.clone()));
        connection
    }

    /// The child that is left to reap when the connection is dropped; it is killed.
    pub(crate) fn take_child(&mut self) -> Option<Child> {
        self.end_session();
        self.orphan.take()
    }

    /// Handles an event of one of its descriptors.
    pub(crate) fn on_event(&mut self, cx: &mut Context, source: Source, flags: EpollFlags) -> Verdict {
        if source == Source::Socket && self.on_socket(cx, flags) == Verdict::Gone && !self.lose_host() {
            return Verdict::Gone;
        }
        match (source, &mut self.state) {
            (Source::Start, State::Exec(process)) => {
                let progress = process.on_report(&cx.poller, self.id);
                if let Err(error) = progress.and_then(|progress| self.on_progress(cx, progress)) {
                    self.fail(cx, error);
                }
            }
            (Source::Exit | Source::Group, State::Exec(process)) => {
                let gone_on = if source == Source::Exit { process.on_exit() } else { process.on_group() };
                if let Err(error) = gone_on {
                    self.refuse(&error);
                    self.forget_container(cx);
                }
            }
            (Source::Listening, State::Exec(process)) => process.on_listening(),
            (Source::Exit, _) => {
                self.orphan = self.orphan.take().filter(Child::still_runs);
                if matches!(self.state, State::Serving) && self.orphan.is_none() {
                    return Verdict::Gone;
                }
            }
            (Source::Stdout, State::Exec(process)) => {
                process.on_output(FrameKind::Stdout, &mut cx.scratch, &mut self.out);
            }
            (Source::Stderr, State::Exec(process)) => {
                process.on_output(FrameKind::Stderr, &mut cx.scratch, &mut self.out);
            }
            // Standard input is written when everything settles.
            _ => {}
        }
        let settled = self.settle(cx);
        // A container that is held outlives its connection.
        settled.unwrap_or_else(|_| if self.lose_host() { Verdict::Keep } else { Verdict::Gone })
    }

    fn on_progress(&mut self, cx: &mut Context, progress: Progress) -> Step {
        let State::Exec(process) = &self.state else { return Ok(()) };
        let pid = process.pid();
        match (progress, &mut cx.container) {
            (Progress::Created, Some(container)) => {
                container.built()?;
                self.put_json(FrameKind::Control, &Control::Created { pid });
            }
            (Progress::Started, _) => self.put_json(FrameKind::Control, &Control::Started { pid }),
            _ => {}
        }
        Ok(())
    }

    fn on_socket(&mut self, cx: &mut Context, flags: EpollFlags) -> Verdict {
        if flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            return Verdict::Gone;
        }
        if let State::Announcing { connected } = &mut self.state {
            *connected |= flags.contains(EpollFlags::EPOLLOUT);
        }
        if flags.contains(EpollFlags::EPOLLRDHUP) && matches!(self.state, State::Exec(_) | State::Serving) {
            return Verdict::Gone;
        }
        if !flags.contains(EpollFlags::EPOLLIN) {
            return Verdict::Keep;
        }
        match nix::unistd::read(&self.socket, &mut cx.scratch) {
            Err(Errno::EAGAIN | Errno::EINTR) => Verdict::Keep,
            Ok(0) | Err(_) => Verdict::Gone,
            Ok(count) => {
                let taken = cx.scratch.get(..count).unwrap_or_default();
                self.pending.extend_from_slice(taken);
                Verdict::Keep
            }
        }
    }

    /// Brings everything that can go on to where it has to wait, and sets what is waited for.
    pub(crate) fn settle(&mut self, cx: &mut Context) -> io::Result<Verdict> {
        loop {
            self.take_frames(cx);
            if let State::Exec(process) = &mut self.state {
                process.write_input(&mut self.out);
                while process.must_drain() && self.out.len() < HIGH_WATER {
                    process.on_output(FrameKind::Stdout, &mut cx.scratch, &mut self.out);
                }
                if let Some(number) = process.take_held() {
                    let _ = self.out.append(|bytes| encode_json(FrameKind::Control, &Control::Held { number }, bytes));
                }
                if process.take_started() {
                    let started = Control::Started { pid: process.pid() };
                    let _ = self.out.append(|bytes| encode_json(FrameKind::Control, &started, bytes));
                }
                if process.take_listening() {
                    let _ = self.out.append(|bytes| encode_json(FrameKind::Control, &Control::Listening {}, bytes));
                }
                process.tell_exit(&mut self.out);
                if process.is_finished() {
                    self.close();
                    self.forget_container(cx);
                }
            }
            if !matches!(self.state, State::Announcing { connected: false }) && !self.is_lost {
                self.out.write_to(&self.socket)?;
            }
            let State::Exec(process) = &self.state else { break };
            let frames_wait = !self.pending.is_empty() && !process.is_congested();
            let output_waits = process.must_drain() && self.out.is_empty();
            if !frames_wait && !output_waits {
                break;
            }
        }
        self.half_close();
        self.watch()?;
        Ok(if matches!(self.state, State::Attaching(_)) { Verdict::Attach } else { Verdict::Keep })
    }

    fn take_frames(&mut self, cx: &mut Context) {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while self.takes_frames() {
            if let State::Exec(process) = &self.state {
                self.decoder.set_max_payload(if process.may_be_furnished() { MAX_PAYLOAD } else { MAX_STDIN });
            }
            match self.decoder.decode(&mut rest) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Err(error) = self.on_frame(cx, frame) {
                        self.refuse(&error);
                    }
                }
                Err(error) => self.refuse(&broken(&error)),
            }
        }
        // What comes after the end of a conversation is not looked at.
        if !matches!(self.state, State::Closing { .. } | State::Announcing { .. }) && !rest.is_empty() {
            self.pending = rest.to_vec();
        }
    }

    fn takes_frames(&self) -> bool {
        match &self.state {
            State::Hello | State::Request => true,
            State::Exec(process) => !process.is_congested(),
            State::Attaching(_) | State::Serving | State::Closing { .. } | State::Announcing { .. } => false,
        }
    }

    fn on_frame(&mut self, cx: &mut Context, frame: Frame) -> Result<(), ErrorReply> {
        match &mut self.state {
            State::Hello => self.on_hello(frame),
            State::Request => self.on_request(cx, frame),
            State::Exec(process) => on_process_frame(process, frame),
            State::Attaching(_) | State::Serving | State::Closing { .. } | State::Announcing { .. } => Ok(()),
        }
    }

    fn on_hello(&mut self, frame: Frame) -> Result<(), ErrorReply> {
        let parsed = frame.expect(FrameKind::Control).and_then(|frame| frame.parse_json::<Control>());
        match parsed.map_err(|error| broken(&error))? {
            Control::Hello(Hello { version: VERSION, .. }) => {
                self.decoder.set_max_payload(MAX_PAYLOAD);
                self.state = State::Request;
                Ok(())
            }
            Control::Hello(Hello { version, .. }) => {
                let message = format!("protocol version {version} is not spoken here, only {VERSION}");
                Err(ErrorReply { code: ErrorCode::BadVersion, errno: None, message })
            }
            _ => Err(bad_request("a hello is due")),
        }
    }

    fn on_request(&mut self, cx: &mut Context, frame: Frame) -> Result<(), ErrorReply> {
        let parsed = frame.expect(FrameKind::Request).and_then(|frame| frame.parse_json::<Request>());
        match parsed.map_err(|error| broken(&error))? {
            Request::Exec(exec) => return self.exec(cx, &exec),
            Request::Identify(identity) => {
                crate::identity::assume(&identity)?;
                let Identity { generation, .. } = identity;
                self.put_json(FrameKind::Control, &Control::Identified { generation });
                // Another request may follow.
                return Ok(());
            }
            Request::Ping {} => self.put_json(FrameKind::Control, &Control::Pong {}),
            Request::Mount(request) => {
                mount(&request)?;
                self.put_json(FrameKind::Control, &Control::Ok {});
            }
            Request::Create(spec) => return self.create(cx, &spec),
            Request::Attach {} => {
                self.state = State::Attaching(None);
                return Ok(());
            }
            Request::Adopt(names) => {
                self.state = State::Attaching(Some(names));
                return Ok(());
            }
            Request::Furnish(_) | Request::Start {} | Request::Hold { .. } | Request::Release {} => {
                return Err(bad_request("furnish, start, hold and release follow a create on the same connection"));
            }
            Request::KillAll { signal } => {
                container(cx)?.kill_all(signal)?;
                self.put_json(FrameKind::Control, &Control::Ok {});
            }
            Request::Processes {} => {
                let processes = container(cx)?.processes();
                self.put_json(FrameKind::Control, &Control::Processes(processes));
            }
            Request::Usage {} => {
                let usage = container(cx)?.usage();
                self.put_json(FrameKind::Control, &Control::Usage(Box::new(usage)));
            }
            Request::Update(resources) => {
                container(cx)?.update(&resources)?;
                self.put_json(FrameKind::Control, &Control::Ok {});
            }
            Request::ServeRoot {} => return self.serve_root(cx),
            Request::Shutdown {} => {
                cx.shutdown = Some(self.id);
                self.put_json(FrameKind::Control, &Control::Ok {});
            }
        }
        self.close();
        Ok(())
    }

    fn exec(&mut self, cx: &mut Context, exec: &Exec) -> Step {
        let spawned = if exec.container { container(cx)?.exec(exec)? } else { spawn(exec)? };
        self.take_over(cx, spawned, None)
    }

    fn create(&mut self, cx: &mut Context, spec: &Container) -> Step {
        if cx.container.is_some() {
            return Err(unavailable("the guest has a container already"));
        }
        cx.remains = None;
        let (container, spawned) = Running::create(self.id, spec, &mut cx.prepared)?;
        let group = (container.group(), container.listening(spec));
        cx.container = Some(container);
        self.take_over(cx, spawned, Some(group)).inspect_err(|_| cx.container = None)
    }

    /// The connection is that of a process which serves the container's files from here on.
    fn serve_root(&mut self, cx: &mut Context) -> Step {
        let forked = container(cx)?.serve_root(self.socket.as_fd())?;
        let child = Child::adopt(&cx.poller, self.id, forked);
        self.orphan = Some(child.map_err(failed(|| "cannot watch the process".to_owned()))?);
        self.put_json(FrameKind::Control, &Control::Ok {});
        self.state = State::Serving;
        Ok(())
    }

    /// The connection is the process's from here on.
    fn take_over(&mut self, cx: &Context, spawned: Spawned, group: Option<Ward>) -> Step {
        let pid = spawned.pid;
        let process = Process::new(&cx.poller, self.id, spawned, group)
            .inspect_err(|_| sys::kill_and_reap(pid))
            .map_err(failed(|| "cannot watch the process".to_owned()))?;
        self.state = State::Exec(Box::new(process));
        Ok(())
    }

    /// A process did not come to its program.
    fn fail(&mut self, cx: &mut Context, error: ErrorReply) {
        let told = match &mut self.state {
            State::Exec(process) => process.fail(error),
            _ => Err(error),
        };
        if let Err(error) = told {
            self.refuse(&error);
            self.forget_container(cx);
        }
    }

    /// No process is left of the container that lived with this connection, if one did.
    fn forget_container(&self, cx: &mut Context) {
        if let Some(container) = cx.container.take_if(|container| container.connection == self.id) {
            cx.remains = Some(container);
        }
    }

    /// Tells the host what is wrong and ends the conversation.
    fn refuse(&mut self, error: &ErrorReply) {
        self.end_session();
        self.put_json(FrameKind::Error, error);
        self.close();
    }

    fn close(&mut self) {
        self.end_session();
        self.state = State::Closing { half_closed: false };
    }

    /// Kills what still runs; it is kept to be reaped.
    fn end_session(&mut self) {
        match std::mem::replace(&mut self.state, State::Closing { half_closed: false }) {
            State::Exec(process) => self.orphan = process.into_child(),
            State::Serving => {}
            other => {
                self.state = other;
                return;
            }
        }
        if let Some(child) = &self.orphan {
            child.kill();
        }
    }

    /// Once all is sent, says so: the host sees the end of the stream.
    fn half_close(&mut self) {
        if let State::Closing { half_closed } = &mut self.state
            && self.out.is_empty()
            && !*half_closed
        {
            // If it fails the connection is broken, and the next event says so.
            let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Write);
            *half_closed = true;
        }
    }

    fn watch(&mut self) -> io::Result<()> {
        let can_send = self.out.len() < HIGH_WATER;
        if let State::Exec(process) = &mut self.state {
            process.watch(can_send)?;
        }
        let mut wanted = match &self.state {
            State::Hello | State::Request | State::Announcing { .. } => EpollFlags::EPOLLIN,
            State::Closing { half_closed: true } => EpollFlags::EPOLLIN,
            State::Closing { half_closed: false } => EpollFlags::empty(),
            State::Serving => EpollFlags::EPOLLRDHUP,
            State::Attaching(_) => EpollFlags::empty(),
            State::Exec(_) if self.is_lost => EpollFlags::empty(),
            State::Exec(process) if process.is_congested() => EpollFlags::EPOLLRDHUP,
            State::Exec(_) => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
        };
        if !self.out.is_empty() && !self.is_lost {
            wanted |= EpollFlags::EPOLLOUT;
        }
        self.socket.want(wanted)
    }

    fn put_json<T: serde::Serialize>(&mut self, kind: FrameKind, message: &T) {
        // Our own messages are short and always serialize.
        let _ = self.out.append(|bytes| encode_json(kind, message, bytes));
    }
}

fn container(cx: &mut Context) -> Step<&mut Running> {
    cx.container.as_mut().ok_or_else(|| unavailable("the guest has no container"))
}

fn on_process_frame(process: &mut Process, frame: Frame) -> Result<(), ErrorReply> {
    match frame.kind {
        FrameKind::Stdin => {
            if process.feed(frame.payload) {
                Ok(())
            } else {
                Err(bad_request("stdin is not open, or more was sent than its window"))
            }
        }
        FrameKind::Window => {
            let window = Window::try_from(&frame).map_err(|error| broken(&error))?;
            if process.grant(window) { Ok(()) } else { Err(bad_request("the agent reads stdin, not the host")) }
        }
        FrameKind::Close => {
            let Close(stream) = Close::try_from(&frame).map_err(|error| broken(&error))?;
            if process.close_output(stream) { Ok(()) } else { Err(bad_request("the agent reads stdin, not the host")) }
        }
        FrameKind::Resize => {
            let size = WindowSize::try_from(&frame).map_err(|error| broken(&error))?;
            if process.resize(size) { Ok(()) } else { Err(bad_request("the process has no terminal")) }
        }
        FrameKind::Signal => {
            let Signal(number) = Signal::try_from(&frame).map_err(|error| broken(&error))?;
            if process.signal(number) { Ok(()) } else { Err(bad_request(format!("there is no signal {number}"))) }
        }
        FrameKind::Request => match frame.parse_json().map_err(|error| broken(&error))? {
            Request::Furnish(furnishings) => process.furnish(&furnishings),
            Request::Start {} => process.start(),
            Request::Hold { number } => process.hold(number),
            Request::Release {} if process.is_adopted() => Ok(()),
            Request::Release {} => process.release().map_err(failed(|| "let the container go on".to_owned())),
            _ => Err(bad_request("only a furnish, a start, a hold or a release may follow another request")),
        },
        other => Err(bad_request(format!("{other} frame while a process runs"))),
    }
}

/// A frame that is not right, in words: the codec's error and its cause.
fn broken(error: &FrameError) -> ErrorReply {
    let cause = std::error::Error::source(error);
    bad_request(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
}
