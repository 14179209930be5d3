//! Scenario files: `scenario = "echo"` and any settings, in TOML. Unknown keys are refused, with
//! the nearest known one.

use super::Settings;
use crate::error::RunError;
use serde::Deserialize;

/// A scenario file: the scenario's name, and its settings.
#[derive(Debug, Deserialize)]
struct Head {
    scenario: Option<String>,
}

/// Reads a scenario file.
///
/// # Errors
/// What is wrong with it, with the line.
pub(crate) fn load(path: &str) -> Result<(String, Settings), RunError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        RunError::new(
            format!("cannot read {path}: {error}"),
            "name a scenario file such as configs/loadtest.echo.toml",
        )
    })?;
    parse(path, &text)
}

fn parse(path: &str, text: &str) -> Result<(String, Settings), RunError> {
    let head: Head = toml::from_str(text).map_err(|error| explain(path, text, &error))?;
    let Some(scenario) = head.scenario else {
        return Err(RunError::new(
            format!("{path} names no scenario"),
            "add a line such as: scenario = \"echo\"",
        ));
    };
    // The line of the scenario is blanked, so that line numbers stay and the rest is settings only.
    let is_head = |line: &str| {
        line.trim_start().strip_prefix("scenario").is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let rest: Vec<&str> = text.lines().map(|line| if is_head(line) { "" } else { line }).collect();
    let rest = rest.join("\n");
    let settings = toml::from_str(&rest).map_err(|error| explain(path, &rest, &error))?;
    Ok((scenario, settings))
}

fn explain(path: &str, text: &str, error: &toml::de::Error) -> RunError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message();
    let what =
        format!("{path}, line {line}: {}", message.split(", expected one of").next().unwrap_or(message));
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let nearest = known.iter().min_by_key(|name| distance(unknown, name));
            RunError::new(what, format!("did you mean `{}`?", nearest.unwrap_or(&"scenario")))
        }
        _ => RunError::new(what, "see `loadtest <scenario> --help`: a key is a flag's name with underscores"),
    }
}

/// Levenshtein distance.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_like_flags() {
        let text =
            "# an echo\nscenario = \"echo\"\nconnections = \"2k\"\nduration = \"3s\"\ngoal = [\"loss=0\"]\n";
        let (scenario, settings) = parse("x.toml", text).unwrap();
        assert_eq!(scenario, "echo");
        assert_eq!(settings.connections.map(|c| c.0), Some(2000));
        assert_eq!(settings.given(), ["connections", "duration", "goal"]);
    }

    #[test]
    fn the_shipped_files_make_plans() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let ours = |path: &std::path::PathBuf| path.to_string_lossy().contains("/loadtest.");
        for path in all.filter(ours) {
            let (name, settings) = load(path.to_str().unwrap()).unwrap();
            let known = crate::scenario::ALL.iter().find(|(known, _)| *known == name).unwrap().0;
            let plan = crate::scenario::plan(known, &settings).unwrap();
            assert!(plan.connections > 0, "{path:?}");
            for goal in settings.goal.iter().flatten() {
                crate::goals::Goal::parse(goal).unwrap();
            }
        }
    }

    #[test]
    fn mistakes_name_their_line_and_the_nearest_key() {
        let error = parse("x.toml", "scenario = \"echo\"\n\nconections = 5\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("did you mean `connections`?"), "{error}");
        let error = parse("x.toml", "scenario = \"echo\"\nduration = \"5\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("500ms"), "{error}");
        assert!(parse("x.toml", "connections = 1").unwrap_err().to_string().contains("names no scenario"));
    }
}
