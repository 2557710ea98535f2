//! Every kernel set that tests can run here: those of this machine and, by emulation, AMX.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "amx.rs"]
mod amx;

use longleaf_kernel::{Kernels, supported};

/// All sets, each once.
pub(crate) fn sets() -> Vec<&'static dyn Kernels> {
    let sets = supported();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if sets[0].name() != "amx" {
        amx::install();
        // SAFETY: the emulator answers.
        let emulated = unsafe { longleaf_kernel::amx_unchecked() };
        return sets.into_iter().chain(emulated).collect();
    }
    sets
}

/// Whether a set is slow because its instructions are emulated: a fault each.
#[allow(dead_code, reason = "not every test asks")]
pub(crate) fn is_emulated(set: &dyn Kernels) -> bool {
    set.name() == "amx" && supported()[0].name() != "amx"
}

/// Whether somebody other than vectors multiplied, be it the CPU or the emulator.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(dead_code, reason = "not every test asks")]
pub(crate) fn tiles_were_used() -> bool {
    supported()[0].name() == "amx" || amx::answered() > 0
}
