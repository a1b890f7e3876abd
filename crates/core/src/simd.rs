//! Selects the vector instructions of the numeric kernels.
//!
//! The kernels use the best instructions that the processor has. The environment variable
//! `SEQUOR_SIMD` limits them, in order to measure and test the other versions. All versions compute
//! the same bytes.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Name of the environment variable with the [`SimdLevel`].
pub const SIMD_VARIABLE: &str = "SEQUOR_SIMD";

/// A limit for the vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SimdLevel {
    /// The best instructions that the processor has: AVX-512, AVX2, NEON or those of every
    /// processor of the architecture.
    Best,
    /// AVX2 with fused multiply-add, if the processor has it.
    Avx2,
    /// The instructions of every processor of the architecture.
    Portable,
}

/// Error: the text names no [`SimdLevel`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{SIMD_VARIABLE} = {0}: allowed are best, avx2 and portable")]
pub struct UnknownSimdLevelError(String);

impl FromStr for SimdLevel {
    type Err = UnknownSimdLevelError;

    fn from_str(text: &str) -> Result<Self, UnknownSimdLevelError> {
        match text {
            "best" => Ok(Self::Best),
            "avx2" => Ok(Self::Avx2),
            "portable" => Ok(Self::Portable),
            _ => Err(UnknownSimdLevelError(text.to_owned())),
        }
    }
}

static LIMIT: AtomicU8 = AtomicU8::new(SimdLevel::Best as u8);

/// Limits the vector instructions of the whole process.
pub fn limit_simd(level: SimdLevel) {
    LIMIT.store(level as u8, Ordering::Relaxed);
}

fn is_allowed(level: SimdLevel) -> bool {
    LIMIT.load(Ordering::Relaxed) <= level as u8
}

/// AVX2 with fused multiply-add; `None` if the processor lacks it or the limit excludes it.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx2() -> Option<pulp::x86::V3> {
    if is_allowed(SimdLevel::Avx2) { pulp::x86::V3::try_new() } else { None }
}

/// The instruction set for a kernel.
#[inline]
pub(crate) fn arch() -> pulp::Arch {
    if is_allowed(SimdLevel::Best) {
        return pulp::Arch::new();
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = avx2() {
        return pulp::Arch::V3(simd);
    }
    pulp::Arch::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_is_an_error_that_names_the_allowed_levels() {
        assert_eq!("avx2".parse(), Ok(SimdLevel::Avx2));
        let error = "avx512".parse::<SimdLevel>().unwrap_err().to_string();
        assert_eq!(error, "SEQUOR_SIMD = avx512: allowed are best, avx2 and portable");
    }
}
