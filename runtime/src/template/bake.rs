//! Baking: a vmm of its own boots, saves and ends. It ends too when this process does: it has a connection to it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::wait::WaitStatus;
use supermachine_snapshot::store;

use super::{Mold, TemplateError};
use crate::host::launch::{Launch, Session};

/// Number of the connection in the vmm.
const CONTROL_FD: i32 = 3;
/// How much of what it says is kept for an error.
const WORDS_MAX: u64 = 4096;

/// Bakes into `dir`.
pub(super) fn bake(mold: &Mold<'_>, parts: &store::Parts, dir: &Path) -> Result<(), TemplateError> {
    let step = |what| move |source| TemplateError::Io { what, source };
    let (_leash, theirs) = UnixStream::pair().map_err(step("make a connection"))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(step("open /dev/null"))?;
    let (words, speaks) = io::pipe().map_err(step("make a pipe"))?;
    let args = args(mold, parts, dir);
    let launch = Launch {
        program: &mold.parts.vmm,
        args: &args,
        cwd: Path::new("/"),
        stdio: [null.as_fd(), null.as_fd(), speaks.as_fd()],
        keep: &[(theirs.as_fd(), CONTROL_FD)],
        session: Session::New,
        cgroup: None,
        namespaces: &[],
        view: None,
        oom_score_adj: None,
    };
    let baker = launch.start()?;
    drop((theirs, speaks));
    let mut said = String::new();
    // To its end: it ends when the baker does.
    let heard = words.take(WORDS_MAX).read_to_string(&mut said);
    let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(baker.pid.cast_signed()), None);
    match (heard, status) {
        (_, Ok(WaitStatus::Exited(_, 0))) => Ok(()),
        (_, status) => Err(TemplateError::Baker { said: last_words(&said, status.ok()) }),
    }
}

/// Why a baker failed, as one line: a killed one says nothing.
fn last_words(said: &str, status: Option<WaitStatus>) -> String {
    match (said.trim(), status) {
        ("", Some(WaitStatus::Signaled(_, signal, _))) => format!("it was killed by {signal}"),
        ("", _) => "it left no word".to_owned(),
        (said, _) => said.replace('\n', "; "),
    }
}

fn args(mold: &Mold<'_>, parts: &store::Parts, dir: &Path) -> Vec<OsString> {
    let mut args = vec![OsString::from("--container")];
    let mut option = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
    option("--kernel", mold.parts.kernel.clone().into());
    option("--initramfs", mold.parts.initramfs.clone().into());
    option("--memory", format!("{}M", mold.size.memory_mib).into());
    option("--vcpus", mold.size.vcpus.to_string().into());
    option("--hypervisor", mold.verdict.kind.clone().into());
    option("--control-fd", CONTROL_FD.to_string().into());
    option("--bake", dir.into());
    for (name, value) in parts.to_map() {
        option("--key", format!("{name}={value}").into());
    }
    args
}

/// A line on the terminal, if standard error is one, for as long as this lives. Elsewhere it belongs to the container.
pub(super) struct Progress(bool);

impl Progress {
    /// No line yet.
    pub(super) fn new() -> Self {
        Self(false)
    }

    /// Shows it.
    pub(super) fn show(&mut self, line: &str) {
        if io::stderr().is_terminal() {
            self.0 = true;
            // A courtesy: whatever becomes of it, the container is made.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
