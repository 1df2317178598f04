//! Measuring two things in turns: A B B A, so that what drifts falls on both alike.

/// Costs of both sides, one pair a round.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    rounds: Vec<(f64, f64)>,
}

impl Turns {
    /// Runs both sides so many rounds. Each call gives one run's cost; the first of each is not counted.
    pub(crate) fn take(
        rounds: usize,
        mut ours: impl FnMut() -> anyhow::Result<f64>,
        mut other: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        ours()?;
        other()?;
        let mut turns = Self { rounds: Vec::with_capacity(rounds) };
        for _ in 0..rounds {
            let first = ours()?;
            let others = other()? + other()?;
            turns.rounds.push(((first + ours()?) / 2.0, others / 2.0));
        }
        Ok(turns)
    }

    /// Our median cost and the other's.
    pub(crate) fn costs(&self) -> (f64, f64) {
        (median(self.rounds.iter().map(|round| round.0)), median(self.rounds.iter().map(|round| round.1)))
    }

    /// The other's cost in ours: how many times cheaper we are. The median of the rounds, and the worst.
    pub(crate) fn times_cheaper(&self) -> (f64, f64) {
        let ratios = || self.rounds.iter().map(|(ours, other)| other / ours);
        (median(ratios()), ratios().fold(f64::INFINITY, f64::min))
    }

    /// Our cost in the other's: how many times as much we cost. The median of the rounds, and the worst.
    pub(crate) fn times_as_much(&self) -> (f64, f64) {
        let ratios = || self.rounds.iter().map(|(ours, other)| ours / other);
        (median(ratios()), ratios().fold(0.0, f64::max))
    }
}

/// The middle value; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_the_first_runs_do_not_count() {
        let costs = |costs: &'static [f64]| {
            let mut next = costs.iter();
            move || Ok(*next.next().expect("as many as runs"))
        };
        let ours = costs(&[99.0, 1.0, 3.0, 4.0, 4.0, 1.0, 1.0]);
        let other = costs(&[99.0, 2.0, 2.0, 4.0, 4.0, 3.0, 3.0]);
        let turns = Turns::take(3, ours, other).expect("no run fails");
        assert_eq!(turns.costs(), (2.0, 3.0));
        assert_eq!(turns.times_cheaper(), (1.0, 1.0));
        assert_eq!(turns.times_as_much(), (1.0, 1.0));
    }
}
