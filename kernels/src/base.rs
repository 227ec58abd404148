//! What every kernel stands on: errors, memory that the system may refuse, mapped files, and which
//! instruction sets this machine has.
//!
//! Uses nothing else of the crate. Start with `isa`: an [`Isa`](isa::Isa) is the proof, which all
//! kernels ask for, that the machine has the instructions they were compiled for.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
pub(crate) mod error;
pub(crate) mod isa;
pub(crate) mod map;
pub mod memory;
