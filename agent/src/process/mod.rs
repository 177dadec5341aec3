//! A process of the host's, from fork to the last byte.

mod hold;
mod streams;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::sys::epoll::EpollFlags;
use supermachine_agent_protocol::container::Furnishings;
use supermachine_agent_protocol::{ErrorCode, ErrorReply, ExitStatus, Frame, FrameKind, Stream, Window, WindowSize};

use crate::attributes::Outside;
use crate::container::{Group, Listening, views};
use crate::outbox::Outbox;
use crate::poller::{Poller, Source, Token, Watch};
use crate::reply::{Step, bad_request, failed, os_error, reply};
use crate::spawn::channel::{self, Report};
use crate::spawn::{Spawned, Streams};
use crate::sys;
use hold::Hold;
use streams::{ProcessStreams, put};

/// A child that is not reaped yet. Its number is its own until then, so it can be signalled.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    _pidfd: Watch,
}

impl Child {
    /// Watches a child for connection `id`; one that cannot be watched is ended.
    pub(crate) fn adopt(poller: &Poller, id: u64, (pid, pidfd): (libc::pid_t, OwnedFd)) -> io::Result<Self> {
        let mut pidfd = poller.adopt(pidfd, Token { id, source: Source::Exit });
        pidfd.want(EpollFlags::EPOLLIN).inspect_err(|_| sys::kill_and_reap(pid))?;
        Ok(Self { pid, _pidfd: pidfd })
    }

    /// Kills the process and its whole group.
    pub(crate) fn kill(&self) {
        // A child that has not made its own group yet is only found by its own number.
        let _ = sys::kill(-self.pid, libc::SIGKILL);
        let _ = sys::kill(self.pid, libc::SIGKILL);
    }

    /// Reaps it if it has ended; false once there is nothing left to wait for.
    pub(crate) fn still_runs(&self) -> bool {
        matches!(sys::reap(self.pid), Ok(None))
    }
}

/// How far a process is.
#[derive(Debug)]
enum Life {
    /// On its way to where it belongs.
    Preparing { child: Child, channel: Watch, outside: Outside },
    /// There, and waits for its start: a container's first process. A signal that ends it is what ended it.
    Waiting { child: Child, channel: Watch, outside: Outside, ended_by: Option<u32> },
    /// On its way to its program.
    Entering { child: Child, channel: Watch },
    /// In its program.
    Running { child: Child },
    /// It could not be brought to its program, and is being ended: a container's first process.
    Failing { child: Child, error: ErrorReply },
    /// Reaped; the others of its container are being ended.
    Emptying { outcome: Result<ExitStatus, ErrorReply> },
    /// What it wrote before its end is still being read.
    Ended(ExitStatus),
    /// The exit frame is sent.
    Told,
}

/// What a report of the child's means to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing yet.
    None,
    /// Its container is built, and it waits.
    Created,
    /// Its program was entered.
    Started,
}

/// The container that ends with a process.
#[derive(Debug)]
struct Ward {
    group: Rc<Group>,
    events: Watch,
    listens: Listens,
}

/// Whether one of its processes listens on a port.
#[derive(Debug)]
enum Listens {
    /// Nobody asked, or the host was told.
    Told,
    /// Not yet: what is watched, and what has the kernel say so.
    NotYet { _event: Watch, _link: OwnedFd },
    /// The host is to be told.
    Now,
}

/// A process and its streams.
#[derive(Debug)]
pub(crate) struct Process {
    pid: libc::pid_t,
    life: Life,
    streams: Option<ProcessStreams>,
    ward: Option<Ward>,
    hold: Hold,
    /// Whether the host is to be told that it has started, which it had before the host took it over.
    started: bool,
}

impl Process {
    /// Takes a forked process over; its events come with `id`. With `group` it is its container's first process, and
    /// `listening` is where that container's listening is seen.
    pub(crate) fn new(
        poller: &Poller,
        id: u64,
        spawned: Spawned,
        group: Option<(Rc<Group>, Option<Listening>)>,
    ) -> io::Result<Self> {
        let adopt = |fd, source, flags| {
            let mut watch = poller.adopt(fd, Token { id, source });
            watch.want(flags).map(|()| watch)
        };
        let Spawned { pid, pidfd, channel, streams, outside } = spawned;
        let child = Child { pid, _pidfd: adopt(pidfd, Source::Exit, EpollFlags::EPOLLIN)? };
        let channel = adopt(channel, Source::Start, EpollFlags::EPOLLIN)?;
        let ward = |(group, listening): (Rc<Group>, Option<Listening>)| {
            let events = adopt(group.events()?, Source::Group, EpollFlags::empty())?;
            let listens = match listening {
                None => Listens::Told,
                Some(Listening { event, link }) => {
                    let event = adopt(event, Source::Listening, EpollFlags::EPOLLIN)?;
                    Listens::NotYet { _event: event, _link: link }
                }
            };
            Ok::<_, io::Error>(Ward { group, events, listens })
        };
        Ok(Self {
            pid,
            life: Life::Preparing { child, channel, outside },
            streams: streams.map(|streams| ProcessStreams::new(poller, id, streams)),
            ward: group.map(ward).transpose()?,
            hold: Hold::No,
            started: false,
        })
    }

    /// A process of its container listens on a port: that is seen once.
    pub(crate) fn on_listening(&mut self) {
        if let Some(ward) = &mut self.ward {
            ward.listens = Listens::Now;
        }
    }

    /// Whether the host is to be told of the port that its container listens on.
    pub(crate) fn take_listening(&mut self) -> bool {
        let Some(ward) = self.ward.as_mut().filter(|_| matches!(self.life, Life::Running { .. })) else { return false };
        let now = matches!(ward.listens, Listens::Now);
        if now {
            ward.listens = Listens::Told;
        }
        now
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or(0)
    }

    /// Whether frames for it have to wait.
    pub(crate) fn is_congested(&self) -> bool {
        matches!(self.life, Life::Preparing { .. } | Life::Entering { .. } | Life::Failing { .. })
    }

    /// Whether its exit and the end of every output were put in frames.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.life, Life::Told) && self.streams.as_ref().is_none_or(ProcessStreams::are_over)
    }

    /// Ends the session; what is given back must be killed and reaped.
    pub(crate) fn into_child(self) -> Option<Child> {
        if let (Some(ward), false) = (&self.ward, matches!(self.life, Life::Ended(_) | Life::Told)) {
            ward.group.kill();
        }
        match self.life {
            Life::Preparing { child, .. }
            | Life::Waiting { child, .. }
            | Life::Entering { child, .. }
            | Life::Failing { child, .. }
            | Life::Running { child } => Some(child),
            Life::Emptying { .. } | Life::Ended(_) | Life::Told => None,
        }
    }

    /// Takes the child's report.
    pub(crate) fn on_report(&mut self, poller: &Poller, id: u64) -> Result<Progress, ErrorReply> {
        let (Life::Preparing { channel, .. } | Life::Waiting { channel, .. } | Life::Entering { channel, .. }) =
            &mut self.life
        else {
            return Ok(Progress::None);
        };
        let Some(report) = channel::receive(channel.as_fd()) else { return Ok(Progress::None) };
        match (report, &mut self.life) {
            (Report::Failed(error), _) => Err(error),
            (Report::Ready(terminal), Life::Preparing { .. }) => {
                if let Some(master) = terminal {
                    let streams = Streams::terminal(master).map_err(failed(|| "cannot use the terminal".to_owned()))?;
                    self.streams = Some(ProcessStreams::new(poller, id, streams));
                }
                if self.ward.is_none() {
                    return self.enter().map(|()| Progress::None);
                }
                self.pass(|life| match life {
                    Life::Preparing { child, channel, outside } => {
                        Life::Waiting { child, channel, outside, ended_by: None }
                    }
                    other => other,
                });
                Ok(Progress::Created)
            }
            (Report::Closed, Life::Entering { .. }) => {
                self.pass(|life| match life {
                    Life::Entering { child, .. } => Life::Running { child },
                    other => other,
                });
                Ok(Progress::Started)
            }
            // It was killed; its end is told when it comes.
            (Report::Closed, Life::Waiting { channel, .. }) => {
                let _ = channel.want(EpollFlags::empty());
                Ok(Progress::None)
            }
            _ => Err(reply(ErrorCode::Os, None, "the process died before its program")),
        }
    }

    /// Whether it is a container's first process and waits for its start.
    pub(crate) fn may_be_furnished(&self) -> bool {
        self.ward.is_some() && matches!(self.life, Life::Waiting { .. })
    }

    /// Gives a container that waits for its start what it is furnished with; it is created anew, which its report says.
    pub(crate) fn furnish(&mut self, furnishings: &Furnishings) -> Step {
        let (is_free, is_over) = (
            matches!(self.hold, Hold::No | Hold::Adopted),
            !matches!(self.life, Life::Waiting { ended_by: None, .. } | Life::Running { .. }),
        );
        match &self.life {
            _ if self.ward.is_none() => return Err(bad_request("furnish: the process is not a container's first")),
            _ if !is_free => return Err(bad_request("furnish: the container is held")),
            // Its exit is on its way, which says more.
            _ if is_over => return Ok(()),
            Life::Waiting { .. } => {}
            _ => return Err(bad_request("furnish: the container was started already")),
        }
        self.release().map_err(failed(|| "let the container go on".to_owned()))?;
        let Life::Waiting { channel, .. } = &self.life else { return Ok(()) };
        let furnished = views(&furnishings.mounts).and_then(|views| {
            let views: Vec<_> = views.iter().map(AsFd::as_fd).collect();
            channel::furnish(channel.as_fd(), furnishings, &views)
        });
        if let Err(error) = furnished {
            return self.fail(error);
        }
        self.pass(|life| match life {
            Life::Waiting { child, channel, outside, .. } => Life::Preparing { child, channel, outside },
            other => other,
        });
        Ok(())
    }

    /// Lets a container's first process go on to its program.
    pub(crate) fn start(&mut self) -> Result<(), ErrorReply> {
        if self.hold == Hold::Adopted {
            self.hold = Hold::Held;
            self.release().map_err(failed(|| "let the container go on".to_owned()))?;
            self.started = matches!(self.life, Life::Running { .. });
            if self.started {
                return Ok(());
            }
        }
        match self.life {
            Life::Waiting { .. } => self.enter().or_else(|error| self.fail(error)),
            _ if self.ward.is_some() => Err(bad_request("start: the container was started already")),
            _ => Err(bad_request("start: the process is not a container's first")),
        }
    }

    fn enter(&mut self) -> Result<(), ErrorReply> {
        if let Life::Preparing { channel, outside, .. } | Life::Waiting { channel, outside, .. } = &self.life {
            outside.apply(self.pid)?;
            channel::go(channel.as_fd()).map_err(|errno| os_error("the process died before its program", errno))?;
        }
        self.pass(|life| match life {
            Life::Preparing { child, channel, .. } | Life::Waiting { child, channel, .. } => {
                Life::Entering { child, channel }
            }
            other => other,
        });
        Ok(())
    }

    fn pass(&mut self, next: impl FnOnce(Life) -> Life) {
        self.life = next(std::mem::replace(&mut self.life, Life::Told));
    }

    /// It cannot go on. A container's first process is ended before that is told, so that none of its processes is left then.
    pub(crate) fn fail(&mut self, error: ErrorReply) -> Result<(), ErrorReply> {
        if self.ward.is_none() {
            return Err(error);
        }
        let mut told = Ok(());
        self.pass(|life| match life {
            Life::Preparing { child, .. }
            | Life::Waiting { child, .. }
            | Life::Entering { child, .. }
            | Life::Running { child } => {
                child.kill();
                Life::Failing { child, error }
            }
            other => {
                told = Err(error);
                other
            }
        });
        told
    }

    /// Reaps the process if it has ended; a container's first process takes the others with it. An error is why it
    /// could not be brought to its program.
    pub(crate) fn on_exit(&mut self) -> Result<(), ErrorReply> {
        let (child, instead) = match &self.life {
            Life::Running { child } => (child, None),
            Life::Waiting { child, ended_by, .. } => (child, ended_by.map(|signal| Ok(ExitStatus::Signaled(signal)))),
            Life::Failing { child, error } => (child, Some(Err(error.clone()))),
            _ => return Ok(()),
        };
        // A child that cannot be reaped does not exist; no status is known of it.
        let status = match sys::reap(child.pid) {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => status,
            Err(_) => ExitStatus::Exited(u32::MAX),
        };
        self.life = Life::Emptying { outcome: instead.unwrap_or(Ok(status)) };
        if let Some(ward) = &mut self.ward {
            ward.group.kill();
            ward.events.want(EpollFlags::EPOLLPRI).map_err(failed(|| "watch the control group".to_owned()))?;
        }
        self.on_group()
    }

    /// Goes on to the end once nothing is left in the container.
    pub(crate) fn on_group(&mut self) -> Result<(), ErrorReply> {
        let Life::Emptying { outcome } = &self.life else {
            if let Some(ward) = &self.ward {
                // Read, so that the next change is told again; what it means is seen when everything settles.
                let _ = ward.group.is_frozen(&ward.events);
            }
            return Ok(());
        };
        if let Some(ward) = &mut self.ward {
            if ward.group.is_populated(&ward.events) {
                return Ok(());
            }
            ward.events.want(EpollFlags::empty()).map_err(failed(|| "watch the control group".to_owned()))?;
        }
        self.life = Life::Ended(outcome.clone()?);
        if let Some(streams) = &mut self.streams {
            streams.process_ended();
        }
        Ok(())
    }

    /// Reads once from the stream that is ready and puts what comes into `out`.
    pub(crate) fn on_output(&mut self, kind: FrameKind, scratch: &mut [u8], out: &mut Outbox) {
        // Nothing may come before the answer, not even the end of a stream; the child's report is under way.
        if self.is_congested() || self.hold != Hold::No {
            return;
        }
        if let Some(streams) = &mut self.streams {
            streams.on_output(kind, scratch, out);
        }
    }

    /// Whether only reading can tell what its terminal still holds; no event does.
    pub(crate) fn must_drain(&self) -> bool {
        matches!(self.life, Life::Ended(_))
            && !self.is_held()
            && self.streams.as_ref().is_some_and(ProcessStreams::must_drain)
    }

    /// Puts the exit frame into `out`, once everything written before the end is in it.
    pub(crate) fn tell_exit(&mut self, out: &mut Outbox) {
        let (Life::Ended(status), false) = (&self.life, self.is_held()) else { return };
        let status = *status;
        if !self.streams.as_ref().is_some_and(ProcessStreams::owe_output) {
            let frame = Frame::from(status);
            put(out, frame.kind, &frame.payload);
            self.life = Life::Told;
        }
    }

    /// Queues bytes for standard input; none close it. Returns whether input is due, and within its window.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) -> bool {
        self.streams.as_mut().is_some_and(|streams| streams.feed(bytes))
    }

    /// Writes what waits for standard input, as far as the process takes it, and closes it at its end.
    pub(crate) fn write_input(&mut self, out: &mut Outbox) {
        if let Some(streams) = &mut self.streams {
            streams.write_input(out);
        }
    }

    /// The host takes more of an output. Returns whether it may say so.
    pub(crate) fn grant(&mut self, window: Window) -> bool {
        if let Some(streams) = &mut self.streams {
            streams.grant(window);
        }
        window.stream != Stream::Stdin
    }

    /// The host takes no more of an output. Returns whether it may say so.
    pub(crate) fn close_output(&mut self, stream: Stream) -> bool {
        if let Some(streams) = &mut self.streams {
            streams.close_output(stream);
        }
        stream != Stream::Stdin
    }

    /// Changes the size of its terminal, if it has one.
    pub(crate) fn resize(&self, size: WindowSize) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.resize(size))
    }

    /// Sends it a signal; one that has ended takes none. Returns whether the number is a signal's.
    pub(crate) fn signal(&mut self, number: u32) -> bool {
        let Ok(signal) = libc::c_int::try_from(number) else { return false };
        let result = match &mut self.life {
            Life::Running { child } => sys::kill(child.pid, signal),
            // As PID 1 of its namespace it would not feel it, and there is no program yet to handle it.
            Life::Waiting { child, ended_by, .. } if sys::ends_by_default(signal) => {
                ended_by.get_or_insert(number);
                sys::kill(child.pid, libc::SIGKILL)
            }
            Life::Waiting { child, .. } => sys::kill(child.pid, signal),
            _ => Ok(()),
        };
        !result.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    }

    /// Sets what is waited for; `can_send` says whether more output can be taken.
    pub(crate) fn watch(&mut self, can_send: bool) -> io::Result<()> {
        let can_send = can_send && !self.is_congested() && self.hold == Hold::No;
        self.streams.as_mut().map_or(Ok(()), |streams| streams.watch(can_send))
    }
}
