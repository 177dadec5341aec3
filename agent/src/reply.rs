//! Errors in the words and classes that the host is told.

use nix::errno::Errno;
use supermachine_agent_protocol::{ErrorCode, ErrorReply};

/// What a step gives that the host is told about if it fails.
pub(crate) type Step<T = ()> = Result<T, ErrorReply>;

/// An error of a class.
pub(crate) fn reply(code: ErrorCode, errno: Option<Errno>, message: impl Into<String>) -> ErrorReply {
    ErrorReply { code, errno: errno.map(|errno| errno as i32), message: message.into() }
}

/// A failed system call.
pub(crate) fn os_error(what: &str, errno: Errno) -> ErrorReply {
    reply(ErrorCode::Os, Some(errno), format!("{what}: {}", words(errno)))
}

/// For `map_err`: a failed system call or file operation, with what was tried.
pub(crate) fn failed<E: Into<std::io::Error>>(what: impl FnOnce() -> String) -> impl FnOnce(E) -> ErrorReply {
    move |error| os_error(&what(), errno_of(&error.into()))
}

/// A request that cannot be meant.
pub(crate) fn bad_request(message: impl Into<String>) -> ErrorReply {
    reply(ErrorCode::BadRequest, None, message)
}

/// Something that cannot be done now.
pub(crate) fn unavailable(message: impl Into<String>) -> ErrorReply {
    reply(ErrorCode::Unavailable, None, message)
}

/// The error's words as container tools print them.
pub(crate) fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// The number behind an I/O error.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
