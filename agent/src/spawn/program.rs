//! The program of a process: its checks, its look-up, and the steps that end in it.
// UNSAFETY: execve on arrays of pointers.
#![expect(unsafe_code, reason = "execve tries one path after another with the same arrays")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::unistd::Uid;
use supermachine_agent_protocol::spec::DEFAULT_PATH;
use supermachine_agent_protocol::{ErrorCode, ErrorReply, Exec};

use crate::attributes::Own;
use crate::reply::{Step, bad_request, reply, words};

/// Bytes of a program that are read before it is entered, for a template.
const WARM_BYTES: u64 = 16 << 20;

/// A checked exec request in the form that system calls take.
#[derive(Debug)]
pub(crate) struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Paths to try in turn.
    candidates: Vec<CString>,
    name: String,
    cwd: String,
    own: Own,
}

impl Program {
    /// Checks a request.
    pub(crate) fn new(exec: &Exec) -> Step<Self> {
        let program = exec.argv.first().filter(|program| !program.is_empty());
        let name = program.ok_or_else(|| bad_request("exec: argv is empty"))?.clone();
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
        Ok(Self {
            argv: c_strings(&exec.argv)?,
            env: c_strings(&exec.env)?,
            candidates: c_strings(&candidates(&name, &exec.env))?,
            name,
            cwd: exec.cwd.clone(),
            own: Own::new(&exec.user, &exec.attributes)?,
        })
    }

    /// Whose process it is.
    pub(super) fn user(&self) -> Uid {
        self.own.uid()
    }

    /// Looks it up from its working directory without entering it, as far as root can tell.
    pub(crate) fn look_up(&self) -> Step {
        match nix::unistd::chdir(self.cwd.as_str()) {
            // A directory that only the user may enter is tried at the start.
            Ok(()) | Err(Errno::EACCES) => {}
            Err(errno) => return Err(self.cwd_error(errno)),
        }
        let mut found = Errno::ENOENT;
        for path in &self.candidates {
            match stat(path.as_c_str()) {
                Ok(status) if is_program(status.st_mode) => return Ok(()),
                Ok(_) => found = Errno::EACCES,
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => found = errno,
            }
        }
        Err(self.program_error(found))
    }

    /// Has the kernel read the program's file into memory, as far as a template is to have it.
    pub(crate) fn warm(&self) {
        let paths = self.candidates.iter().filter_map(|path| path.to_str().ok().map(Path::new));
        let found = paths.filter(|path| path.is_file()).find_map(|path| File::open(path).ok());
        // What cannot be read now is read when it is needed.
        let _ = found.map(|file| io::copy(&mut file.take(WARM_BYTES), &mut io::sink()));
    }

    /// Takes on what the process is to be and enters the program; returns only if a step fails.
    pub(super) fn enter(&self) -> ErrorReply {
        let argv = pointers(&self.argv);
        let env = pointers(&self.env);
        let entered = self.enter_cwd();
        let as_user = || match entered {
            // A directory that only the user may enter (on a network file system, say) is tried again as the user.
            Err(Errno::EACCES) => self.enter_cwd(),
            other => other,
        };
        match self.own.take_on(|| as_user().map_err(|errno| self.cwd_error(errno))) {
            Ok(()) => self.run(&argv, &env),
            Err(error) => error,
        }
    }

    /// Changes to the working directory, which must be one that the process's root contains.
    fn enter_cwd(&self) -> nix::Result<()> {
        nix::unistd::chdir(self.cwd.as_str())?;
        // For a directory outside the kernel says "(unreachable)…".
        let cwd = nix::unistd::getcwd()?;
        if cwd.is_absolute() && cwd != Path::new("") { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// Tries the candidates in turn. A file that may not be executed does not end the search, but is what is
    /// reported if nothing better is found.
    fn run(&self, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> ErrorReply {
        let mut errno = Errno::ENOENT;
        for program in &self.candidates {
            // SAFETY: a C string and two null-terminated arrays of C strings that `self` keeps alive.
            unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => errno = Errno::EACCES,
                other => {
                    errno = other;
                    break;
                }
            }
        }
        self.program_error(errno)
    }

    fn cwd_error(&self, errno: Errno) -> ErrorReply {
        let message = format!("chdir to cwd ({:?}) set in config.json failed: {}", self.cwd, words(errno));
        reply(ErrorCode::BadCwd, Some(errno), message)
    }

    fn program_error(&self, errno: Errno) -> ErrorReply {
        let code = match errno {
            Errno::ENOENT | Errno::ENOTDIR => ErrorCode::NotFound,
            Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::EISDIR | Errno::ELIBBAD => ErrorCode::NotExecutable,
            _ => ErrorCode::Os,
        };
        let why = match code {
            ErrorCode::NotFound if !self.name.contains('/') => "executable file not found in $PATH".to_owned(),
            ErrorCode::NotFound => format!("stat {}: {}", self.name, words(errno)),
            _ => words(errno),
        };
        reply(code, Some(errno), format!("exec: {:?}: {why}", self.name))
    }
}

fn is_program(mode: libc::mode_t) -> bool {
    mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() && mode & 0o111 != 0
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

pub(crate) fn c_strings(texts: &[String]) -> Step<Vec<CString>> {
    texts.iter().map(|text| c_string(text)).collect()
}

pub(crate) fn c_string(text: &str) -> Step<CString> {
    CString::new(text).map_err(|_| bad_request(format!("exec: {text:?} has a zero byte in it")))
}

/// A null-terminated array of pointers into `strings`, which must outlive it.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let last = std::iter::once(std::ptr::null());
    strings.iter().map(CString::as_c_str).map(CStr::as_ptr).chain(last).collect()
}
