//! A target that puts each representation into a directory, under a name from a template.

use std::path::PathBuf;

use hoist_proto::types::Timestamp;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::{BoxFuture, Error};
use http::StatusCode;

use super::{Representation, Target};
use crate::filename;

/// Puts content into a directory. A file appears there complete or not at all, and existing files are never overwritten.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    template: String,
}

/// The error for a malformed file name template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("file name template {template:?} {wrong}; use one path segment with {{name}}, {{id}} or {{date}}")]
pub struct BadTemplate {
    template: String,
    wrong: &'static str,
}

impl Files {
    /// Creates a target that puts files into `directory`, named by `template`. `{name}` is the name that the client gave
    /// the content, or else its id; `{id}` the upload's id; `{date}` the day of its creation as `2026-11-22` in UTC.
    ///
    /// # Errors
    /// Returns [`BadTemplate`] if the template has another placeholder, a path separator, or no placeholder.
    pub fn new(directory: impl Into<PathBuf>, template: &str) -> Result<Self, BadTemplate> {
        let bad = |wrong| Err(BadTemplate { template: template.to_owned(), wrong });
        let fixed =
            PLACEHOLDERS.iter().fold(template.to_owned(), |text, placeholder| text.replace(placeholder, ""));
        if fixed.contains(['{', '}']) {
            return bad("has an unknown placeholder");
        }
        if fixed.contains(['/', '\\', '\0']) {
            return bad("has a path separator");
        }
        if fixed == template {
            return bad("would give every upload the same name");
        }
        Ok(Self { directory: directory.into(), template: template.to_owned() })
    }

    fn name(&self, upload: &Upload, endpoint: &str) -> String {
        let id = upload.id.to_string();
        let given = filename::of(&upload.origin, endpoint).unwrap_or_else(|| id.clone());
        // The client's name is inserted last, so that a placeholder in it is not replaced.
        let name = self
            .template
            .replace("{id}", &id)
            .replace("{date}", &date(upload.created))
            .replace("{name}", &given);
        filename::sanitise(&name).unwrap_or(id)
    }
}

const PLACEHOLDERS: [&str; 3] = ["{name}", "{id}", "{date}"];

impl Target for Files {
    fn deliver<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<TargetResponse, Error>> {
        Box::pin(async move {
            let Representation { upload, store, fence, endpoint } = representation;
            let name = self.name(upload, endpoint);
            let given = store.export(upload.id, &self.directory, &name, fence).await?;
            tracing::debug!(upload = %upload.id.short(), file = %given, "delivered to the directory");
            Ok(TargetResponse::of(StatusCode::CREATED))
        })
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

/// Returns the day of a time in UTC, as `2026-11-22`.
fn date(time: Timestamp) -> String {
    time.rfc3339().split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_needs_a_placeholder_and_no_separator() {
        for good in ["{name}", "{id}", "{date}-{name}", "upload {id}.bin"] {
            assert!(Files::new("/srv", good).is_ok(), "{good}");
        }
        for bad in ["", "file", "{user}", "{name", "a/{name}", "..\\{id}", "{{name}}"] {
            assert!(Files::new("/srv", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_formatted_as_utc_days() {
        let cases = [
            (0, "1970-01-01"),
            (86_399_999, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (951_868_800_000, "2000-03-01"),
            (1_795_305_600_000, "2026-11-22"),
            (4_107_456_000_000, "2100-02-28"),
            (4_107_542_400_000, "2100-03-01"),
        ];
        for (millis, expected) in cases {
            assert_eq!(date(Timestamp::from_millis(millis)), expected);
        }
    }
}
