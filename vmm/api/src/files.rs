//! Passing open files over a Unix stream socket: one byte for each message, the files beside it (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Most files of one connection: the layers that a root file system can have, and as many shares and volumes.
pub const MOST: usize = 512;
/// Files in one message; Linux takes up to 253 (`SCM_MAX_FD`), macOS more.
const IN_MESSAGE: usize = 250;
/// The byte that they go with.
const BYTE: u8 = b'f';

/// Sends files.
///
/// # Errors
/// The socket takes no more.
pub fn send(socket: impl AsFd, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    for some in files.chunks(IN_MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_MESSAGE))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        loop {
            match sendmsg(&socket, &[IoSlice::new(&[BYTE])], &mut rights, SendFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
    }
    Ok(())
}

/// Receives `count` files, which are closed at an exec.
///
/// # Errors
/// The peer sends fewer, more, or something else, or the process has no room for them.
pub fn receive(socket: impl AsFd, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut files = Vec::with_capacity(count.min(MOST));
    while files.len() < count {
        let before = files.len();
        receive_some(&socket, &mut files)?;
        if files.len() == before || files.len() > count {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(files)
}

fn receive_some(socket: &impl AsFd, files: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_MESSAGE))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut rights, FLAGS) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            for file in some {
                // Where the flag for it does not exist.
                fcntl_setfd(&file, FdFlags::CLOEXEC)?;
                files.push(file);
            }
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const FLAGS: RecvFlags = RecvFlags::empty();

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn files_arrive_in_order_and_the_stream_goes_on() {
        let files = [File::open("/dev/null"), File::open("/dev/zero"), File::open("/dev/full")]
            .map(|file| file.expect("opens"));
        let many: Vec<_> = (0..600).map(|number| files[number % 3].as_fd()).collect();
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let sent = &many[..MOST];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                send(&ours, sent).expect("sent");
                (&ours).write_all(b"next").expect("sent");
            });
            let received = receive(&theirs, MOST).expect("received");
            for (number, file) in received.into_iter().enumerate() {
                let inode = |file: &File| file.metadata().expect("a file").ino();
                assert_eq!(inode(&file.into()), inode(&files[number % 3]), "{number}");
            }
            let mut next = [0; 4];
            std::io::Read::read_exact(&mut &theirs, &mut next).expect("read");
            assert_eq!(&next, b"next");
        });
        ours.write_all(b"no files").expect("sent");
        assert!(receive(&theirs, 1).is_err(), "bytes without files");
    }

    #[test]
    fn more_or_fewer_than_announced_are_refused() {
        let file = File::open("/dev/null").expect("opens");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        send(&ours, &[file.as_fd(); 2]).expect("sent");
        assert_eq!(receive(&theirs, 1).expect_err("one too many").kind(), io::ErrorKind::InvalidData);
        send(&ours, &[file.as_fd()]).expect("sent");
        drop(ours);
        assert_eq!(receive(&theirs, 2).expect_err("one too few").kind(), io::ErrorKind::UnexpectedEof);
    }
}
