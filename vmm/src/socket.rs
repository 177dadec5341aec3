//! Unix sockets that appear ready: private, listening, and only then under their name.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something is in the way or the directory is not there.
    #[error("{what} socket {}", path.display())]
    Bind {
        /// What it is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A live vmm listens there.
    #[error("{what} socket {}: another process listens there", path.display())]
    InUse {
        /// What it is for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
}

/// A listening socket; its file goes when this goes.
pub struct Socket {
    /// Takes connections.
    pub listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds `path` with mode 0600. A socket file that nobody listens on any more is replaced.
    pub fn bind(what: &'static str, path: &Path) -> Result<Self, SocketError> {
        let error = |source| SocketError::Bind { what, path: path.to_owned(), source };
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            match UnixStream::connect(path) {
                Ok(_) => return Err(SocketError::InUse { what, path: path.to_owned() }),
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(error)?,
                Err(other) => return Err(error(other)),
            }
        } else if path.symlink_metadata().is_ok() {
            return Err(error(io::ErrorKind::AlreadyExists.into()));
        }
        let mut unready = path.as_os_str().to_owned();
        unready.push("~");
        let unready = PathBuf::from(unready);
        // A vmm that died here may have left it.
        let _ = fs::remove_file(&unready);
        let listener = UnixListener::bind(&unready).map_err(error)?;
        fs::set_permissions(&unready, fs::Permissions::from_mode(0o600)).map_err(error)?;
        fs::rename(&unready, path).map_err(error)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.path);
    }
}
