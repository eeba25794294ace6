use bytemuck::{Pod, Zeroable};

/// How often something took how long: two buckets an octave, from 2^17 ns (131 µs) to 2^33 ns (8.6 s).
///
/// Bucket 0 holds all that is shorter, the last one all that is longer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Latencies {
    /// Counts, by bucket. Monotonic, wrapping.
    pub buckets: [u32; Latencies::BUCKETS],
}

impl Latencies {
    /// How many buckets there are; a power of two, so that the programs can mask an index.
    pub const BUCKETS: usize = 32;
    /// The binary logarithm of the lower bound of bucket 1, in ns.
    const FIRST: u32 = 17;

    /// The bucket that a time is counted in.
    #[must_use]
    #[inline]
    pub const fn bucket_of(ns: u64) -> usize {
        let octave = (ns | 1).ilog2();
        if octave < Self::FIRST {
            return 0;
        }
        let upper_half = (ns >> (octave - 1)) & 1;
        let index = ((octave - Self::FIRST) * 2) as usize + upper_half as usize + 1;
        if index < Self::BUCKETS { index } else { Self::BUCKETS - 1 }
    }

    /// The times that a bucket holds are below this, in ns; the last bucket's have no bound.
    #[must_use]
    pub const fn upper_bound_ns(bucket: usize) -> Option<u64> {
        if bucket + 1 >= Self::BUCKETS {
            return None;
        }
        let start = 1 << (Self::FIRST as usize + bucket / 2);
        Some(if bucket.is_multiple_of(2) { start } else { start + start / 2 })
    }

    /// The sum of both, bucket by bucket.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        for (one, more) in sum.buckets.iter_mut().zip(other.buckets) {
            *one = one.wrapping_add(more);
        }
        sum
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        for (one, less) in difference.buckets.iter_mut().zip(earlier.buckets) {
            *one = one.wrapping_sub(less);
        }
        difference
    }

    /// How many times were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets.iter().map(|&count| u64::from(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_below_its_buckets_bound_and_not_below_the_one_before() {
        for octave in 0..64 {
            for ns in [1 << octave, (1_u64 << octave) + (1 << octave) / 2, (1_u64 << octave).wrapping_sub(1)]
            {
                let bucket = Latencies::bucket_of(ns);
                assert!(Latencies::upper_bound_ns(bucket).is_none_or(|bound| ns < bound), "{ns} in {bucket}");
                let before = bucket.checked_sub(1).and_then(Latencies::upper_bound_ns);
                assert!(before.is_none_or(|bound| ns >= bound), "{ns} in {bucket}");
            }
        }
    }
}
