//! How lists of the nearest were filled at commit 26bb197, before keys were inserted by lanes: what
//! insertion is measured by.

/// Distances and indices, by both.
pub struct Nearest {
    distances: Vec<f32>,
    indices: Vec<u32>,
}

impl Nearest {
    /// Of so many places.
    pub fn new(k: usize) -> Self {
        Self {
            distances: vec![f32::INFINITY; k],
            indices: vec![u32::MAX; k],
        }
    }

    pub fn clear(&mut self) {
        self.distances.fill(f32::INFINITY);
        self.indices.fill(u32::MAX);
    }

    #[inline]
    pub fn insert(&mut self, distance: f32, index: u32) {
        if distance <= self.distances[self.distances.len() - 1] {
            self.insert_near(distance, index);
        }
    }

    fn insert_near(&mut self, distance: f32, index: u32) {
        let nearer = self.distances.partition_point(|&other| other < distance);
        let ties = self.distances[nearer..]
            .iter()
            .zip(&self.indices[nearer..])
            .take_while(|&(&other, &at)| other == distance && at < index)
            .count();
        let place = nearer + ties;
        if place == self.indices.len() || self.indices.contains(&index) {
            return;
        }
        let last = self.indices.len() - 1;
        self.distances.copy_within(place..last, place + 1);
        self.indices.copy_within(place..last, place + 1);
        self.distances[place] = distance;
        self.indices[place] = index;
    }
}
