//! One read-only disk made of many images, each on whole pages of it, zeroes up to the next.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use supermachine_agent_protocol::container::Extent;
use supermachine_devices::blk::BlockBackend;
use vm_memory::{Bytes, ReadVolatile, VolatileSlice};

use super::disk::{DiskCounters, DiskError};

/// What images lie on whole pieces of, bytes: the size of the guest's pages.
const PAGE: u64 = 4096;

/// An image and its place on the disk.
#[derive(Debug)]
struct Layer {
    file: File,
    /// Bytes of the image itself; zeroes follow.
    length: u64,
    place: Extent,
}

impl Layer {
    fn end(&self) -> u64 {
        // Both were added before, when the layer got its place.
        self.place.offset.saturating_add(self.place.length)
    }
}

/// See the module.
#[derive(Debug)]
pub struct LayerDisk {
    /// Without gaps, from 0 on.
    layers: Vec<Layer>,
    counters: Arc<DiskCounters>,
}

impl LayerDisk {
    /// A disk with these images in their order.
    ///
    /// # Errors
    /// One is no regular file, or empty, or all are too long together.
    pub fn new(files: Vec<File>, counters: Arc<DiskCounters>) -> Result<Self, DiskError> {
        let mut layers: Vec<Layer> = Vec::with_capacity(files.len());
        for (number, file) in files.into_iter().enumerate() {
            let name = || format!("layer {number}").into();
            let metadata = file.metadata().map_err(|source| DiskError::Open { path: name(), source })?;
            if !metadata.is_file() {
                return Err(DiskError::NotAFile { path: name() });
            }
            let (length, offset) = (metadata.len(), layers.last().map_or(0, Layer::end));
            let padded = length.checked_next_multiple_of(PAGE).filter(|padded| *padded > 0);
            let place = padded.filter(|padded| offset.checked_add(*padded).is_some_and(|end| end <= i64::MAX as u64));
            let place = place.ok_or_else(|| DiskError::Length { path: name(), length })?;
            layers.push(Layer { file, length, place: Extent { offset, length: place } });
        }
        Ok(Self { layers, counters })
    }

    /// Where each image is, in order.
    pub fn places(&self) -> Vec<Extent> {
        self.layers.iter().map(|layer| layer.place).collect()
    }

    /// Fills the front of `slice` from `offset`, as far as one layer goes; gives how far.
    fn fill(&mut self, offset: u64, slice: &VolatileSlice<'_>) -> io::Result<usize> {
        let index = self.layers.partition_point(|layer| layer.end() <= offset);
        let layer = self.layers.get_mut(index).ok_or(io::ErrorKind::UnexpectedEof)?;
        let within = offset.saturating_sub(layer.place.offset);
        let (image, left) = (layer.length.saturating_sub(within), layer.place.length.saturating_sub(within));
        let bytes = if image > 0 { image } else { left };
        let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(slice.len());
        let mut front = slice.subslice(0, count).map_err(io::Error::other)?;
        if image > 0 {
            layer.file.seek(SeekFrom::Start(within))?;
            layer.file.read_exact_volatile(&mut front).map_err(io::Error::other)?;
        } else {
            let zeroes = [0; PAGE as usize];
            front.write_slice(zeroes.get(..count).unwrap_or_default(), 0).map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

impl BlockBackend for LayerDisk {
    fn len_bytes(&self) -> u64 {
        self.layers.last().map_or(0, Layer::end)
    }

    fn read_only(&self) -> bool {
        true
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_slices_at(offset, &[VolatileSlice::from(buf)])
    }

    fn write_at(&mut self, _offset: u64, _buf: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read_slices_at(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        let mut offset = offset;
        for slice in slices {
            let mut done = 0;
            while done < slice.len() {
                let rest = slice.offset(done).map_err(io::Error::other)?;
                let count = self.fill(offset, &rest)?;
                done = done.saturating_add(count);
                offset = offset.saturating_add(count as u64);
            }
            self.counters.read_bytes.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        file
    }

    #[test]
    fn images_lie_behind_each_other_on_whole_pages() {
        let images = [vec![1; 5000], vec![2; 4096], vec![3; 1], vec![4; 100_000]];
        let mut expected = Vec::new();
        for image in &images {
            expected.extend(image);
            expected.resize(expected.len().next_multiple_of(4096), 0);
        }
        let mut disk = LayerDisk::new(images.iter().map(|image| file(image)).collect(), Arc::default()).expect("good");
        assert_eq!(disk.len_bytes(), expected.len() as u64);
        let places: Vec<_> = disk.places().iter().map(|place| (place.offset, place.length)).collect();
        assert_eq!(places, [(0, 8192), (8192, 4096), (12_288, 4096), (16_384, 102_400)]);
        for (start, length) in
            [(0, expected.len()), (4608, 512), (4990, 20), (8000, 9000), (12_288, 4096), (16_000, 1000)]
        {
            let mut bytes = vec![9; length];
            let (front, back) = bytes.split_at_mut(length / 3);
            let slices = [VolatileSlice::from(front), VolatileSlice::from(back)];
            disk.read_slices_at(start as u64, &slices).expect("inside");
            assert!(bytes == expected[start..start + length], "{length} bytes from {start}");
        }
        let mut beyond = [0; 2];
        assert!(disk.read_at(expected.len() as u64 - 1, &mut beyond).is_err());
        assert!(disk.write_at(0, &[1]).is_err());
    }

    #[test]
    fn what_is_no_image_is_named() {
        for bad in [file(b""), File::open("/dev/null").expect("opens")] {
            let error = LayerDisk::new(vec![file(b"x"), bad], Arc::default()).expect_err("refused");
            assert!(error.to_string().contains("layer 1"), "{error}");
        }
    }

    #[test]
    fn an_image_that_was_cut_is_an_error_to_read() {
        let (one, cut) = (file(&[1; 8192]), file(&[2; 8192]));
        let mut disk = LayerDisk::new(vec![one, cut.try_clone().expect("a descriptor")], Arc::default()).expect("good");
        cut.set_len(0).expect("cut");
        assert!(disk.read_at(8192, &mut [0; 512]).is_err());
        disk.read_at(0, &mut [0; 8192]).expect("the other is whole");
    }
}
