//! java.lang.StrictMath, which is fdlibm by definition: other logarithms, the crate libm's among
//! them, differ from it in the last bit of one value in fifty.
//!
//! After fdlibm's `e_log.c`: Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved.
//! Developed at SunSoft, a Sun Microsystems, Inc. business. Permission to use, copy, modify, and
//! distribute this software is freely granted, provided that this notice is preserved.

const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Coefficients of the polynomial in s² that approximates log((1 + s) / (1 − s)) / s − 2.
const LG: [f64; 7] = [
    f64::from_bits(0x3fe5_5555_5555_5593),
    f64::from_bits(0x3fd9_9999_9997_fa04),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fc2_f112_df3e_5244),
];

/// The natural logarithm of a positive normal number.
pub(crate) fn log(x: f64) -> f64 {
    // x = 2^k (1 + f) with sqrt(2)/2 < 1 + f < sqrt(2).
    let high = (x.to_bits() >> 32) as i32;
    let mantissa = high & 0xf_ffff;
    let carry = (mantissa + 0x9_5f64) & 0x10_0000;
    let k = f64::from((high >> 20) - 1023 + (carry >> 20));
    let scaled_high = (mantissa | (carry ^ 0x3ff0_0000)) as u64;
    let f = f64::from_bits(scaled_high << 32 | x.to_bits() & 0xffff_ffff) - 1.0;

    // |f| < 2^-20: three terms of the series do.
    if (2 + mantissa) & 0xf_ffff < 3 {
        let r = f * f * (0.5 - 0.333_333_333_333_333_3 * f);
        return k * LN2_HIGH - ((r - k * LN2_LOW) - f);
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * (LG[1] + w * (LG[3] + w * LG[5]));
    let even = z * (LG[0] + w * (LG[2] + w * (LG[4] + w * LG[6])));
    let r = even + odd;
    // Near 1 from either side, another order of the sums keeps the error below one last bit.
    if (mantissa - 0x6_147a) | (0x6_b851 - mantissa) > 0 {
        let half = 0.5 * f * f;
        k * LN2_HIGH - ((half - (s * (half + r) + k * LN2_LOW)) - f)
    } else {
        k * LN2_HIGH - ((s * (f - r) - k * LN2_LOW) - f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a JVM prints them; the crate libm's are off by a bit in all but the last.
    #[test]
    fn logarithms_are_javas() {
        for (x, expected) in [
            (0.9843228006692949, -0.015801386265677463),
            (0.6374974298594064, -0.45020503355077074),
            (0.369134315501327, -0.9965947025244637),
            (0.4638377596597093, -0.7682204438055602),
        ] {
            assert_eq!(log(x), expected, "log({x})");
        }
    }
}
