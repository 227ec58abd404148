//! The arithmetic of pulp's vectors, under one name for `f32` and `f64`: for loops that the compiler
//! does not vectorise well by itself.

use pulp::{Simd, bytemuck};

/// Numbers that fill the registers of an instruction set.
pub trait Vectors: Sized + Copy {
    /// As many numbers as a register holds.
    type Vector<S: Simd>: Copy;
    /// How many these are.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
    #[doc(hidden)]
    fn vectors<S: Simd>(values: &[Self]) -> &[Self::Vector<S>];
    #[doc(hidden)]
    fn values<S: Simd>(vectors: &[Self::Vector<S>]) -> &[Self];
    #[doc(hidden)]
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    #[doc(hidden)]
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    #[doc(hidden)]
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    #[doc(hidden)]
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    #[doc(hidden)]
    fn absolute<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S>;
    /// `a·b + c`, rounded once where the instruction set has that, or else twice.
    #[doc(hidden)]
    fn times_plus<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    #[doc(hidden)]
    fn larger<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    #[doc(hidden)]
    fn smaller<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Whether each lane of `a` is less than that of `b`, and so neither is NaN.
    #[doc(hidden)]
    fn all_less<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> bool;
    /// The low 32 bits of each lane of as many vectors as make one of those.
    #[doc(hidden)]
    fn low_words<S: Simd>(simd: S, vectors: [Self::Vector<S>; 2]) -> S::u32s;
    /// Zero in the lanes where `a` is less than `b`, elsewhere `value`.
    #[doc(hidden)]
    fn zero_if_less<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        value: Self::Vector<S>,
    ) -> Self::Vector<S>;
}

macro_rules! vectors {
    ($float:ident, $vector:ident, $as_simd:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident,
     $abs:ident, $mul_add:ident, $max:ident, $min:ident, $less:ident, $not:ident, $first:ident, $select:ident, $low_words:expr) => {
        impl Vectors for $float {
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn vectors<S: Simd>(values: &[$float]) -> &[S::$vector] {
                S::$as_simd(values).0
            }
            #[inline(always)]
            fn values<S: Simd>(vectors: &[S::$vector]) -> &[$float] {
                bytemuck::cast_slice(vectors)
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: $float) -> S::$vector {
                simd.$splat(value)
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn absolute<S: Simd>(simd: S, a: S::$vector) -> S::$vector {
                simd.$abs(a)
            }
            #[inline(always)]
            fn times_plus<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                c: S::$vector,
            ) -> S::$vector {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn larger<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$max(a, b)
            }
            #[inline(always)]
            fn smaller<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$min(a, b)
            }
            #[inline(always)]
            fn all_less<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> bool {
                simd.$first(simd.$not(simd.$less(a, b))) == Self::lanes::<S>()
            }
            #[inline(always)]
            fn low_words<S: Simd>(simd: S, vectors: [S::$vector; 2]) -> S::u32s {
                $low_words(simd, vectors)
            }
            #[inline(always)]
            fn zero_if_less<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                value: S::$vector,
            ) -> S::$vector {
                simd.$select(simd.$less(a, b), simd.$splat(0.0), value)
            }
        }
    };
}

vectors!(
    f32,
    f32s,
    as_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    abs_f32s,
    mul_add_e_f32s,
    max_f32s,
    min_f32s,
    less_than_f32s,
    not_m32s,
    first_true_m32s,
    select_f32s,
    |simd: S, [vector, _]: [S::f32s; 2]| simd.transmute_u32s_f32s(vector)
);
vectors!(
    f64,
    f64s,
    as_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    abs_f64s,
    mul_add_e_f64s,
    max_f64s,
    min_f64s,
    less_than_f64s,
    not_m64s,
    first_true_m64s,
    select_f64s,
    |simd: S, vectors: [S::f64s; 2]| {
        let mut words = simd.splat_u32s(0);
        let values: &[f64] = bytemuck::cast_slice(&vectors);
        let lanes: &mut [u32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut words));
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = value.to_bits() as u32;
        }
        words
    }
);
