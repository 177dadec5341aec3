//! Guest code that spins, sleeps or does little.

/// A busy loop that counts in RAX.
#[rustfmt::skip]
pub(crate) const SPIN: &[u8] = &[
    0x48, 0xff, 0xc0, // top: inc rax
    0xeb, 0xfb, // jmp top
];

/// A halt with interrupts on, for ever.
#[rustfmt::skip]
pub(crate) const SLEEP: &[u8] = &[
    0xfb, // sti
    0xf4, // top: hlt
    0x48, 0xff, 0xc3, // inc rbx
    0xeb, 0xfa, // jmp top
];

/// Three port writes.
#[rustfmt::skip]
pub(crate) const THREE_PORTS: &[u8] = &[
    0xb0, 0x01, // mov al, 1
    0xe6, 0xf4, // out 0xf4, al
    0xb0, 0x02, // mov al, 2
    0xe6, 0xf4, // out 0xf4, al
    0xb0, 0x03, // mov al, 3
    0xe6, 0xf4, // out 0xf4, al
];
