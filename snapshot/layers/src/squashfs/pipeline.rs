//! The threads: blocks are compressed by several at once and written by one in the order in which they were given.

use std::fs::File;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::codec::{Codec, Packed};
use super::layout::{Layouts, Written};
use super::{ImageError, Options};

/// Blocks in flight for each thread that compresses.
const DEPTH: usize = 8;

/// A block to compress, and where the result goes.
struct Job {
    block: Vec<u8>,
    reply: SyncSender<Result<Compressed, ImageError>>,
}

/// A compressed block.
pub(super) enum Compressed {
    /// Nothing but zeros, these: nothing is stored.
    Zeros(Vec<u8>),
    Packed(Packed),
}

/// What the writing thread does next.
enum Step {
    /// The next block of the file.
    Block(Receiver<Result<Compressed, ImageError>>),
    /// So many of the file's next blocks are zeros.
    Zeros(u64),
    /// The file is complete; its length.
    FileEnd(u64),
    /// The next block of fragments.
    Fragments(Receiver<Result<Compressed, ImageError>>),
}

/// Compressing threads and the writing one. Dropped early, it ends them all and waits for that.
pub(super) struct Pipeline {
    jobs: Option<SyncSender<Job>>,
    steps: Option<SyncSender<Step>>,
    workers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<Result<Written, ImageError>>>,
    /// Memory of blocks that are written.
    spare: Receiver<Vec<u8>>,
}

impl Pipeline {
    /// Starts the threads; the first block will be written at `start`.
    pub(super) fn new(out: Arc<File>, start: u64, options: &Options) -> Result<Self, ImageError> {
        let threads = options.threads_wanted();
        let depth = threads.saturating_mul(DEPTH);
        let (jobs, waiting) = mpsc::sync_channel(depth);
        let (steps, ordered) = mpsc::sync_channel(depth);
        let (used, spare) = mpsc::channel();
        let mut this = Self { jobs: Some(jobs), steps: Some(steps), workers: Vec::new(), writer: None, spare };
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let (codec, waiting) = (Codec::new(options.compressor)?, Arc::clone(&waiting));
            let compress = move || work(codec, &waiting);
            let worker = thread::Builder::new().name("layer-pack".into()).spawn(compress);
            this.workers.push(worker.map_err(ImageError::Thread)?);
        }
        let layouts = Layouts::new(out, start, options.block_size);
        let writer = thread::Builder::new().name("layer-write".into()).spawn(move || write(&ordered, layouts, &used));
        this.writer = Some(writer.map_err(ImageError::Thread)?);
        Ok(this)
    }

    /// Memory for a block, empty.
    pub(super) fn memory(&self, block_size: usize) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(block_size))
    }

    /// Gives the next block of the current file.
    pub(super) fn block(&mut self, block: Vec<u8>) -> Result<(), ImageError> {
        let result = self.compress(block)?;
        self.step(Step::Block(result))
    }

    /// The next blocks of the current file are zeros.
    pub(super) fn zeros(&mut self, blocks: u64) -> Result<(), ImageError> {
        self.step(Step::Zeros(blocks))
    }

    /// Ends the current file.
    pub(super) fn file_end(&mut self, size: u64) -> Result<(), ImageError> {
        self.step(Step::FileEnd(size))
    }

    /// Gives a block of fragments; not while a file is open.
    pub(super) fn fragments(&mut self, block: Vec<u8>) -> Result<(), ImageError> {
        let result = self.compress(block)?;
        self.step(Step::Fragments(result))
    }

    /// Waits until all is written.
    pub(super) fn finish(mut self) -> Result<Written, ImageError> {
        self.join()
    }

    fn compress(&mut self, block: Vec<u8>) -> Result<Receiver<Result<Compressed, ImageError>>, ImageError> {
        let (reply, result) = mpsc::sync_channel(1);
        match self.jobs.as_ref().map(|jobs| jobs.send(Job { block, reply })) {
            Some(Ok(())) => Ok(result),
            _ => Err(self.failure()),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), ImageError> {
        match self.steps.as_ref().map(|steps| steps.send(step)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Why a thread no longer takes anything.
    fn failure(&mut self) -> ImageError {
        self.join().err().unwrap_or(ImageError::Ended)
    }

    fn join(&mut self) -> Result<Written, ImageError> {
        self.jobs = None;
        self.steps = None;
        let written =
            self.writer.take().map_or(Err(ImageError::Ended), |writer| writer.join().unwrap_or(Err(ImageError::Ended)));
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| ImageError::Ended)?;
        }
        written
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // The source's error is the one that counts.
        let _ = self.join();
    }
}

/// A compressing thread: until no more jobs can come.
fn work(mut codec: Codec, waiting: &Mutex<Receiver<Job>>) {
    loop {
        let Ok(Ok(job)) = waiting.lock().map(|waiting| waiting.recv()) else { return };
        let result = if is_zeros(&job.block) {
            Ok(Compressed::Zeros(job.block))
        } else {
            codec.pack(job.block).map(Compressed::Packed)
        };
        // The writing thread is gone when it has failed: it tells why.
        let _ = job.reply.send(result);
    }
}

/// The writing thread: until no more steps can come.
fn write(steps: &Receiver<Step>, mut layouts: Layouts, used: &Sender<Vec<u8>>) -> Result<Written, ImageError> {
    let wait = |result: Receiver<Result<Compressed, ImageError>>| result.recv().unwrap_or(Err(ImageError::Ended));
    for step in steps {
        let done = match step {
            Step::Block(result) => Some(layouts.block(wait(result)?)?),
            Step::Fragments(result) => Some(layouts.fragments(wait(result)?)?),
            Step::Zeros(blocks) => {
                layouts.zeros(blocks);
                None
            }
            Step::FileEnd(size) => {
                layouts.file_end(size)?;
                None
            }
        };
        if let Some(mut memory) = done {
            memory.clear();
            // Nobody takes it any more when all blocks are given.
            let _ = used.send(memory);
        }
    }
    Ok(layouts.finish())
}

/// Whether there is nothing but zeros, a cache line at a time.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|line| line.iter().fold(0, |any, byte| any | byte) == 0)
}
