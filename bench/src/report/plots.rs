//! Lines and bars as SVG, drawn by plotters.
//!
//! Drawing is at four times the shown size, since the library places things at whole pixels. The legend and the title
//! are words of the page, where they wrap; the library cannot measure text without a font file. Text and grid have
//! colours of their own, which the page's style sheet exchanges in the dark.

use super::axis::Axis;
use super::units::Unit;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Grid = Cartesian2d<Axis, Axis>;
type Chart<'c, 'a> = ChartContext<'c, SVGBackend<'a>, Grid>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Pixels of the drawing for one of the page.
const SCALE: i32 = 4;

/// The shown size, and the parts around the plot.
const WIDTH: i32 = 440;
const HEIGHT: i32 = 290;
const LEFT: i32 = 66;
const TOP: i32 = 26;
const MARGIN: i32 = 8;
/// For the words at the first tick, where that is not a mere 0.
const ROOM_BELOW_ZERO: i32 = 32;
const RIGHT: i32 = 36;
const BELOW: i32 = 28;
const FOOT: i32 = 22;

/// A bar with its words above.
const ROW: i32 = 46;
const BAR: (f64, f64) = (0.50, 0.88);

const TEXT: f64 = 13.0;

/// Exchanged by page.css, which names the same colours.
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2F);
const FAINT: RGBColor = RGBColor(0x5B, 0x65, 0x70);
const GRID: RGBColor = RGBColor(0xE3, 0xE7, 0xEB);

/// Okabe and Ito's colours, which also those tell apart who do not see all colours ("Color Universal Design", 2008);
/// grey for their black, on which no whisker shows, and a wine red for their yellow, which is too faint on white.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0x88, 0x22, 0x55),
];

/// Of what is pale, and of what fills a hollow bar.
const PALE: f64 = 0.5;
const HOLLOW: f64 = 0.15;

/// Marks on lines, as the legend writes them.
const MARKS: [char; 5] = ['●', '▲', '■', '◆', '▼'];

/// How one server looks on the whole page: its number decides colour and mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// From 0, in the order of the files.
    pub(super) number: usize,
    /// A plain result. Others are hollow and dashed.
    pub(super) plain: bool,
    /// What the server is compared with in its own run: paler.
    pub(super) pale: bool,
}

impl Look {
    /// Which colour of the style sheet.
    pub(super) fn colour(self) -> usize {
        self.number % COLOURS.len()
    }

    /// The mark, filled or hollow.
    pub(super) fn mark(self) -> char {
        let hollow = ['○', '△', '□', '◇', '▽'];
        if self.plain { MARKS[self.shape()] } else { hollow[self.shape()] }
    }

    fn shape(self) -> usize {
        (self.number + usize::from(self.pale) * 2) % MARKS.len()
    }

    fn rgba(self) -> RGBAColor {
        COLOURS[self.colour()].mix(if self.pale { PALE } else { 1.0 })
    }
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its looks.
    pub(super) look: Look,
    /// Values, not places.
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over two axes.
pub(super) struct Lines {
    /// Across.
    pub(super) x: Axis,
    /// Upwards.
    pub(super) y: Axis,
    /// The lines.
    pub(super) series: Vec<Series>,
}

/// One bar.
pub(super) struct Bar {
    /// Its looks.
    pub(super) look: Look,
    /// Words above it, at the left; shortened where they are too long.
    pub(super) name: String,
    /// Words in it: what stands against taking it as a plain result.
    pub(super) mark: &'static str,
    /// Its value in words, at the right.
    pub(super) value: String,
    /// Its length.
    pub(super) length: f64,
    /// The ends of the whisker, where there were several rounds.
    pub(super) whisker: Option<(f64, f64)>,
}

/// Bars below each other.
pub(super) struct Bars {
    /// What is at the axis.
    pub(super) title: String,
    /// Of the values.
    pub(super) unit: Unit,
    /// The first at the top.
    pub(super) rows: Vec<Bar>,
}

impl Lines {
    /// The drawing; an error of the library is said in words.
    pub(super) fn svg(&self) -> Result<String, String> {
        drawing(HEIGHT, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let mut chart = grid(area, LEFT, &self.x, &self.y)?;
        caption(area, &self.y.title, (4, 3), HPos::Left, VPos::Top)?;
        caption(area, &self.x.title, (WIDTH - RIGHT, HEIGHT - 3), HPos::Right, VPos::Bottom)?;
        self.series.iter().try_for_each(|series| self.line(area, &mut chart, series))
    }

    fn line(&self, area: &Area<'_>, chart: &mut Chart<'_, '_>, series: &Series) -> Drawn {
        let points = self.places(series);
        let style = stroke(series.look.rgba(), 2);
        if series.look.plain {
            chart.draw_series(LineSeries::new(points.iter().copied(), style)).map(drop)?;
        } else {
            chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6 * SCALE, 4 * SCALE, style)).map(drop)?;
        }
        let marked = marked(points.len()).map(|at| chart.backend_coord(&points[at]));
        marked.collect::<Vec<_>>().into_iter().try_for_each(|at| mark(area, at, series.look))
    }

    /// Without points that fall upon the one before.
    fn places(&self, series: &Series) -> Vec<(f64, f64)> {
        let finite = series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        let mut places: Vec<(f64, f64)> = finite.map(|&(x, y)| (self.x.place(x), self.y.place(y))).collect();
        let near = |a: f64, b: f64, axis: &Axis| (a - b).abs() * 1000.0 < axis.range.1 - axis.range.0;
        places.dedup_by(|next, kept| near(next.0, kept.0, &self.x) && near(next.1, kept.1, &self.y));
        places
    }
}

impl Bars {
    /// The drawing; an error of the library is said in words.
    pub(super) fn svg(&self) -> Result<String, String> {
        drawing(self.height(), |area| self.draw(area))
    }

    fn height(&self) -> i32 {
        ROW * self.rows.len().cast_signed() as i32 + BELOW + FOOT
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let reaches =
            |bar: &Bar| [bar.length].into_iter().chain(bar.whisker.into_iter().flat_map(|(low, high)| [low, high]));
        let reached: Vec<f64> = self.rows.iter().flat_map(reaches).collect();
        let x = Axis::linear(&self.title, self.unit, &reached);
        let y = Axis::rows(self.rows.len());
        let mut chart = grid(area, if x.range.0 < 0.0 { ROOM_BELOW_ZERO } else { MARGIN }, &x, &y)?;
        caption(area, &x.title, (WIDTH - RIGHT, self.height() - 3), HPos::Right, VPos::Bottom)?;
        self.rows.iter().enumerate().try_for_each(|(row, bar)| bar.draw(area, &mut chart, row))
    }
}

impl Bar {
    fn draw(&self, area: &Area<'_>, chart: &mut Chart<'_, '_>, row: usize) -> Drawn {
        let at = |part: f64| -(row as f64 + part);
        let frame = [(0.0, at(BAR.0)), (self.length, at(BAR.1))];
        let colour = self.look.rgba();
        let fill = if self.look.plain { colour.filled() } else { colour.mix(HOLLOW).filled() };
        chart.draw_series([Rectangle::new(frame, fill)])?;
        if !self.look.plain {
            let corners = [(0.0, BAR.0), (self.length, BAR.0), (self.length, BAR.1), (0.0, BAR.1), (0.0, BAR.0)];
            let outline: Vec<(f64, f64)> = corners.map(|(x, part)| (x, at(part))).to_vec();
            chart.draw_series([PathElement::new(outline, stroke(colour, 2))])?;
        }
        self.draw_whisker(chart, &at)?;
        self.draw_words(area, chart.backend_coord(&(0.0, at(0.0))).1)
    }

    fn draw_whisker(&self, chart: &mut Chart<'_, '_>, at: &dyn Fn(f64) -> f64) -> Drawn {
        let Some((low, high)) = self.whisker else { return Ok(()) };
        let middle = at(f64::midpoint(BAR.0, BAR.1));
        let cap = |x: f64| vec![(x, at(BAR.0 + 0.08)), (x, at(BAR.1 - 0.08))];
        let paths = [vec![(low, middle), (high, middle)], cap(low), cap(high)];
        Ok(chart.draw_series(paths.map(|path| PathElement::new(path, stroke(INK, 2)))).map(drop)?)
    }

    fn draw_words(&self, area: &Area<'_>, top: i32) -> Drawn {
        let y = top / SCALE + 5;
        let inside = (top + (f64::from(ROW * SCALE) * f64::midpoint(BAR.0, BAR.1)) as i32) / SCALE;
        text(area, self.mark, (MARGIN + 6, inside), &style(INK, HPos::Left, VPos::Center))?;
        // Bold is wider by a tenth or so.
        let room = f64::from(WIDTH - RIGHT - MARGIN) - 1.15 * self.value.chars().map(width).sum::<f64>() - TEXT;
        text(area, &shortened(&self.name, room), (MARGIN, y), &style(INK, HPos::Left, VPos::Top))?;
        let style = style_bold(INK, HPos::Right, VPos::Top);
        text(area, &self.value, (WIDTH - RIGHT, y), &style)
    }
}

/// As much of the name as is at most `room` wide.
fn shortened(name: &str, room: f64) -> String {
    let ends = name.chars().scan(0.0, |end, c| {
        *end += width(c);
        Some(*end)
    });
    let ends: Vec<f64> = ends.collect();
    if ends.last().is_none_or(|&end| end <= room) {
        return name.to_owned();
    }
    let fit = ends.iter().take_while(|&&end| end + width('…') <= room).count();
    name.chars().take(fit).chain(['…']).collect()
}

/// The width of a character in a wide font, in pixels of the page: rather too much than too little.
fn width(c: char) -> f64 {
    let em = match c {
        'W' | 'M' | 'm' | 'w' | '@' | '%' | '…' => 1.0,
        c if c >= '\u{1100}' => 1.1,
        c if c.is_uppercase() => 0.75,
        'i' | 'j' | 'l' | 't' | 'f' | ' ' | '.' | ',' | ':' | ';' | '(' | ')' | '/' | '-' => 0.4,
        _ => 0.64,
    };
    em * TEXT
}

fn drawing(height: i32, draw: impl Fn(&Area<'_>) -> Drawn) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, pixels((WIDTH, height))).into_drawing_area();
        draw(&area).map_err(|error| format!("the plot cannot be drawn: {error}"))?;
        area.present().map_err(|error| format!("the plot cannot be drawn: {error}"))?;
    }
    Ok(svg)
}

fn pixels(size: (i32, i32)) -> (u32, u32) {
    ((size.0 * SCALE).unsigned_abs(), (size.1 * SCALE).unsigned_abs())
}

fn grid<'c, 'a>(
    area: &'c Area<'a>,
    left: i32,
    x: &Axis,
    y: &Axis,
) -> Result<Chart<'c, 'a>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(if y.ticks.is_empty() { 0 } else { TOP * SCALE })
        .margin_right(RIGHT * SCALE)
        .margin_bottom(FOOT * SCALE)
        .margin_left(if y.ticks.is_empty() { left * SCALE } else { 0 })
        .x_label_area_size(BELOW * SCALE)
        .y_label_area_size(if y.ticks.is_empty() { 0 } else { left * SCALE })
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(GRID, 1))
        .axis_style(stroke(FAINT, 1))
        .set_tick_mark_size(LabelAreaPosition::Left, 4 * SCALE)
        // Words stand twice as far off: the first at this axis clear of the last at the other.
        .set_tick_mark_size(LabelAreaPosition::Bottom, 5 * SCALE)
        .label_style(style(INK, HPos::Center, VPos::Center))
        .draw()?;
    Ok(chart)
}

/// The library's coordinates are an axis's places.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let part = (place - self.range.0) / (self.range.1 - self.range.0);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.words(*place)
    }
}

fn stroke(colour: impl Color, width: u32) -> ShapeStyle {
    colour.stroke_width(width * SCALE.unsigned_abs())
}

/// The library writes text 1.24 times smaller than it was told (plotters-svg, `draw_text`).
fn font() -> FontDesc<'static> {
    (FontFamily::SansSerif, TEXT * 1.24 * f64::from(SCALE)).into()
}

fn style(colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    TextStyle { font: font(), color: colour.to_backend_color(), pos: Pos::new(h, v) }
}

fn style_bold(colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    TextStyle { font: font().style(FontStyle::Bold), ..style(colour, h, v) }
}

fn text(area: &Area<'_>, words: &str, (x, y): (i32, i32), style: &TextStyle<'static>) -> Drawn {
    Ok(area.draw_text(words, style, (x * SCALE, y * SCALE))?)
}

fn caption(area: &Area<'_>, words: &str, at: (i32, i32), h: HPos, v: VPos) -> Drawn {
    text(area, words, at, &style(FAINT, h, v))
}

/// Which points get a mark: all of few, some of many, and always the last.
fn marked(points: usize) -> impl Iterator<Item = usize> {
    let step = if points > 12 { points.div_ceil(7) } else { 1 };
    (0..points).rev().step_by(step)
}

fn mark(area: &Area<'_>, (x, y): (i32, i32), look: Look) -> Drawn {
    let corners: Vec<(i32, i32)> = corners(look.shape()).into_iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
    if look.plain {
        area.draw(&Polygon::new(corners, look.rgba()))?;
    } else {
        let closed: Vec<(i32, i32)> = corners.iter().chain(corners.first()).copied().collect();
        area.draw(&PathElement::new(closed, stroke(look.rgba(), 1)))?;
    }
    Ok(())
}

/// The corners of a mark about its middle; the first is so many cornered that it is round.
fn corners(shape: usize) -> Vec<(i32, i32)> {
    let (count, turn) = [(24, 0.0), (3, -0.25), (4, 0.125), (4, 0.0), (3, 0.25)][shape];
    let radius = f64::from(SCALE) * if count == 24 { 3.6 } else { 4.8 };
    let corner = |at: i32| (f64::from(at) / f64::from(count) + turn) * std::f64::consts::TAU;
    let point = |angle: f64| ((radius * angle.cos()).round() as i32, (radius * angle.sin()).round() as i32);
    (0..count).map(|at| point(corner(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { number: 0, plain: true, pale: false };

    fn lines(points: Vec<(f64, f64)>, look: Look) -> String {
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let x = Axis::linear("clients", Unit::Count, &xs);
        let y = Axis::log("latency", Unit::Micros, &ys);
        Lines { x, y, series: vec![Series { look, points }] }.svg().expect("a drawing")
    }

    fn bars(name: &str, length: f64, look: Look) -> String {
        let bar = Bar {
            look,
            name: name.into(),
            mark: "",
            value: "5 B".into(),
            length,
            whisker: Some((length, length + 1.0)),
        };
        Bars { title: "bytes".into(), unit: Unit::Bytes, rows: vec![bar] }.svg().expect("a drawing")
    }

    #[test]
    fn a_line_is_drawn_with_titles_and_ticks() {
        let svg = lines(vec![(0.0, 50.0), (90_000.0, 700.0)], PLAIN);
        for words in ["<polyline", "#0072B2", ">\nclients\n<", ">\nlatency\n<", ">\n100k\n<", ">\n500 µs\n<"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        assert!(svg.ends_with("</svg>\n"), "it is closed");
    }

    #[test]
    fn odd_points_do_no_harm() {
        for look in [PLAIN, Look { plain: false, ..PLAIN }] {
            for points in [vec![], vec![(1.0, 1.0)], vec![(1.0, 0.0), (1.0, f64::NAN)], vec![(2.0, 3.0); 500]] {
                assert!(lines(points, look).contains("</svg>"));
            }
        }
    }

    #[test]
    fn what_is_no_plain_result_is_hollow_and_dashed() {
        let points = vec![(0.0, 50.0), (90_000.0, 700.0)];
        let hollow = Look { plain: false, ..PLAIN };
        assert!(lines(points.clone(), PLAIN).contains("<polygon"));
        assert!(!lines(points.clone(), hollow).contains("<polygon"));
        assert!(
            lines(points.clone(), hollow).matches("<polyline").count()
                > lines(points, PLAIN).matches("<polyline").count()
        );
        assert!(bars("a", 5.0, hollow).contains("opacity=\"0.15\""));
    }

    #[test]
    fn names_are_escaped_and_shortened() {
        let svg = bars("<b>&\"", 5.0, PLAIN);
        assert!(svg.contains("&lt;b&gt;&amp;&quot;") && !svg.contains("<b>"));
        let four = 4.0 * width('a') + width('…');
        assert_eq!(shortened("abcdefgh", four), "abcd…");
        assert_eq!(shortened("ábcd", four), "ábcd");
        assert_eq!((shortened("", 0.0), shortened("ab", -5.0)), (String::new(), "…".into()));
    }

    #[test]
    fn bars_below_zero_are_drawn() {
        assert!(bars("a", -5.0, PLAIN).contains("</svg>"));
    }

    #[test]
    fn many_points_have_few_marks() {
        assert_eq!(marked(3).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(marked(1_000).count() <= 7);
    }
}
