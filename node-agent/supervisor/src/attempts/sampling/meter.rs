//! Sums of an attempt's samples: means weighed by time, since looks are not evenly spaced, and the highest and the last
//! values. Pure.

use capstan_proto::wire;

/// What one look saw of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Of any clock that does not go back.
    pub(super) at_ms: u64,
    /// CPU time since its start.
    pub(super) cpu_us: u64,
    pub(super) memory_kb: u64,
    /// Since its start.
    pub(super) read_kb: u64,
    pub(super) written_kb: u64,
    /// `None` while its cards do not answer, or it has none.
    pub(super) cards: Option<CardSample>,
}

/// All cards of the attempt together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CardSample {
    /// The mean over those whose load is told; `None` when it is of none: drivers tell nothing of parts of divided cards.
    pub(super) percent: Option<u64>,
    pub(super) memory_kb: u64,
    /// As above, their sum.
    pub(super) power_milliwatts: Option<u64>,
    /// At least one is at work.
    pub(super) is_at_work: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    weighed: u128,
    span_ms: u64,
    peak: u64,
    last: u64,
}

impl Sum {
    /// `value` stood for the last `span_ms`. A first look stands for a moment.
    fn add(&mut self, value: u64, span_ms: u64) {
        let span_ms = span_ms.max(1);
        self.weighed += u128::from(value) * u128::from(span_ms);
        self.span_ms = self.span_ms.saturating_add(span_ms);
        self.peak = self.peak.max(value);
        self.last = value;
    }

    /// `None` when nothing was ever seen.
    fn known(&self) -> Option<wire::Series> {
        (self.span_ms > 0).then(|| self.series())
    }

    fn series(&self) -> wire::Series {
        let mean = self.weighed.checked_div(self.span_ms.into()).unwrap_or(0);
        wire::Series {
            mean: u64::try_from(mean).unwrap_or(u64::MAX),
            peak: self.peak,
            last: self.last,
        }
    }
}

/// All that was seen of one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::attempts) struct Meter {
    samples: u32,
    before: Option<Sample>,
    cpu_percent: Sum,
    memory_kb: Sum,
    card_percent: Sum,
    card_memory_kb: Sum,
    power_milliwatts: Sum,
    read_kb: u64,
    written_kb: u64,
}

/// Two looks closer than this are one: shares of CPU time would be noise.
const SPAN_MS_MIN: u64 = 100;

impl Meter {
    /// Takes in a look. Counts that go back (a group that was made anew) count from there on.
    pub(super) fn add(&mut self, sample: Sample) {
        let span_ms = match self.before {
            Some(before) => sample.at_ms.saturating_sub(before.at_ms),
            None => 0,
        };
        if let Some(before) = self.before {
            if span_ms < SPAN_MS_MIN {
                return;
            }
            let cpu_us = sample.cpu_us.saturating_sub(before.cpu_us);
            self.cpu_percent.add(cpu_us / (span_ms * 10), span_ms);
        }
        self.samples = self.samples.saturating_add(1);
        self.memory_kb.add(sample.memory_kb, span_ms);
        if let Some(cards) = sample.cards {
            self.card_memory_kb.add(cards.memory_kb, span_ms);
            if let Some(percent) = cards.percent {
                self.card_percent.add(percent, span_ms);
            }
            if let Some(power) = cards.power_milliwatts {
                self.power_milliwatts.add(power, span_ms);
            }
        }
        self.read_kb = self.read_kb.max(sample.read_kb);
        self.written_kb = self.written_kb.max(sample.written_kb);
        self.before = Some(sample);
    }

    /// What the server hears; `None` before the first look.
    pub(in crate::attempts) fn measures(&self) -> Option<wire::Measures> {
        (self.samples > 0).then(|| wire::Measures {
            samples: self.samples,
            cpu_percent: Some(self.cpu_percent.series()),
            memory_kb: Some(self.memory_kb.series()),
            card_percent: self.card_percent.known(),
            card_memory_kb: self.card_memory_kb.known(),
            power_milliwatts: self.power_milliwatts.known(),
            read_kb: self.read_kb,
            written_kb: self.written_kb,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[(u64, u64, u64, Option<u64>)]) -> wire::Measures {
        let mut meter = Meter::default();
        for &(at_ms, cpu_us, memory_kb, percent) in samples {
            meter.add(Sample {
                at_ms,
                cpu_us,
                memory_kb,
                cards: percent.map(|percent| CardSample {
                    percent: Some(percent),
                    ..CardSample::default()
                }),
                ..Sample::default()
            });
        }
        meter.measures().unwrap()
    }

    #[test]
    fn means_are_weighed_by_the_time_that_a_value_stood() {
        let seen = of(&[
            (0, 0, 0, None),
            (1000, 0, 100, Some(90)),
            (4000, 0, 500, Some(10)),
        ]);
        let memory = seen.memory_kb.unwrap();
        assert_eq!((memory.mean, memory.peak, memory.last), (399, 500, 500));
        let cards = seen.card_percent.unwrap();
        assert_eq!((cards.mean, cards.peak, cards.last), (30, 90, 10));
        assert_eq!(seen.samples, 3);
    }

    #[test]
    fn a_load_that_nobody_tells_is_not_zero() {
        let mut meter = Meter::default();
        for at_ms in [0, 1000] {
            meter.add(Sample {
                at_ms,
                cards: Some(CardSample {
                    memory_kb: 7,
                    ..CardSample::default()
                }),
                ..Sample::default()
            });
        }
        let seen = meter.measures().unwrap();
        assert_eq!((seen.card_percent, seen.power_milliwatts), (None, None));
        assert_eq!(seen.card_memory_kb.unwrap().peak, 7);
    }

    #[test]
    fn cpu_time_becomes_a_share_of_one_core() {
        let seen = of(&[
            (0, 0, 0, None),
            (1000, 2_500_000, 0, None),
            (2000, 2_500_000, 0, None),
        ]);
        let cpu = seen.cpu_percent.unwrap();
        assert_eq!((cpu.mean, cpu.peak, cpu.last), (125, 250, 0));
    }

    #[test]
    fn looks_that_are_too_close_and_counts_that_go_back_do_no_harm() {
        let seen = of(&[(0, 500, 7, None), (0, 600, 9, None), (50, 900, 9, None)]);
        assert_eq!((seen.samples, seen.memory_kb.unwrap().peak), (1, 7));
        let seen = of(&[(0, 9_000_000, 0, None), (1000, 1_000_000, 0, None)]);
        assert_eq!(seen.cpu_percent.unwrap().peak, 0);
        let seen = of(&[(5000, 0, u64::MAX, None), (1000, 0, u64::MAX, None)]);
        assert_eq!(seen.memory_kb.unwrap().mean, u64::MAX);
    }

    #[test]
    fn nothing_is_said_before_the_first_look() {
        assert_eq!(Meter::default().measures(), None);
    }
}
