//! One way of writing for each thing: LaTeX's commands, Markdown and Unicode.
//!
//! What comes out still is text, with `\frac{a}{b}`, `\sqrt{a}`, `\sqrt[n]{a}`, `\binom{a}{b}`, `\{`, `\}`,
//! `\overline{a}`, `\begin{matrix}`, other commands as they were, and the signs of this file for the rest.

/// The longest answer that is read, in bytes; groups nest no deeper than its length allows.
const MAX_BYTES: usize = 4096;

/// `$` before an amount.
pub(super) const CURRENCY: char = '\u{a4}';
pub(super) const DEGREE: char = '\u{b0}';
pub(super) const PLUS_MINUS: char = '\u{b1}';
pub(super) const PI: char = '\u{3c0}';
pub(super) const INFINITY: char = '\u{221e}';
pub(super) const EMPTY: char = '\u{2205}';
pub(super) const ELEMENT: char = '\u{2208}';
pub(super) const UNION: char = '\u{222a}';
pub(super) const ABOUT: char = '\u{2248}';
pub(super) const UNEQUAL: char = '\u{2260}';
pub(super) const AT_MOST: char = '\u{2264}';
pub(super) const AT_LEAST: char = '\u{2265}';
/// Between two numbers it is a range, elsewhere a minus.
pub(super) const EN_DASH: char = '\u{2013}';

/// The surface of `text`; `None` if it is too long to be an answer.
pub fn surface(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let dollars = text.replace("\\$", "").matches('$').count();
    let mut writer = Writer {
        out: String::with_capacity(text.len() + 16),
        // A dollar sign that has no partner stands before an amount.
        currency: dollars == 1,
        boxed: None,
    };
    writer.write(text);
    let mut out = writer.out;
    for ring in ["^{\u{2218}}", "^ \u{2218}", "^\u{2218}"] {
        out = out.replace(ring, "\u{b0}");
    }
    let ends = |c: char| c.is_whitespace() || "*\"\u{201c}\u{201d}".contains(c);
    let out = out
        .trim_matches(ends)
        .trim_end_matches(['.', ',', ';', ':']);
    let mut out = out.trim_matches(ends);
    // A quote that has no partner is a prime.
    while let Some(inside) = out.strip_prefix('\'').and_then(|o| o.strip_suffix('\'')) {
        out = inside.trim_matches(ends);
    }
    Some(out.to_owned())
}

/// The inside of a group that begins `text`, and what follows it.
pub fn group(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('{')?;
    let mut depth = 1;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inside[..at], &inside[at + 1..]));
        }
    }
    None
}

/// What LaTeX takes as the argument of a command that ends before `text`, and what follows it.
pub fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if text.starts_with('{') {
        return group(text);
    }
    let end = match text.strip_prefix('\\') {
        Some(rest) => 1 + command(rest).len(),
        None => text.chars().next()?.len_utf8(),
    };
    Some(text.split_at(end))
}

/// The name of a command whose backslash is before `text`: letters, or one other character.
fn command(text: &str) -> &str {
    let letters = text.find(|c: char| !c.is_ascii_alphabetic());
    match letters.unwrap_or(text.len()) {
        0 => &text[..text.chars().next().map_or(0, char::len_utf8)],
        end => &text[..end],
    }
}

struct Writer {
    out: String,
    currency: bool,
    /// Where the last box ended.
    boxed: Option<usize>,
}

impl Writer {
    fn write(&mut self, mut text: &str) {
        while let Some(c) = text.chars().next() {
            let rest = &text[c.len_utf8()..];
            text = match c {
                '\\' => {
                    let name = command(rest);
                    self.command(name, &rest[name.len()..])
                }
                '$' => {
                    if self.currency {
                        self.out.push(CURRENCY);
                    }
                    rest
                }
                '*' if rest.starts_with('*') => self.stars(&rest[1..]),
                '`' => rest,
                '~' => self.put(" ", rest),
                c => {
                    self.character(c);
                    rest
                }
            };
        }
    }

    fn put<'a>(&mut self, what: &str, rest: &'a str) -> &'a str {
        self.out.push_str(what);
        rest
    }

    /// `**`: bold in Markdown, a power in programs.
    fn stars<'a>(&mut self, rest: &'a str) -> &'a str {
        let base = |c: char| c.is_ascii_digit() || c == ')';
        let power = |c: char| c.is_ascii_digit() || "(-".contains(c);
        if self.out.ends_with(base) && rest.starts_with(power) {
            self.out.push('^');
        }
        rest
    }

    /// A command without its backslash; returns what follows it and its arguments.
    fn command<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        match name {
            "left" | "right" => rest.strip_prefix('.').unwrap_or(rest),
            "!" => self.negative_space(rest),
            "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr"
            | "displaystyle" | "textstyle" | "limits" | "(" | ")" | "[" | "]" => rest,
            "," | ";" | ":" | ">" | " " | "\n" | "quad" | "qquad" | "enspace" | "thinspace"
            | "space" | "hfill" | "newline" => self.put(" ", rest),
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.arguments("\\frac", 2, rest),
            "binom" | "dbinom" | "tbinom" => self.arguments("\\binom", 2, rest),
            "sqrt" => {
                let index = rest.trim_start().strip_prefix('[');
                let index = index.and_then(|rest| rest.split_once(']'));
                match index {
                    None => self.arguments("\\sqrt", 1, rest),
                    Some((index, rest)) => {
                        self.out.push_str("\\sqrt[");
                        self.write(index);
                        self.arguments("]", 1, rest)
                    }
                }
            }
            "overline" | "bar" => self.arguments("\\overline", 1, rest),
            "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textnormal"
            | "mathrm" | "mathbf" | "mathit" | "mathsf" | "mbox" | "hbox" | "emph"
            | "operatorname" | "boldsymbol" => self.inside(" ", rest),
            "boxed" | "fbox" => self.boxed(rest),
            "ensuremath" | "underline" => self.inside("", rest),
            "textcolor" | "color" => {
                let rest = argument(rest).map_or(rest, |(_, after)| after);
                match name {
                    "color" => rest,
                    _ => self.inside(" ", rest),
                }
            }
            // What was cut off behind a space of LaTeX.
            "" => rest,
            "begin" | "end" => self.environment(name, rest),
            _ => match sign(name) {
                Some(sign) => self.put(sign, rest),
                None => {
                    self.out.push('\\');
                    self.out.push_str(name);
                    // A letter behind it is not part of the name.
                    self.put(" ", rest)
                }
            },
        }
    }

    /// `11,\! 111` is how MATH writes thousands.
    fn negative_space<'a>(&mut self, rest: &'a str) -> &'a str {
        if self.out.ends_with(',') {
            self.out.pop();
            self.out.push_str("{,}");
            return rest.trim_start();
        }
        rest
    }

    fn arguments<'a>(&mut self, name: &str, count: usize, mut rest: &'a str) -> &'a str {
        self.out.push_str(name);
        for _ in 0..count {
            let (inside, after) = argument(rest).unwrap_or(("", rest));
            self.out.push('{');
            self.write(inside);
            self.out.push('}');
            rest = after;
        }
        rest
    }

    fn inside<'a>(&mut self, around: &str, rest: &'a str) -> &'a str {
        let Some((inside, after)) = argument(rest) else {
            return rest;
        };
        self.out.push_str(around);
        self.write(inside);
        self.put(around, after)
    }

    /// Boxes side by side are parts of a list.
    fn boxed<'a>(&mut self, rest: &'a str) -> &'a str {
        let between = self.boxed.and_then(|at| self.out.get(at..));
        if between.is_some_and(|between| between.trim().is_empty()) {
            self.out.push_str(", ");
        }
        let rest = self.inside("", rest);
        self.boxed = Some(self.out.len());
        rest
    }

    /// Matrices are told apart by what stands around them only where that means something.
    fn environment<'a>(&mut self, name: &str, rest: &'a str) -> &'a str {
        let Some((kind, mut after)) = group(rest) else {
            return rest;
        };
        let kind = match kind {
            "pmatrix" | "bmatrix" | "smallmatrix" | "matrix" => "matrix",
            "array" => {
                if name == "begin" {
                    after = group(after).map_or(after, |(_, after)| after);
                }
                "matrix"
            }
            other => other,
        };
        self.put(&format!("\\{name}{{{kind}}}"), after)
    }

    fn character(&mut self, c: char) {
        let one = match c {
            '\u{2212}' | '\u{fe63}' | '\u{ff0d}' | '\u{2011}' => "-",
            '\u{d7}' | '\u{b7}' | '\u{22c5}' | '\u{2217}' => "*",
            '\u{f7}' | '\u{2044}' => "/",
            '\u{ba}' => "\u{b0}",
            '\u{bd}' => "\\frac{1}{2}",
            '\u{bc}' => "\\frac{1}{4}",
            '\u{be}' => "\\frac{3}{4}",
            '\u{2153}' => "\\frac{1}{3}",
            '\u{2154}' => "\\frac{2}{3}",
            '\u{221a}' => "sqrt",
            '\u{b9}' => "^1",
            '\u{b2}' => return self.unicode_power("^2"),
            '\u{b3}' => return self.unicode_power("^3"),
            '\u{2026}' => "...",
            '\u{2018}' | '\u{2019}' => "'",
            '\u{ff0c}' => ", ",
            '\u{20ac}' => "\u{20ac}",
            '\u{ff10}'..='\u{ff19}' => {
                return self.out.extend(char::from_digit(u32::from(c) - 0xff10, 10))
            }
            c if c.is_whitespace() => " ",
            '\u{200b}' | '\u{feff}' => "",
            c => return self.out.push(c),
        };
        self.out.push_str(one);
    }
}

impl Writer {
    /// The small figure of an area or a volume: its unit may stand right behind the number.
    fn unicode_power(&mut self, power: &str) {
        let letters = self
            .out
            .trim_end_matches(|c: char| c.is_ascii_alphabetic())
            .len();
        if ["m", "cm", "km", "mm", "ft"].contains(&&self.out[letters..]) {
            self.out.insert(letters, ' ');
        }
        self.out.push_str(power);
    }
}

/// Commands that are one sign.
fn sign(name: &str) -> Option<&'static str> {
    Some(match name {
        "\\" => "\\\\",
        "$" => "\u{a4}",
        "%" => "%",
        "&" => "&",
        "#" => "#",
        "_" => "_",
        "{" | "lbrace" => "\\{",
        "}" | "rbrace" => "\\}",
        "lbrack" => "[",
        "rbrack" => "]",
        "lvert" | "rvert" | "vert" | "mid" => "|",
        "cdot" | "times" | "ast" => "*",
        "div" => "/",
        "le" | "leq" | "leqslant" => "\u{2264}",
        "ge" | "geq" | "geqslant" => "\u{2265}",
        "ne" | "neq" => "\u{2260}",
        "lt" => "<",
        "gt" => ">",
        "approx" => "\u{2248}",
        "cup" => "\u{222a}",
        "in" => "\u{2208}",
        "pm" => "\u{b1}",
        "infty" => "\u{221e}",
        "pi" => "\u{3c0}",
        "circ" => "\u{2218}",
        "degree" => "\u{b0}",
        "emptyset" | "varnothing" => "\u{2205}",
        "ldots" | "dots" | "cdots" => "...",
        "to" | "rightarrow" | "Rightarrow" | "implies" => "\u{2192}",
        "colon" => ":",
        "minus" => "-",
        _ => return None,
    })
}

/// The surface as texts are compared: without spaces that mean nothing, words in lower case. Variables stay as they
/// are: a capital and a small letter are two.
pub fn plain(text: &str) -> Option<String> {
    let surface = surface(text)?;
    let chars: Vec<char> = surface.chars().collect();
    let joins = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric());
    let mut out = String::with_capacity(surface.len());
    for (i, c) in chars.iter().enumerate() {
        if c.is_whitespace() {
            let next = chars[i..].iter().find(|c| !c.is_whitespace());
            let before = out.chars().next_back();
            // After a command a space ends its name only.
            if before.is_some_and(char::is_alphanumeric) && joins(next) {
                out.push(' ');
            }
            continue;
        }
        out.push(*c);
    }
    Some(words_in_lower_case(out.trim_end_matches(['.', ' '])))
}

fn words_in_lower_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let letters = word.chars().count();
        let command = out.ends_with('\\');
        let small = letters > 2 || letters > 1 && word.contains(char::is_lowercase);
        match small && !command {
            true => out += &word.to_lowercase(),
            false => out += word,
        }
        let next = after.find(char::is_alphabetic).unwrap_or(after.len());
        out += &after[..next];
        rest = &after[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_way_of_writing() {
        for (text, written) in [
            ("\\dfrac12", "\\frac{1}{2}"),
            ("\\frac{1}2", "\\frac{1}{2}"),
            ("\\frac {3} {4}", "\\frac{3}{4}"),
            ("\\frac\\pi2", "\\frac{\u{3c0}}{2}"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("\\sqrt[3]{8}", "\\sqrt[3]{8}"),
            ("\\left( 1, 2 \\right)", "( 1, 2 )"),
            ("\\text{Monday}.", "Monday"),
            ("\\$9{,}500", "\u{a4}9{,}500"),
            ("$9,500", "\u{a4}9,500"),
            ("$9500$", "9500"),
            ("11,\\! 111", "11{,}111"),
            ("90^\\circ", "90\u{b0}"),
            ("90^{\\circ}", "90\u{b0}"),
            ("**8**", "8"),
            ("2**3", "2^3"),
            (
                "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}",
                "\\begin{matrix}1&2\\\\3&4\\end{matrix}",
            ),
            ("\\textbf{(B)}\\ 5", "(B)  5"),
            ("\\frac", "\\frac{}{}"),
            ("12\\", "12"),
            ("\\textcolor{red}{12}", "12"),
            ("\\color{red}12", "12"),
        ] {
            assert_eq!(surface(text).as_deref(), Some(written), "{text:?}");
        }
        assert_eq!(surface(&"1".repeat(MAX_BYTES + 1)), None);
    }

    #[test]
    fn texts_are_compared_without_what_only_decorates() {
        for (a, b) in [
            ("(2,3)", "\\left( 2, 3 \\right)"),
            ("\\text{Monday}", "monday."),
            ("Lake  Victoria", "\\text{lake victoria}"),
            ("\\alpha\\beta", "\\alpha \\beta"),
        ] {
            assert_eq!(plain(a), plain(b), "{a:?} {b:?}");
        }
        assert_ne!(plain("a b"), plain("ab"));
    }

    proptest! {
        #[test]
        fn any_text_is_written_without_a_panic(text in "[\\\\{}\\[\\]fracsqtboxedbeginmatrix0-9 .,/$%^*-]{0,60}") {
            let _ = (surface(&text), plain(&text));
        }
    }
}
