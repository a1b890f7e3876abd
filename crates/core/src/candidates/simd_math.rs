//! Logarithm and exponential function, approximated by polynomials. The compiler can vectorise
//! them, and they return the same bits on every CPU.

/// Natural logarithm of a positive normal number, absolute error about 1e-5.
#[inline(always)]
#[must_use]
pub fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    // The mantissa is in [2/3, 4/3), so the argument m − 1 of the polynomial is near 0.
    let shifted = bits.wrapping_sub(0x3f2a_aaab);
    let exponent = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f2a_aaab)) - 1.0;
    let p = m * (1.0 + m * (-0.5 + m * (0.333_33 + m * (-0.25 + m * (0.2 + m * (-0.166_7 + m * 0.142_9))))));
    p + exponent * std::f32::consts::LN_2
}

/// eˣ, relative error about 1e-6. x is clamped to [−80, 80].
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    let y = x.clamp(-80.0, 80.0) * std::f32::consts::LOG2_E;
    // Adding and then subtracting 1.5·2²³ rounds to the nearest integer.
    let whole = (y + 12_582_912.0) - 12_582_912.0;
    let f = (y - whole) * std::f32::consts::LN_2;
    let p =
        1.0 + f * (1.0 + f * (0.5 + f * (0.166_666_67 + f * (0.041_666_67 + f * (0.008_333_33 + f * 0.001_388_89)))));
    p * f32::from_bits(((whole as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::{exp, ln};

    #[test]
    fn ln_and_exp_are_accurate() {
        for step in -2000..2000 {
            let x = step as f32 * 0.0123;
            let (approximate, true_value) = (exp(x), f64::from(x).exp());
            assert!((f64::from(approximate) / true_value - 1.0).abs() < 3e-6, "exp({x}) = {approximate}");
            let power = true_value as f32;
            assert!((f64::from(ln(power)) - f64::from(power).ln()).abs() < 5e-5, "ln({power}) = {}", ln(power));
        }
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
    }
}
