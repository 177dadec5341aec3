//! Threaded code: each op carries out its instruction and calls the next one, which compilers turn into a jump.
//!
//! Where they do not, every op takes a frame of the stack. The run loop lets [`CHUNK`] instructions run at a time, so
//! that some hundred kilobytes of stack suffice even then.
// UNSAFETY: going from an op to the next one is a step of a pointer; bounds checks there cost a tenth of the speed.
#![expect(unsafe_code, reason = "steps from op to op in the arena, values of function types")]

use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::code::CodeCache;
use crate::code::block::{End, FAR, NEVER};
use crate::code::jump::{JumpCache, Return};
use crate::cpu::Cpu;
use crate::mem::{OFFSET, PAGE};
use crate::op::{Handler, Op, Res, Stop, slot};

/// Most guest instructions between two returns to the run loop, but for the rest of a block.
pub(crate) const CHUNK: i32 = 1024;

/// Carries out an op and everything that follows, until something needs the run loop.
pub(crate) type Quick = for<'a> fn(&mut Cpu, At<'a>, &'a CodeCache) -> Left;

/// Why the threaded code was left. Without fields, so that it is one value in a register: compilers make no jump of
/// a call whose result comes in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Left {
    /// The fuel is used up; `rip` is where to go on.
    Spent,
    /// No block is known at `rip`.
    Unknown,
    /// The block after the one whose end is at `cpu.left` is not linked, though it is in its page.
    NotLinked,
    /// The same for the block to which its branch leads.
    BranchNotLinked,
    /// The block after the one whose end is at `cpu.left` is in another page and not linked, but may be.
    FarNotLinked,
    /// The same for the block to which its branch leads.
    FarBranchNotLinked,
    /// The op at `cpu.left` did not simply end, but with `cpu.stop`.
    Stopped,
}

/// A handler as a function, and as an op that goes on.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) plain: Handler,
    pub(crate) quick: Quick,
}

/// Place of an op of a block in the arena.
///
/// Invariant: it points to an op of the arena that is borrowed for `'a`, and that op is a block's end or another op
/// of the same block follows it.
#[derive(Clone, Copy)]
pub(crate) struct At<'a>(NonNull<Op>, PhantomData<&'a Op>);

impl<'a> At<'a> {
    /// The op at `index`, which must not be past the ends of the arena's blocks.
    #[inline(always)]
    pub(crate) fn new(ops: &'a [Op], index: u32) -> Option<Self> {
        let index = index as usize;
        // SAFETY: the index is inside the slice.
        (index < ops.len()).then(|| At(unsafe { NonNull::from(ops).cast::<Op>().add(index) }, PhantomData))
    }

    #[inline(always)]
    pub(crate) fn op(self) -> &'a Op {
        // SAFETY: by the invariant this is an op of the arena, borrowed for `'a`.
        unsafe { self.0.as_ref() }
    }

    /// The op after this one, which is not a block's end: callers are handlers of instructions, and
    /// [`CodeCache::insert`], the only place where ops enter the arena, puts an end after the last instruction.
    #[inline(always)]
    fn next(self) -> Self {
        // SAFETY: by the invariant another op follows in the same arena.
        At(unsafe { self.0.add(1) }, PhantomData)
    }

    /// Its index.
    fn index(self, ops: &[Op]) -> usize {
        (self.0.as_ptr() as usize).wrapping_sub(ops.as_ptr() as usize) / size_of::<Op>()
    }
}

/// A function as a type. Only the functions below that make a [`Choice`] or a [`Quick`] of one use it,
/// and they were given a value.
#[inline(always)]
fn function<F: Function>() -> F {
    const { assert!(size_of::<F>() == 0, "handlers are functions, not pointers to them") };
    // SAFETY: the type has no bytes, can be copied, and has a value: the one that was given to the caller's caller.
    unsafe { NonNull::<F>::dangling().read() }
}

/// What the wrappers below ask of a handler.
pub(crate) trait Function: Fn(&mut Cpu, &Op) -> Res + Copy {}
impl<F: Fn(&mut Cpu, &Op) -> Res + Copy> Function for F {}

fn plain<F: Function>(cpu: &mut Cpu, op: &Op) -> Res {
    function::<F>()(cpu, op)
}

/// A handler after which the next op of the block runs: one that goes no further than the TLB, and the whole one.
pub(crate) fn flow<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        if function::<F>()(cpu, at.op()).is_err() {
            return again::<W>(cpu, at, code);
        }
        let next = at.next();
        (next.op().quick)(cpu, next, code)
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// The handler of an op that goes on with the one after it, which is that of an instruction of handler `G`.
///
/// Whoever gives it to an op sees to that; see [`Listing::push_second`](crate::code::Listing::push_second).
pub(crate) fn two<F: Function, W: Function, G: Function>(_first: F, _whole: W, _second: G) -> Quick {
    fn quick<F: Function, W: Function, G: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        if function::<F>()(cpu, at.op()).is_err() {
            return again::<W>(cpu, at, code);
        }
        let second = at.next();
        if function::<G>()(cpu, second.op()).is_err() {
            // Its own handler tries once more and knows what to do then.
            return (second.op().quick)(cpu, second, code);
        }
        let next = second.next();
        (next.op().quick)(cpu, next, code)
    }
    quick::<F, W, G>
}

/// The handlers of a direct branch, taken or not.
pub(crate) fn branch<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        match function::<F>()(cpu, at.op()) {
            Ok(()) => follow::<false>(cpu, at.next(), code),
            Err(Stop::Taken) => follow::<true>(cpu, at.next(), code),
            Err(_) => again::<W>(cpu, at, code),
        }
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// The handlers of an indirect jump.
pub(crate) fn jump<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        match function::<F>()(cpu, at.op()) {
            Err(Stop::Jump) => find(cpu, at.next(), code),
            _ => again::<W>(cpu, at, code),
        }
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// The handlers of a direct call.
pub(crate) fn call<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        match function::<F>()(cpu, at.op()) {
            Err(Stop::Taken) => {
                note_call(cpu, at.next(), code);
                follow::<true>(cpu, at.next(), code)
            }
            _ => again::<W>(cpu, at, code),
        }
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// The handlers of an indirect call.
pub(crate) fn call_indirect<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        match function::<F>()(cpu, at.op()) {
            Err(Stop::Jump) => {
                note_call(cpu, at.next(), code);
                find(cpu, at.next(), code)
            }
            _ => again::<W>(cpu, at, code),
        }
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// The handlers of a near return.
pub(crate) fn ret<F: Function, W: Function>(_fast: F, _whole: W) -> Choice {
    fn quick<F: Function, W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
        match function::<F>()(cpu, at.op()) {
            Err(Stop::Jump) => come_back(cpu, at.next(), code),
            _ => again::<W>(cpu, at, code),
        }
    }
    Choice { plain: plain::<W>, quick: quick::<F, W> }
}

/// Notes where the call comes back to whose block ends at `at`.
#[inline(always)]
fn note_call(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) {
    let end = End(at.op());
    let back = cpu.regs[slot::PAGE as usize].wrapping_add(end.next(false));
    cpu.jumps.call(back, end.link(false), at.index(code.ops()) as u32);
}

/// Goes on at `rip` after a return, the end of whose block is `at`.
#[inline(always)]
fn come_back(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    if !cpu.burn(End(at.op())) {
        return Left::Spent;
    }
    let rip = cpu.rip;
    let Some(last) = cpu.jumps.come_back(rip) else { return enter(cpu, code) };
    cpu.regs[slot::PAGE as usize] = rip & !OFFSET;
    match At::new(code.ops(), last.block) {
        Some(next) => (next.op().quick)(cpu, next, code),
        None => came_back(cpu, last, code),
    }
}

/// Has a call's block linked to the one it comes back to, if that is in the same page.
#[cold]
#[inline(never)]
fn came_back(cpu: &mut Cpu, last: Return, code: &CodeCache) -> Left {
    let end = code.ops().get(last.end as usize).filter(|&end| End(end).next(false) < PAGE);
    if end.is_none() {
        return enter(cpu, code);
    }
    cpu.left = last.end as usize;
    Left::NotLinked
}

/// Carries out the whole of an instruction that the fast path did not do.
#[cold]
#[inline(never)]
fn again<W: Function>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    let result = function::<W>()(cpu, at.op());
    after(cpu, at, code, result)
}

/// Goes on after an instruction of any kind.
fn after(cpu: &mut Cpu, at: At<'_>, code: &CodeCache, result: Res) -> Left {
    if cpu.code_map.has_changed() {
        return changed(cpu, at, code, result);
    }
    match result {
        Ok(()) => {
            let next = at.next();
            (next.op().quick)(cpu, next, code)
        }
        Err(Stop::Taken) => follow::<true>(cpu, at.next(), code),
        Err(Stop::Jump) => find(cpu, at.next(), code),
        Err(stop) => leave(cpu, at, code, stop),
    }
}

/// Stops after an instruction that changed code: what follows it, even in its own block, may not be what was decoded.
#[cold]
#[inline(never)]
fn changed(cpu: &mut Cpu, at: At<'_>, code: &CodeCache, result: Res) -> Left {
    match result {
        // Of two instructions in one op, the second ends the block, and neither writes memory.
        Ok(()) => cpu.rip = cpu.next_rip(at.op()),
        Err(Stop::Taken) => {
            cpu.rip = cpu.regs[slot::PAGE as usize].wrapping_add(End(at.next().op()).next(true));
        }
        Err(Stop::Jump) => {}
        Err(stop) => return leave(cpu, at, code, stop),
    }
    leave(cpu, at, code, Stop::Changed)
}

/// A handler that is not worth code of its own.
pub(crate) fn rare(plain: Handler) -> Choice {
    Choice { plain, quick: by_plain }
}

fn by_plain(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    let Some(plain) = code.plain(at.index(code.ops())) else { return leave(cpu, at, code, Stop::Step) };
    let result = plain(cpu, at.op());
    after(cpu, at, code, result)
}

/// The end of a block whose last instruction is no branch.
pub(crate) fn end(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    follow::<false>(cpu, at, code)
}

/// Stands for code that was forgotten, where a jump target still leads to it.
pub(crate) fn retired(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    leave(cpu, at, code, Stop::Retired)
}

/// Goes on after a block, whose end is `at`.
#[inline(always)]
fn follow<const TAKEN: bool>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    let end = End(at.op());
    if !cpu.burn(end) {
        return spent::<TAKEN>(cpu, at);
    }
    match At::new(code.ops(), end.link(TAKEN)) {
        Some(next) => (next.op().quick)(cpu, next, code),
        None => unlinked::<TAKEN>(cpu, at, code),
    }
}

#[cold]
#[inline(never)]
fn spent<const TAKEN: bool>(cpu: &mut Cpu, at: At<'_>) -> Left {
    cpu.rip = cpu.regs[slot::PAGE as usize].wrapping_add(End(at.op()).next(TAKEN));
    Left::Spent
}

/// Goes on in another page, or stops because the block is not linked yet.
#[inline(never)]
fn unlinked<const TAKEN: bool>(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    let end = End(at.op());
    let next = end.next(TAKEN);
    let page = cpu.regs[slot::PAGE as usize];
    cpu.rip = page.wrapping_add(next);
    if next < PAGE {
        cpu.left = at.index(code.ops());
        return if TAKEN { Left::BranchNotLinked } else { Left::NotLinked };
    }
    let (key, link) = (cpu.jumps.key(page), end.link(TAKEN));
    let holds = end.holds(key);
    if let Some(next) = At::new(code.ops(), link ^ FAR).filter(|_| holds) {
        cpu.regs[slot::PAGE as usize] = cpu.rip & !OFFSET;
        return (next.op().quick)(cpu, next, code);
    }
    if JumpCache::linkable(key) && !(holds && link == NEVER) {
        cpu.left = at.index(code.ops());
        return if TAKEN { Left::FarBranchNotLinked } else { Left::FarNotLinked };
    }
    enter(cpu, code)
}

/// Goes on at `rip` after a block, whose end is `at`.
#[inline(always)]
fn find(cpu: &mut Cpu, at: At<'_>, code: &CodeCache) -> Left {
    if !cpu.burn(End(at.op())) {
        return Left::Spent;
    }
    enter(cpu, code)
}

/// Goes on at `rip` if the jump cache knows it.
#[inline(always)]
fn enter(cpu: &mut Cpu, code: &CodeCache) -> Left {
    let rip = cpu.rip;
    cpu.regs[slot::PAGE as usize] = rip & !OFFSET;
    match At::new(code.ops(), cpu.jumps.get(rip)) {
        Some(next) => (next.op().quick)(cpu, next, code),
        None => Left::Unknown,
    }
}

#[cold]
#[inline(never)]
fn leave(cpu: &mut Cpu, at: At<'_>, code: &CodeCache, stop: Stop) -> Left {
    cpu.left = at.index(code.ops());
    cpu.stop = stop;
    Left::Stopped
}

impl Cpu {
    /// Takes a block's instructions from the fuel; false when it is used up.
    #[inline(always)]
    fn burn(&mut self, end: End<'_>) -> bool {
        self.fuel -= end.instructions();
        self.fuel >= 0
    }

    /// Makes the run loop look up at the end of this block.
    pub(crate) fn attend(&mut self) {
        self.shared.attention();
        self.granted -= self.fuel.max(0);
        self.fuel = self.fuel.min(0);
    }
}
