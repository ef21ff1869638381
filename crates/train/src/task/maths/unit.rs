//! What may stand behind a number: units, and the names of what is counted.

/// A unit in words, as units are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    words: Vec<String>,
    /// Whether a measure is among them, and not only names of things.
    measured: bool,
}

/// Ways of writing measures; the first of a line is what they are compared as.
const MEASURES: [&[&str]; 44] = [
    &[
        "mm",
        "millimeter",
        "millimeters",
        "millimetre",
        "millimetres",
    ],
    &[
        "cm",
        "centimeter",
        "centimeters",
        "centimetre",
        "centimetres",
    ],
    &["m", "meter", "meters", "metre", "metres"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
    &["in", "inch", "inches"],
    &["ft", "foot", "feet"],
    &["yd", "yard", "yards"],
    &["mi", "mile", "miles"],
    &["mg", "milligram", "milligrams"],
    &["g", "gm", "gram", "grams"],
    &["kg", "kilo", "kilos", "kilogram", "kilograms"],
    &["oz", "ounce", "ounces"],
    &["lb", "lbs", "pound", "pounds"],
    &["ton", "tons"],
    &[
        "ml",
        "mL",
        "milliliter",
        "milliliters",
        "millilitre",
        "millilitres",
    ],
    &["l", "L", "liter", "liters", "litre", "litres"],
    &["gallon", "gallons"],
    &["cup", "cups"],
    &["s", "sec", "secs", "second", "seconds"],
    &["min", "mins", "minute", "minutes"],
    &["h", "hr", "hrs", "hour", "hours"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &["mph"],
    &["kph", "kmph"],
    &["dollar", "dollars", "usd", "USD", "\u{a4}"],
    &["cent", "cents"],
    &["euro", "euros", "eur", "EUR", "\u{20ac}"],
    &["gbp", "GBP", "\u{a3}"],
    &["yen", "\u{a5}"],
    &["degree", "degrees", "deg", "\u{b0}"],
    &["radian", "radians", "rad"],
    &["percent", "percents", "percentage", "pct", "%"],
    &["square", "sq"],
    &["cubic", "cu"],
    &["unit", "units"],
    &["th", "st", "nd", "rd"],
    &["am", "AM"],
    &["pm", "PM"],
    &["Hz", "hertz"],
    &["J", "joule", "joules"],
    &["W", "watt", "watts"],
];

/// Words of a unit that say nothing of which one it is.
const FILLERS: [&str; 12] = [
    "of",
    "the",
    "in",
    "total",
    "each",
    "a",
    "an",
    "all",
    "altogether",
    "together",
    "them",
    "overall",
];

/// Words that make another number of the one before them, or that are no unit.
const NO_UNITS: [&str; 49] = [
    "not",
    "and",
    "or",
    "nor",
    "than",
    "then",
    "but",
    "because",
    "since",
    "plus",
    "minus",
    "less",
    "least",
    "most",
    "fewer",
    "half",
    "halves",
    "halved",
    "quarter",
    "quarters",
    "squared",
    "cubed",
    "choose",
    "remainder",
    "below",
    "under",
    "owed",
    "debt",
    "mod",
    "modulo",
    "without",
    "except",
    "twice",
    "thrice",
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "short",
    "off",
    "isn",
    "cannot",
    "never",
    "neither",
    "untrue",
    "unsure",
    "too",
    "third",
    "thirds",
];

/// Beginnings of words that change a number or judge it.
const NO_UNIT_STEMS: [&str; 14] = [
    "negativ",
    "incorrect",
    "wrong",
    "false",
    "mistak",
    "error",
    "doubl",
    "tripl",
    "quadrupl",
    "factorial",
    "reciproc",
    "impossib",
    "invalid",
    "inverse",
];

/// Beginnings of number words, and how they end.
const NUMBER_STEMS: [&str; 35] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "fif",
    "six",
    "seven",
    "eight",
    "eigh",
    "nine",
    "nin",
    "ten",
    "eleven",
    "twel",
    "twen",
    "thir",
    "forty",
    "fortie",
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "quadrillion",
    "quintillion",
    "dozen",
    "score",
    "gross",
    "lakh",
    "crore",
    "myriad",
    "googol",
    "first",
];
const NUMBER_ENDS: [&str; 20] = [
    "", "s", "th", "ths", "y", "ty", "ties", "tieth", "tieths", "teen", "teens", "teenth",
    "teenths", "ve", "ves", "fth", "fths", "fold", "d", "ds",
];

/// Whether a word is a number, of whichever kind: eleven, twelfths, dozens.
fn is_number(word: &str) -> bool {
    let ends = |stem: &&str| {
        let end = word.strip_prefix(*stem);
        end.is_some_and(|end| NUMBER_ENDS.contains(&end))
    };
    NUMBER_STEMS.iter().any(ends)
}

/// What multiplies the number before it.
pub(super) fn scale(word: &str) -> Option<u64> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "dozen" => 12,
        "score" => 20,
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        "quadrillion" => 1_000_000_000_000_000,
        "lakh" => 100_000,
        "crore" => 10_000_000,
        _ => return None,
    })
}

fn measure(word: &str) -> Option<&'static str> {
    let line = MEASURES.iter().find(|names| names.contains(&word))?;
    line.first().copied()
}

/// Whether a word names a measure: it may then stand directly behind the digits.
pub(super) fn is_measure(word: &str) -> bool {
    measure(word).is_some()
}

/// Whether a word may stand behind a number, and says what it counts. Two letters may be variables.
pub(super) fn may_be_one(word: &str) -> bool {
    let lower = word.to_lowercase();
    if is_measure(word)
        || is_measure(&lower) && lower.len() > 1
        || FILLERS.contains(&lower.as_str())
    {
        return true;
    }
    let vowels = lower.chars().filter(|c| "aeiouy".contains(*c)).count();
    let letters = lower.chars().count();
    letters >= 3
        && (1..letters).contains(&vowels)
        && lower != "abc"
        && !is_number(&lower)
        && !NO_UNITS.contains(&lower.as_str())
        && !NO_UNIT_STEMS.iter().any(|stem| lower.starts_with(stem))
}

impl Unit {
    /// A unit of these words; `None` if they are fillers only. Of `cm^2` the power is part of its word, of `km/h`
    /// the second word begins with the stroke.
    pub(super) fn new(words: &[String]) -> Option<Self> {
        let mut kept: Vec<String> = Vec::new();
        let mut measured = false;
        let mut power = None;
        let mut per = "";
        for word in words {
            let (word, own) = word
                .split_once('^')
                .map_or((word.as_str(), None), |(w, p)| (w, Some(p)));
            let (stroke, word) = word
                .strip_prefix('/')
                .map_or(("", word), |word| ("/", word));
            let lower = word.to_lowercase();
            let name = measure(word).or_else(|| measure(&lower));
            match name.unwrap_or(&lower) {
                "per" => per = "/",
                "square" => power = Some("2"),
                "cubic" => power = Some("3"),
                filler if FILLERS.contains(&filler) && name.is_none() => {}
                other => {
                    measured |= name.is_some();
                    let power = own
                        .or(power.take())
                        .map_or(String::new(), |p| format!("^{p}"));
                    kept.push(format!("{per}{stroke}{other}{power}"));
                    per = "";
                }
            }
        }
        if kept == ["mph"] {
            kept = vec!["mi".into(), "/h".into()];
        } else if kept == ["kph"] {
            kept = vec!["km".into(), "/h".into()];
        }
        // "units" and the ends of ordinals say nothing.
        kept.retain(|word| word != "unit" && word != "th");
        (!kept.is_empty()).then_some(Self {
            words: kept,
            measured,
        })
    }

    pub(super) fn is_percent(&self) -> bool {
        self.words == ["percent"]
    }

    /// Whether both may be the same: the same measure, or of names of things one may say more than the other.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        if self.measured || other.measured {
            return self == other;
        }
        let within = |a: &Self, b: &Self| a.words.iter().all(|word| b.words.contains(word));
        within(self, other) || within(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Option<Unit> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Unit::new(&words)
    }

    #[test]
    fn units_are_compared_by_what_they_measure() {
        for (a, b, agree) in [
            ("cm^2", "square centimeters", true),
            ("km /h", "kilometers per hour", true),
            ("mph", "miles per hour", true),
            ("dollars", "\u{a4}", true),
            ("cm", "m", false),
            ("cm", "cm^2", false),
            ("miles", "miles per hour", false),
            ("red apples", "apples", true),
            ("apples", "oranges", false),
            ("dollars", "cents", false),
        ] {
            assert_eq!(unit(a).unwrap().agrees(&unit(b).unwrap()), agree, "{a} {b}");
        }
        assert_eq!(unit("of the"), None);
    }

    #[test]
    fn words_that_make_another_number_are_no_units() {
        for (word, may) in [
            ("apples", true),
            ("cm", true),
            ("Dollars", true),
            ("xy", false),
            ("abc", false),
            ("than", false),
            ("million", false),
            ("or", false),
            ("seven", false),
            ("tenths", false),
            ("below", false),
            ("hundreds", false),
            ("crore", false),
            ("twelfths", false),
            ("eighteenths", false),
            ("twentieths", false),
            ("fifty", false),
            ("doubled", false),
            ("negative", false),
            ("incorrect", false),
            ("tenants", true),
            ("stones", true),
            ("ways", true),
        ] {
            assert_eq!(may_be_one(word), may, "{word}");
        }
    }
}
