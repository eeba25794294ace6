//! What was measured, as a picture (SVG 1.1): a panel for each fault, a bar for each checker with its clients. A bar is
//! as long as the logarithm of the time in the forwarding method that takes longest. Its colours follow the reader's
//! light or dark scheme.

use std::fmt::Write as _;

use super::{
    conditions::{Checker, Clients, FAULTS},
    report::{self, Measured, title},
};
use crate::lab::{faults::Fault, layout::Method};

const WIDTH: f64 = 860.0;
/// Where bars begin, behind their names.
const LEFT: f64 = 250.0;
/// Room for the numbers behind the longest bar.
const RIGHT: f64 = 70.0;
const ROW: f64 = 20.0;
const BAR: f64 = 14.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 12.0;
/// The axis, in ms.
const FROM: f64 = 0.5;
const TO: f64 = 10_000.0;
/// The lines across all bars, in ms.
const MARKS: [(f64, &str); 5] =
    [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s"), (10_000.0, "10 s")];
/// The colours: text, background and lines, and three for bars that people who are colour-blind tell apart.
const STYLE: &str = "\
    .ground { fill: #ffffff } .text { fill: #202020 } .small { fill: #606060; font-size: 10px }\n\
    .title { font-size: 14px; font-weight: bold } .mark { stroke: #d0d0d0 }\n\
    .agent { fill: #0072b2 } .probes { fill: #e69f00 } .bfd { fill: #999999 } .never { fill: #e8e8e8 }\n\
    @media (prefers-color-scheme: dark) {\n  \
    .ground { fill: #0d1117 } .text { fill: #e6edf3 } .small { fill: #9198a1 } .mark { stroke: #3d444d }\n  \
    .agent { fill: #4aa3df } .probes { fill: #e69f00 } .bfd { fill: #8c8c8c } .never { fill: #262c36 }\n\
    }\n";

/// The bars of each panel.
const BARS: [(Checker, Clients, &str); 7] = [
    (Checker::Agent, Clients::ManyNetworks { rate: 200 }, "lvs-agent, 32 networks, 200/s"),
    (Checker::Agent, Clients::OneNetwork { rate: 200 }, "lvs-agent, one network, 200/s"),
    (Checker::Agent, Clients::OneAddress { rate: 200 }, "lvs-agent, one address, 200/s"),
    (Checker::Agent, Clients::OneNetwork { rate: 8 }, "lvs-agent, one network, 8/s"),
    (Checker::Agent, Clients::None, "lvs-agent, no traffic"),
    (Checker::Keepalived, Clients::ManyNetworks { rate: 200 }, "keepalived, fastest TCP_CHECK"),
    (Checker::KeepalivedBfd, Clients::ManyNetworks { rate: 200 }, "keepalived, BFD_CHECK 10 ms × 5"),
];

/// The length of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    Ms(f64),
    Never,
}

/// The worst of the forwarding methods' medians; `None`: not measured.
fn worst(measured: &Measured, row: (Checker, Clients), fault: Fault) -> Option<Length> {
    let cells = Method::ALL.into_iter().filter_map(|method| measured.cell(row, method, fault));
    let medians = cells.map(|cell| cell.median().map_or(Length::Never, Length::Ms));
    medians.reduce(|one, other| match (one, other) {
        (Length::Ms(one), Length::Ms(other)) => Length::Ms(one.max(other)),
        _ => Length::Never,
    })
}

/// Where a time is on the axis.
fn x(ms: f64) -> f64 {
    let share = (ms.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

/// The picture.
pub(super) fn svg(measured: &Measured) -> String {
    let (mut body, mut told) = (String::new(), Vec::new());
    let mut y = MARGIN;
    for fault in FAULTS {
        let bars: Vec<_> = BARS
            .iter()
            .filter_map(|(checker, clients, name)| {
                Some((*checker, *name, worst(measured, (*checker, *clients), fault)?))
            })
            .collect();
        if bars.is_empty() {
            continue;
        }
        y = panel(&mut body, fault, &bars, y);
        let words: Vec<_> =
            bars.iter().map(|(_, name, length)| format!("{name}: {}", length.words())).collect();
        told.push(format!("{}. {}.", title(fault), words.join("; ")));
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\" \
         aria-labelledby=\"title told\">\n\
         <title id=\"title\">Time from a fault until the server is out of the kernel's table</title>\n\
         <desc id=\"told\">{}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
        told.join("\n")
    )
}

impl Length {
    fn words(self) -> String {
        match self {
            Self::Ms(ms) => format!("{} ms", report::ms(ms)),
            Self::Never => "never".to_owned(),
        }
    }
}

/// Draws a panel from `y` on; returns where it ends.
fn panel(body: &mut String, fault: Fault, bars: &[(Checker, &str, Length)], y: f64) -> f64 {
    let top = y + TITLE;
    #[expect(clippy::cast_precision_loss, reason = "a few bars")]
    let bottom = top + bars.len() as f64 * ROW;
    // Writing to a string can't fail.
    writeln!(body, "<text x=\"{MARGIN}\" y=\"{:.0}\" class=\"text title\">{}</text>", y + 18.0, title(fault))
        .unwrap_or_default();
    for (ms, name) in MARKS {
        let x = x(ms);
        writeln!(
            body,
            "<line x1=\"{x:.1}\" y1=\"{top:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" class=\"mark\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" class=\"small\">{name}</text>",
            top - 4.0
        )
        .unwrap_or_default();
    }
    let mut y = top;
    for (checker, name, length) in bars {
        bar(body, *checker, name, *length, y);
        y += ROW;
    }
    bottom + MARGIN
}

fn bar(body: &mut String, checker: Checker, name: &str, length: Length, y: f64) {
    let (end, class) = match length {
        Length::Ms(ms) => (x(ms), class(checker)),
        Length::Never => (x(TO), "never"),
    };
    let (top, line) = (y + (ROW - BAR) / 2.0, y + ROW - 6.0);
    writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{line:.0}\" text-anchor=\"end\" class=\"text\">{name}</text>\n\
         <rect x=\"{LEFT:.0}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{BAR:.0}\" class=\"{class}\"/>\n\
         <text x=\"{:.1}\" y=\"{line:.0}\" class=\"text\">{}</text>",
        LEFT - 8.0,
        end - LEFT,
        end + 5.0,
        length.words()
    )
    .unwrap_or_default();
}

/// The class of a checker's bars.
fn class(checker: Checker) -> &'static str {
    match checker {
        Checker::Agent | Checker::AgentConnects => "agent",
        Checker::Keepalived => "probes",
        Checker::KeepalivedBfd => "bfd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::failover::report::tests::measured;

    #[test]
    fn bars_are_as_long_as_the_logarithm_of_their_times() {
        let step = x(100.0) - x(10.0);
        assert!((x(1000.0) - x(100.0) - step).abs() < 1e-6 && step > 50.0);
        assert!((x(FROM) - LEFT).abs() < 1e-6 && (x(0.1) - LEFT).abs() < 1e-6, "nothing is left of the axis");
        assert!((x(1e9) - (WIDTH - RIGHT)).abs() < 1e-6, "nor right of it");
    }

    #[test]
    fn each_fault_that_was_measured_has_a_panel_with_its_bars() {
        let svg = svg(&measured());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for (text, times) in [
            (">Process killed<", 1),
            (">Powered off<", 1),
            (">Port filtered<", 0),
            (">lvs-agent, 32 networks, 200/s<", 1),
            (">lvs-agent, no traffic<", 1),
            (">keepalived, BFD_CHECK 10 ms × 5<", 2),
            (">never<", 1),
            (">20 ms<", 1),
            (">50 ms<", 1),
            (">2900 ms<", 1),
        ] {
            assert_eq!(svg.matches(text).count(), times, "{text}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(
            svg.contains("Powered off. ") && svg.contains("lvs-agent, no traffic: 2900 ms"),
            "in words, too"
        );
        assert!(
            svg.contains("prefers-color-scheme: dark") && !svg.contains(" fill=\""),
            "colours are the reader's"
        );
    }

    #[test]
    fn the_worst_forwarding_method_counts() {
        let mut measured = measured();
        let row = (Checker::Agent, Clients::ManyNetworks { rate: 200 });
        let mut slower = measured.cells[0].clone();
        (slower.method, slower.times) = (Method::DirectRoute, vec![Some(25.0)]);
        measured.cells.push(slower.clone());
        assert_eq!(worst(&measured, row, Fault::ProcessKilled), Some(Length::Ms(25.0)));
        slower.method = Method::ALL[2];
        slower.times = vec![None];
        measured.cells.push(slower);
        assert_eq!(worst(&measured, row, Fault::ProcessKilled), Some(Length::Never));
        assert_eq!(worst(&measured, row, Fault::ProcessHung), None);
    }
}
