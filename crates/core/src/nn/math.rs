//! Vectorised elementwise functions and reductions. They are compiled for several instruction sets;
//! at run time the best one that the CPU supports is used.

use std::f32::consts::LOG2_E;
use std::f64::consts::LN_2;

/// Declares a function that is compiled three times: for AVX-512, for AVX2, and for any CPU of the
/// target architecture. A call runs the version for the highest level that the CPU supports.
///
/// The body becomes the `call` method of a struct that holds the arguments. A closure does not
/// work, because the compiler may not inline the closure into the function that has the vector
/// instructions enabled.
macro_rules! kernel {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident<$lifetime:lifetime>($($argument:ident: $kind:ty),* $(,)?) -> $output:ty $body:block)*) => {$(
        $(#[$attribute])*
        $vis fn $name<$lifetime>($($argument: $kind),*) -> $output {
            struct Kernel<$lifetime> { $($argument: $kind),* }
            impl<$lifetime> pulp::NullaryFnOnce for Kernel<$lifetime> {
                type Output = $output;
                #[inline(always)]
                fn call(self) -> $output {
                    let Self { $($argument),* } = self;
                    $body
                }
            }
            crate::simd::arch().dispatch(Kernel { $($argument),* })
        }
    )*};
}
pub(super) use kernel;

/// eˣ with a relative error of about 2e-7.
///
/// For x below −80 the result is exactly 0, so masked logits never produce denormals. For x above
/// 88 the result is e⁸⁸. The function splits x into n ln 2 + r and evaluates a polynomial of degree
/// 6 in r.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³. Adding this number to a small float rounds the float to an integer in the low
    /// mantissa bits.
    const ROUNDING_OFFSET: f32 = 12_582_912.0;
    /// ln 2 split into two parts (Cody–Waite). The high part has few bits, so the product of the
    /// high part and n is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = (LN_2 - 355.0 / 512.0) as f32;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped.mul_add(LOG2_E, ROUNDING_OFFSET);
    let n = rounded - ROUNDING_OFFSET;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, clamped));
    let tail = r.mul_add(r.mul_add(r.mul_add(r.mul_add(1.0 / 720.0, 1.0 / 120.0), 1.0 / 24.0), 1.0 / 6.0), 0.5);
    let y = r.mul_add(r.mul_add(tail, 1.0), 1.0);
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < -80.0 { 0.0 } else { y * scale }
}

/// Logistic function, 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent, 2 σ(2x) − 1, with an absolute error of about 1e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    2.0 / (1.0 + exp(-2.0 * x)) - 1.0
}

/// Natural logarithm of a positive normal number, with a relative error of about 1e-7.
///
/// The function computes ln x = e ln 2 + ln m with m in [√½, √2), and ln m = 2 artanh((m − 1) / (m
/// + 1)) by the power series of artanh.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    /// Bit pattern of √½, the lower end of the mantissa range [√½, √2).
    const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32 >> 23) as f32;
    let mantissa = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(SQRT_HALF_BITS));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    let series = t.mul_add(t.mul_add(t.mul_add(t.mul_add(1.0 / 9.0, 1.0 / 7.0), 0.2), 1.0 / 3.0), 1.0);
    exponent.mul_add(LN_2 as f32, 2.0 * s * series)
}

/// A reduction adds into this many partial sums, so that the compiler can vectorise it. The
/// compiler may not introduce partial sums itself, because it must not reorder float additions.
const PARTIAL_SUMS: usize = 16;

/// Sums over the pairs of values of two slices: `f(sum, x, y)` returns the sum after the pair (x,
/// y). Uses [`PARTIAL_SUMS`] partial sums.
#[inline(always)]
pub(super) fn reduce_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; PARTIAL_SUMS];
    let (a_chunks, b_chunks) = (a.chunks_exact(PARTIAL_SUMS), b.chunks_exact(PARTIAL_SUMS));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder()).fold(0.0, |sum, (x, y)| f(sum, *x, *y));
    for (x, y) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum = f(*sum, *x, *y);
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Inner product, Σ aᵢ bᵢ, for use inside a kernel: always inlined.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    reduce_pairs(a, b, |sum, x, y| x.mul_add(y, sum))
}

/// Computes `out += factor · a`, for use inside a kernel: always inlined.
#[inline(always)]
pub(super) fn add_scaled(out: &mut [f32], factor: f32, a: &[f32]) {
    for (out, a) in out.iter_mut().zip(a) {
        *out = a.mul_add(factor, *out);
    }
}

/// Sum of exponentials, Σ e^(x − shift).
#[inline(always)]
pub(super) fn sum_of_exponentials(values: &[f32], shift: f32) -> f32 {
    let mut sums = [0.0_f32; PARTIAL_SUMS];
    let (chunks, tail) = values.as_chunks::<PARTIAL_SUMS>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += exp(*value - shift);
        }
    }
    sums.iter().sum::<f32>() + tail.iter().map(|value| exp(*value - shift)).sum::<f32>()
}

/// The largest value of a slice; −∞ for an empty slice.
#[inline(always)]
pub(super) fn max_value(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; PARTIAL_SUMS];
    let chunks = values.chunks_exact(PARTIAL_SUMS);
    let tail =
        chunks.remainder().iter().fold(f32::NEG_INFINITY, |best, value| if *value > best { *value } else { best });
    for chunk in chunks {
        for (best, value) in lanes.iter_mut().zip(chunk) {
            *best = if *value > *best { *value } else { *best };
        }
    }
    lanes.iter().fold(tail, |best, value| if *value > best { *value } else { best })
}

kernel! {
    /// Inner product, Σ aᵢ bᵢ, compiled for several instruction sets.
    pub(super) fn dot_dispatched<'a>(a: &'a [f32], b: &'a [f32]) -> f32 {
        dot(a, b)
    }

    /// Sum of squares, Σ aᵢ². NaN or infinite if any value is NaN or infinite.
    pub(super) fn sum_of_squares<'a>(a: &'a [f32]) -> f64 {
        let mut sum = 0.0;
        for part in a.chunks(4096) {
            sum += f64::from(dot(part, part));
        }
        sum
    }

    /// Computes `out += factor · a`, compiled for several instruction sets.
    pub(super) fn add_scaled_dispatched<'a>(out: &'a mut [f32], factor: f32, a: &'a [f32]) -> () {
        add_scaled(out, factor, a);
    }

    /// Multiplies `values` elementwise by `factors`, up to the shorter length.
    pub(super) fn multiply_elementwise<'a>(values: &'a mut [f32], factors: &'a [f32]) -> () {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }

    /// Adds the sum of all rows to `out`. The shape of `rows` is `(rows, out.len())`.
    pub(super) fn add_row_sum<'a>(out: &'a mut [f32], rows: &'a [f32]) -> () {
        for row in rows.chunks_exact(out.len().max(1)) {
            add_scaled(out, 1.0, row);
        }
    }

    /// Computes `out += x · W`. `weights` contains W, whose shape is `(x.len(), out.len())`. Adds four
    /// rows of W in one pass over `out`, because a pass per row would be limited by the stores to
    /// `out`. The sums are those of a pass per row.
    pub(super) fn add_vector_matrix_product<'a>(out: &'a mut [f32], x: &'a [f32], weights: &'a [f32]) -> () {
        let width = out.len().max(1);
        let (quads, rest) = x.as_chunks::<4>();
        let mut rows = weights.chunks_exact(width);
        for [x0, x1, x2, x3] in quads {
            let (Some(a), Some(b), Some(c), Some(d)) = (rows.next(), rows.next(), rows.next(), rows.next()) else { return };
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out = d.mul_add(*x3, c.mul_add(*x2, b.mul_add(*x1, a.mul_add(*x0, *out))));
            }
        }
        for (x, row) in rest.iter().zip(rows) {
            add_scaled(out, *x, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_and_zero_for_masked_logits() {
        for step in -8000..8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 4e-7, "exp({x}): relative error {error}");
        }
        assert_eq!(exp(-81.0), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(1e30).is_finite());
    }

    #[test]
    fn tanh_and_sigmoid_are_accurate() {
        for step in -3000..3000 {
            let x = step as f32 / 100.0;
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 4e-7);
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp())).abs() < 2e-7);
        }
    }

    #[test]
    fn ln_is_accurate() {
        for x in [1e-30_f32, 1e-6, 0.3, 0.707, 0.999, 1.0, 1.001, 1.42, 2.0, 10.0, 1e30] {
            let expected = f64::from(x).ln();
            assert!((f64::from(ln(x)) - expected).abs() <= 3e-7 * expected.abs().max(0.1), "ln({x})");
        }
    }

    #[test]
    fn reductions_include_full_vectors_and_the_remainder() {
        for len in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), expected);
            assert_eq!(max_value(&a), if len == 0 { f32::NEG_INFINITY } else { (len - 1) as f32 });
            assert_eq!(sum_of_exponentials(&vec![1.0; len], 1.0), len as f32);
        }
        assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn a_vector_matrix_product_equals_the_sum_of_scaled_rows() {
        for (terms, width) in [(0, 3), (1, 1), (3, 17), (4, 100), (7, 33), (100, 400)] {
            let x: Vec<f32> = (0..terms).map(|i| (i * 7 % 11) as f32 / 3.0 - 1.5).collect();
            let weights: Vec<f32> = (0..terms * width).map(|i| (i * 31 % 101) as f32 / 13.0 - 4.0).collect();
            let mut out: Vec<f32> = (0..width).map(|i| i as f32 / 7.0).collect();
            let mut expected = out.clone();
            for (x, row) in x.iter().zip(weights.chunks_exact(width)) {
                add_scaled_dispatched(&mut expected, *x, row);
            }
            add_vector_matrix_product(&mut out, &x, &weights);
            assert_eq!(out, expected, "{terms} rows of {width}");
        }
    }
}
