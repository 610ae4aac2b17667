//! A picture of a simulation, as SVG: cards in use and jobs waiting over time, and how long jobs waited by when they came.

use std::fmt::Write;

use capstan_types::Timestamp;

use crate::summary::{Done, done};
use crate::{Cluster, Run, Sample, Trace};

/// The picture, in pixels.
const WIDTH: f64 = 1000.0;
const PANEL: f64 = 220.0;
const GAP: f64 = 60.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;

/// Columns of a curve: more cannot be seen.
const COLUMNS: usize = 900;

/// One panel's curves share an axis.
struct Panel<'a> {
    title: &'a str,
    top: f64,
    most: f64,
    /// From what follows to what an axis says.
    unit: fn(f64) -> String,
}

/// The picture.
#[must_use]
pub fn plot(trace: &Trace, cluster: &Cluster, run: &Run) -> String {
    let height = 3.0 * (PANEL + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let done: Vec<Done<'_>> = trace.jobs.iter().zip(&run.jobs).filter_map(done).collect();
    let from = trace.jobs.first().map_or(0.0, |job| job.submit_secs as f64);
    let to = run.samples.last().map_or(from, |sample| seconds(sample.at));
    let time = Axis {
        from,
        to: to.max(from + 1.0),
    };
    let used = Curve::of_samples(&run.samples, time, |sample| sample.used as f64);
    let waiting = Curve::of_samples(&run.samples, time, |sample| sample.waiting as f64);
    let waits = Curve::of_waits(&done, time);
    let panels = [
        (
            "cards in use",
            cluster.capacity() as f64,
            &used,
            whole as fn(f64) -> String,
            "#2a6fb0",
        ),
        ("jobs waiting", waiting.most(), &waiting, whole, "#b0562a"),
        (
            "wait of those who came then: mean, and the longest (light)",
            waits.most(),
            &waits,
            span,
            "#3a8a3a",
        ),
    ];
    for (number, (title, most, curve, unit, colour)) in panels.into_iter().enumerate() {
        let top = GAP + number as f64 * (PANEL + GAP);
        let panel = Panel {
            title,
            top,
            most: most.max(1.0),
            unit,
        };
        panel.frame(&mut svg, time);
        panel.curve(&mut svg, &curve.high, colour, 0.25);
        panel.curve(&mut svg, &curve.mean, colour, 1.0);
    }
    svg.push_str("</svg>\n");
    svg
}

#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn column(self, at: f64) -> usize {
        let share = (at - self.from) / (self.to - self.from);
        ((share * COLUMNS as f64) as usize).min(COLUMNS - 1)
    }
}

/// A value and the highest value for each column; `None` where nothing is known.
struct Curve {
    mean: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
}

impl Curve {
    /// What holds from one sample to the next, weighted with the time for which it holds.
    fn of_samples(samples: &[Sample], time: Axis, value: impl Fn(&Sample) -> f64) -> Self {
        let mut sums = vec![(0.0, 0.0, 0.0f64); COLUMNS];
        let width = (time.to - time.from) / COLUMNS as f64;
        for pair in samples.windows(2) {
            let (mut at, end, value) = (seconds(pair[0].at), seconds(pair[1].at), value(&pair[0]));
            let mut column = time.column(at);
            while at < end {
                let edge = match column + 1 < COLUMNS {
                    true => time.from + (column + 1) as f64 * width,
                    false => end,
                };
                let until = edge.clamp(at, end);
                let (sum, weight, high) = &mut sums[column];
                *sum += value * (until - at);
                *weight += until - at;
                *high = high.max(value);
                at = until;
                column = (column + 1).min(COLUMNS - 1);
            }
        }
        let known = |(sum, weight, _): &(f64, f64, f64)| (*weight > 0.0).then(|| sum / weight);
        let mean = sums.iter().map(known).collect();
        let high = sums
            .iter()
            .map(|(_, weight, high)| (*weight > 0.0).then_some(*high))
            .collect();
        Self { mean, high }
    }

    fn of_waits(done: &[Done<'_>], time: Axis) -> Self {
        let mut sums = vec![(0.0, 0usize, 0.0f64); COLUMNS];
        for job in done {
            let (sum, count, high) = &mut sums[time.column(job.job.submit_secs as f64)];
            *sum += job.wait_s;
            *count += 1;
            *high = high.max(job.wait_s);
        }
        let mean = sums
            .iter()
            .map(|(sum, count, _)| (*count > 0).then(|| sum / *count as f64));
        let high = sums
            .iter()
            .map(|(_, count, high)| (*count > 0).then_some(*high));
        Self {
            mean: mean.collect(),
            high: high.collect(),
        }
    }

    fn most(&self) -> f64 {
        self.high.iter().flatten().copied().fold(0.0, f64::max)
    }
}

impl Panel<'_> {
    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - PANEL * (value / self.most).clamp(0.0, 1.0)
    }

    fn frame(&self, svg: &mut String, time: Axis) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + PANEL);
        put(
            svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>\n\
             <path d=\"M{LEFT} {:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"black\"/>\n",
                self.top - 10.0,
                self.title,
                self.top
            ),
        );
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            let (y, x) = (self.y(share * self.most), LEFT + share * (right - LEFT));
            let value = (self.unit)(share * self.most);
            let when = span(share * (time.to - time.from));
            put(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{when}</text>\n",
                    LEFT - 6.0,
                    y + 4.0,
                    bottom + 18.0
                ),
            );
        }
    }

    fn curve(&self, svg: &mut String, values: &[Option<f64>], colour: &str, opacity: f64) {
        let mut path = String::new();
        let step = (WIDTH - RIGHT - LEFT) / COLUMNS as f64;
        for (column, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let pen = if path.is_empty() { 'M' } else { 'L' };
                let (x, y) = (LEFT + column as f64 * step, self.y(*value));
                put(&mut path, format_args!("{pen}{x:.1} {y:.1}"));
            }
        }
        put(
            svg,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"{opacity}\"/>\n"
            ),
        );
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// In the largest unit that leaves a number above one.
fn span(secs: f64) -> String {
    match secs {
        secs if secs >= 172_800.0 => format!("{:.1} d", secs / 86_400.0),
        secs if secs >= 7200.0 => format!("{:.1} h", secs / 3600.0),
        secs if secs >= 120.0 => format!("{:.1} min", secs / 60.0),
        secs => format!("{secs:.0} s"),
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
