//! Contents of files of the host.

use std::fs::File;

use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::Errno;

use super::Trouble;
use super::stat::Stat;
use crate::squashfs::{Content, FileWriter, FillError, ImageWriter};

const WHAT: &str = "read";

/// Puts the content of a file into the image.
pub(super) fn store(file: &mut File, stat: &Stat, image: &mut ImageWriter) -> Result<Content, Trouble> {
    let mut writer = image.begin(stat.size)?;
    if stat.stored < stat.size {
        fill_around_holes(file, stat.size, &mut writer)?;
    } else {
        fill(file, stat.size, &mut writer)?;
    }
    let content = writer.finish()?;
    let after = Stat::from(fstat(&*file).map_err(|errno| Trouble::Errno(WHAT, errno))?);
    if !after.unchanged(stat) {
        return Err(Trouble::Changed);
    }
    Ok(content)
}

fn fill(file: &mut File, length: u64, writer: &mut FileWriter<'_>) -> Result<(), Trouble> {
    writer.fill(file, length).map_err(|error| match error {
        FillError::Image(error) => Trouble::Image(error),
        FillError::Source(error) => Trouble::Io(WHAT, error),
        FillError::Short => Trouble::Changed,
    })
}

/// Reads only what is stored.
fn fill_around_holes(file: &mut File, size: u64, writer: &mut FileWriter<'_>) -> Result<(), Trouble> {
    let mut done = 0;
    while done < size {
        let data = match seek(&*file, SeekFrom::Data(done)) {
            Err(Errno::NXIO) => size,
            // The file system does not tell.
            Err(Errno::INVAL | Errno::NOTSUP) => done,
            other => other.map_err(|errno| Trouble::Errno(WHAT, errno))?.clamp(done, size),
        };
        writer.zeros(data - done)?;
        if data == size {
            return Ok(());
        }
        let hole = match seek(&*file, SeekFrom::Hole(data)) {
            Err(Errno::NXIO | Errno::INVAL | Errno::NOTSUP) => size,
            other => other.map_err(|errno| Trouble::Errno(WHAT, errno))?.min(size),
        };
        if hole <= data {
            return Err(Trouble::Changed);
        }
        seek(&*file, SeekFrom::Start(data)).map_err(|errno| Trouble::Errno(WHAT, errno))?;
        fill(file, hole - data, writer)?;
        done = hole;
    }
    Ok(())
}
