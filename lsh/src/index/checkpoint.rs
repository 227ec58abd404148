//! Builds that can be resumed: checkpoints, and how to go on from one.

use std::collections::BTreeMap;

use lshjoin_kernels::CommonScale;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
    },
    index::{
        builder::{IndexBuilder, Stage},
        learn::Learnt,
        write::{Writing, write},
    },
    ivf::{coarse_quantiser::QuantiserParts, list_offsets::ListOffsets},
    storage::{
        directory::{Checkpoint, CheckpointFile},
        layout::{ARRAYS, CHECKPOINT_ARRAYS, are_starts, has_codes},
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
        if !checkpoint.writing {
            lists.truncate(checkpoint.seen);
        }
        let mut writing = Writing {
            learnt,
            quantiser: None,
            lists,
            next: ListOffsets::default(),
            writers,
        };
        let (count, learnt) = (writing.count(), &writing.learnt);
        let QuantiserParts { groups, lists, .. } = &learnt.quantiser;
        let mut values = groups.iter().chain(lists);
        if checkpoint.seen > self.items
            || !values.all(|value| value.is_finite())
            || !are_starts(&learnt.quantiser.starts, lists_count)
            || !(0.0..=f64::MAX).contains(&learnt.longest)
            || learnt.grid.is_some() != has_codes(self.metric)
            || writing.lists.iter().any(|&list| list as usize >= count)
        {
            return Err(other());
        }
        (self.seen, self.recorded) = (checkpoint.seen, checkpoint.seen);
        if checkpoint.writing {
            writing.next = writing.next_after(checkpoint.seen);
            self.stage = Stage::Write(writing.into());
        } else {
            self.stage = Stage::Assign(writing.into());
        }
        if self.seen == self.items {
            self.end_pass(&Context::new()?)?;
        }
        Ok(())
    }

    /// Writes a checkpoint: brings to disk what was done, and then notes that it is there.
    pub(crate) fn record(&mut self) -> Result<()> {
        let metadata = self.metadata();
        let (Some(directory), true) = (&mut self.directory, self.resumable) else {
            return Ok(());
        };
        let (writing, is_writing) = match &mut self.stage {
            Stage::Assign(writing) => (writing, false),
            Stage::Write(writing) => (writing, true),
            Stage::Learn(_) | Stage::Done(_) => return Ok(()),
        };
        if !is_writing {
            let lists = &writing.lists[self.recorded..];
            write(&mut writing.writers, "lists", self.recorded, lists)?;
        }
        let mut files = BTreeMap::new();
        for (&name, writer) in &mut writing.writers {
            writer.sync()?;
            if let Some(file) = writer.file() {
                let shape = writer.shape().clone();
                files.insert(name.into(), CheckpointFile { file, shape });
            }
        }
        let mut checkpoint = Checkpoint::new(metadata, files);
        (checkpoint.writing, checkpoint.seen) = (is_writing, self.seen);
        let grid = writing.learnt.grid.as_ref();
        checkpoint.scale = grid.map(|grid| grid.scale.to_bits());
        checkpoint.longest = writing.learnt.longest.to_bits();
        directory.record(checkpoint)?;
        self.recorded = self.seen;
        Ok(())
    }
}
