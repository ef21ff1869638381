//! Cosines of the gradients of single tokens: which tokens of the two responses pull together, and which
//! against each other (2410.13828, figure 4).

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::gradients::Probe;
use super::measure::Entanglement;
use crate::adapter::TrainedAdapter;
use crate::pairs::IdPair;
use crate::TrainError;
use attune_text::tokenizer::Tokenizer;

/// Pixels of a cell, and of the tokens beside and above them.
const CELL: i32 = 26;
const MARGIN: i32 = 130;
/// Tokens of a side beyond which a picture cannot be read.
pub const MAX_TOKENS: usize = 60;

/// The name of the picture of pair `number` of a run.
pub fn file_name(number: usize) -> String {
    format!("heat-map-{number}.svg")
}

/// Chosen tokens by rejected tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeatMap {
    /// The chosen response's tokens as text; rows.
    pub chosen: Vec<String>,
    /// The rejected response's; columns.
    pub rejected: Vec<String>,
    /// Cosines, by row.
    pub cosines: Vec<Vec<f64>>,
}

impl HeatMap {
    /// Of two responses' token gradients, which have so many tokens each.
    pub fn new(
        [chosen, rejected]: [Vec<String>; 2],
        [of_chosen, of_rejected]: [&[Vec<f32>]; 2],
    ) -> Self {
        let cosine = |a: &Vec<f32>, b: &Vec<f32>| Entanglement::of(a, b).cosine();
        let row = |a: &Vec<f32>| of_rejected.iter().map(|b| cosine(a, b)).collect();
        Self {
            cosines: of_chosen.iter().map(row).collect(),
            chosen,
            rejected,
        }
    }

    /// Of a pair's responses, at an adapter whose values stay what they are. Takes a backward pass for each
    /// token.
    ///
    /// # Errors
    /// As [`Probe::tokens`].
    pub fn measure(
        probe: &Probe,
        tokenizer: &Tokenizer,
        adapter: &mut TrainedAdapter,
        pair: &IdPair,
    ) -> Result<Self, TrainError> {
        let policy = probe.policy(adapter)?;
        let user = adapter.users.is_some().then_some(pair.user);
        let [chosen, rejected] = pair.completions(user);
        let of_chosen = probe.tokens(&policy, adapter, chosen)?;
        let of_rejected = probe.tokens(&policy, adapter, rejected)?;
        let text = |id: &u32| String::from_utf8_lossy(&tokenizer.token_bytes(*id)).into_owned();
        let texts = [&pair.chosen, &pair.rejected].map(|ids| ids.iter().map(text).collect());
        Ok(Self::new(texts, [&of_chosen, &of_rejected]))
    }

    /// Writes the picture.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let svg = self.svg().map_err(TrainError::Bug)?;
        std::fs::write(path, svg).map_err(TrainError::io(path))
    }

    /// An SVG picture: blue where two tokens pull together, red where they pull apart. Long responses are
    /// cut.
    ///
    /// # Errors
    /// Only a defect: nothing is written but a string.
    pub fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| error.to_string())?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let rows = self.chosen.len().min(MAX_TOKENS);
        let columns = self.rejected.len().min(MAX_TOKENS);
        let size = |n: usize| (MARGIN + CELL * n as i32 + 12) as u32;
        let area = SVGBackend::with_string(svg, (size(columns), size(rows))).into_drawing_area();
        area.fill(&WHITE)?;
        let font = |horizontal, vertical| {
            let font = ("sans-serif", 13).into_font().color(&BLACK);
            font.pos(Pos::new(horizontal, vertical))
        };
        let middle = |n: usize| MARGIN + CELL * n as i32 + CELL / 2;
        for (i, token) in self.chosen.iter().take(rows).enumerate() {
            let at = (MARGIN - 6, middle(i));
            let style = font(HPos::Right, VPos::Center);
            area.draw(&Text::new(shown(token), at, style))?;
        }
        let upright = ("sans-serif", 13)
            .into_font()
            .transform(FontTransform::Rotate270);
        for (j, token) in self.rejected.iter().take(columns).enumerate() {
            let style = upright
                .color(&BLACK)
                .pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(shown(token), (middle(j), MARGIN - 6), style))?;
        }
        for (i, row) in self.cosines.iter().take(rows).enumerate() {
            for (j, cosine) in row.iter().take(columns).enumerate() {
                let (x, y) = (middle(j) - CELL / 2, middle(i) - CELL / 2);
                let cell = [(x, y), (x + CELL - 1, y + CELL - 1)];
                area.draw(&Rectangle::new(cell, colour(*cosine).filled()))?;
            }
        }
        area.present()?;
        Ok(())
    }
}

/// White at 0, blue at 1, red at -1.
fn colour(cosine: f64) -> RGBColor {
    let strength = cosine.abs().min(1.0);
    let fade = |full: u8| (255.0 - strength * (255.0 - f64::from(full))) as u8;
    if cosine >= 0.0 {
        RGBColor(fade(31), fade(119), fade(180))
    } else {
        RGBColor(fade(200), fade(50), fade(30))
    }
}

/// A token as a label: white space is visible, and no label is long.
fn shown(token: &str) -> String {
    let visible = token.replace(' ', "\u{b7}").replace('\n', "\u{21b5}");
    let mut label: String = visible.chars().take(14).collect();
    if label.len() < visible.len() {
        label.push('\u{2026}');
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tokens: &[&str]) -> Vec<String> {
        tokens.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn cosines_are_by_row() {
        let chosen = [vec![1.0, 0.0], vec![0.0, 2.0]];
        let rejected = [vec![3.0, 0.0], vec![0.0, -1.0], vec![0.0, 0.0]];
        let names = [texts(&["a", "b"]), texts(&["c", "d", "e"])];
        let map = HeatMap::new(names, [&chosen, &rejected]);
        assert_eq!(map.cosines, [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]);
        let svg = map.svg().unwrap();
        // A background and six cells.
        assert_eq!(svg.matches("<rect").count(), 7, "{svg}");
        assert!(svg.contains("#1F77B4") && svg.contains("#C8321E"), "{svg}");
    }

    #[test]
    fn labels_are_short_and_safe() {
        assert_eq!(shown(" a\n"), "\u{b7}a\u{21b5}");
        assert_eq!(shown(&"x".repeat(20)).chars().count(), 15);
        let map = HeatMap::new(
            [texts(&["<b>"]), texts(&["&"])],
            [&[vec![1.0]], &[vec![1.0]]],
        );
        assert!(!map.svg().unwrap().contains("<b>"));
        let long = vec![vec![1.0f32]; 100];
        let names = texts(&["t"; 100]);
        let map = HeatMap::new([names.clone(), names], [&long, &long]);
        assert!(map.svg().unwrap().matches("<rect").count() <= 1 + 60 * 60);
    }
}
