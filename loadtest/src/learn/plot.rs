//! Win rates before and after, as an SVG with grouped bars.
//!
//! It has a light background of its own, so that it reads alike on light and dark pages.

use std::path::Path;

use anyhow::{anyhow, Context};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::rates::Rate;
use super::report::{Group, LearnReport};

const BEFORE: RGBColor = RGBColor(115, 126, 140);
const AFTER: RGBColor = RGBColor(31, 119, 180);
const INK: RGBColor = RGBColor(36, 41, 47);
const GREY: RGBColor = RGBColor(101, 109, 118);
const FAINT: RGBColor = RGBColor(225, 228, 232);

/// Pixels of the drawing: a group of bars, and what stands left and right of all.
const GROUP_WIDTH: u32 = 130;
const SIDES: u32 = 100;
const HEIGHT: u32 = 420;
/// Pixels above the axes, for title and legend, and below, for the names of tastes.
const TOP: u32 = 92;
const BOTTOM: u32 = 56;
/// Left and right end of the two bars within a group of width 1.
const BARS: [[f64; 2]; 2] = [[0.16, 0.48], [0.52, 0.84]];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plane<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// What plotters says; writing to a string does not fail.
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Writes the plot of a report.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &LearnReport, file: &Path) -> anyhow::Result<()> {
    let text = svg(&report.groups)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The SVG document.
///
/// # Errors
/// Only a defect: nothing is written but a string.
pub fn svg(groups: &[Group]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(groups, &mut text).map_err(|error| anyhow!("the plot cannot be drawn: {error}"))?;
    Ok(text)
}

fn draw(groups: &[Group], svg: &mut String) -> Drawn {
    let width = SIDES + GROUP_WIDTH * groups.len().max(3) as u32;
    let area = SVGBackend::with_string(svg, (width, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    heading(&area)?;
    let inner = area.margin(TOP, BOTTOM, 62, SIDES - 62);
    let (columns, rows) = inner.get_pixel_range();
    let x = 0.0..groups.len().max(3) as f64;
    // Pixels count downwards.
    let pixels = (columns, rows.end..rows.start);
    let spec = Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(x, 0.0..1.0, pixels);
    let plane = area.apply_coord_spec(spec);
    grid(&area, &plane, groups.len().max(3) as f64)?;
    for (place, group) in groups.iter().enumerate() {
        let left = place as f64;
        for (bar, rate, colour) in [(0, group.before, BEFORE), (1, group.after, AFTER)] {
            let ends = BARS[bar].map(|end| left + end);
            if let Some(rate) = rate {
                draw_bar(&area, &plane, ends, rate, colour)?;
            }
        }
        let (x, y) = plane.map_coordinate(&(left + 0.5, 0.0));
        write_text(
            &area,
            &group.taste,
            (x, y + 10),
            centred(18, INK, VPos::Top),
        )?;
        let people = match group.people {
            1 => "1 person".to_owned(),
            people => format!("{people} people"),
        };
        write_text(&area, &people, (x, y + 32), centred(14, GREY, VPos::Top))?;
    }
    area.present()?;
    Ok(())
}

/// Title and legend.
fn heading(area: &Area<'_>) -> Drawn {
    let left = |size, colour| font(size, colour, HPos::Left, VPos::Center);
    write_text(
        area,
        "How often a person's own answer beats the generic one",
        (20, 26),
        left(22, INK),
    )?;
    let mut x = 20;
    for (name, colour, width) in [("before", BEFORE, 84), ("after learning", AFTER, 0)] {
        let square = Rectangle::new([(x, 51), (x + 13, 64)], colour.filled());
        area.draw(&square)?;
        write_text(area, name, (x + 20, 58), left(16, INK))?;
        x += width;
    }
    let note = "bars: win rate, ties half; whiskers: 95 %";
    let right = area.dim_in_pixel().0 as i32 - 20;
    write_text(
        area,
        note,
        (right, 58),
        font(14, GREY, HPos::Right, VPos::Center),
    )
}

/// Horizontal lines with their values; the one at one half, where nothing is learned, is marked.
fn grid(area: &Area<'_>, plane: &Plane<'_>, width: f64) -> Drawn {
    for (value, label) in [
        (0.0, "0"),
        (0.25, "0.25"),
        (0.5, "0.5"),
        (0.75, "0.75"),
        (1.0, "1"),
    ] {
        let colour = match value {
            0.0 | 0.5 => GREY,
            _ => FAINT,
        };
        let ends = [(0.0, value), (width, value)];
        plane.draw(&PathElement::new(ends.to_vec(), colour.stroke_width(1)))?;
        let (x, y) = plane.map_coordinate(&(0.0, value));
        write_text(
            area,
            label,
            (x - 10, y),
            font(15, GREY, HPos::Right, VPos::Center),
        )?;
    }
    let (x, y) = plane.map_coordinate(&(width, 0.5));
    write_text(
        area,
        "even",
        (x + 6, y),
        font(14, GREY, HPos::Left, VPos::Center),
    )
}

/// A bar, its whiskers, and its value at the foot.
fn draw_bar(
    area: &Area<'_>,
    plane: &Plane<'_>,
    ends: [f64; 2],
    rate: Rate,
    colour: RGBColor,
) -> Drawn {
    let [left, right] = ends;
    let middle = f64::midpoint(left, right);
    plane.draw(&Rectangle::new(
        [(left, 0.0), (right, rate.mean)],
        colour.filled(),
    ))?;
    let cap = |y: f64| vec![(middle - 0.05, y), (middle + 0.05, y)];
    let stem = vec![(middle, rate.low), (middle, rate.high)];
    for path in [stem, cap(rate.low), cap(rate.high)] {
        plane.draw(&PathElement::new(path, INK.stroke_width(2)))?;
    }
    // A bar that is too low to hold its value has it above the whisker.
    let value = format!("{:.2}", rate.mean);
    let inside = rate.low.min(rate.mean) >= 0.12;
    let (height, colour) = if inside {
        (0.0, WHITE)
    } else {
        (rate.high.max(rate.mean), INK)
    };
    let (x, y) = plane.map_coordinate(&(middle, height));
    write_text(area, &value, (x, y - 7), centred(15, colour, VPos::Bottom))
}

fn centred(size: i32, colour: RGBColor, vertical: VPos) -> TextStyle<'static> {
    font(size, colour, HPos::Center, vertical)
}

fn font(size: i32, colour: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    let font = ("sans-serif", size).into_font();
    font.color(&colour).pos(Pos::new(horizontal, vertical))
}

fn write_text(area: &Area<'_>, text: &str, at: (i32, i32), style: TextStyle<'static>) -> Drawn {
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(taste: &str, before: f64, after: f64) -> Group {
        let rate = |mean: f64| Rate {
            mean,
            low: (mean - 0.1).max(0.0),
            high: (mean + 0.1).min(1.0),
            people: 4,
        };
        Group {
            taste: taste.to_owned(),
            people: 4,
            preferences: 9,
            before: Some(rate(before)),
            after: Some(rate(after)),
            after_against_first: None,
            count: None,
        }
    }

    #[test]
    fn every_group_has_two_bars_and_its_name() {
        let groups = [
            group("short", 0.5, 0.91),
            group("list", 0.5, 0.73),
            group("questions", 0.5, 0.03),
            group("all", 0.5, 0.6),
        ];
        let svg = svg(&groups).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        for text in [
            "short",
            "list",
            "questions",
            "all",
            "0.91",
            "0.73",
            "0.03",
            "even",
        ] {
            let found = svg.lines().filter(|line| line.trim() == text).count();
            assert_eq!(found, 1, "{text} in {svg}");
        }
        // Four bars and the legend's square.
        for colour in ["#737E8C", "#1F77B4"] {
            let bars = svg
                .lines()
                .filter(|line| line.contains("<rect") && line.contains(colour));
            assert_eq!(bars.count(), 5, "{colour}");
        }
        assert!(svg.contains(r##"fill="#FFFFFF""##), "a light background");
    }

    #[test]
    fn a_group_without_answers_has_no_bars() {
        let mut empty = group("long", 0.5, 0.5);
        (empty.before, empty.after) = (None, None);
        let svg = svg(&[empty]).unwrap();
        let bars = svg
            .lines()
            .filter(|line| line.contains("<rect") && line.contains("#1F77B4"));
        assert_eq!(bars.count(), 1, "the legend's square alone");
    }
}
