//! Axes, lines and dots as SVG.
//!
//! The colours here are those of a light page; `style.css` names the same values to change them in
//! the dark. Nothing is drawn behind a plot.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::error::ReportError;

/// The first series of a plot: the policy, training.
pub const FIRST: RGBColor = RGBColor(31, 119, 180);
/// The second: another policy, evaluation.
pub const SECOND: RGBColor = RGBColor(214, 96, 0);
/// Axes and labels.
const GREY: RGBColor = RGBColor(112, 112, 112);

/// Size of a small plot, in pixels of the drawing; the page scales it.
const SIZE: (u32, u32) = (460, 260);
const FONT_SIZE: i32 = 17;

type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What is drawn on the axes.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A line through points; a dot if it is only one.
    Line(Vec<(f64, f64)>),
    /// A dot.
    Dot(f64, f64),
    /// A vertical stroke at x, from one y to another.
    Span(f64, [f64; 2]),
}

/// A plot that is not drawn yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// For messages about it.
    pub title: &'static str,
    /// What to draw, in which colour; later marks lie over earlier ones.
    pub marks: Vec<(Mark, RGBColor)>,
    /// The ends of the y axis; those of the marks if there are none.
    pub y: Option<(f64, f64)>,
    /// Whether x counts something a reader looks up (steps), or is only an order.
    pub x_labels: bool,
}

impl Plot {
    /// The SVG element.
    ///
    /// # Errors
    /// Only a defect: the marks are finite and the axes not empty.
    pub fn svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        match self.draw(&mut svg) {
            Ok(()) => Ok(svg),
            Err(reason) => Err(ReportError::Plot {
                plot: self.title,
                reason,
            }),
        }
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let ends = self.marks.iter().flat_map(|(mark, _)| mark.ends());
        let (xs, ys): (Vec<f64>, Vec<f64>) = ends.unzip();
        let (x0, x1) = axis(&xs);
        let (y0, y1) = self.y.unwrap_or_else(|| axis(&ys));
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(if self.x_labels { 30 } else { 8 })
            .y_label_area_size(60)
            .build_cartesian_2d(x0..x1, y0..y1)
            .map_err(|e| e.to_string())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .label_style(("sans-serif", FONT_SIZE).into_font().color(&GREY))
            .x_labels(if self.x_labels { 5 } else { 0 })
            .y_labels(5)
            .x_label_formatter(&|x| tick(*x))
            .y_label_formatter(&|y| tick(*y))
            .draw()
            .map_err(|e| e.to_string())?;
        for (mark, colour) in &self.marks {
            draw(&mut chart, mark, *colour).map_err(|e| e.to_string())?;
        }
        drop(chart);
        area.present().map_err(|e| e.to_string())
    }
}

impl Mark {
    /// The points that the axes must hold.
    fn ends(&self) -> Vec<(f64, f64)> {
        match self {
            Self::Line(points) => points.clone(),
            Self::Dot(x, y) => vec![(*x, *y)],
            Self::Span(x, [lo, hi]) => vec![(*x, *lo), (*x, *hi)],
        }
    }
}

fn draw<'a>(
    chart: &mut Chart<'a, '_>,
    mark: &Mark,
    colour: RGBColor,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    match mark {
        Mark::Line(points) if points.len() > 1 => {
            let line = PathElement::new(points.clone(), colour.stroke_width(2));
            chart.draw_series([line]).map(drop)
        }
        Mark::Line(points) => {
            let dots = points.iter().map(|p| Circle::new(*p, 3, colour.filled()));
            chart.draw_series(dots).map(drop)
        }
        Mark::Dot(x, y) => {
            let dot = Circle::new((*x, *y), 3, colour.filled());
            chart.draw_series([dot]).map(drop)
        }
        Mark::Span(x, [lo, hi]) => {
            let span = PathElement::new(vec![(*x, *lo), (*x, *hi)], colour.mix(0.45));
            chart.draw_series([span]).map(drop)
        }
    }
}

/// The ends of an axis: a little outside the values, and wide enough for labels that differ.
fn axis(values: &[f64]) -> (f64, f64) {
    let lo = values.iter().copied().fold(f64::INFINITY, f64::min);
    let hi = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !(lo.is_finite() && hi.is_finite()) {
        return (0.0, 1.0);
    }
    let least = (1e-6 * lo.abs().max(hi.abs())).max(1e-12);
    let pad = if hi - lo > least {
        0.04 * (hi - lo)
    } else {
        (0.1 * hi.abs()).max(1e-9)
    };
    (lo - pad, hi + pad)
}

/// A number on an axis, or in a table, with about four digits.
pub fn tick(value: f64) -> String {
    let size = value.abs();
    if size < 1e-15 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(marks: Vec<Mark>) -> String {
        let plot = Plot {
            title: "t",
            marks: marks.into_iter().map(|m| (m, FIRST)).collect(),
            y: None,
            x_labels: true,
        };
        plot.svg().unwrap()
    }

    #[test]
    fn marks_become_shapes_in_their_colour() {
        let line = plot(vec![Mark::Line(vec![(0.0, 1.0), (1.0, 2.0)])]);
        assert!(line.contains("stroke=\"#1F77B4\""), "{line}");
        assert!(line.contains("<polyline"), "{line}");
        let dots = plot(vec![
            Mark::Dot(0.0, 1.0),
            Mark::Span(0.0, [0.5, 1.5]),
            Mark::Line(vec![(3.0, 1.0)]),
        ]);
        assert_eq!(dots.matches("<circle").count(), 2, "{dots}");
    }

    #[test]
    fn no_values_are_too_much_for_the_axes() {
        let pairs = [
            (0.0, 0.0),
            (1e15, 1e15),
            (-1e15, 1e15),
            (1e15, 1e15 - 0.25),
            (1e-300, 0.0),
            (5e-5, 5e-5),
            (f64::MIN_POSITIVE, -f64::MIN_POSITIVE),
        ];
        for (a, b) in pairs {
            let (lo, hi) = axis(&[a, b]);
            assert!(lo < a.min(b) && a.max(b) < hi, "{a} {b}: {lo} {hi}");
            let svg = plot(vec![Mark::Line(vec![(a, b), (b, a)])]);
            assert!(svg.ends_with("</svg>\n"), "{a} {b}: {svg}");
            assert!(!svg.contains("NaN"), "{a} {b}: {svg}");
        }
        assert!(plot(Vec::new()).ends_with("</svg>\n"));
    }

    #[test]
    fn the_style_sheet_names_the_same_colours() {
        let style = include_str!("style.css");
        for RGBColor(r, g, b) in [FIRST, SECOND, GREY] {
            let name = format!("#{r:02X}{g:02X}{b:02X}");
            assert!(style.contains(&format!("[stroke=\"{name}\"]")), "{name}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, want) in [
            (0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (-120.5, "-120.5"),
            (12000.0, "12000"),
            (100.0, "100"),
            (0.00005, "5.0e-5"),
            (0.71259, "0.7126"),
            (1e9, "1.0e9"),
        ] {
            assert_eq!(tick(value), want);
        }
    }
}
