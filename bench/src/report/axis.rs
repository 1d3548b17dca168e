//! Axes: where a value stands, and which values are written there.
//!
//! Steps are 1, 2 or 5 times a power of ten. The plotting library is given places and ticks that are fixed here, since
//! its own ticks know neither "nines" nor units.

use super::units::{Unit, number};

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
    /// Quantiles: each nine more is as far as the one before.
    Nines,
}

/// An axis with its range.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What stands at the axis.
    pub(super) title: String,
    /// Values at which a line and words stand, as places.
    pub(super) ticks: Vec<f64>,
    /// First and last place.
    pub(super) range: (f64, f64),
    scale: Scale,
    unit: Unit,
}

/// Steps between ticks, about.
const STEPS: f64 = 5.0;

/// Ticks, at most, on an axis by the logarithm.
const LOG_TICKS: usize = 10;

impl Axis {
    /// From 0, or from the smallest value if that is below, to the largest.
    pub(super) fn linear(title: &str, unit: Unit, values: &[f64]) -> Axis {
        let (low, high) = bounds(values.iter().copied()).unwrap_or((0.0, 1.0));
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = unit.step(nice_step, (high - low) / STEPS);
        let (first, last) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        let ticks: Vec<f64> = (0..=(last - first) as u32).map(|at| (first + f64::from(at)) * step).collect();
        Axis { title: title.to_owned(), range: (first * step, last * step), ticks, scale: Scale::Linear, unit }
    }

    /// From the smallest value above 0 to the largest, both widened to a step.
    pub(super) fn log(title: &str, unit: Unit, values: &[f64]) -> Axis {
        let (low, high) = bounds(values.iter().copied().filter(|&value| value > 0.0)).unwrap_or((1.0, 10.0));
        let marks = marks(low, high);
        let range = (place_log(marks[0]), place_log(marks[marks.len() - 1]));
        let ticks = thinned(marks).into_iter().map(place_log).collect();
        Axis { title: title.to_owned(), range, ticks, scale: Scale::Log, unit }
    }

    /// Quantiles up to the one that `count` values can tell.
    pub(super) fn nines(title: &str, count: u64) -> Axis {
        let last = place_log((count as f64).max(10.0));
        // The words grow with each nine: of many only every other has room.
        let every = if last < 5.0 { 1 } else { 2 };
        let ticks = (0..=last.floor() as u32).step_by(every).map(f64::from).collect();
        Axis { title: title.to_owned(), range: (0.0, last), ticks, scale: Scale::Nines, unit: Unit::Share }
    }

    /// Rows from the top: the first lies between 0 and -1. Nothing is written at it.
    pub(super) fn rows(count: usize) -> Axis {
        let range = (-(count.max(1) as f64), 0.0);
        Axis { title: String::new(), range, ticks: Vec::new(), scale: Scale::Linear, unit: Unit::Count }
    }

    /// By the logarithm if the values lie far apart.
    pub(super) fn fitting(title: &str, unit: Unit, values: &[f64]) -> Axis {
        let positive = values.iter().copied().filter(|&value| value > 0.0);
        let far = bounds(positive).is_some_and(|(low, high)| high / low > 20.0);
        if far { Axis::log(title, unit, values) } else { Axis::linear(title, unit, values) }
    }

    /// The place of a value, within the range.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => value,
            Scale::Log => place_log(value),
            Scale::Nines => -place_log(1.0 - value),
        };
        place.clamp(self.range.0, self.range.1)
    }

    /// The words at a place.
    pub(super) fn words(&self, place: f64) -> String {
        match self.scale {
            Scale::Linear => self.unit.tick(place),
            Scale::Log => self.unit.tick(10_f64.powf(place)),
            Scale::Nines => nines(place),
        }
    }
}

/// A value that is 0 or below has no logarithm; it stands at the lower end.
fn place_log(value: f64) -> f64 {
    value.max(f64::MIN_POSITIVE).log10()
}

/// The quantile at so many nines: 0 %, 90 %, 99 %, 99.9 % …
fn nines(place: f64) -> String {
    match place.round().max(0.0) as i32 {
        0 => "0 %".to_owned(),
        nines => format!("{:.*} %", (nines - 2).max(0) as usize, 100.0 * (1.0 - 10_f64.powi(-nines))),
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.filter(|value| value.is_finite());
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The next step from `about` upwards.
fn nice_step(about: f64) -> f64 {
    if about < f64::MIN_POSITIVE * 1e9 {
        return 1.0;
    }
    let ten = 10_f64.powf(about.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
    steps.into_iter().find(|&step| step >= about * (1.0 - 1e-9)).unwrap_or(ten * 10.0)
}

/// 1, 2 and 5 of each decade, from the one below `low` to the one above `high`; two at least.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all: Vec<f64> = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade))).collect();
    let first = all.iter().rposition(|&mark| mark <= low * (1.0 + 1e-9)).unwrap_or(0);
    let last = all.iter().position(|&mark| mark >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
}

/// All marks where there are few; else the powers of ten, and of these as many as fit.
fn thinned(marks: Vec<f64>) -> Vec<f64> {
    if marks.len() <= LOG_TICKS {
        return marks;
    }
    let is_ten = |mark: &f64| number(*mark / 10_f64.powf(mark.log10().round())) == "1.00";
    let tens: Vec<f64> = marks.into_iter().filter(is_ten).collect();
    let every = tens.len().div_ceil(LOG_TICKS).max(1);
    tens.into_iter().step_by(every).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.words(tick)).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_step() {
        let axis = Axis::linear("", Unit::Count, &[3_000.0, 93_000.0]);
        assert_eq!(said(&axis), ["0", "20k", "40k", "60k", "80k", "100k"]);
        assert_eq!(axis.range, (0.0, 100_000.0));
    }

    #[test]
    fn a_linear_axis_holds_what_is_below_zero() {
        let axis = Axis::linear("", Unit::BytesEach, &[-30.0, 170.0]);
        assert_eq!((axis.range, said(&axis)[0].as_str()), ((-50.0, 200.0), "-50 B"));
    }

    #[test]
    fn an_axis_without_values_has_a_range() {
        for values in [vec![], vec![0.0], vec![f64::NAN]] {
            let axis = Axis::linear("", Unit::Count, &values);
            assert!(axis.range.0 < axis.range.1 && axis.ticks.len() > 1, "{values:?}: {axis:?}");
            let axis = Axis::log("", Unit::Count, &values);
            assert!(axis.range.0 < axis.range.1 && axis.ticks.len() > 1, "{axis:?}");
        }
    }

    #[test]
    fn an_axis_by_the_logarithm_has_few_ticks() {
        let near = Axis::log("", Unit::Micros, &[45.0, 900.0]);
        assert_eq!(said(&near), ["20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]);
        let far = Axis::log("", Unit::Micros, &[3.0, 4e6]);
        assert_eq!(said(&far), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let same = Axis::log("", Unit::Micros, &[50.0]);
        assert_eq!(said(&same), ["50 µs", "100 µs"]);
    }

    #[test]
    fn nines_are_even_steps() {
        let axis = Axis::nines("", 20_000);
        assert_eq!(said(&axis), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert_eq!(said(&Axis::nines("", 1_000_000)), ["0 %", "99 %", "99.99 %", "99.9999 %"]);
        assert!((axis.place(0.99) - 2.0).abs() < 1e-9);
        assert_eq!(axis.place(1.0), axis.range.1);
    }

    #[test]
    fn far_values_stand_by_their_logarithm() {
        assert_eq!(Axis::fitting("", Unit::Count, &[1.0, 10.0]).scale, Scale::Linear);
        assert_eq!(Axis::fitting("", Unit::Count, &[1.0, 100.0]).scale, Scale::Log);
    }

    #[test]
    fn places_stay_within_the_range() {
        let axis = Axis::log("", Unit::Micros, &[10.0, 100.0]);
        assert_eq!((axis.place(0.0), axis.place(1e12)), axis.range);
    }
}
