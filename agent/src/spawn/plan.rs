//! Everything a new process needs, prepared before the fork: afterwards it must not allocate.

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use supermachine_agent_protocol::spec::DEFAULT_PATH;
use supermachine_agent_protocol::{ErrorCode, ErrorReply, Exec};

use super::child::{Failure, Stage};
use super::{bad_request, os_error, reply, words};
use crate::limits;

/// A checked exec request in the form that system calls take.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// Paths to try in turn as the program.
    pub(super) programs: Vec<CString>,
    pub(super) root: Option<CString>,
    pub(super) cwd: CString,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) has_terminal: bool,
    pub(super) nofile: Option<(u64, u64)>,
    names: Names,
}

/// What a start error talks about.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    program: String,
    cwd: String,
    root: String,
    user: String,
}

impl Plan {
    /// Checks a request.
    pub(super) fn new(exec: &Exec) -> Result<Self, ErrorReply> {
        let program = exec.argv.first().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| bad_request("exec: argv is empty"))?;
        if !exec.cwd.starts_with('/') {
            let message = format!("chdir to cwd ({:?}): it is not an absolute path", exec.cwd);
            return Err(reply(ErrorCode::BadCwd, None, message));
        }
        if exec.root.as_ref().is_some_and(|root| !root.starts_with('/')) {
            return Err(bad_request("exec: root is not an absolute path"));
        }
        if let Some(odd) = exec.env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
            return Err(bad_request(format!("exec: environment entry {odd:?} is not NAME=value")));
        }
        let names = Names {
            program: program.clone(),
            cwd: exec.cwd.clone(),
            root: exec.root.clone().unwrap_or_default(),
            user: format!("{}:{}", exec.user.uid, exec.user.gid),
        };
        // To the system calls the highest number means "leave it as it is": the process would stay root.
        if [exec.user.uid, exec.user.gid].contains(&u32::MAX) {
            return Err(names.user_error(Errno::EINVAL));
        }
        Ok(Self {
            argv: c_strings(&exec.argv)?,
            env: c_strings(&exec.env)?,
            programs: c_strings(&candidates(program, &exec.env))?,
            root: exec.root.as_deref().map(c_string).transpose()?,
            cwd: c_string(&exec.cwd)?,
            uid: exec.user.uid,
            gid: exec.user.gid,
            groups: exec.user.additional_gids.clone(),
            has_terminal: exec.tty.is_some(),
            nofile: limits::nofile_for_processes(),
            names,
        })
    }

    /// What is needed of the plan once the process is forked.
    pub(super) fn into_names(self) -> Names {
        self.names
    }
}

impl Names {
    /// Puts the bytes of a start report into words; `None` if there are none, so the program was entered.
    pub(crate) fn start_error(&self, report: &[u8]) -> Option<ErrorReply> {
        if report.is_empty() {
            return None;
        }
        let Some(Failure { stage, errno }) = Failure::from_bytes(report) else {
            return Some(os_error("the process died before its program", Errno::EIO));
        };
        let errno = Errno::from_raw(errno);
        Some(match stage {
            Stage::Setup => os_error("cannot prepare the process", errno),
            Stage::Terminal => os_error("cannot take the terminal", errno),
            Stage::Root => os_error(&format!("cannot enter root {:?}", self.root), errno),
            Stage::Cwd => {
                let message = format!("chdir to cwd ({:?}): {}", self.cwd, words(errno));
                reply(ErrorCode::BadCwd, Some(errno), message)
            }
            Stage::User => self.user_error(errno),
            Stage::Program => self.program_error(errno),
        })
    }

    fn user_error(&self, errno: Errno) -> ErrorReply {
        reply(ErrorCode::BadUser, Some(errno), format!("cannot become user {}: {}", self.user, words(errno)))
    }

    fn program_error(&self, errno: Errno) -> ErrorReply {
        let code = match errno {
            Errno::ENOENT | Errno::ENOTDIR => ErrorCode::NotFound,
            Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::EISDIR | Errno::ELIBBAD => ErrorCode::NotExecutable,
            _ => ErrorCode::Os,
        };
        let missing = code == ErrorCode::NotFound && !self.program.contains('/');
        let why = if missing { "executable file not found in $PATH".to_owned() } else { words(errno) };
        reply(code, Some(errno), format!("exec: {:?}: {why}", self.program))
    }
}

/// The paths at which a program is looked for.
fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    // The first entry of a name counts, as for getenv.
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    folders.map(|folder| format!("{folder}/{program}")).collect()
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, ErrorReply> {
    texts.iter().map(|text| c_string(text)).collect()
}

fn c_string(text: &str) -> Result<CString, ErrorReply> {
    CString::new(text).map_err(|_| bad_request(format!("exec: {text:?} has a zero byte in it")))
}

/// A null-terminated array of pointers into `strings`, which must outlive it.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let last = std::iter::once(std::ptr::null());
    strings.iter().map(CString::as_c_str).map(CStr::as_ptr).chain(last).collect()
}
