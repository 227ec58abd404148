//! Builds that can be resumed: checkpoints, and how to go on from one.

use std::collections::BTreeMap;

use lshjoin_kernels::CommonScale;

use crate::{
    base::error::{Error, Result},
    index::{
        builder::{IndexBuilder, Stage},
        learn::Learnt,
        write::{Writing, part_records, write},
    },
    ivf::{coarse_quantiser::QuantiserParts, list_offsets::ListOffsets},
    storage::{
        directory::{Checkpoint, CheckpointFile},
        layout::{ARRAYS, CHECKPOINT_ARRAYS, are_starts, has_codes},
        spill::Spill,
        writer::ArrayWriter,
    },
    vectors::grid::Grid,
};

impl IndexBuilder {
    /// Goes on from the checkpoint of another builder.
    pub(crate) fn resume_from(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let writer = |name: &'static str| match checkpoint.files.get(name) {
            Some(CheckpointFile { file, shape }) => {
                let shape = shape.clone();
                Ok((
                    name,
                    ArrayWriter::reopen(name, shape, directory.path(), file)?,
                ))
            }
            None => Err(Error::damaged(
                directory.path(),
                "of an array that was begun there is no file",
            )),
        };
        let writers = ARRAYS.into_iter().chain(CHECKPOINT_ARRAYS).map(writer);
        let writers: BTreeMap<&'static str, ArrayWriter> = writers.collect::<Result<_>>()?;
        let other = || {
            Error::damaged(
                directory.path(),
                "what was begun there is not an index of these items",
            )
        };
        let length = |name| writers[name].shape().length();
        let (groups, lists_count) = (length("groups"), length("centroids"));
        let shapes = self.shapes(groups, length("centre"), lists_count);
        let mut shaped = writers.iter();
        if !shapes.is_possible(&self.plan)
            || !shaped.all(|(&name, writer)| *writer.shape() == shapes.of(name))
        {
            return Err(other());
        }
        let centre: Vec<f32> = writers["centre"].values()?;
        let centre = (!centre.is_empty()).then_some(centre);
        let scale = checkpoint.scale.and_then(CommonScale::from_bits);
        let learnt = Learnt {
            quantiser: QuantiserParts {
                groups: writers["groups"].values()?,
                lists: writers["centroids"].values()?,
                starts: writers["group_starts"].values()?,
            },
            grid: scale.map(|scale| Grid { centre, scale }),
            longest: f64::from_bits(checkpoint.longest),
        };
        let mut lists: Vec<u32> = writers["lists"].values()?;
        lists.truncate(checkpoint.seen);
        let count = learnt.lists().max(1);
        let QuantiserParts {
            groups,
            lists: centroids,
            starts,
        } = &learnt.quantiser;
        let mut values = groups.iter().chain(centroids);
        if checkpoint.seen > self.items
            || !values.all(|value| value.is_finite())
            || !are_starts(starts, lists_count)
            || !(0.0..=f64::MAX).contains(&learnt.longest)
            || learnt.grid.is_some() != has_codes(self.metric)
            || lists.iter().any(|&list| list as usize >= count)
        {
            return Err(other());
        }
        let records = part_records(&lists, count);
        let (stored, left) = (checkpoint.stored, &checkpoint.spill);
        let all_came = checkpoint.seen == self.items;
        if records.len().checked_sub(stored) != Some(left.len()) || (stored > 0 && !all_came) {
            return Err(other());
        }
        let spill = Spill::reopen(self.record_words(), &records, directory.path(), left)?;
        let next = ListOffsets::new(lists.iter().copied(), count);
        let writing = Writing {
            metric: self.metric,
            dim: self.dim,
            learnt,
            quantiser: None,
            lists,
            spill,
            next,
            writers,
        };
        if all_came {
            self.stage = Stage::Store(writing.into(), stored);
        } else {
            (self.seen, self.recorded) = (checkpoint.seen, checkpoint.seen);
            self.stage = Stage::Assign(writing.into());
        }
        Ok(())
    }

    /// Writes a checkpoint: brings to disk what was done, and then notes that it is there.
    pub(crate) fn record(&mut self) -> Result<()> {
        let metadata = self.metadata();
        let (Some(directory), true) = (&mut self.directory, self.resumable) else {
            return Ok(());
        };
        let (writing, seen, stored) = match &mut self.stage {
            Stage::Learn(_) | Stage::Write(_) => return Ok(()),
            Stage::Assign(writing) => {
                let lists = &writing.lists[self.recorded..];
                write(&mut writing.writers, "lists", self.recorded, lists)?;
                (writing, self.seen, 0)
            }
            Stage::Store(writing, stored) => (writing, self.items, *stored),
        };
        writing.spill.sync()?;
        let mut files = BTreeMap::new();
        for (&name, writer) in &mut writing.writers {
            writer.sync()?;
            if let Some(file) = writer.file() {
                let shape = writer.shape().clone();
                files.insert(name.into(), CheckpointFile { file, shape });
            }
        }
        let mut checkpoint = Checkpoint::new(metadata, files);
        (checkpoint.seen, checkpoint.stored) = (seen, stored);
        checkpoint.spill = writing.spill.files(stored);
        let grid = writing.learnt.grid.as_ref();
        checkpoint.scale = grid.map(|grid| grid.scale.to_bits());
        checkpoint.longest = writing.learnt.longest.to_bits();
        directory.record(checkpoint)?;
        self.recorded = self.seen;
        Ok(())
    }
}
