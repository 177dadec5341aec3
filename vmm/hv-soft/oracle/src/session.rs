//! Drives batches through both sides and finds the case where they part.

use crate::compare::{Modelled, differences, same};
use crate::forms::{CpuModel, Form};
use crate::generate::{Case, Generator, Pool};
use crate::intel;
use crate::layout::{BATCH, WINDOW_LEN};
use crate::model::Model;
use crate::native::{Native, NativeError};
use crate::rng::Rng;
use crate::state::WATCH_LEN;

/// A case on which the two sides differ.
#[derive(Clone)]
pub struct Mismatch {
    /// Number of the batch; with the seed and the filter it makes the same cases again.
    pub batch: u64,
    /// Index in the batch.
    pub index: usize,
    /// The case.
    pub case: Case,
    /// What it was given in memory: address and bytes.
    pub memory: Vec<(usize, Vec<u8>)>,
    /// The differing fields.
    pub fields: Vec<String>,
}

/// Counts for one form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Cases compared.
    pub cases: u64,
    /// Of them, those that fault natively.
    pub faults: u64,
    /// Of them, those that differ.
    pub mismatches: u64,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Seed of everything.
    pub seed: u64,
    /// A form with this many mismatches is left out from then on.
    pub give_up_after: u64,
    /// Put simple instructions after the form's.
    pub follow: bool,
}

/// Both sides and the generator.
pub struct Session<M> {
    native: Native,
    model: M,
    generator: Generator,
    plan: Plan,
    pool: Pool,
    cases: Vec<Option<Case>>,
    /// The window before the part of the batch that is under way.
    before: Box<[u8; WINDOW_LEN]>,
    counts: Vec<Count>,
}

impl<M: Model> Session<M> {
    /// A session over `forms`, which are not empty.
    ///
    /// # Errors
    /// Where the native child cannot be started.
    pub fn new(model: M, forms: Vec<Form>, cpu: CpuModel, plan: Plan) -> Result<Self, NativeError> {
        Ok(Session {
            native: Native::new()?,
            model,
            counts: vec![Count::default(); forms.len()],
            generator: Generator::new(forms, cpu, plan.follow),
            plan,
            pool: Pool::default(),
            cases: Vec::with_capacity(BATCH),
            before: Box::new([0; WINDOW_LEN]),
        })
    }

    /// The forms and their counts.
    pub fn counts(&self) -> impl Iterator<Item = (&Form, Count)> {
        self.generator.forms().iter().zip(self.counts.iter().copied())
    }

    /// Makes and runs batch `batch`; gives the cases that differ.
    ///
    /// # Errors
    /// Where the native child dies or hangs at a case; it is replaced, and the next batch can be run.
    pub fn batch(&mut self, batch: u64) -> Result<Vec<Mismatch>, NativeError> {
        self.make(batch);
        let mut mismatches = Vec::new();
        let mut first = 0;
        while first < BATCH {
            let Some((index, fields)) = self.run_from(first)? else { break };
            if let Some(case) = &self.cases[index] {
                self.counts[case.form].mismatches += 1;
                let memory = case.pokes.iter().filter(|poke| poke.len != 0);
                let memory = memory.map(|poke| (poke.offset as usize, self.pool.get(poke).to_vec())).collect();
                mismatches.push(Mismatch { batch, index, case: case.clone(), memory, fields });
            }
            first = index + 1;
            self.rewind_to_after(first)?;
        }
        Ok(mismatches)
    }

    /// Makes the cases and puts them, the code and a fresh window on both sides.
    fn make(&mut self, batch: u64) {
        self.pool.clear();
        self.cases.clear();
        let mut fill = Rng::new(self.plan.seed, batch << 10 | 0x3ff);
        for word in self.before.chunks_exact_mut(8) {
            word.copy_from_slice(&fill.next().to_le_bytes());
        }
        for index in 0..BATCH {
            let mut rng = Rng::new(self.plan.seed, batch << 10 | index as u64);
            let case = (0..4).find_map(|_| self.generator.case(&mut rng, index, &mut self.pool));
            let given_up = |case: &Case| self.counts[case.form].mismatches >= self.plan.give_up_after;
            self.cases.push(case.filter(|case| !given_up(case)));
        }
        for (index, case) in self.cases.iter().enumerate() {
            match case {
                Some(case) => self.native.set_case(index, case),
                None => self.native.clear_case(index),
            }
        }
        let pool = self.pool.bytes();
        self.native.pool()[..pool.len()].copy_from_slice(pool);
        *self.native.window() = *self.before;
        self.model.write_window(0, &self.before[..]);
        self.model.set_code(self.native.code());
    }

    /// Runs the batch from case `first` on, on windows that are equal; gives the first case that differs.
    fn run_from(&mut self, first: usize) -> Result<Option<(usize, Vec<String>)>, NativeError> {
        self.native.run(first, BATCH - first)?;
        for index in first..BATCH {
            let Some(case) = &self.cases[index] else { continue };
            let native = self.native.outcome(index, case);
            let modelled = step(&mut self.model, case, &self.pool);
            let count = &mut self.counts[case.form];
            count.cases += 1;
            count.faults += u64::from(native.fault.is_some());
            if same(case, &native, &modelled) {
                continue;
            }
            let modelled = if intel::host() { intel::as_intel(case, &native, &modelled) } else { modelled };
            if !same(case, &native, &modelled) {
                return Ok(Some((index, differences(case, &native, &modelled))));
            }
        }
        if self.windows_differ() { self.find_stray_write(first) } else { Ok(None) }
    }

    fn windows_differ(&mut self) -> bool {
        let mut image = [0; WINDOW_LEN];
        self.model.read_window(0, &mut image);
        image != *self.native.window()
    }

    /// Brings both windows to what the host left after the cases before `end`.
    fn rewind_to_after(&mut self, end: usize) -> Result<(), NativeError> {
        *self.native.window() = *self.before;
        self.native.run(0, end)?;
        let window = *self.native.window();
        self.model.write_window(0, &window);
        Ok(())
    }

    /// Some case wrote where nobody looked: runs them one by one and compares whole windows.
    fn find_stray_write(&mut self, first: usize) -> Result<Option<(usize, Vec<String>)>, NativeError> {
        self.rewind_to_after(first)?;
        for index in first..BATCH {
            let Some(case) = &self.cases[index] else { continue };
            self.native.run(index, 1)?;
            step(&mut self.model, case, &self.pool);
            let mut image = [0; WINDOW_LEN];
            self.model.read_window(0, &mut image);
            let window = self.native.window();
            if let Some(at) = (0..WINDOW_LEN).find(|&at| image[at] != window[at]) {
                let field = format!("window+{at:#x}: native {:02x}, model {:02x}", window[at], image[at]);
                return Ok(Some((index, vec![field])));
            }
        }
        Ok(None)
    }
}

fn step<M: Model>(model: &mut M, case: &Case, pool: &Pool) -> Modelled {
    for poke in case.pokes.iter().filter(|poke| poke.len != 0) {
        model.write_window(poke.offset as usize, pool.get(poke));
    }
    let mut state = case.state;
    let stop = model.step(case, &mut state).err();
    const ZEROES: [u8; 512] = [0; 512];
    for scrub in case.scrubs.iter().filter(|scrub| scrub.len != 0) {
        model.write_window(scrub.offset as usize, &ZEROES[..scrub.len as usize]);
    }
    let mut watch = [[0; WATCH_LEN]; 2];
    for (bytes, &offset) in watch.iter_mut().zip(&case.watch) {
        model.read_window(offset as usize, bytes);
    }
    Modelled { state, stop, watch }
}
