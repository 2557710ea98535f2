//! Score against length as a drawing (SVG), for documents.
use crate::cells::{Answerer, Cell, PERPLEXITY, tokens};
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Around the axes: left, top, bottom.
const MARGIN: (f64, f64, f64) = (48.0, 32.0, 40.0);
/// To the right of them, for the names of methods; with those of models below, if there are several.
const LEGEND: (f64, f64) = (120.0, 200.0);
/// Curves take one after another of these, and of the dashes, by which they are told apart without colour.
const COLOURS: [&str; 5] = ["#1b6e3c", "#1f4e9c", "#b3541e", "#7a7a7a", "#6b2d82"];
const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

/// A curve for each method of one task (and model, if there are several), with its intervals; lengths stand at equal
/// distances. `None` if there is no such task among the cells.
pub fn curves(cells: &[Cell], suite: &str, task: &str) -> Option<String> {
    let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.suite == suite && cell.task == task).collect();
    let mut lengths: Vec<usize> = cells.iter().map(|cell| cell.length).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let answerers = Answerer::all(cells.iter().copied());
    let models = answerers.iter().any(|one| one.besides().is_some());
    if cells.is_empty() {
        return None;
    }
    let (left, top, bottom) = MARGIN;
    let right = if models { LEGEND.1 } else { LEGEND.0 };
    let step = (WIDTH - left - right) / (lengths.len().max(2) - 1) as f64;
    let x = |at: usize| left + step * at as f64;
    let (least, most) = if suite == PERPLEXITY {
        let scores = || cells.iter().map(|cell| cell.score);
        (scores().fold(f64::INFINITY, f64::min) * 0.95, scores().fold(0.0, f64::max) * 1.05)
    } else {
        (0.0, 1.0)
    };
    let y = |score: f64| {
        let share = ((score - least) / (most - least)).clamp(0.0, 1.0);
        HEIGHT - bottom - share * (HEIGHT - top - bottom)
    };
    let number = |score: f64| {
        if suite == PERPLEXITY { format!("{score:.2}") } else { format!("{:.0}", score * 100.0) }
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"18\" font-size=\"14\">{suite}: {task}</text>\n"
    );
    for quarter in 0..=4 {
        let score = least + (most - least) * f64::from(quarter) / 4.0;
        let (at, shown) = (y(score), number(score));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{shown}</text>",
            WIDTH - right,
            left - 6.0,
            at + 4.0
        );
    }
    for (at, length) in lengths.iter().enumerate() {
        let (x, y) = (x(at), HEIGHT - bottom + 18.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            tokens(*length)
        );
    }
    for (number, one) in answerers.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let named = escaped(&one.to_string());
        // Curves stand a little beside one another, so that equal scores can be told apart.
        let aside = (number as f64 - (answerers.len() - 1) as f64 / 2.0) * 4.0;
        let mut points = String::new();
        for (at, length) in lengths.iter().enumerate() {
            let Some(cell) = cells.iter().find(|cell| cell.length == *length && one.has(cell)) else {
                continue;
            };
            let (px, py) = (x(at) + aside, y(cell.score));
            let _ = write!(points, "{px:.1},{py:.1} ");
            let _ = writeln!(
                svg,
                "<path d=\"M{px:.1} {:.1}V{:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>\
                 <circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\" fill=\"{colour}\"><title>{named} {}: {} of {}</title></circle>",
                y(cell.low),
                y(cell.high),
                tokens(*length),
                percent(cell),
                cell.n
            );
        }
        let dash = DASHES[number % DASHES.len()];
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
            points.trim_end()
        );
        let (lx, ly) = (WIDTH - right + 12.0, top + if models { 34.0 } else { 18.0 } * number as f64);
        let _ = writeln!(
            svg,
            "<path d=\"M{lx} {ly}h22\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            lx + 28.0,
            ly + 4.0,
            one.method
        );
        if let Some(model) = one.besides() {
            let _ = writeln!(
                svg,
                "<text x=\"{lx}\" y=\"{}\" font-size=\"9\">{}</text>",
                ly + 16.0,
                escaped(&model)
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// As text of an SVG file: models are named after files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn percent(cell: &Cell) -> String {
    if cell.suite == PERPLEXITY {
        format!("{:.3}", cell.score)
    } else {
        format!("{:.1} %", cell.score * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_its_points_where_they_belong() {
        let cell = |length, method: &str, score| Cell {
            suite: "ruler".to_owned(),
            task: "vt".to_owned(),
            length,
            method: method.to_owned(),
            model: "a".to_owned(),
            precision: "fast".to_owned(),
            score,
            low: score - 0.1,
            high: score + 0.1,
            n: 10,
        };
        let cells = [cell(4096, "longleaf", 0.9), cell(1 << 20, "longleaf", 0.8), cell(4096, "dense", 0.7)];
        let svg = curves(&cells, "ruler", "vt").unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">4K<") && svg.contains(">1M<") && svg.contains("longleaf 1M: 80.0 % of 10"));
        let heights: Vec<f64> =
            svg.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert!(heights[0] < heights[1] && heights[1] < heights[2], "better is higher: {heights:?}");
        assert_eq!(curves(&cells, "ruler", "cwe"), None);
        let other = Cell { model: "b&".to_owned(), ..cell(4096, "longleaf", 0.5) };
        let svg = curves(&[&cells[..], &[other]].concat(), "ruler", "vt").unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("longleaf, b&amp; 4K: 50.0 % of 10") && svg.contains(">a</text>"));
        let perplexities = [cell(512, "dense", 40.0), cell(1024, "dense", 30.0)].map(|mut cell| {
            cell.suite = PERPLEXITY.to_owned();
            cell
        });
        let svg = curves(&perplexities, "ppl", "vt").unwrap();
        assert!(
            svg.contains(">28.50<") && svg.contains(">42.00<") && svg.contains("dense 512: 40.000 of 10")
        );
    }
}
