//! The JSON messages: requests, replies, errors. Fields that are not known are refused.

use serde::{Deserialize, Serialize};

use crate::WindowSize;
use crate::container::{Attributes, Container, Furnishings, ProcessInfo, Resources, Usage};
use crate::identity::Identity;
use crate::spec;

/// The first message each way, in a control frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The protocol version the peer speaks.
    pub version: u32,
    /// Name and version of the peer's program.
    pub software: String,
    /// The guest's kernel release; only the agent gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

impl Hello {
    /// A hello of this protocol version.
    pub fn new(software: impl Into<String>) -> Self {
        Self { version: spec::VERSION, software: software.into(), kernel: None }
    }
}

/// What the host asks of the agent; one per connection, in a request frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "each is made, sent and taken apart once; nobody keeps many")]
pub enum Request {
    /// Are you there? Answered with [`Control::Pong`].
    Ping {},
    /// Become someone else than the guest of the snapshot, before anything else after a restore. Answered with
    /// [`Control::Identified`]; another request may follow on the connection.
    Identify(Identity),
    /// Mount a file system. Answered with [`Control::Ok`].
    Mount(Mount),
    /// Run a process. Answered with [`Control::Started`], then the process's frames.
    Exec(Exec),
    /// Build the guest's container. Answered with [`Control::Created`]; the connection is then its first process's.
    Create(Box<Container>),
    /// Give a container that waits for its start what is not in the template it came from, or is to be, on the
    /// connection of its first process. Answered with [`Control::Created`], like a create.
    Furnish(Box<Furnishings>),
    /// Enter the program of the container's first process, on the connection of `create`. Answered with
    /// [`Control::Started`].
    Start {},
    /// Let the container stand still, and keep it when this connection ends: the machine is about to be saved. Only on
    /// the connection of its first process. Answered with [`Control::Held`] after all output that was read before; from
    /// then on none is read.
    Hold {
        /// Comes back in the answer.
        number: u64,
    },
    /// Let a container that is held go on, on the connection where it was held. It has no answer.
    Release {},
    /// Take over a container that is held, whose connection ended with the machine that was saved, and let it go on.
    /// Answered with [`Control::Attached`]; the connection is then its first process's.
    Attach {},
    /// Take over a container that is held, as one of its own: it has these names from here on, and still waits for its
    /// start, whether its program was entered or not. What it wrote and nobody read is dropped. Answered with
    /// [`Control::Attached`]; the connection is then its first process's.
    Adopt(Names),
    /// Signal every process of the container. Answered with [`Control::Ok`].
    KillAll {
        /// Linux signal number, 1 to 64.
        signal: u32,
    },
    /// What runs in the container? Answered with [`Control::Processes`].
    Processes {},
    /// What does the container use? Answered with [`Control::Usage`].
    Usage {},
    /// Change the container's limits; all of them or, after an error, none. Answered with [`Control::Ok`].
    Update(Resources),
    /// Serve the container's files, from its root on, as a FUSE file system. Answered with [`Control::Ok`]; from then on
    /// the host sends requests in [`FrameKind::Fuse`](crate::FrameKind::Fuse) frames, and is sent the replies, in any
    /// order. The session's FUSE_INIT is the host's affair.
    ServeRoot {},
    /// End every process and power the guest off. Answered with [`Control::Ok`].
    Shutdown {},
}

/// Names in the UTS namespace of a container that is taken over; those that are not given stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
}

/// A file system to mount in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Device or other source.
    pub source: String,
    /// Absolute path of the directory to mount on; it and its parents are made if missing.
    pub target: String,
    /// Type of file system, for example `squashfs`.
    pub fstype: String,
    /// Mount options that are flags, for example `ro`, `nodev`, `bind`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Mount options for the file system itself, comma separated.
    #[serde(default)]
    pub data: String,
}

/// A process to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`, inside `root`.
    pub argv: Vec<String>,
    /// The whole environment as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Absolute working directory inside `root`.
    #[serde(default = "slash")]
    pub cwd: String,
    /// Who runs it.
    #[serde(default)]
    pub user: User,
    /// Absolute path in the guest of the directory that becomes the process's root.
    #[serde(default)]
    pub root: Option<String>,
    /// Size of the terminal to give it; without one it has pipes.
    #[serde(default)]
    pub tty: Option<WindowSize>,
    /// Whether stdin frames will come; if not (and without a terminal) it reads `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Whether it joins the container: its namespaces, its root, its control group. Then `root` has no meaning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub container: bool,
    /// What it is given besides.
    #[serde(default, skip_serializing_if = "Attributes::is_default")]
    pub attributes: Attributes,
}

impl Exec {
    /// Runs `argv` as root, in `/` of the guest, without environment, terminal or standard input.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: slash(),
            user: User::default(),
            root: None,
            tty: None,
            stdin: false,
            container: false,
            attributes: Attributes::default(),
        }
    }
}

fn slash() -> String {
    "/".to_owned()
}

/// The identity of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// What the agent answers, in a control frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Control {
    /// The first message each way.
    Hello(Hello),
    /// Answer to a ping.
    Pong {},
    /// Done.
    Ok {},
    /// The guest is who it was told to be.
    Identified {
        /// The identity's own generation.
        generation: String,
    },
    /// The container is built, its first process waits for its start.
    Created {
        /// Its process id in the guest.
        pid: u32,
    },
    /// The process runs: its program was entered.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// The container stands still, and no output is under way any more.
    Held {
        /// The request's.
        number: u64,
    },
    /// The connection is the first process's from here on.
    Attached(Attached),
    /// A process of the container listens on a TCP port, the first one. Comes once, at any time after the start, if the
    /// container was made with [`TemplatePoint::Listener`](crate::container::TemplatePoint).
    Listening {},
    /// The container's processes.
    Processes(Vec<ProcessInfo>),
    /// What the container uses.
    Usage(Box<Usage>),
}

/// A container's first process, as a host finds it that takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// Its process id in the guest.
    pub pid: u32,
    /// Whether its program was entered; otherwise it waits for its start.
    pub started: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Bytes of standard input that may be sent now; without it none may ever be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<u32>,
}

/// What went wrong, in an error frame. It is the last frame of its connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct ErrorReply {
    /// The class of the error.
    pub code: ErrorCode,
    /// The Linux error number, if a system call failed.
    pub errno: Option<i32>,
    /// One line for people.
    pub message: String,
}

/// Classes of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The peers speak different versions.
    BadVersion,
    /// A frame or message that is malformed, or not due.
    BadRequest,
    /// The program does not exist.
    NotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// The working directory cannot be entered.
    BadCwd,
    /// The user or groups cannot be taken on.
    BadUser,
    /// A hook failed or took too long.
    Hook,
    /// A system call failed; `errno` says why.
    Os,
    /// The machine cannot go on from the snapshot it was given; a boot may do.
    BadSnapshot,
    /// The peer cannot do this in the state it is in; it may later.
    Unavailable,
}

impl ErrorCode {
    /// Whether the process's own program, directory or user is at fault.
    pub const fn is_of_program(self) -> bool {
        matches!(self, Self::NotFound | Self::NotExecutable | Self::BadCwd | Self::BadUser)
    }

    /// The exit status that container tools give for a process that failed to start like this.
    pub const fn shell_status(self) -> u32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            _ => 1,
        }
    }
}
