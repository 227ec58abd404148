//! A router as bytes, which go from the driver to the tasks: a safetensors file.

use std::collections::HashMap;

use lshjoin_kernels::{CommonScale, memory};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize},
};

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
    },
    ivf::{
        coarse_quantiser::{CoarseQuantiser, QuantiserParts},
        list_offsets::ListOffsets,
        list_router::ListRouter,
        routing_space::{ROUTED, Space},
    },
    vectors::grid::Grid,
};

impl ListRouter {
    /// What it is made of, for [`ListRouter::from_bytes`]: a safetensors file.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let space = &self.space;
        let most = self.most as f64;
        let numbers = [space.factor, space.longest, f64::from(self.margin), most];
        let scale = [self.grid.scale.to_bits()];
        let parts: Vec<u64> = self.parts.starts().collect();
        let QuantiserParts {
            groups,
            lists,
            starts,
        } = &self.learnt;
        let centre = self.grid.centre.as_deref().unwrap_or_default();
        let tensors = [
            ("numbers", Dtype::F64, bytemuck::cast_slice(&numbers)),
            ("scale", Dtype::U32, bytemuck::cast_slice(&scale)),
            ("parts", Dtype::U64, bytemuck::cast_slice(&parts)),
            ("groups", Dtype::F32, bytemuck::cast_slice(groups)),
            ("lists", Dtype::F32, bytemuck::cast_slice(lists)),
            ("starts", Dtype::U64, bytemuck::cast_slice(starts)),
            ("centre", Dtype::F32, bytemuck::cast_slice(centre)),
        ];
        let tensors = tensors
            .into_iter()
            .map(|(name, dtype, bytes): (_, _, &[u8])| {
                let length = bytes.len() * 8 / dtype.bitsize();
                Ok((name, TensorView::new(dtype, vec![length], bytes)?))
            });
        let metric = ("metric".to_owned(), space.metric.name().to_owned());
        let of_all = HashMap::from([metric, ("dim".to_owned(), space.dim.to_string())]);
        let tensors: std::result::Result<Vec<_>, _> = tensors.collect();
        tensors
            .and_then(|tensors| serialize(tensors, Some(of_all)))
            .map_err(damaged)
    }

    /// From what [`ListRouter::to_bytes`] gave.
    ///
    /// # Errors
    /// When it is anything else, or the run is cancelled.
    pub fn from_bytes(bytes: &[u8], ctx: &Context) -> Result<Self> {
        let (_, about) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let about = about.metadata().clone().unwrap_or_default();
        let said = |name: &str| about.get(name).ok_or_else(|| damaged(name));
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let numbers: Vec<f64> = values(&tensors, "numbers")?;
        let &[factor, longest, margin, most] = &numbers[..] else {
            return Err(damaged("numbers"));
        };
        let space = Space {
            metric: said("metric")?.parse()?,
            dim: said("dim")?.parse().map_err(damaged)?,
            factor,
            longest,
        };
        if !(1..=u32::MAX as usize).contains(&space.dim) {
            return Err(damaged("dim"));
        }
        let width = space.width();
        let learnt = QuantiserParts {
            groups: values(&tensors, "groups")?,
            lists: values(&tensors, "lists")?,
            starts: values(&tensors, "starts")?,
        };
        let (groups, lists) = (learnt.groups.len() / width, learnt.lists.len() / width);
        let centre: Vec<f32> = values(&tensors, "centre")?;
        let scale: Vec<u32> = values(&tensors, "scale")?;
        let scale = scale.first().copied().and_then(CommonScale::from_bits);
        let parts: Vec<u64> = values(&tensors, "parts")?;
        let whole = learnt.groups.len() == groups * width
            && learnt.lists.len() == lists * width
            && learnt.starts.len() == groups + 1
            && rises(&learnt.starts, lists)
            && lists > 0
            && rises(&parts, lists)
            && parts.windows(2).all(|bounds| bounds[0] < bounds[1])
            && (centre.is_empty() || centre.len() == width);
        let (true, Some(scale)) = (whole, scale) else {
            return Err(damaged("what it holds does not fit together"));
        };
        let quantiser = CoarseQuantiser::of_parts(learnt.clone(), width, ctx)?;
        let starts = parts.iter().map(|&start| start as usize).collect();
        Ok(Self {
            grid: Grid {
                centre: (!centre.is_empty()).then_some(centre),
                scale,
            },
            parts: ListOffsets::of_starts(starts),
            margin: margin as f32,
            most: most as usize,
            space,
            quantiser,
            learnt,
        })
    }
}

/// Whether these are starts of some things, and where the last of so many ends.
fn rises(starts: &[u64], count: usize) -> bool {
    starts.first() == Some(&0) && starts.last() == Some(&(count as u64)) && starts.is_sorted()
}

fn values<V: bytemuck::AnyBitPattern>(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<V>> {
    let bytes = tensors.tensor(name).map_err(damaged)?.data();
    let values = bytes
        .chunks_exact(size_of::<V>())
        .map(bytemuck::pod_read_unaligned);
    Ok(memory::collect(values, ROUTED)?)
}

fn damaged(problem: impl ToString) -> Error {
    Error::parameter(
        "a router",
        "of bytes that ListRouter::to_bytes gave",
        problem.to_string(),
    )
}
