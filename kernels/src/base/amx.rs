//! Asking Linux for the AMX tile registers.
//!
//! `core::arch` has no stable AMX intrinsics, so both this and the AMX kernel use `asm!`.

use std::arch::{asm, x86_64::__cpuid_count};

/// Whether the CPU has AMX-INT8 and the kernel lets this process use it.
///
/// Linux gives the tile registers only to a process that asks (`arch_prctl(2)`,
/// `ARCH_REQ_XCOMP_PERM`); what is granted holds for all threads made afterwards and, since the
/// permission is the process's, for those that exist.
pub(crate) fn permitted() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    // SAFETY: CPUID leaf 7 exists on every CPU that reaches here: AVX-512 was found before.
    #[allow(unused_unsafe, reason = "safe to call since Rust 1.94")]
    let edx = unsafe { __cpuid_count(7, 0) }.edx;
    if edx & AMX_TILE == 0 || edx & AMX_INT8 == 0 {
        return false;
    }
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that takes two integers and touches no memory of ours; the clobbers
    // are those of the x86-64 Linux system call interface.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}
