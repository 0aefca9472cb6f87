//! The report as `JUnit` XML, which CI systems display.

use std::fmt::{self, Write as _};

use super::{CaseOutcome, CaseResult, Report};

impl Report {
    /// Returns a value that displays the report as XML: a `testsuite` per version and transport, a `testcase` per case.
    pub(crate) fn junit(&self) -> impl fmt::Display {
        Junit(self)
    }
}

struct Junit<'a>(&'a Report);

impl fmt::Display for Junit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = self.0.counts();
        writeln!(f, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        let all = passed + failed + skipped;
        writeln!(
            f,
            r#"<testsuites name="hoist check" tests="{all}" failures="{failed}" skipped="{skipped}">"#
        )?;
        for ((dialect, version, transport), outcomes) in self.0.rows() {
            let name = format!("{} {} over {transport}", dialect.name(), version.label());
            let count =
                |is: fn(&CaseResult) -> bool| outcomes.iter().filter(|outcome| is(&outcome.verdict)).count();
            let failed = count(|verdict| matches!(verdict, CaseResult::Failed(_)));
            let skipped = count(|verdict| matches!(verdict, CaseResult::Skipped(_)));
            let seconds: f64 = outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
            writeln!(
                f,
                r#"  <testsuite name="{}" tests="{}" failures="{failed}" skipped="{skipped}" time="{seconds:.3}">"#,
                Escaped(&name),
                outcomes.len()
            )?;
            for outcome in outcomes {
                testcase(f, &name, outcome)?;
            }
            writeln!(f, "  </testsuite>")?;
        }
        writeln!(f, "</testsuites>")
    }
}

fn testcase(f: &mut fmt::Formatter<'_>, suite: &str, outcome: &CaseOutcome) -> fmt::Result {
    let (name, seconds) = (Escaped(&outcome.case), outcome.took.as_secs_f64());
    write!(f, r#"    <testcase classname="{}" name="{name}" time="{seconds:.3}""#, Escaped(suite))?;
    match &outcome.verdict {
        CaseResult::Passed => writeln!(f, "/>"),
        CaseResult::Skipped(why) => {
            writeln!(f, ">\n      <skipped message=\"{}\"/>\n    </testcase>", Escaped(why))
        }
        CaseResult::Failed(why) => {
            let first = why.lines().next().unwrap_or_default().trim_start_matches("- ");
            let (first, level) = (Escaped(first), outcome.level.word());
            writeln!(f, ">\n      <failure message=\"{first}\" type=\"{level}\">{}", Escaped(why))?;
            writeln!(f, "{}</failure>\n    </testcase>", Escaped(&outcome.proves.join(", ")))
        }
    }
}

/// A text, escaped for XML. Characters that XML 1.0 does not allow are replaced.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\n' | '\t' => f.write_char(character)?,
                '\u{0}'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(Escaped("a<b> & \"c\"\u{1}").to_string(), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}");
    }
}
