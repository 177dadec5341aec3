//! Guest code that faults, and handlers that report.

/// An undefined instruction.
#[rustfmt::skip]
pub(crate) const UNDEFINED: &[u8] = &[
    0x0f, 0x0b, // ud2
];

/// A load from a page that is not there.
#[rustfmt::skip]
pub(crate) const READ_UNMAPPED: &[u8] = &[
    0x48, 0xb8, 0x56, 0x34, 0x12, 0x00, 0x00, 0x80, 0xff, 0xff, // movabs rax, 0xffff800000123456
    0x48, 0x8b, 0x08, // mov rcx, qword ptr [rax]
];

/// A store to a page that is not there.
#[rustfmt::skip]
pub(crate) const WRITE_UNMAPPED: &[u8] = &[
    0x48, 0xb8, 0x56, 0x34, 0x12, 0x00, 0x00, 0x80, 0xff, 0xff, // movabs rax, 0xffff800000123456
    0x48, 0x89, 0x08, // mov qword ptr [rax], rcx
];

/// A store to a page that is read-only.
#[rustfmt::skip]
pub(crate) const WRITE_PROTECTED: &[u8] = &[
    0xb8, 0x10, 0x00, 0x00, 0x40, // mov eax, 0x40000010
    0x89, 0x08, // mov dword ptr [rax], ecx
];

/// A jump into a page that may not be executed.
#[rustfmt::skip]
pub(crate) const EXECUTE_NO_EXECUTE: &[u8] = &[
    0xb8, 0x20, 0x00, 0x00, 0x40, // mov eax, 0x40000020
    0xff, 0xe0, // jmp rax
];

/// A load from an address that is not canonical.
#[rustfmt::skip]
pub(crate) const NON_CANONICAL: &[u8] = &[
    0x48, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, // movabs rax, 0x0000900000000000
    0x48, 0x8b, 0x08, // mov rcx, qword ptr [rax]
];

/// A division by zero.
#[rustfmt::skip]
pub(crate) const DIVIDE: &[u8] = &[
    0x31, 0xc9, // xor ecx, ecx
    0xf7, 0xf1, // div ecx
];

/// A breakpoint.
#[rustfmt::skip]
pub(crate) const BREAKPOINT: &[u8] = &[
    0xcc, // int3
];

/// Handler of a vector with an error code: RBX = code, RDX = saved RIP, RSI = CR2.
#[rustfmt::skip]
pub(crate) const ERROR_HANDLER: &[u8] = &[
    0x5b, // pop rbx
    0x48, 0x8b, 0x14, 0x24, // mov rdx, qword ptr [rsp]
    0x0f, 0x20, 0xd6, // mov rsi, cr2
    0xe6, 0xf4, // out 0xf4, al
];

/// Handler of a vector without one: RDX = saved RIP.
#[rustfmt::skip]
pub(crate) const PLAIN_HANDLER: &[u8] = &[
    0x48, 0x8b, 0x14, 0x24, // mov rdx, qword ptr [rsp]
    0xe6, 0xf4, // out 0xf4, al
];
