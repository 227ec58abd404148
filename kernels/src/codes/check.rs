//! Whether codes that were read from a file can be right.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    limits::{HUGE, LINE, SCALES, largest_code},
    quantised::Quantised,
};
use crate::{
    base::error::Result,
    rows::{matrix::Rows, scalar::Scalar, shape::check_len},
};

impl Quantised<'_> {
    /// The first of these rows that can't have been quantised, whatever its values were. Where there is
    /// none, the sums of a join of the codes fit their integers, and panels have few scales.
    ///
    /// Panics when out of range, as slices do.
    pub fn unsound(&self, rows: Range<usize>) -> Option<usize> {
        let most = largest_code(self.dim()) as i8;
        let fraction = |scale: f32| scale.to_bits() & ((1 << (f32::MANTISSA_DIGITS - 1)) - 1);
        let common = self.scale(0).map_or(0, fraction);
        let first = rows.start;
        let unsound = rows.into_par_iter().position_first(|index| {
            let (known, codes) = (self.row(index), self.codes(index));
            let (codes, padding) = codes.split_at(self.dim());
            let (mut sum, mut square) = (0, 0);
            // As many as have sums that fit.
            for codes in codes.chunks(LINE) {
                let codes = codes.iter().map(|&code| i32::from(code));
                sum += i64::from(codes.clone().sum::<i32>());
                square += i64::from(codes.map(|code| code * code).sum::<i32>());
            }
            let scale = f64::from(known.scale);
            let huge = scale * scale * square as f64 > HUGE;
            !((SCALES.0..=SCALES.1).contains(&scale)
                && fraction(known.scale) == common
                && known.residual >= 0.0
                && (!huge || known.residual == f32::INFINITY)
                && (sum, square) == (known.sum.into(), known.square.into())
                && codes.iter().all(|code| (-most..=most).contains(code))
                && padding.iter().all(|&code| code == 0))
        });
        unsound.map(|position| first + position)
    }

    /// The first row that is further from its codes, counted from `centre` if there is one, than the
    /// bound on its error: so `rows` are not what was quantised.
    ///
    /// # Errors
    /// [`Shape`](crate::KernelError::Shape) when there are not as many rows, or they or the centre are
    /// of another dimension.
    pub fn uncovered<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        centre: Option<&[T]>,
    ) -> Result<Option<usize>> {
        let zeros = vec![T::ZERO; self.dim()];
        let centre = centre.unwrap_or(&zeros);
        check_len("the centre", centre.len(), self.dim())?;
        check_len("a row", rows.dim(), self.dim())?;
        check_len("rows", rows.len(), self.len())?;
        Ok((0..self.len()).into_par_iter().position_first(|index| {
            let known = self.row(index);
            let scale = f64::from(known.scale);
            let codes = self.codes(index).iter().map(|&code| f64::from(code));
            let row = rows.row(index);
            let off = row.iter().zip(centre).zip(codes);
            let off = off.map(|((value, middle), code)| {
                (value.to_f64() - middle.to_f64() - scale * code).powi(2)
            });
            let far = off.sum::<f64>().sqrt();
            // What is not a number is not covered.
            let covered = far <= f64::from(known.residual);
            !covered
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::quantise::Approximation, *};
    use crate::base::isa::Isa;

    #[test]
    fn what_was_quantised_is_sound_and_covers_its_rows() {
        for dim in [1, 5, 64, 100] {
            let value =
                |at: usize| ((at * 7919 % 1021) as f32 - 510.0) * 10_f32.powi(at as i32 % 9);
            let mut values: Vec<f32> = (0..40 * dim).map(value).collect();
            values[3 * dim..4 * dim].fill(0.0);
            values[5 * dim] = 1e30;
            let rows = Rows::new(&values, dim).unwrap();
            let mut codes = Quantised::new(rows, Isa::SCALAR).unwrap();
            codes.inflate_error(3, f32::INFINITY).unwrap();
            assert_eq!(codes.unsound(0..40), None);
            assert_eq!(codes.uncovered(rows, None).unwrap(), None);
            values[7 * dim] += 1e9;
            let rows = Rows::new(&values, dim).unwrap();
            assert_eq!(codes.uncovered(rows, None).unwrap(), Some(7));
            assert!(codes.uncovered(rows.slice(1..40), None).is_err());
        }
    }

    #[test]
    fn what_no_row_has_is_unsound() {
        let values: Vec<f32> = (0..4 * 70).map(|at| (at * 7919 % 1021) as f32).collect();
        let rows = Rows::new(&values, 70).unwrap();
        let sound = Quantised::new(rows, Isa::SCALAR).unwrap();
        let (codes, known) = sound.parts();
        let known: Vec<Approximation> = bytemuck::pod_collect_to_vec(known);
        let unsound = |change: &dyn Fn(&mut Approximation)| {
            let mut known = known.clone();
            change(&mut known[2]);
            let other = Quantised::from_parts(70, codes, bytemuck::cast_slice(&known)).unwrap();
            assert_eq!(other.unsound(1..4), Some(2));
            assert_eq!(other.unsound(0..2), None);
        };
        for scale in [0.0, -1.0, 3.3, 1e-40, 1e38, f32::INFINITY, f32::NAN] {
            unsound(&|row| row.scale = scale);
        }
        unsound(&|row| row.residual = -1.0);
        unsound(&|row| row.residual = f32::NAN);
        unsound(&|row| row.square += 1);
        unsound(&|row| row.square = i32::MIN);
        unsound(&|row| row.sum = i32::MAX);
        unsound(&|row| row.scale *= (1_u64 << 62) as f32);
        for (at, code) in [(0, -128), (0, 7), (69, 0), (70, 1), (127, -1)] {
            let mut codes = codes.to_vec();
            codes[2 * 128 + at] = code;
            let known = bytemuck::cast_slice(&known);
            let other = Quantised::from_parts(70, &codes, known).unwrap();
            assert_eq!(other.unsound(0..4), Some(2), "{at} {code}");
        }
    }
}
